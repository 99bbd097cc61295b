"""Made-up rounds, on which a measure is tried before a run begins and in tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.measures.adoption import AdoptionTimes
from rimsim.measures.exposure import mean_weight, position_weights
from rimsim.measures.facts import RoundFacts
from rimsim.measures.loop import genre_weights
from rimsim.rng import Purpose, generator

if TYPE_CHECKING:
    import pandas as pd


_DAY = 86_400.0
_GAMMA = 0.8


def made_up_round(
    items: pd.DataFrame,
    *,
    arrivals: int = 24,
    slate: int = 4,
    seed: int = 0,
    filled: float = 0.9,
    complete: bool = True,
) -> RoundFacts:
    """A round of random slates and consumptions over a catalogue.

    Args:
        items: The item table of a log.
        arrivals: Arrivals of the round, n.
        slate: Positions of a slate, at most the number of items.
        seed: Seed of the draw.
        filled: Share of the positions that hold an item.
        complete: Whether the round has what some rounds lack: released items, relevant items that are counted, and a
            certificate.
    """
    draw = generator(seed, Purpose.MEASURE, arrivals, slate)
    n, m = arrivals, len(items)
    chosen = np.argsort(draw.random((n, m)), axis=1)[:, :slate]
    shown = draw.random(chosen.shape) < filled
    probability = np.where(shown, draw.random(chosen.shape), 0.0)
    consumed = draw.random(chosen.shape) < probability
    time = np.sort(1e9 + 7 * _DAY * draw.random(n))
    released = (draw.random(m) < 0.25) & complete
    exposure = draw.poisson(n * slate / m, m)
    number = int(released.sum())
    came = draw.random(m) < (0.9 if complete else 1.0)
    weights = position_weights(_GAMMA, slate)
    return RoundFacts(
        round=1,
        seed=seed,
        slates=np.where(shown, chosen, -1).astype(np.int32),
        consumed=consumed,
        probability=probability,
        true_intensity=-np.log1p(-probability),
        intensity=np.where(shown, draw.random(chosen.shape), np.nan).astype(np.float32),
        price=np.where(shown, -draw.random(chosen.shape), np.nan).astype(np.float32),
        propensity=np.where(shown, 1 - draw.random(chosen.shape), np.nan).astype(np.float32),
        user=draw.integers(0, max(1, n // 2), n),
        time=time,
        ground_intensity=draw.gamma(2.0, 5.0, n).astype(np.float32),
        relevant=(consumed.sum(axis=1) + draw.poisson(1.0, n) + (0.0 if complete else 0.5)).astype(
            np.float64
        ),
        counts_items=complete,
        required=draw.poisson(n * slate / (2 * m), m).astype(np.float64) * mean_weight(weights),
        position_weights=weights,
        least=draw.poisson(n * slate / 4, 2).astype(np.float64) if complete else np.zeros(0),
        most=np.array([np.inf, n * slate / 8]) if complete else np.zeros(0),
        counted=draw.poisson(n * slate / 4, 2).astype(np.float64) if complete else np.zeros(0),
        first_exposure=exposure,
        log_counts=exposure + draw.poisson(5.0, m),
        popularity=draw.poisson(20.0, m),
        release=np.where(released, 1e9 - 30 * _DAY * draw.random(m), -np.inf),
        genre_weights=genre_weights([str(text) for text in items["genres"]])[0],
        provider=np.arange(m),
        there=came & (draw.random(m) < (0.8 if complete else 1.0)),
        came=came,
        sold=np.bincount(chosen[consumed], minlength=m) + draw.poisson(0.5, m),
        items=items,
        cost=float(draw.random()),
        gamma=_GAMMA,
        item_price=-draw.random(m) if complete else None,
        adoption=AdoptionTimes(draw.integers(1, n + 2, number), draw.random(number) < 0.7)
        if number
        else None,
        value_model=float(probability.sum()) if complete else None,
        bound=float(probability.sum()) + 1.0 if complete else None,
        gap=0.5 if complete else None,
        estimated_decay=0.75 if complete else None,
        decay_error=0.25 if complete else None,
    )
