"""The best items of rows, compiled: nearly every item fails one comparison, many of which are made at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["best_rows"]

_BLOCK = 64


@compiled
def _reaches(scores: NDArray[np.float32], lowest: np.float32) -> bool:
    """Whether some score is at least so large; without a branch, so that many are compared at once."""
    hit = False
    for score in scores:
        hit |= score >= lowest
    return hit


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
def _best_of_row(
    scores: NDArray[np.float32],
    admissible: NDArray[np.bool_],
    items: NDArray[np.int64],
    best: NDArray[np.float32],
) -> bool:
    """One row of :func:`best_rows`; ``best`` (k,) is for its scores."""
    k, size = len(items), 0
    lowest, outside = np.float32(-np.inf), np.float32(-np.inf)
    for first in range(0, len(scores), _BLOCK):
        if not _reaches(scores[first : first + _BLOCK], lowest):
            continue
        for item in range(first, min(first + _BLOCK, len(scores))):
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
    best = np.empty(k, scores.dtype)
    for row in range(n):
        tied[row] = _best_of_row(scores[row], admissible[row], items[row], best)
    return tied
