"""Measures of a market's two sides: providers and users.

There are G providers. ``exposure`` and ``target`` (G,) are converted to shares of their totals.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rimsim.arrays import Bools, Floats
from rimsim.errors import DataError, refuse
from rimsim.measures.exposure import as_counts, as_slates, same_length
from rimsim.measures.loop import jensen_shannon

_HEAD = 0.8
"""Share of all events that belong to the most popular items, the head. All other items are the long tail."""
_TAIL_ROUNDING = 1e-12
"""Events that the head may lack through rounding, so that the item that completes the head does not count as tail."""


class ExpectedExposure(NamedTuple):
    """Expected-exposure metrics of Diaz et al. (CIKM 2020).

    With shares ε of exposure and their targets ε*, EE-L = EE-D − EE-R + Σ ε*².
    """

    disparity: float
    """EE-D = Σ ε², the disparity of exposure."""
    relevance: float
    """EE-R = 2·Σ ε·ε*, the agreement with the ideal exposure ε*."""
    loss: float
    """EE-L = Σ (ε − ε*)², the distance from the ideal exposure."""


def expected_exposure(exposure: ArrayLike, target: ArrayLike) -> ExpectedExposure:
    """Expected exposure of providers against a target."""
    shares, target_shares = _shares(exposure, target)
    difference = shares - target_shares
    return ExpectedExposure(
        disparity=float(shares @ shares),
        relevance=2 * float(shares @ target_shares),
        loss=float(difference @ difference),
    )


def awrf(exposure: ArrayLike, target: ArrayLike) -> float:
    """Attention-weighted rank fairness: 1 − JS divergence of exposure from target.

    Source: Sapiezynski et al. (FATES 2019), with the base-2 distance of the TREC tracks on fair ranking.
    Exposure already includes attention. The measure is in [0, 1]: 1 for equal shares or if an array is 0.
    """
    shares, target_shares = _shares(exposure, target)
    if not (shares.any() and target_shares.any()):
        return 1.0
    return 1.0 - jensen_shannon(shares, target_shares)


def long_tail(popularity: ArrayLike) -> Bools:
    """Mask of all but the most popular items (80% of events)."""
    events = as_counts(popularity, "popularity")
    order = np.argsort(-events, kind="stable")
    events_before = np.cumsum(events[order]) - events[order]  # events of all more popular items
    is_head = events_before < _HEAD * events.sum() - _TAIL_ROUNDING
    tail = np.ones(len(events), np.bool_)
    tail[order[is_head]] = False
    return tail


def long_tail_share(slates: ArrayLike, tail: ArrayLike) -> float:
    """APLT: mean over slates of the share of long-tail items.

    Source: Abdollahpouri et al. (2019). Slates without an item are left out; ``tail`` marks long-tail items.
    """
    shown = as_slates(slates)
    filled = shown >= 0
    has_items = filled.any(axis=1)
    if not has_items.any():
        return 0.0
    is_tail = np.asarray(tail, np.bool_)[np.maximum(shown, 0)] & filled
    shares = is_tail[has_items].sum(axis=1) / filled[has_items].sum(axis=1)
    return float(shares.mean())


def provider_welfare(consumptions: ArrayLike) -> float:
    """Mean over providers of log(1 + C), with consumptions C.

    With many consumptions, a provider gains less from a further consumption (Zhan et al., WWW 2021).
    ``consumptions`` are each provider's expected consumptions, 0 for providers that left.
    """
    counts = as_counts(consumptions, "consumptions")
    return float(np.log1p(counts).mean()) if len(counts) else 0.0


def survival(rounds: ArrayLike, left: ArrayLike, until: int) -> Floats:
    """Kaplan-Meier shares of remaining providers after 1, 2, … rounds.

    ``rounds`` is the number of rounds that each provider was in the market, at least 1. ``left`` is true if
    the provider left after its last round; otherwise the provider may have stayed longer than the data show.
    """
    stayed = np.asarray(rounds, np.int64)
    has_left = np.asarray(left, np.bool_)
    same_length(stayed, has_left, "rounds and left")
    if len(stayed) and stayed.min() < 1:
        refuse(DataError, "rounds", str(stayed.min()), "at least 1, the opening round")
    curve = np.ones(until)
    share = 1.0
    for time in range(1, until + 1):
        at_risk = int((stayed >= time).sum())
        if at_risk:
            share *= 1 - int((has_left & (stayed == time)).sum()) / at_risk
        curve[time - 1] = share
    return curve


def break_even(with_guarantee: ArrayLike, without: ArrayLike) -> int | None:
    """First round from which a guarantee keeps total welfare higher.

    Total welfare is the sum of welfare over all rounds so far. The result is None if the total with a
    guarantee is not above the total without it after the last round.
    """
    first = np.asarray(with_guarantee, np.float64)
    second = np.asarray(without, np.float64)
    same_length(first, second, "welfare with and without")
    rounds_behind = np.flatnonzero(np.cumsum(first - second) <= 0)
    begin = int(rounds_behind[-1]) + 1 if len(rounds_behind) else 0
    return begin if begin < len(first) else None


def _shares(exposure: ArrayLike, target: ArrayLike) -> tuple[Floats, Floats]:
    """Exposure and target, each as shares of its total."""
    exposures = as_counts(exposure, "exposure")
    targets = as_counts(target, "target")
    same_length(exposures, targets, "exposure and target")
    return _share(exposures), _share(targets)


def _share(counts: Floats) -> Floats:
    """Counts divided by their total, unless it is 0."""
    total = counts.sum()
    return counts / total if total > 0 else counts
