"""What the two sides of a market have of it: providers and their survival, users, and how exposure is shared out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rimsim.arrays import Bools, Floats
from rimsim.errors import DataError
from rimsim.measures._checks import as_counts, as_slates, same_length
from rimsim.measures.loop import jensen_shannon

if TYPE_CHECKING:
    from rimsim.measures.facts import RoundFacts


_HEAD = 0.8
"""The share of all events that the most popular items have which are no long tail."""
_TAIL_ROUNDING = 1e-12


class ExpectedExposure(NamedTuple):
    """Diaz et al. (CIKM 2020) of shares ε of exposure and their targets ε*: EE-L = EE-D − EE-R + Σ ε*²."""

    disparity: float
    """EE-D = Σ ε²."""
    relevance: float
    """EE-R = 2·Σ ε·ε*."""
    loss: float
    """EE-L = Σ (ε − ε*)²."""


def expected_exposure(exposure: ArrayLike, target: ArrayLike) -> ExpectedExposure:
    """How exposure is shared out, against a target.

    Args:
        exposure: (G,) exposure of each provider; taken as shares of the total.
        target: (G,) what each should have; likewise.
    """
    given, wanted = _shares(exposure, "exposure"), _shares(target, "target")
    same_length(given, wanted, "exposure and target")
    return ExpectedExposure(
        float(given @ given), 2 * float(given @ wanted), float((given - wanted) @ (given - wanted))
    )


def awrf(exposure: ArrayLike, target: ArrayLike) -> float:
    """Attention-weighted rank fairness: 1 − the Jensen-Shannon divergence (base 2) of exposure from its target.

    Sapiezynski et al. (FATES 2019), with the distance of the TREC tracks on fair ranking; attention is in the exposure.

    Args:
        exposure: (G,) exposure of each provider, weighted by attention; taken as shares of the total.
        target: (G,) what each should have; likewise.

    Returns:
        Between 0 and 1, 1 where the two are alike; 1 too where nothing was shown or is due.
    """
    given, wanted = _shares(exposure, "exposure"), _shares(target, "target")
    same_length(given, wanted, "exposure and target")
    if not (given.any() and wanted.any()):
        return 1.0
    return 1.0 - jensen_shannon(given, wanted)


def long_tail(popularity: ArrayLike) -> Bools:
    """(M,) the items that are not among the most popular ones which have 80 % of all events; ties by index.

    Args:
        popularity: (M,) events of each item.
    """
    events = as_counts(popularity, "popularity")
    order = np.argsort(-events, kind="stable")
    before = np.cumsum(events[order]) - events[order]
    tail = np.ones(len(events), np.bool_)
    tail[order[before < _HEAD * events.sum() - _TAIL_ROUNDING]] = False
    return tail


def long_tail_share(slates: ArrayLike, tail: ArrayLike) -> float:
    """APLT: mean over slates of the share of their items that are of the long tail (Abdollahpouri et al., 2019).

    Args:
        slates: (n, k) items; −1 = empty position. Slates without an item are left out.
        tail: (M,) which items are of the long tail.
    """
    shown = as_slates(slates)
    filled = shown >= 0
    some = filled.any(axis=1)
    found = np.asarray(tail, np.bool_)[np.maximum(shown, 0)] & filled
    return float((found[some].sum(axis=1) / filled[some].sum(axis=1)).mean()) if some.any() else 0.0


def provider_welfare(consumptions: ArrayLike) -> float:
    """Mean over providers of log(1 + C): the more a provider has, the less another consumption is worth to it.

    Zhan et al. (WWW 2021) let a provider's utility saturate so.

    Args:
        consumptions: (G,) expected consumptions of each; 0 for those who left.
    """
    given = as_counts(consumptions, "consumptions")
    return float(np.log1p(given).mean()) if len(given) else 0.0


def provider_exposure(facts: RoundFacts) -> Floats:
    """(G,) exposures of each provider, in the unit of the guarantee."""
    return np.bincount(facts.provider, facts.delivered, len(facts.there)).astype(np.float64)


def provider_consumptions(facts: RoundFacts) -> Floats:
    """(G,) expected consumptions of each provider."""
    filled = facts.slates >= 0
    owner = facts.provider[facts.slates[filled]]
    return np.bincount(owner, facts.probability[filled], len(facts.there)).astype(np.float64)


def survival(rounds: ArrayLike, left: ArrayLike, until: int) -> Floats:
    """Kaplan-Meier: the share of providers that is still there after 1, 2, … rounds in the market.

    Args:
        rounds: (G,) rounds that each was there, at least 1.
        left: (G,) whether it left then; otherwise all that is known is that it stayed as long.
        until: How many rounds the curve has.

    Returns:
        (until,) shares, falling from at most 1.
    """
    stayed, gone = np.asarray(rounds, np.int64), np.asarray(left, np.bool_)
    same_length(stayed, gone, "rounds and left")
    if len(stayed) and stayed.min() < 1:
        raise DataError(f"rounds: {stayed.min()}; allowed: at least 1, that of the opening")
    curve, share = np.ones(until), 1.0
    for time in range(1, until + 1):
        at_risk = int((stayed >= time).sum())
        if at_risk:
            share *= 1 - int((gone & (stayed == time)).sum()) / at_risk
        curve[time - 1] = share
    return curve


def break_even(with_guarantee: ArrayLike, without: ArrayLike) -> int | None:
    """The round by whose end cumulated welfare with a guarantee is above that without, and stays above to the last.

    Args:
        with_guarantee: (R,) welfare of each round.
        without: (R,) likewise, of the same rounds.

    Returns:
        Its number, from 0; None where there is none.
    """
    first, second = np.asarray(with_guarantee, np.float64), np.asarray(without, np.float64)
    same_length(first, second, "welfare with and without")
    behind = np.flatnonzero(np.cumsum(first - second) <= 0)
    begin = int(behind[-1]) + 1 if len(behind) else 0
    return begin if begin < len(first) else None


def _shares(values: ArrayLike, name: str) -> Floats:
    given = as_counts(values, name)
    total = given.sum()
    return given / total if total > 0 else given
