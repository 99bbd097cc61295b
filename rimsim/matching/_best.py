"""The best items of rows, compiled: most stretches of items fail one comparison, and are not looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["best_rows"]

_STRETCH = 32
_LAST = np.int32(-(2**31))


@compiled
def _largest(scores: NDArray[np.int32], admissible: NDArray[np.bool_]) -> np.int32:
    """The largest admissible score, as a whole number in the order of the scores.

    Without a branch, so that many are compared at once.

    Args:
        scores: (n,) the bits of 32-bit floats. Those of negative ones are turned round, which puts all in order, and
            −0 is put beside 0.
        admissible: (n,).
    """
    largest = _LAST
    for item in range(len(scores)):
        bits = scores[item]
        order = bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))
        order = np.int32(0) if order == np.int32(-1) else order
        largest = max(largest, order if admissible[item] else _LAST)
    return largest


@compiled
def _insert(
    best: NDArray[np.float32], items: NDArray[np.int64], size: int, score: np.float32, item: int
) -> None:
    """Put an item into a descending list of ``size`` items, behind those of equal score."""
    place = size
    while place > 0 and best[place - 1] < score:
        best[place], items[place] = best[place - 1], items[place - 1]
        place -= 1
    best[place], items[place] = score, item


@compiled
def _kth(values: NDArray[np.int32], k: int, room: NDArray[np.int32]) -> np.int32:
    """The k-th largest of some whole numbers; the least there is where they are fewer. ``room`` holds k."""
    size = 0
    for value in values:
        if size == k and value <= room[k - 1]:
            continue
        place = min(size, k - 1)
        while place > 0 and room[place - 1] < value:
            room[place] = room[place - 1]
            place -= 1
        room[place] = value
        size = min(size + 1, k)
    return room[k - 1] if size == k else _LAST


@compiled
def _best_of_row(
    scores: NDArray[np.float32],
    admissible: NDArray[np.bool_],
    items: NDArray[np.int64],
    best: NDArray[np.float32],
    largest: NDArray[np.int32],
    room: NDArray[np.int32],
) -> bool:
    """One row of :func:`best_rows`; ``best`` (k,), ``largest`` (stretches,) and ``room`` (k,) are scratch memory.

    k stretches of items have a score of at least the k-th largest of all stretches' largest scores. So no smaller score
    is among the k best, and few other stretches are looked at.
    """
    k, size = len(items), 0
    bits = scores.view(np.int32)
    for stretch in range(len(largest)):
        here = slice(stretch * _STRETCH, (stretch + 1) * _STRETCH)
        largest[stretch] = _largest(bits[here], admissible[here])
    least = _kth(largest, k, room)
    lowest, outside = np.float32(-np.inf), np.float32(-np.inf)
    for stretch in range(len(largest)):
        if largest[stretch] < least:
            continue
        for item in range(stretch * _STRETCH, min((stretch + 1) * _STRETCH, len(scores))):
            score = scores[item]
            if score < lowest or not admissible[item]:
                continue
            if size == k:
                outside = lowest  # the last one goes, or the new one does not come in
                if score == lowest:
                    continue
                size -= 1
            _insert(best, items, size, score, item)
            size += 1
            if size == k:
                lowest = best[k - 1]
    items[size:] = -1
    tied = size == k and outside == lowest
    for place in range(1, size):
        tied |= best[place] == best[place - 1]
    return tied


@compiled
def best_rows(
    scores: NDArray[np.float32], admissible: NDArray[np.bool_], items: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """The k admissible items of largest score in each row, in descending order.

    Args:
        scores: (n, M) finite.
        admissible: (n, M).
        items: (n, k), k ≥ 1, filled in place; −1 where a row has fewer admissible items.

    Returns:
        (n,) whether scores are equal among a row's best or at their end: there is then more than one such slate.
    """
    n, k = items.shape
    tied = np.empty(n, np.bool_)
    best, room = np.empty(k, scores.dtype), np.empty(k, np.int32)
    largest = np.empty((scores.shape[1] + _STRETCH - 1) // _STRETCH, np.int32)
    for row in range(n):
        tied[row] = _best_of_row(scores[row], admissible[row], items[row], best, largest, room)
    return tied
