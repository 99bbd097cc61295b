"""Array types, flat ragged arrays, and times as ticks."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]
Float32s: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]
Ints32: TypeAlias = NDArray[np.int32]
Bools: TypeAlias = NDArray[np.bool_]
Array: TypeAlias = NDArray[Any]

TICKS = 1_000_000
"""Ticks of the market's clock in a second. Whole ticks add and compare exactly; floating seconds would not."""
ALWAYS = -(2**62)
"""Release tick of an item that is there from the start: before any log begins, those before 1970 included."""
NEVER = 2**62
"""Tick after all rounds, such as the release tick of an item that is never offered."""


def offsets_of(counts: Ints) -> Ints:
    """Offsets of rows, of given lengths, in a flat array."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def places_of(begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Indices of all ranges ``begin:end``, joined, and their offsets."""
    lengths = end - begin
    offsets = offsets_of(lengths)
    return np.repeat(begin - offsets[:-1], lengths) + np.arange(offsets[-1]), offsets


def numbered(counts: Ints) -> tuple[Ints, Ints]:
    """Row of each entry, and its position in the row."""
    number, _ = places_of(np.zeros_like(counts), counts)
    return np.repeat(np.arange(len(counts)), counts), number


def ticks(time: ArrayLike) -> Ints:
    """Times in seconds, rounded to whole ticks."""
    return np.rint(np.asarray(time, np.float64) * TICKS).astype(np.int64)


def seconds(tick: ArrayLike) -> Floats:
    """Seconds of ticks."""
    return np.asarray(tick, np.int64) / TICKS
