"""Small parts of the compiled loops: seeded order among ties, a bounded heap, a queue of items.

The bits of ties are those of :func:`rimsim.rng.bits`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rimsim.arrays import Floats, Ints
from rimsim.compiled import compiled
from rimsim.rng import Purpose, bits

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_UNIT = 2.0**-53
_30, _27, _31, _11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


def row_states(seed: int, keys: ArrayLike) -> NDArray[np.uint64]:
    """(n,) the random bits of every row: one word of the key is left for the item."""
    return _tie_ranks(tie_base(seed), np.ascontiguousarray(keys, np.int64))


@lru_cache(maxsize=64)
def tie_base(seed: int) -> np.uint64:
    """``bits(seed, TIES)``: the random bits from which :func:`tie_rank` makes those of rows, and of their items."""
    return np.uint64(bits(seed, Purpose.TIES))


@compiled
def tie_rank(row: np.uint64, item: int) -> np.uint64:
    """``bits(seed, TIES, key, item)``, given ``bits(seed, TIES, key)``; the larger wins a tie."""
    word = np.uint64(item) + _GOLDEN
    word = (word ^ (word >> _30)) * _MIX_1
    word = (word ^ (word >> _27)) * _MIX_2
    word = word ^ (word >> _31)
    state = (row ^ word) + _GOLDEN
    state = (state ^ (state >> _30)) * _MIX_1
    state = (state ^ (state >> _27)) * _MIX_2
    return np.uint64(state ^ (state >> _31))


@compiled
def uniform_of(bits: np.uint64) -> float:
    """A number in [0, 1) of random bits, as :func:`rimsim.rng.uniform` makes it."""
    return float(np.float64(bits >> _11) * _UNIT)


@compiled
def _tie_ranks(state: np.uint64, words: Ints) -> NDArray[np.uint64]:
    """(n,) one more word of the key for each: what :func:`rimsim.rng.bits` does with it, at a fraction of the calls."""
    ranks = np.empty(len(words), np.uint64)
    for n in range(len(words)):
        ranks[n] = tie_rank(state, words[n])
    return ranks


@compiled
def push_min(values: Floats, tags: Ints, size: int, value: float, tag: int) -> None:
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
def replace_min(values: Floats, tags: Ints, size: int, value: float, tag: int) -> None:
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


class Queue(NamedTuple):
    """A ring."""

    ring: Ints
    """(M+1,) waiting items."""
    ends: Ints
    """(2,) head and tail."""
    waiting: NDArray[np.uint8]
    """(M,) whether an item waits."""


@compiled
def new_queue(m: int) -> Queue:
    """An empty queue for items 0 to m − 1."""
    return Queue(np.empty(m + 1, np.int64), np.zeros(2, np.int64), np.zeros(m, np.uint8))


@compiled
def enqueue(queue: Queue, item: int) -> None:
    """Let an item wait, unless it does already."""
    if queue.waiting[item] == 0:
        queue.waiting[item] = 1
        queue.ring[queue.ends[1]] = item
        queue.ends[1] = (queue.ends[1] + 1) % len(queue.ring)


@compiled
def dequeue(queue: Queue) -> int:
    """The item that waited longest; −1 if none waits."""
    if queue.ends[0] == queue.ends[1]:
        return -1
    item = queue.ring[queue.ends[0]]
    queue.ends[0] = (queue.ends[0] + 1) % len(queue.ring)
    queue.waiting[item] = 0
    return int(item)
