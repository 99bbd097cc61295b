"""Compiled parts of loops: ties, best items, heap, queue.

Your agent's compiled loop can call these functions. The random bits of :func:`rimsim.rng.bits` decide ties.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled, compiled_part
from rimsim.rng import Purpose, bits

NO_ROW = np.uint64(0)  # bits that mean: in a tie, any item may win
# Constants of the generator SplitMix64. Tests use the Python integers, and compiled code uses the uint64.
GOLDEN = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB
_GOLDEN = np.uint64(GOLDEN)
_MIX_1 = np.uint64(MIX_1)
_MIX_2 = np.uint64(MIX_2)
_30 = np.uint64(30)
_27 = np.uint64(27)
_31 = np.uint64(31)
_11 = np.uint64(11)
_UNIT = 2.0**-53  # a float64 holds all multiples of this number in [0, 1)
# Largest number of items per part of :func:`part_maxima`. The items of a part are a stride apart, so that the processor
# can take the maxima of many parts at once.
_PARTS = 16


def row_states(seed: int, keys: ArrayLike) -> NDArray[np.uint64]:
    """(n,) random bits of each row, for :func:`tie_rank`."""
    return _tie_ranks(tie_base(seed), np.ascontiguousarray(keys, np.int64))


@lru_cache(maxsize=64)
def tie_base(seed: int) -> np.uint64:
    """Random bits of a seed, from which :func:`tie_rank` starts."""
    return np.uint64(bits(seed, Purpose.TIES))


@compiled
def tie_rank(row: np.uint64, item: int) -> np.uint64:
    """Random bits of row and item; the largest wins ties.

    Both are mixed by the generator SplitMix64.
    """
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
    """Number in [0, 1) from random bits, as in :func:`rimsim.rng.uniform`."""
    return float(np.float64(bits >> _11) * _UNIT)


@compiled
def _tie_ranks(state: np.uint64, words: Ints) -> NDArray[np.uint64]:
    """(n,) results of :func:`tie_rank` for each word."""
    ranks = np.empty(len(words), np.uint64)
    for n in range(len(words)):
        ranks[n] = tie_rank(state, words[n])
    return ranks


@compiled_part
def insert(best: Floats, value: float) -> None:
    """Insert a value into a descending array; drop the smallest.

    The value must be above the smallest value.
    """
    index = len(best) - 1
    while index > 0 and best[index - 1] < value:
        best[index] = best[index - 1]
        index -= 1
    best[index] = value


@compiled_part
def part_maxima(value: NDArray[np.floating], k: int) -> Floats:
    """Maxima of 2k or more parts of an array.

    Part i has every n-th value from value i on, where n is the number of parts.
    """
    stride = max(-(-len(value) // _PARTS), min(2 * k, len(value)))
    highest = np.empty(stride, np.float64)
    for index in range(stride):  # np.full() would be one more function to compile
        highest[index] = -np.inf
    for first in range(0, len(value), max(stride, 1)):
        values = value[first : first + stride]
        for index in range(len(values)):
            if values[index] > highest[index]:  # noqa: PLR1730  # max() would test each number for NaN
                highest[index] = values[index]
    return highest


@compiled_part
def kth_of_parts(highest: Floats, k: int) -> float:
    """k-th largest maximum of parts; k values reach this level."""
    if len(highest) < k:
        return -np.inf
    best = np.empty(k, np.float64)
    for index in range(k):
        best[index] = -np.inf
    for new in highest:
        if new > best[k - 1]:
            insert(best, new)
    return float(best[k - 1])


@compiled_part
def enter(item: int, new: float, row: np.uint64, items: Ints, best: NDArray[np.floating], size: int) -> int:
    """Add an item to the best items; return their number.

    ``items`` has the ``size`` best items so far in descending order, and ``best`` has their values; both are changed in
    place. ``new`` is the item's value, at least the smallest in ``best``. The bits ``row`` decide ties.
    """
    k = len(items)
    if size == k:
        if new == best[k - 1] and tie_rank(row, item) <= tie_rank(row, items[k - 1]):
            return k
        size -= 1
    index = size
    while index > 0 and (
        best[index - 1] < new
        or (best[index - 1] == new and tie_rank(row, items[index - 1]) < tie_rank(row, item))
    ):
        best[index] = best[index - 1]
        items[index] = items[index - 1]
        index -= 1
    best[index] = new
    items[index] = item
    return size + 1


@compiled
def best_items(
    value: NDArray[np.floating],
    row: np.uint64,
    items: Ints,
    best: NDArray[np.floating],
    tie_width: float = 0.0,
) -> int:
    """Fill ``items`` with the k items of largest value.

    ``value`` (M,) is −inf for items that cannot be shown. ``best`` (k,) gets the values of the found items.
    In a tie, the item with the largest :func:`tie_rank` of ``row`` wins; if ``row`` is 0, any of them does. Every value
    is raised by a seeded random number below ``tie_width``. The function returns the number of found items, at most k.
    """
    # All kernels here pass ``tie_width``, because a call without it would compile the function once more.
    k = len(items)
    if k == 0:
        return 0
    # An int64 like the later sizes: with a literal 0, Numba would compile ``enter`` twice.
    size = 0 * k
    highest = part_maxima(value, k)
    threshold = kth_of_parts(highest, k)  # value that an item must exceed to enter the list
    for first in range(len(highest)):
        if highest[first] + tie_width < threshold:
            continue
        for item in range(first, len(value), len(highest)):
            new = value[item]
            if new + tie_width < threshold or new == -np.inf:
                continue
            if row == NO_ROW and new == threshold and size == k:
                continue
            if tie_width > 0.0:
                new += tie_width * uniform_of(tie_rank(row, item))
                if new < threshold:
                    continue
            size = enter(item, new, row, items, best, size)
            if size == k:
                threshold = best[k - 1]
    return size


@compiled_part
def items_between(
    value: NDArray[np.floating], highest: Floats, lowest: float, below: float, items: Ints
) -> int:
    """Number of items with ``lowest`` ≤ value < ``below``.

    The function writes these items into ``items``, in no particular order. ``highest`` are
    :func:`part_maxima` of ``value`` (M,); items of value −∞ are left out.
    """
    size = 0
    for first in range(len(highest)):
        if highest[first] >= lowest:
            for item in range(first, len(value), len(highest)):
                if lowest <= value[item] < below and value[item] > -np.inf:
                    items[size] = item
                    size += 1
    return size


@compiled
def best_rows(scores: Float32s, admissible: Bools, items: Ints) -> Bools:
    """Fill ``items`` with admissible items of largest score.

    Items are in descending order of score; −1 marks positions without an item. All scores must be finite. The
    function returns a mask (n,) of rows in which a tie makes the slate ambiguous.
    """
    (n, m) = scores.shape
    k = items.shape[1]
    is_tied = np.empty(n, np.bool_)
    value = np.empty(m, np.float64)
    best = np.empty(k, np.float64)
    for row in range(n):
        is_tied[row] = False
        for item in range(m):
            value[item] = scores[row, item] if admissible[row, item] else -np.inf
        size = best_items(value, NO_ROW, items[row], best, 0.0)
        items[row, size:] = -1
        # More than k items reach the last position's score, or two items of the slate have equal scores.
        if 0 < size == k:
            n_reaching = 0
            for item in range(m):
                n_reaching += value[item] >= best[k - 1]
            is_tied[row] = n_reaching > k
        for index in range(1, size):
            is_tied[row] |= best[index] == best[index - 1]
    return is_tied


@compiled_part
def order_items(items: Ints, scores: NDArray[np.floating]) -> None:
    """Put a slate in descending order of scores, in place.

    Items of equal scores keep their order. Empty positions (−1) go to the end.
    """
    for index in range(1, len(items)):
        item = items[index]
        target = index
        while (
            item >= 0 and target > 0 and (items[target - 1] < 0 or scores[items[target - 1]] < scores[item])
        ):
            items[target] = items[target - 1]
            target -= 1
        items[target] = item


@compiled_part
def keep_largest(values: Floats, tags: Ints, size: int, keep: int, value: float, tag: int) -> int:
    """Push to a min-heap of limited size; return its size.

    The heap keeps the ``keep`` largest values with their tags, and its first value is the smallest. If the heap is
    full, ``value`` replaces the smallest value, and must be larger.
    """
    if size < keep:
        index = size
        while index > 0:
            parent = (index - 1) >> 1
            if values[parent] <= value:
                break
            values[index] = values[parent]
            tags[index] = tags[parent]
            index = parent
        size += 1
    else:
        index = 0
        while True:
            child = 2 * index + 1
            if child >= size:
                break
            if child + 1 < size and values[child + 1] < values[child]:
                child += 1
            if values[child] >= value:
                break
            values[index] = values[child]
            tags[index] = tags[child]
            index = child
    values[index] = value
    tags[index] = tag
    return size


class Queue(NamedTuple):
    """First-in-first-out queue of items."""

    ring: Ints  # (M+1,) items in a ring buffer
    ends: Ints  # (2,) index in ``ring`` of the first item in the queue, and index after the last item
    waiting: NDArray[np.uint8]  # (M,) 1 for items in the queue, which must not enter it twice


@compiled_part
def new_queue(m: int) -> Queue:
    """Empty queue for items 0 to m − 1."""
    return Queue(np.empty(m + 1, np.int64), np.zeros(2, np.int64), np.zeros(m, np.uint8))


@compiled_part
def enqueue(queue: Queue, item: int) -> None:
    """Add an item to the queue unless it is queued."""
    if queue.waiting[item] == 0:
        queue.waiting[item] = 1
        queue.ring[queue.ends[1]] = item
        queue.ends[1] = (queue.ends[1] + 1) % len(queue.ring)


@compiled_part
def dequeue(queue: Queue) -> int:
    """First item of the queue; −1 if the queue is empty."""
    if queue.ends[0] == queue.ends[1]:
        return -1
    item = queue.ring[queue.ends[0]]
    queue.ends[0] = (queue.ends[0] + 1) % len(queue.ring)
    queue.waiting[item] = 0
    return int(item)
