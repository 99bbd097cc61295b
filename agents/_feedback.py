"""The inner loop of ``rim-feedback``, compiled: rank one arrival, then move the prices, row after row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.matching._compiled import compiled
from rimsim.matching._ties import tie_rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["rank_with_feedback"]


@compiled
def rank_with_feedback(
    score: NDArray[np.float32],
    admissible: NDArray[np.bool_],
    row_bits: NDArray[np.uint64],
    first: int,
    start: NDArray[np.float64],
    pace: NDArray[np.float64],
    step: NDArray[np.float64],
    cost: float,
    exposure: NDArray[np.int64],
    slates: NDArray[np.int64],
    price: NDArray[np.float32],
) -> None:
    """Answer n rows in order, each with the top k of score + bonus at the delivery so far.

    The bonus of an item before arrival t is clip(start + step·(pace·t − E), 0, cost). It is computed from whole
    counts each time, so rounding cannot accumulate and the cut into batches cannot matter.

    Args:
        score: (n, M) λ(x,y).
        admissible: (n, M).
        row_bits: (n,) random bits of the rows, for ties.
        first: Number t of the first row in its round.
        start: (M,) bonus at the round's beginning.
        pace: (M,) required exposures per arrival.
        step: (M,) bonus per exposure of delivery error.
        cost: c, upper end of the price box.
        exposure: (M,) exposures of the round so far; changed in place.
        slates: (n, k) filled in place; −1 for an empty position.
        price: (n, k) item prices v at the decision; filled in place.
    """
    n, k = slates.shape
    m = len(start)
    bonus = np.empty(m, np.float64)
    values = np.empty(k, np.float64)
    for row in range(n):
        time = first + row
        for item in range(m):
            moved = start[item] + step[item] * (pace[item] * time - exposure[item])
            bonus[item] = min(max(moved, 0.0), cost)
        size = 0
        for item in range(m):
            if not admissible[row, item]:
                continue
            value = np.float64(score[row, item]) + bonus[item]
            if size == k:
                worst = slates[row, k - 1]
                if value < values[k - 1] or (
                    value == values[k - 1] and tie_rank(row_bits[row], item) <= tie_rank(row_bits[row], worst)
                ):
                    continue
                size -= 1
            place = size
            while place > 0 and (
                values[place - 1] < value
                or (
                    values[place - 1] == value
                    and tie_rank(row_bits[row], slates[row, place - 1]) < tie_rank(row_bits[row], item)
                )
            ):
                values[place] = values[place - 1]
                slates[row, place] = slates[row, place - 1]
                place -= 1
            values[place] = value
            slates[row, place] = item
            size += 1
        for place in range(k):
            if place < size:
                item = slates[row, place]
                exposure[item] += 1
                price[row, place] = -bonus[item]
            else:
                slates[row, place] = -1
                price[row, place] = np.nan
