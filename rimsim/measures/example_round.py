"""Made-up round, on which measures are tried."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from rimsim.arrays import Bools, Floats, Ints
from rimsim.measures import exposure, loop
from rimsim.measures.facts import RoundFacts
from rimsim.rng import Purpose, generator

if TYPE_CHECKING:
    import pandas as pd

_DAY = 86_400.0
_DECAY = 0.8
"""γ, the decay of examination."""


def made_up_round(
    items: pd.DataFrame,
    *,
    arrivals: int = 24,
    slate: int = 4,
    seed: int = 0,
    filled: float = 0.9,
    complete: bool = True,
) -> RoundFacts:
    """Round of random slates and consumptions over a catalogue.

    Your own measures are tried on made-up rounds before a run begins. ``filled`` is the share of positions
    with an item. A ``complete`` round has released items, counts of relevant items and a certificate.
    """
    draw = generator(seed, Purpose.MEASURE, arrivals, slate)
    n = arrivals
    m = len(items)
    chosen, is_shown, probability, consumed = _slates(draw, n, m, slate, filled)
    time = np.sort(1e9 + 7 * _DAY * draw.random(n))
    is_released = (draw.random(m) < 0.25) & complete
    first_exposure = draw.poisson(n * slate / m, m)
    has_come = draw.random(m) < (0.9 if complete else 1.0)
    weights = exposure.position_weights(_DECAY, slate)
    facts = RoundFacts(
        round=1,
        seed=seed,
        slates=np.where(is_shown, chosen, -1).astype(np.int32),
        consumed=consumed,
        probability=probability,
        true_intensity=-np.log1p(-probability),
        intensity=np.where(is_shown, draw.random(chosen.shape), np.nan).astype(np.float32),
        price=np.where(is_shown, -draw.random(chosen.shape), np.nan).astype(np.float32),
        propensity=np.where(is_shown, 1 - draw.random(chosen.shape), np.nan).astype(np.float32),
        user=draw.integers(0, max(1, n // 2), n),
        time=time,
        history=draw.poisson(1.0, n),
        ground_intensity=draw.gamma(2.0, 5.0, n).astype(np.float32),
        relevant=consumed.sum(axis=1) + draw.poisson(1.0, n) + (0.0 if complete else 0.5),
        counts_items=complete,
        required=draw.poisson(n * slate / (2 * m), m).astype(np.float64) * exposure.mean_weight(weights),
        position_weights=weights,
        min_exposure=draw.poisson(n * slate / 4, 2).astype(np.float64) if complete else np.zeros(0),
        max_exposure=np.array([np.inf, n * slate / 8]) if complete else np.zeros(0),
        counted=draw.poisson(n * slate / 4, 2).astype(np.float64) if complete else np.zeros(0),
        **_without_draws(items),
        first_exposure=first_exposure,
        log_counts=first_exposure + draw.poisson(5.0, m),
        popularity=draw.poisson(20.0, m),
        release=np.where(is_released, 1e9 - 30 * _DAY * draw.random(m), -np.inf),
        there=has_come & (draw.random(m) < (0.8 if complete else 1.0)),
        came=has_come,
        on_offer=np.ones(m, np.bool_),
        sold=np.bincount(chosen[consumed], minlength=m) + draw.poisson(0.5, m),
        cost=float(draw.random()),
        decay=_DECAY,
        item_price=-draw.random(m) if complete else None,
        adoption=_adoption(draw, n, int(is_released.sum())),
    )
    facts = dataclasses.replace(_with_due_exposures(facts), on_offer=facts.there[facts.provider])
    return _with_certificate(facts) if complete else facts


def _slates(
    draw: np.random.Generator, n: int, m: int, slate: int, filled: float
) -> tuple[Ints, Bools, Floats, Bools]:
    """Items by position; masks and chances of showing and consumption."""
    chosen = np.argsort(draw.random((n, m)), axis=1)[:, :slate]
    is_shown = draw.random(chosen.shape) < filled
    probability = np.where(is_shown, draw.random(chosen.shape), 0.0)
    consumed = draw.random(chosen.shape) < probability
    return chosen, is_shown, probability, consumed


def _adoption(draw: np.random.Generator, n: int, n_released: int) -> loop.AdoptionTimes | None:
    """Times to adoption of released items, some of them censored."""
    if not n_released:
        return None
    return loop.AdoptionTimes(draw.integers(1, n + 2, n_released), draw.random(n_released) < 0.7)


def _without_draws(items: pd.DataFrame) -> dict[str, Any]:
    """Fields of the catalogue, and those that :func:`_with_due_exposures` sets."""
    due_exposures = dict.fromkeys(("due_items", "due", "counted_shown", "counted_examined"), np.zeros(0))
    return {
        "genre_weights": loop.genre_weights([str(text) for text in items["genres"]])[0],
        "provider": np.arange(len(items)),
        "items": items,
        "stays": np.zeros(0, np.bool_),
        **due_exposures,
    }


def _with_due_exposures(facts: RoundFacts) -> RoundFacts:
    """Round in which guarantees include carry-over."""
    return dataclasses.replace(
        facts,
        stays=facts.there,
        due_items=0.75 * facts.required,
        due=0.5 * facts.min_exposure,
        counted_shown=facts.counted / exposure.mean_weight(facts.position_weights),
        counted_examined=facts.counted,
    )


def _with_certificate(facts: RoundFacts) -> RoundFacts:
    """Round with organic consumptions, certificate and estimated decay."""
    value = float(facts.probability.sum())
    return dataclasses.replace(
        facts,
        fee=2.0,
        organic=np.arange(len(facts.user)) % 3,
        repeats=(facts.slates >= 0) & (facts.slates % 3 == 0),
        value_model=value,
        bound=value + 1.0,
        gap=0.5,
        estimated_decay=0.75,
        decay_error=0.25,
    )
