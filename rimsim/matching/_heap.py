"""A bounded heap for compiled code: the r largest of many values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.compiled import compiled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["push_min", "replace_min"]


@compiled
def push_min(values: NDArray[np.float64], tags: NDArray[np.int64], size: int, value: float, tag: int) -> None:
    """Push onto a min-heap of ``size`` entries."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if values[parent] <= value:
            break
        values[place] = values[parent]
        tags[place] = tags[parent]
        place = parent
    values[place] = value
    tags[place] = tag


@compiled
def replace_min(
    values: NDArray[np.float64], tags: NDArray[np.int64], size: int, value: float, tag: int
) -> None:
    """Replace the root of a min-heap of ``size`` entries."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and values[child + 1] < values[child]:
            child += 1
        if values[child] >= value:
            break
        values[place] = values[child]
        tags[place] = tags[child]
        place = child
    values[place] = value
    tags[place] = tag
