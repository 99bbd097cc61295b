"""The inner loop of agents whose prices follow delivery: rank one arrival, then move the prices, row after row."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim import rng
from rimsim.compiled import compiled
from rimsim.matching import best_items, tie_rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.market import Arrivals

__all__ = ["Pacing", "closing_factor", "serve_with_feedback", "tie_base"]

_EVERYTHING = np.empty(0, np.int64)  # no capacities: every row may fill its slate


class Pacing(NamedTuple):
    """How bonuses follow delivery: w = clip(start + step·h·(pace·t − E), 0, cost) before arrival t of N.

    h = 1, or, where ``closing`` is above 0, h = 1 / (1 − t/N + closing).
    """

    start: NDArray[np.float64]
    """(M,) bonus before arrival 0."""
    pace: NDArray[np.float64]
    """(M,) required exposures per arrival."""
    step: NDArray[np.float64]
    """(M,) bonus per exposure of delivery error."""
    cost: float
    """c, upper end of the price box."""
    closing: float
    """δ: how much of the round a correction is spread over at the end; 0 for a constant h = 1."""
    required: NDArray[np.float64]
    """(M,) required exposures, for the guard; empty where there is no guard."""
    arrivals: int
    """Arrivals in which they are due, N."""

    def bonus(self, time: int, exposure: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M,) w before arrival ``time``, after ``exposure``."""
        factor = closing_factor(time, self.arrivals, self.closing)
        moved = self.start + self.step * (self.pace * time - exposure) * factor
        return np.asarray(np.clip(moved, 0.0, self.cost), np.float64)


def tie_base(key: int) -> np.uint64:
    """The random bits of a round from which those of its rows are made."""
    return np.uint64(rng.bits(key, rng.Purpose.TIES))


def serve_with_feedback(
    arrivals: Arrivals,
    ties: np.uint64,
    time: int,
    pacing: Pacing,
    exposure: NDArray[np.float64],
    slate: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Answer the rows in order, each with the top k of λ − v at the delivery so far.

    Args:
        arrivals: n rows.
        ties: What :func:`tie_base` gave.
        time: Number t of the first row since the pacing began.
        pacing: How prices move.
        exposure: (M,) exposures since the pacing began, whole numbers; changed in place.
        slate: k.

    Returns:
        (n, k) items, −1 for an empty position, and (n, k) item prices v at the decision.
    """
    shape = (len(arrivals.id), slate)
    items, price = np.empty(shape, np.int64), np.empty(shape, np.float32)
    _rank(
        arrivals.relevance.cpu().numpy(),
        arrivals.ground_intensity.cpu().numpy(),
        arrivals.admissible.cpu().numpy(),
        arrivals.id,
        ties,
        time,
        pacing.start,
        pacing.pace,
        pacing.step,
        pacing.cost,
        pacing.closing,
        pacing.required,
        pacing.arrivals,
        exposure,
        _EVERYTHING if arrivals.capacity is None else arrivals.capacity,
        items,
        price,
    )
    return items, price


@compiled
def closing_factor(time: int, arrivals: int, closing: float) -> float:
    """H of :class:`Pacing` before an arrival."""
    if closing == 0.0:
        return 1.0
    return 1.0 / (max(1.0 - time / arrivals, 0.0) + closing)


@compiled
def _guarded(
    value: NDArray[np.float64],
    row: np.uint64,
    left: int,
    required: NDArray[np.float64],
    exposure: NDArray[np.float64],
    items: NDArray[np.int64],
    best: NDArray[np.float64],
) -> int:
    """:func:`best_items`, but what can only be met by serving it now comes first.

    An item that lacks as many exposures as arrivals are left must be shown at each of them. And where all items
    together lack more than fits into the slates after this one, the excess must be shown now: the lacking items of
    largest value.

    Args:
        value: (M,); −inf for what may not be shown.
        row: Random bits of the row, for ties.
        left: Arrivals left, this one included.
        required: (M,) required exposures.
        exposure: (M,) exposures so far.
        items: (k,) filled in place.
        best: (k,) their values, filled in place.

    Returns:
        How many were found, at most k.
    """
    m, k = len(value), len(items)
    due, now = 0.0, 0
    for item in range(m):
        lacking = required[item] - exposure[item]
        if lacking > 0.0:
            due += min(lacking, np.float64(left))
            if lacking >= left and value[item] > -np.inf:
                now += 1
    forced = int(min(np.float64(k), max(np.float64(now), due - np.float64(k * (left - 1)))))
    if forced <= 0:
        return best_items(value, row, items, best)
    chosen = np.full(m, -np.inf)
    pool = np.empty(m, np.float64)
    shown = 0
    for stage in range(
        3
    ):  # what is due at every arrival left; what fits nowhere later; what is left of the slate
        room = (k if stage != 1 else forced) - shown
        if room <= 0:
            continue
        for item in range(m):
            lacking = required[item] - exposure[item]
            allowed = chosen[item] == -np.inf and (
                stage == 2 or (lacking > 0.0 and (stage == 1 or lacking >= left))
            )
            pool[item] = value[item] if allowed else -np.inf
        found = best_items(pool, row, items[:room], best[:room])
        for place in range(found):
            chosen[items[place]] = value[items[place]]
        shown += found
    return best_items(chosen, row, items, best)


@compiled
def _rank(
    relevance: NDArray[np.float32],
    ground: NDArray[np.float32],
    admissible: NDArray[np.bool_],
    ids: NDArray[np.int64],
    ties: np.uint64,
    first: int,
    start: NDArray[np.float64],
    pace: NDArray[np.float64],
    step: NDArray[np.float64],
    cost: float,
    closing: float,
    required: NDArray[np.float64],
    arrivals: int,
    exposure: NDArray[np.float64],
    capacity: NDArray[np.int64],
    slates: NDArray[np.int64],
    price: NDArray[np.float32],
) -> None:
    """The rows in order, up to their capacities; arguments as in :func:`serve_with_feedback` and :class:`Pacing`.

    A bonus is computed from whole counts each time, so rounding cannot accumulate and the cut into batches cannot
    matter. The scores are λ(x)·p(y|x) in single precision, as :attr:`Arrivals.intensity` has them.
    """
    n, k = slates.shape
    m = len(start)
    bonus = np.empty(m, np.float64)
    value = np.empty(m, np.float64)
    best = np.empty(k, np.float64)
    for row in range(n):
        time = first + row
        factor = closing_factor(time, arrivals, closing)
        for item in range(m):
            moved = start[item] + step[item] * (pace[item] * time - exposure[item]) * factor
            bonus[item] = min(max(moved, 0.0), cost)
        for item in range(m):
            score = np.float64(relevance[row, item] * ground[row]) + bonus[item]
            value[item] = score if admissible[row, item] else -np.inf
        bits = tie_rank(ties, ids[row])
        most = min(capacity[row], k) if len(capacity) else k
        if most <= 0:
            size = 0
        elif len(required):
            left = max(arrivals - time, 1)
            size = _guarded(value, bits, left, required, exposure, slates[row, :most], best[:most])
        else:
            size = best_items(value, bits, slates[row, :most], best[:most])
        for place in range(k):
            if place < size:
                item = slates[row, place]
                exposure[item] += 1.0
                price[row, place] = -bonus[item]
            else:
                slates[row, place] = -1
                price[row, place] = np.nan
