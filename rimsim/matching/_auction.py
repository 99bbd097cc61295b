"""The kernels of the price solver: a forward and a reverse auction between items on a sparse graph of pairs.

Items hold positions of users. Each item has a *bonus* w = −v; a user holds the k pairs with the largest s + w. The
state is kept within ε of complementary slackness:

* a pair not held is worth at most ε more than the cheapest position of its user;
* an item with w > 0 holds no more than its floor, one with w < 0 no less than its cap.

The *reverse* pass lets items that hold too much lower their bonus until their least attached users leave for their
next best pair; the *forward* pass lets items that hold too little raise it and take the positions where that costs
least. Each step moves a bonus to the level at which the next user would be indifferent, and ε beyond, so the price of
a position moves by at least ε and the passes end (Bertsekas and Castañon, "A forward/reverse auction algorithm for
asymmetric assignment problems", 1992; ε-scaling is the caller's loop).

Everything is deterministic: items are served first in, first out, and no step depends on threads.

Arrays, for n users, M items, E pairs: ``uptr`` (n+1,), ``uitem``, ``uval`` (E,) the pairs by user; ``iptr`` (M+1,),
``iuser``, ``ipair`` (E,) the same by item, ``ipair`` pointing into the order by user. ``slot`` (n, k) holds pairs, −1
where empty; ``held`` (E,) says whether a pair is in a slot; ``theta`` (n,) is the value of the cheapest slot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.matching._compiled import compiled
from rimsim.matching._ties import tie_rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Short = NDArray[np.int32]
    Floats = NDArray[np.float64]
    Flags = NDArray[np.uint8]

__all__ = ["dual_value", "forward", "greedy", "reverse"]


@compiled
def _push_min(values: Floats, tags: Ints, size: int, value: float, tag: int) -> int:
    """Push onto a min-heap."""
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
    return size + 1


@compiled
def _replace_min(values: Floats, tags: Ints, size: int, value: float, tag: int) -> None:
    """Replace the root of a min-heap."""
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


@compiled
def _cheapest(
    user: int, slot: Ints, capacity: Ints, uitem: Short, uval: Floats, w: Floats
) -> tuple[int, float]:
    """The position of a user that is worth least, and what it is worth (an empty one: 0)."""
    best = -1
    worth = np.inf
    for position in range(capacity[user]):
        pair = slot[user, position]
        value = 0.0 if pair < 0 else uval[pair] + w[uitem[pair]]
        if value < worth:
            worth = value
            best = position
    return best, worth


@compiled
def greedy(
    uptr: Ints,
    uitem: Short,
    uval: Floats,
    w: Floats,
    capacity: Ints,
    sticky: float,
    rows: NDArray[np.uint64],
    slot: Ints,
    held: Flags,
    exposure: Ints,
    theta: Floats,
) -> None:
    """Give every user the pairs with the largest s + w (not below 0); a pair that is held gets ``sticky`` on top."""
    width = slot.shape[1]
    values = np.empty(width + 1, np.float64)
    ranks = np.empty(width + 1, np.uint64)
    tags = np.empty(width + 1, np.int64)
    exposure[:] = 0
    for user in range(len(capacity)):
        k = capacity[user]
        size = 0
        for pair in range(uptr[user], uptr[user + 1]):
            value = uval[pair] + w[uitem[pair]]
            if held[pair]:
                value += sticky
                held[pair] = 0
            if value < 0.0 or k == 0 or (size == k and value < values[size - 1]):
                continue
            rank = tie_rank(rows[user], uitem[pair])
            if size == k:
                if value == values[size - 1] and rank < ranks[size - 1]:
                    continue
                size -= 1
            place = size
            while place > 0 and (
                values[place - 1] < value or (values[place - 1] == value and ranks[place - 1] < rank)
            ):
                values[place] = values[place - 1]
                ranks[place] = ranks[place - 1]
                tags[place] = tags[place - 1]
                place -= 1
            values[place] = value
            ranks[place] = rank
            tags[place] = pair
            size += 1
        for position in range(width):
            slot[user, position] = tags[position] if position < size else -1
        for position in range(size):
            held[tags[position]] = 1
            exposure[uitem[tags[position]]] += 1
        theta[user] = _cheapest(user, slot, capacity, uitem, uval, w)[1]


@compiled
def _next_best(
    user: int, uptr: Ints, uitem: Short, uval: Floats, w: Floats, held: Flags
) -> tuple[int, float]:
    """The best pair of a user that it does not hold, and its value; (−1, 0) if leaving the position empty is better."""
    best = -1
    worth = 0.0
    for pair in range(uptr[user], uptr[user + 1]):
        if not held[pair]:
            value = uval[pair] + w[uitem[pair]]
            if value > worth or (best < 0 and value >= 0.0):
                worth = value
                best = pair
    return best, worth


@compiled
def reverse(
    uptr: Ints,
    uitem: Short,
    uval: Floats,
    iptr: Ints,
    iuser: Short,
    ipair: Ints,
    w: Floats,
    floor: Ints,
    cap: Ints,
    capacity: Ints,
    epsilon: float,
    slot: Ints,
    held: Flags,
    exposure: Ints,
    theta: Floats,
) -> int:
    """Let items that hold too much lower their bonus until they hold what they may; bonuses only fall.

    Returns:
        How often a bonus was lowered.
    """
    n, m = len(capacity), len(w)
    queue = np.empty(m + 1, np.int64)
    waiting = np.zeros(m, np.uint8)
    head = tail = 0
    for item in range(m):
        if exposure[item] > (floor[item] if w[item] > 0.0 else cap[item]):
            queue[tail] = item
            tail += 1
            waiting[item] = 1
    if tail == 0:
        return 0
    other = np.full(n, -2, np.int64)  # the next best pair of each user, −2 where unknown
    worth = np.zeros(n, np.float64)  # its value when it was looked up: an upper bound ever since
    pairs = np.empty(n, np.int64)
    owners = np.empty(n, np.int64)
    margins = np.empty(n, np.float64)
    steps = 0
    while head != tail:
        item = queue[head]
        head = (head + 1) % (m + 1)
        waiting[item] = 0
        while exposure[item] > (floor[item] if w[item] > 0.0 else cap[item]):
            steps += 1
            positive = w[item] > 0.0
            surplus = exposure[item] - (floor[item] if positive else cap[item])
            count = 0
            for place in range(iptr[item], iptr[item + 1]):
                pair = ipair[place]
                if held[pair]:
                    user = iuser[place]
                    spare = other[user]
                    stale = spare == -2
                    if spare >= 0:
                        stale = held[spare] == 1 or uval[spare] + w[uitem[spare]] != worth[user]
                    if stale:
                        spare, worth[user] = _next_best(user, uptr, uitem, uval, w, held)
                        other[user] = spare
                    pairs[count] = pair
                    owners[count] = user
                    margins[count] = uval[pair] + w[item] - worth[user]
                    count += 1
            order = np.argsort(margins[:count], kind="mergesort")
            level = margins[order[surplus]] if surplus < count else margins[order[count - 1]]
            leaving = surplus
            if positive and margins[order[surplus - 1]] > w[item]:
                leaving = 0  # without a bonus some would still stay: let the cap decide
                while margins[order[leaving]] <= w[item]:
                    leaving += 1
                lowered = 0.0
            else:
                lowered = w[item] - max(level, 0.0) - epsilon
                if positive and lowered < 0.0:
                    lowered = 0.0
            w[item] = lowered
            for index in range(leaving):
                pair = pairs[order[index]]
                user = owners[order[index]]
                spare = other[user]
                position = 0
                while slot[user, position] != pair:
                    position += 1
                slot[user, position] = spare
                held[pair] = 0
                exposure[item] -= 1
                other[user] = -2
                if spare >= 0:
                    held[spare] = 1
                    joined = uitem[spare]
                    exposure[joined] += 1
                    if waiting[joined] == 0 and exposure[joined] > (
                        floor[joined] if w[joined] > 0.0 else cap[joined]
                    ):
                        if joined != item:
                            waiting[joined] = 1
                            queue[tail] = joined
                            tail = (tail + 1) % (m + 1)
    for user in range(n):
        theta[user] = _cheapest(user, slot, capacity, uitem, uval, w)[1]
    return steps


@compiled
def forward(
    uptr: Ints,
    uitem: Short,
    uval: Floats,
    iptr: Ints,
    iuser: Short,
    ipair: Ints,
    w: Floats,
    floor: Ints,
    cap: Ints,
    ceiling: Floats,
    capacity: Ints,
    epsilon: float,
    slot: Ints,
    held: Flags,
    exposure: Ints,
    theta: Floats,
) -> int:
    """Let items that hold too little raise their bonus, up to ``ceiling``, until they hold what they need.

    Returns:
        How often a bonus was raised.
    """
    m = len(w)
    queue = np.empty(m + 1, np.int64)
    waiting = np.zeros(m, np.uint8)
    head = tail = 0
    deepest = 0
    for item in range(m):
        deepest = max(deepest, iptr[item + 1] - iptr[item])
        if exposure[item] < (cap[item] if w[item] < 0.0 else floor[item]) and w[item] < ceiling[item]:
            queue[tail] = item
            tail += 1
            waiting[item] = 1
    values = np.empty(deepest + 1, np.float64)
    places = np.empty(deepest + 1, np.int64)
    holders = np.empty(deepest + 1, np.int64)
    steps = 0
    while head != tail:
        item = queue[head]
        head = (head + 1) % (m + 1)
        waiting[item] = 0
        while exposure[item] < (cap[item] if w[item] < 0.0 else floor[item]) and w[item] < ceiling[item]:
            steps += 1
            negative = w[item] < 0.0
            needed = floor[item] - exposure[item]
            wanted = cap[item] - exposure[item] if negative else needed
            keep = min(wanted + 1, deepest + 1)
            size = n_held = 0
            for place in range(iptr[item], iptr[item + 1]):
                pair = ipair[place]
                user = iuser[place]
                if held[pair]:
                    holders[n_held] = user
                    n_held += 1
                    continue
                if capacity[user] == 0:
                    continue
                margin = uval[pair] - theta[user]
                if size < keep:
                    size = _push_min(values, places, size, margin, place)
                elif margin > values[0]:
                    _replace_min(values, places, size, margin, place)
            order = np.argsort(-values[:size], kind="mergesort")
            take = 0
            if negative:
                while take < min(wanted, size) and values[order[take]] > 0.0:
                    take += 1
                if take >= needed:
                    level = max(values[order[take]], 0.0) if take < size else 0.0
                    raised = min(0.0, epsilon - level) if take == wanted else 0.0
                else:
                    negative = False
            if not negative:
                take = 0
                while take < min(needed, size) and values[order[take]] >= -ceiling[item]:
                    take += 1
                level = -ceiling[item]
                if take < size:
                    level = max(level, values[order[take]])
                elif level == -np.inf:  # every pair is held: the last one taken sets the price
                    level = values[order[take - 1]] if take > 0 else -w[item]
                raised = min(ceiling[item], max(epsilon - level, 0.0))
                if take < needed:
                    raised = ceiling[item]
            raised = max(raised, w[item])
            before = w[item]
            w[item] = raised
            for index in range(take):
                place = places[order[index]]
                pair = ipair[place]
                user = iuser[place]
                position = _cheapest(user, slot, capacity, uitem, uval, w)[0]
                out = slot[user, position]
                slot[user, position] = pair
                held[pair] = 1
                exposure[item] += 1
                if out >= 0:
                    held[out] = 0
                    left = uitem[out]
                    exposure[left] -= 1
                    if (
                        waiting[left] == 0
                        and exposure[left] < (cap[left] if w[left] < 0.0 else floor[left])
                        and w[left] < ceiling[left]
                    ):
                        waiting[left] = 1
                        queue[tail] = left
                        tail = (tail + 1) % (m + 1)
                theta[user] = _cheapest(user, slot, capacity, uitem, uval, w)[1]
            if raised > before:
                for index in range(n_held):
                    user = holders[index]
                    theta[user] = _cheapest(user, slot, capacity, uitem, uval, w)[1]
            if take == 0 and raised == before:
                break  # no admissible user is left; the caller has checked feasibility
    return steps


@compiled
def dual_value(
    uptr: Ints,
    uitem: Short,
    uval: Floats,
    w: Floats,
    capacity: Ints,
    floor: Ints,
    cap: Ints,
    user_price: Floats,
) -> float:
    """D(w) = Σ top sums of s + w − w·b (w > 0) − w·cap (w < 0), and the price of a position of every user."""
    deepest = 1
    for user in range(len(capacity)):
        deepest = max(deepest, capacity[user])
    values = np.empty(deepest + 1, np.float64)
    tags = np.empty(deepest + 1, np.int64)
    total = 0.0
    for user in range(len(capacity)):
        k = capacity[user]
        size = 0
        for pair in range(uptr[user], uptr[user + 1]):
            value = uval[pair] + w[uitem[pair]]
            if value <= 0.0 or k == 0:
                continue
            if size < k:
                size = _push_min(values, tags, size, value, pair)
            elif value > values[0]:
                _replace_min(values, tags, size, value, pair)
        user_price[user] = values[0] if size == k and k > 0 else 0.0
        part = 0.0
        for index in range(size):
            part += values[index]
        total += part
    for item in range(len(w)):
        if w[item] > 0.0:
            total -= w[item] * floor[item]
        elif w[item] < 0.0:
            total -= w[item] * cap[item]
    return total
