"""Slates in order of what their items are worth: where all positions count alike, prices choose the set alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Ints
from rimsim.compiled import compiled
from rimsim.matching.problem import as_array


@compiled
def order_items(items: Ints, scores: NDArray[np.floating]) -> None:
    """Put the slate of one row in descending order of its scores; equal scores stay in the order in which they came.

    Args:
        items: (k,) items, changed in place; −1 for an empty position, which goes to the end.
        scores: (M,) of the row.
    """
    for place in range(1, len(items)):
        item, before = items[place], place
        while (
            item >= 0 and before > 0 and (items[before - 1] < 0 or scores[items[before - 1]] < scores[item])
        ):
            items[before] = items[before - 1]
            before -= 1
        items[before] = item


@compiled
def _order_rows(items: Ints, scores: NDArray[np.floating]) -> None:
    for row in range(len(items)):
        order_items(items[row], scores[row])


def ordered_by(items: object, scores: object) -> Ints:
    """Slates, such as those of :func:`~rimsim.matching.price_slates`, in descending order of scores.

    Args:
        items: (n, k) items, −1 for an empty position.
        scores: (n, M) array or tensor.

    Returns:
        (n, k) the same items; equal scores stay in the order in which they came, empty positions come last.
    """
    ordered = np.array(as_array(items), np.int64)
    _order_rows(ordered, as_array(scores))
    return ordered
