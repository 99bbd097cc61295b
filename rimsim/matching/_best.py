"""The best items of rows, compiled: nearly every item fails one comparison, many of which are made at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled
from rimsim.matching._kernels import tie_rank, uniform_of

_PARTS = 16
"""Items of a part at most, a stride apart, of which one maximum is taken; many parts are compared side by side."""
NO_ROW = np.uint64(0)
"""Random bits where ties need none of a row's own."""


@compiled
def part_maxima(value: NDArray[np.floating], k: int) -> Floats:
    """The maximum of each part, of 2k at least: of an item and those that are a whole number of strides behind it."""
    stride = max(-(-len(value) // _PARTS), min(2 * k, len(value)))
    highest = np.full(stride, -np.inf)
    for first in range(0, len(value), max(stride, 1)):
        values = value[first : first + stride]
        for place in range(len(values)):
            if values[place] > highest[place]:  # noqa: PLR1730  # max() minds missing numbers, one value at a time
                highest[place] = values[place]
    return highest


@compiled
def kth_of_parts(highest: Floats, k: int) -> float:
    """The k-th largest of the parts' maxima: k items at least reach it, and few more."""
    if len(highest) < k:
        return -np.inf
    best = np.full(k, -np.inf)
    for new in highest:
        if new > best[k - 1]:
            place = k - 1
            while place > 0 and best[place - 1] < new:
                best[place] = best[place - 1]
                place -= 1
            best[place] = new
    return float(best[k - 1])


@compiled
def enter(
    item: int,
    new: float,
    row: np.uint64,
    items: Ints,
    best: NDArray[np.floating],
    size: int,
) -> int:
    """Enter an item into the ``size`` best so far, k at most, unless a tie keeps it out.

    Args:
        item: The item.
        new: Its value, not below the last of the best so far.
        row: Random bits of the row, for ties.
        items: (k,) the best items in descending order, changed in place.
        best: (k,) their values, changed in place.
        size: How many there are.

    Returns:
        How many there are now.
    """
    k = len(items)
    if size == k:
        if new == best[k - 1] and tie_rank(row, item) <= tie_rank(row, items[k - 1]):
            return k
        size -= 1
    place = size
    while place > 0 and (
        best[place - 1] < new
        or (best[place - 1] == new and tie_rank(row, items[place - 1]) < tie_rank(row, item))
    ):
        best[place] = best[place - 1]
        items[place] = items[place - 1]
        place -= 1
    best[place] = new
    items[place] = item
    return size + 1


@compiled
def best_items(
    value: NDArray[np.floating],
    row: np.uint64,
    items: Ints,
    best: NDArray[np.floating],
    tie_width: float = 0.0,
) -> int:
    """The items of largest value in descending order; ties go to the larger seeded rank.

    Only parts whose maximum reaches the k-th largest of all parts' maxima are looked at, and only items that can
    still get in are given their dither.

    Args:
        value: (M,); −inf for what may not be shown.
        row: Random bits of the row, for ties.
        items: (k,) filled in place.
        best: (k,) their values, dither included, filled in place.
        tie_width: Every value is raised by a seeded dither, uniform below this width.

    Returns:
        How many were found, at most k.
    """
    k, size = len(items), 0
    if k == 0:
        return 0
    highest = part_maxima(value, k)
    lowest = kth_of_parts(highest, k)  # what a value must reach
    for first in range(len(highest)):
        if highest[first] + tie_width < lowest:
            continue
        for item in range(first, len(value), len(highest)):
            new = value[item]
            if new + tie_width < lowest or new == -np.inf:
                continue
            if tie_width > 0.0:
                new += tie_width * uniform_of(tie_rank(row, item))
                if new < lowest:
                    continue
            size = enter(item, new, row, items, best, size)
            if size == k:
                lowest = best[k - 1]
    return size


@compiled
def items_between(
    value: NDArray[np.floating],
    highest: Floats,
    lowest: float,
    below: float,
    items: Ints,
) -> int:
    """The items whose value is at least ``lowest`` and less than ``below``, in no order; none whose value is −∞.

    Args:
        value: (M,).
        highest: Their :func:`part_maxima`.
        lowest: At least so much.
        below: Less than that.
        items: (M,) filled in place.

    Returns:
        How many were found.
    """
    size = 0
    for first in range(len(highest)):
        if highest[first] >= lowest:
            for item in range(first, len(value), len(highest)):
                if lowest <= value[item] < below and value[item] > -np.inf:
                    items[size] = item
                    size += 1
    return size


@compiled
def best_rows(scores: Float32s, admissible: Bools, items: Ints) -> Bools:
    """The k admissible items of largest score in each row, in descending order.

    Args:
        scores: (n, M) finite.
        admissible: (n, M).
        items: (n, k), k ≥ 1, filled in place; −1 where a row has fewer admissible items.

    Returns:
        (n,) True where a tie leaves the top k, or its order, ambiguous.
    """
    (n, m), k = scores.shape, items.shape[1]
    tied = np.zeros(n, np.bool_)
    value, best = np.empty(m, scores.dtype), np.empty(k, scores.dtype)
    for row in range(n):
        for item in range(m):
            value[item] = scores[row, item] if admissible[row, item] else -np.inf
        size = best_items(value, NO_ROW, items[row], best)
        items[row, size:] = -1
        if 0 < size == k:
            reaching = 0
            for item in range(m):
                reaching += value[item] >= best[k - 1]
            tied[row] = reaching > k
        for place in range(1, size):
            tied[row] |= best[place] == best[place - 1]
    return tied
