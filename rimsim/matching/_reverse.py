"""The reverse pass of the auction: items that hold too much lower their bonus (see ``_auction.py``)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rimsim.arrays import Floats, Ints
from rimsim.compiled import compiled
from rimsim.matching._greedy import refresh
from rimsim.matching._kernels import dequeue, enqueue, new_queue, push_min, replace_min
from rimsim.matching._pairs import Pairs, State, item_of, item_range, pair_at, place_of, user_range

_SPARES = 16  # pairs on file per user


class File(NamedTuple):
    """The next best pairs of every user. Bonuses only fall in this pass, so all bounds stay bounds."""

    spare: Ints
    """(n, _SPARES) pairs that are not held, −1 for none."""
    cut: Floats
    """(n,) no pair that is neither held nor on file is worth more."""
    bound: Floats
    """(n,) no pair that is not held is worth more."""
    marks: Ints
    """(M+1,) scratch: last search that marked an item as held; the last search itself stands last."""


@compiled
def most(state: State, item: int) -> int:
    """The largest exposure that fits the sign of an item's bonus."""
    return int(state.floor[item] if state.w[item] > 0.0 else state.cap[item])


@compiled
def _look_up(pairs: Pairs, state: State, file: File, user: int) -> None:
    """Search all pairs of a user and file the best that it does not hold."""
    file.marks[pairs.m] += 1
    mark = file.marks[pairs.m]
    for position in range(state.capacity[user]):
        pair = state.slot[user, position]
        if pair >= 0:
            file.marks[item_of(pairs, user, pair)] = mark
    values = np.empty(_SPARES, np.float64)
    tags = np.empty(_SPARES, np.int64)
    size = 0
    threshold = 0.0
    first, last = user_range(pairs, user)
    for pair in range(first, last):
        item = item_of(pairs, user, pair)
        value = pairs.uval[pair] + state.w[item]
        if value > threshold and file.marks[item] != mark:
            if size < _SPARES:
                push_min(values, tags, size, value, pair)
                size += 1
            else:
                replace_min(values, tags, size, value, pair)
            if size == _SPARES:
                threshold = values[0]
    for index in range(_SPARES):
        file.spare[user, index] = tags[index] if index < size else -1
    file.cut[user] = threshold


@compiled
def _best_on_file(pairs: Pairs, state: State, file: File, user: int) -> tuple[int, float]:
    """Where the best pair on file of a user stands, and its value; −1 and 0 for none."""
    best = -1
    worth = 0.0
    for index in range(_SPARES):
        pair = file.spare[user, index]
        if pair >= 0:
            value = pairs.uval[pair] + state.w[item_of(pairs, user, pair)]
            if value > worth:
                worth = value
                best = index
    return best, worth


@compiled
def _next_best(pairs: Pairs, state: State, file: File, user: int) -> float:
    """The value of the best pair that a user does not hold, exactly; it is on file afterwards."""
    worth = _best_on_file(pairs, state, file, user)[1]
    if worth < file.cut[user]:
        _look_up(pairs, state, file, user)
        worth = _best_on_file(pairs, state, file, user)[1]
    return worth


@compiled
def _release(pairs: Pairs, state: State, file: File, user: int, pair: int) -> int:
    """Let a user exchange a pair for its best pair on file; the pair goes on file, the worst one there off it.

    Returns:
        The item that gains an exposure, or −1 where the position stays empty.
    """
    best = _best_on_file(pairs, state, file, user)[0]
    joins = file.spare[user, best] if best >= 0 else -1
    if best >= 0:
        file.spare[user, best] = -1
    worst = 0
    worth = np.inf
    for index in range(_SPARES):
        other = file.spare[user, index]
        value = 0.0
        if other >= 0:
            value = max(0.0, pairs.uval[other] + state.w[item_of(pairs, user, other)])
        if value < worth:
            worth = value
            worst = index
    file.cut[user] = max(file.cut[user], worth)
    file.spare[user, worst] = pair
    position = 0
    while state.slot[user, position] != pair:
        position += 1
    state.slot[user, position] = joins
    state.held[place_of(pairs, user, pair)] = 0
    item = item_of(pairs, user, pair)
    state.exposure[item] -= 1
    file.bound[user] = max(file.bound[user], pairs.uval[pair] + state.w[item])
    if joins < 0:
        return -1
    state.held[place_of(pairs, user, joins)] = 1
    gains = item_of(pairs, user, joins)
    state.exposure[gains] += 1
    return gains


@compiled
def _least_attached(
    pairs: Pairs, state: State, file: File, item: int, exact: int, places: Ints, margins: Floats
) -> tuple[Ints, int]:
    """Sort the holders of an item by how much more it is worth to them than their next best pair.

    Args:
        pairs: The pairs.
        state: Who holds what.
        file: The next best pairs; looked up anew as far as needed.
        item: The item.
        exact: So many of the least attached are known exactly; for the others, margins are lower bounds.
        places: (n,) set to the places of the holders.
        margins: (n,) set to their margins.

    Returns:
        The order of the holders, and how many there are.
    """
    first, last = item_range(pairs, item)
    count = 0
    for place in range(first, last):
        if state.held[place]:
            user = pairs.iuser[place] if pairs.sparse else place - first
            places[count] = place
            margins[count] = pairs.ival[place] + state.w[item] - file.bound[user]
            count += 1
    while True:
        order = np.argsort(margins[:count], kind="mergesort")
        changed = False
        for index in range(min(exact, count)):
            place = places[order[index]]
            user = pairs.iuser[place] if pairs.sparse else place - first
            worth = _next_best(pairs, state, file, user)
            if worth != file.bound[user]:
                file.bound[user] = worth
                margins[order[index]] = pairs.ival[place] + state.w[item] - worth
                changed = True
        if not changed:
            return order, count


@compiled
def reverse(pairs: Pairs, state: State, epsilon: float) -> int:  # noqa: C901  # one step of the auction, read as a whole
    """Let items that hold too much lower their bonus until they hold what they may; bonuses only fall.

    Returns:
        How often a bonus was lowered.
    """
    n, m = pairs.n, pairs.m
    w = state.w
    queue = new_queue(m)
    for item in range(m):
        if state.exposure[item] > most(state, item):
            enqueue(queue, item)
    item = dequeue(queue)
    if item < 0:
        return 0
    file = File(np.full((n, _SPARES), -1), np.full(n, np.inf), np.full(n, np.inf), np.full(m + 1, -1))
    places = np.empty(n, np.int64)
    margins = np.empty(n, np.float64)
    steps = 0
    while item >= 0:
        first = item_range(pairs, item)[0]
        while state.exposure[item] > most(state, item):
            steps += 1
            surplus = state.exposure[item] - most(state, item)
            order, count = _least_attached(pairs, state, file, item, surplus + 1, places, margins)
            leaving = surplus
            lowered = w[item] - max(margins[order[min(surplus, count - 1)]], 0.0) - epsilon
            if w[item] > 0.0:
                lowered = max(lowered, 0.0)
                if margins[order[surplus - 1]] > w[item]:
                    leaving = 0  # without a bonus some would still stay: from there on the cap decides
                    while margins[order[leaving]] <= w[item]:
                        leaving += 1
                    lowered = 0.0
            w[item] = lowered
            for index in range(leaving):
                place = places[order[index]]
                user = pairs.iuser[place] if pairs.sparse else place - first
                gains = _release(pairs, state, file, user, pair_at(pairs, item, user, place))
                if gains >= 0 and state.exposure[gains] > most(state, gains):
                    enqueue(queue, gains)
        item = dequeue(queue)
    refresh(pairs, state)
    return steps
