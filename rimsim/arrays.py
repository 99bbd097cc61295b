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
"""Release tick of an item that exists from the start. It is earlier than all events, also those before 1970."""
NEVER = 2**62
"""Tick after all rounds, such as the release tick of an item that is never offered."""


def offsets_of(counts: Ints) -> Ints:
    """Offsets of rows with ``counts`` entries in a flat array.

    Row i has the entries ``offsets[i]`` to ``offsets[i + 1]``.
    """
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def places_of(begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Indices of all ranges ``begin:end``, joined, and their offsets."""
    lengths = end - begin
    offsets = offsets_of(lengths)
    shift = np.repeat(begin - offsets[:-1], lengths)  # of each entry from its index in the joined array
    return shift + np.arange(offsets[-1]), offsets


def numbered(counts: Ints) -> tuple[Ints, Ints]:
    """Row of each entry, and its position in the row."""
    position, _ = places_of(np.zeros_like(counts), counts)
    return np.repeat(np.arange(len(counts)), counts), position


def ticks(time: ArrayLike) -> Ints:
    """Times in seconds, rounded to whole ticks."""
    return np.rint(np.asarray(time, np.float64) * TICKS).astype(np.int64)


def seconds(tick: ArrayLike) -> Floats:
    """Seconds of ticks."""
    return np.asarray(tick, np.int64) / TICKS
