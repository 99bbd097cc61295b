"""Ragged arrays: rows of unequal lengths in one flat array, and where each of them begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["numbered", "places_of"]


def places_of(
    begin: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers from each begin to its end, row after row.

    Args:
        begin: (n,) the first place of each row.
        end: (n,) the place past its last.

    Returns:
        (total,) the places, and (n + 1,) where each row begins among them.
    """
    lengths = end - begin
    offsets = np.zeros(len(begin) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return np.repeat(begin - offsets[:-1], lengths) + np.arange(offsets[-1]), offsets


def numbered(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row (total,) and running number (total,), from 0, of each of so many things (n,) of each row."""
    number, _ = places_of(np.zeros_like(counts), counts)
    return np.repeat(np.arange(len(counts)), counts), number
