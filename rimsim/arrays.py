"""Array types, and ragged arrays: rows of unequal lengths in one flat array."""

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


def places_of(begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Positions from each begin (n,) to before its end (n,), row after row.

    Returns:
        (total,) the positions, and (n + 1,) where each row begins among them.
    """
    lengths = end - begin
    offsets = np.zeros(len(begin) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return np.repeat(begin - offsets[:-1], lengths) + np.arange(offsets[-1]), offsets


def numbered(counts: Ints) -> tuple[Ints, Ints]:
    """Row (total,) and number within its row (total,) for counts (n,) of entries per row."""
    number, _ = places_of(np.zeros_like(counts), counts)
    return np.repeat(np.arange(len(counts)), counts), number
