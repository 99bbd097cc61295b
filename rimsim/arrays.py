"""Array types, and ragged arrays held as one flat array."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Float32s: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]
Ints32: TypeAlias = NDArray[np.int32]
Bools: TypeAlias = NDArray[np.bool_]
Array: TypeAlias = NDArray[Any]


def offsets_of(counts: Ints) -> Ints:
    """Offsets (n + 1,) of rows with so many entries each."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def places_of(begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Positions from each begin to before its end, and offsets."""
    lengths = end - begin
    offsets = offsets_of(lengths)
    return np.repeat(begin - offsets[:-1], lengths) + np.arange(offsets[-1]), offsets


def numbered(counts: Ints) -> tuple[Ints, Ints]:
    """Row and number within its row, for entries per row."""
    number, _ = places_of(np.zeros_like(counts), counts)
    return np.repeat(np.arange(len(counts)), counts), number
