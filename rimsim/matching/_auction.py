"""The kernels of the price solver: a forward and a reverse auction between items for the positions of users.

Each item has a *bonus* w = −v; a user holds the k pairs with the largest s + w. The state is kept within ε of
complementary slackness:

* a pair not held is worth at most ε more than the cheapest position of its user;
* an item with w > 0 holds no more than its floor, one with w < 0 no less than its cap.

The *reverse* pass lets items that hold too much lower their bonus until their least attached users leave for their
next best pair; the *forward* pass lets items that hold too little raise it and take positions where that costs
least. Each step moves a bonus to the level at which the next user would be indifferent, and ε beyond, so the price
of a position moves by at least ε and the passes end (Bertsekas and Castañon, "A forward/reverse auction algorithm
for asymmetric assignment problems", 1992; ε-scaling is the caller's loop).

Within a pass, bonuses move one way only. So a looked-up "cheapest position" (forward) or "next best pair" (reverse)
of a user stays a bound, and is computed anew only for the few users whom a step would choose.

Everything is deterministic: items are served first in, first out, and no step depends on threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.matching._compiled import compiled
from rimsim.matching._greedy import cheapest, refresh
from rimsim.matching._heap import push_min, replace_min
from rimsim.matching._pairs import Pairs, State, item_of, item_range, pair_at, place_of, user_range

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]

__all__ = ["forward", "reverse"]

_SPARES = 16  # pairs on file per user in the reverse pass


@compiled
def _most(state: State, item: int) -> int:
    """The largest exposure that fits the sign of the bonus."""
    return state.floor[item] if state.w[item] > 0.0 else state.cap[item]


@compiled
def _least(state: State, item: int) -> int:
    """The smallest exposure that fits the sign of the bonus."""
    return state.cap[item] if state.w[item] < 0.0 else state.floor[item]


@compiled
def _look_up(pairs: Pairs, state: State, user: int, marks: Ints, mark: int, spare: Ints, cut: Floats) -> None:
    """File the best pairs that a user does not hold, and a bound on the value of all others (at least 0)."""
    for position in range(state.capacity[user]):
        pair = state.slot[user, position]
        if pair >= 0:
            marks[item_of(pairs, user, pair)] = mark
    values = np.empty(_SPARES, np.float64)
    tags = np.empty(_SPARES, np.int64)
    size = 0
    threshold = 0.0
    first, last = user_range(pairs, user)
    for pair in range(first, last):
        item = item_of(pairs, user, pair)
        value = pairs.uval[pair] + state.w[item]
        if value > threshold and marks[item] != mark:
            if size < _SPARES:
                push_min(values, tags, size, value, pair)
                size += 1
            else:
                replace_min(values, tags, size, value, pair)
            if size == _SPARES:
                threshold = values[0]
    for index in range(_SPARES):
        spare[user, index] = tags[index] if index < size else -1
    cut[user] = threshold


@compiled
def _best_on_file(pairs: Pairs, state: State, user: int, spare: Ints) -> tuple[int, float]:
    """The best pair on file of a user and its value; −1 and 0 if an empty position is better."""
    best = -1
    worth = 0.0
    for index in range(_SPARES):
        pair = spare[user, index]
        if pair >= 0:
            value = pairs.uval[pair] + state.w[item_of(pairs, user, pair)]
            if value > worth:
                worth = value
                best = index
    return best, worth


@compiled
def _release(pairs: Pairs, state: State, user: int, pair: int, spare: Ints, cut: Floats) -> int:
    """Let a user exchange a pair for its best pair on file; the pair goes on file, the worst one there off it.

    Returns:
        The pair taken, or −1 for an empty position.
    """
    best = _best_on_file(pairs, state, user, spare)[0]
    joins = spare[user, best] if best >= 0 else -1
    if best >= 0:
        spare[user, best] = -1
    worst = 0
    worth = np.inf
    for index in range(_SPARES):
        value = 0.0
        if spare[user, index] >= 0:
            value = max(0.0, pairs.uval[spare[user, index]] + state.w[item_of(pairs, user, spare[user, index])])
        if value < worth:
            worth = value
            worst = index
    cut[user] = max(cut[user], worth)
    spare[user, worst] = pair
    position = 0
    while state.slot[user, position] != pair:
        position += 1
    state.slot[user, position] = joins
    state.held[place_of(pairs, user, pair)] = 0
    state.exposure[item_of(pairs, user, pair)] -= 1
    if joins >= 0:
        state.held[place_of(pairs, user, joins)] = 1
        state.exposure[item_of(pairs, user, joins)] += 1
    return joins


@compiled
def reverse(pairs: Pairs, state: State, epsilon: float) -> int:
    """Let items that hold too much lower their bonus until they hold what they may; bonuses only fall.

    Returns:
        How often the pairs of a user were searched.
    """
    n, m = pairs.n, pairs.m
    queue = np.empty(m + 1, np.int64)
    waiting = np.zeros(m, np.uint8)
    head = tail = 0
    for item in range(m):
        if state.exposure[item] > _most(state, item):
            queue[tail] = item
            tail += 1
            waiting[item] = 1
    if tail == 0:
        return 0
    spare = np.full((n, _SPARES), -1, np.int64)
    cut = np.full(n, np.inf)  # no pair that is neither held nor on file is worth more
    bound = np.full(n, np.inf)  # no pair that is not held is worth more
    marks = np.full(m, -1, np.int64)
    places = np.empty(n, np.int64)
    margins = np.empty(n, np.float64)
    searches = 0
    while head != tail:
        item = queue[head]
        head = (head + 1) % (m + 1)
        waiting[item] = 0
        while state.exposure[item] > _most(state, item):
            first, last = item_range(pairs, item)
            count = 0
            for place in range(first, last):
                if state.held[place]:
                    user = pairs.iuser[place] if pairs.sparse else place - first
                    places[count] = place
                    margins[count] = pairs.ival[place] + state.w[item] - bound[user]
                    count += 1
            surplus = state.exposure[item] - _most(state, item)
            order = np.argsort(margins[:count], kind="mergesort")
            while True:  # the users that would leave, and the next one, must be known exactly
                changed = False
                for index in range(min(surplus + 1, count)):
                    place = places[order[index]]
                    user = pairs.iuser[place] if pairs.sparse else place - first
                    worth = _best_on_file(pairs, state, user, spare)[1]
                    if worth < cut[user]:
                        searches += 1
                        _look_up(pairs, state, user, marks, searches, spare, cut)
                        worth = _best_on_file(pairs, state, user, spare)[1]
                    if worth != bound[user]:
                        bound[user] = worth
                        margins[order[index]] = pairs.ival[place] + state.w[item] - worth
                        changed = True
                if not changed:
                    break
                order = np.argsort(margins[:count], kind="mergesort")
            level = margins[order[min(surplus, count - 1)]]
            leaving = surplus
            lowered = state.w[item] - max(level, 0.0) - epsilon
            if state.w[item] > 0.0:
                lowered = max(lowered, 0.0)
                if margins[order[surplus - 1]] > state.w[item]:
                    leaving = 0  # without a bonus some would still stay: from there on the cap decides
                    while margins[order[leaving]] <= state.w[item]:
                        leaving += 1
                    lowered = 0.0
            state.w[item] = lowered
            for index in range(leaving):
                place = places[order[index]]
                user = pairs.iuser[place] if pairs.sparse else place - first
                joins = _release(pairs, state, user, pair_at(pairs, item, user, place), spare, cut)
                bound[user] = max(bound[user], pairs.ival[place] + lowered)
                if joins >= 0:
                    other = item_of(pairs, user, joins)
                    if waiting[other] == 0 and state.exposure[other] > _most(state, other):
                        waiting[other] = 1
                        queue[tail] = other
                        tail = (tail + 1) % (m + 1)
    refresh(pairs, state)
    return searches


@compiled
def _best_places(pairs: Pairs, state: State, item: int, keep: int, values: Floats, places: Ints) -> int:
    """The up to ``keep`` places of an item, not held, with the largest margin s − theta; theta exact for them all.

    Returns:
        How many there are; they stand in a min-heap of margins.
    """
    first, last = item_range(pairs, item)
    while True:
        size = 0
        threshold = -np.inf
        for place in range(first, last):
            user = pairs.iuser[place] if pairs.sparse else place - first
            margin = pairs.ival[place] - state.theta[user]
            if margin > threshold and state.held[place] == 0:
                if size < keep:
                    push_min(values, places, size, margin, place)
                    size += 1
                else:
                    replace_min(values, places, size, margin, place)
                if size == keep:
                    threshold = values[0]
        changed = False
        for index in range(size):
            place = places[index]
            user = pairs.iuser[place] if pairs.sparse else place - first
            exact = cheapest(pairs, state, user)[1]
            if exact != state.theta[user]:
                state.theta[user] = exact
                changed = True
        if not changed:
            return size


@compiled
def forward(pairs: Pairs, state: State, epsilon: float) -> int:
    """Let items that hold too little raise their bonus, up to its ceiling, until they hold what they need.

    Returns:
        How often a bonus was raised.
    """
    n, m = pairs.n, pairs.m
    w, floor, cap, ceiling = state.w, state.floor, state.cap, state.ceiling
    queue = np.empty(m + 1, np.int64)
    waiting = np.zeros(m, np.uint8)
    head = tail = 0
    for item in range(m):
        if state.exposure[item] < _least(state, item) and w[item] < ceiling[item]:
            queue[tail] = item
            tail += 1
            waiting[item] = 1
    values = np.empty(n + 1, np.float64)
    places = np.empty(n + 1, np.int64)
    steps = 0
    while head != tail:
        item = queue[head]
        head = (head + 1) % (m + 1)
        waiting[item] = 0
        first = item_range(pairs, item)[0]
        while state.exposure[item] < _least(state, item) and w[item] < ceiling[item]:
            steps += 1
            needed = floor[item] - state.exposure[item]
            wanted = _least(state, item) - state.exposure[item]
            size = _best_places(pairs, state, item, min(wanted + 1, n), values, places)
            order = np.argsort(-values[:size], kind="mergesort")
            take = 0
            settled = False
            raised = 0.0
            if w[item] < 0.0:  # below the cap: take what is worth it without a bonus
                while take < min(wanted, size) and values[order[take]] > 0.0:
                    take += 1
                if take >= needed:
                    settled = True
                    if take == wanted:
                        level = max(values[order[take]], 0.0) if take < size else 0.0
                        raised = min(0.0, epsilon - level)
            if not settled:  # below the floor: take what is needed, as far as the ceiling goes
                take = 0
                while take < min(needed, size) and values[order[take]] >= -ceiling[item]:
                    take += 1
                level = -ceiling[item]
                if take < size:
                    level = max(level, values[order[take]])
                elif level == -np.inf:  # every pair is held: the last one taken sets the price
                    level = values[order[take - 1]] if take > 0 else -w[item]
                raised = min(ceiling[item], max(epsilon - level, 0.0)) if take == needed else ceiling[item]
            stuck = take == 0 and raised <= w[item]
            w[item] = max(raised, w[item])
            for index in range(take):
                place = places[order[index]]
                user = pairs.iuser[place] if pairs.sparse else place - first
                position = cheapest(pairs, state, user)[0]
                out = state.slot[user, position]
                state.slot[user, position] = pair_at(pairs, item, user, place)
                state.held[place] = 1
                state.exposure[item] += 1
                if out >= 0:
                    state.held[place_of(pairs, user, out)] = 0
                    left = item_of(pairs, user, out)
                    state.exposure[left] -= 1
                    if waiting[left] == 0 and state.exposure[left] < _least(state, left) and w[left] < ceiling[left]:
                        waiting[left] = 1
                        queue[tail] = left
                        tail = (tail + 1) % (m + 1)
                state.theta[user] = cheapest(pairs, state, user)[1]
            if stuck:
                break  # no admissible user is left; the caller has checked feasibility
    refresh(pairs, state)
    return steps
