"""The forward pass of the auction between items for the positions of users, and what both passes share.

Each item has a *bonus* w = −v; a user holds the k pairs with the largest s + w. The state is kept within ε of
complementary slackness:

* a pair not held is worth at most ε more than the cheapest position of its user;
* an item with w > 0 holds no more than its floor, one with w < 0 no less than its cap.

The *reverse* pass (``_reverse.py``) lets items that hold too much lower their bonus until their least attached users
leave for their next best pair; the *forward* pass lets items that hold too little raise it and take positions where
that costs least. Each step moves a bonus to the level at which the next user would be indifferent, and ε beyond, so
the price of a position moves by at least ε and the passes end (Bertsekas and Castañon, "A forward/reverse auction
algorithm for asymmetric assignment problems", 1992; ε-scaling is the caller's loop).

Within a pass, bonuses move one way only. So a looked-up "cheapest position" (forward) or "next best pair" (reverse)
of a user stays a bound, and is computed anew only for the few users whom a step would choose.

Everything is deterministic: items are served first in, first out, and no step depends on threads.
"""

from __future__ import annotations

import numpy as np

from rimsim.arrays import Floats, Ints
from rimsim.compiled import compiled
from rimsim.matching._greedy import cheapest, refresh
from rimsim.matching._kernels import Queue, dequeue, enqueue, new_queue, push_min, replace_min
from rimsim.matching._pairs import Pairs, State, item_of, item_range, pair_at, place_of


@compiled
def _least(state: State, item: int) -> int:
    """The smallest exposure that fits the sign of an item's bonus."""
    return int(state.cap[item] if state.w[item] < 0.0 else state.floor[item])


@compiled
def _wants(state: State, item: int) -> bool:
    """True if an item holds too little and may still raise its bonus."""
    return bool(state.exposure[item] < _least(state, item) and state.w[item] < state.ceiling[item])


@compiled
def _best_places(pairs: Pairs, state: State, item: int, keep: int, values: Floats, places: Ints) -> int:
    """The places of an item, not held, with the largest margin s − theta; theta is made exact for them all.

    Returns:
        How many there are, at most ``keep``; they stand in a min-heap of margins.
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
def _bid(state: State, item: int, margins: Floats, epsilon: float) -> tuple[int, float]:
    """Number of offered places that an item takes, and the bonus that it pays.

    Args:
        state: Who holds what.
        item: An item that wants more.
        margins: Margins of the places offered, descending: what is wanted and one more, if there are so many.
        epsilon: How far beyond indifference to go.
    """
    size = len(margins)
    needed = state.floor[item] - state.exposure[item]
    wanted = _least(state, item) - state.exposure[item]
    take = 0
    if state.w[item] < 0.0:  # below the cap: take what is worth it without a bonus
        while take < min(wanted, size) and margins[take] > 0.0:
            take += 1
        if take >= needed:
            level = max(margins[take], 0.0) if take < size else 0.0
            return take, min(0.0, epsilon - level) if take == wanted else 0.0
    ceiling = state.ceiling[item]
    take = 0  # below the floor: take what is needed, as far as the ceiling goes
    while take < min(needed, size) and margins[take] >= -ceiling:
        take += 1
    if take < needed:
        return take, ceiling
    level = -ceiling
    if take < size:
        level = max(level, margins[take])
    elif level == -np.inf:  # every pair is held: the last one taken sets the price
        level = margins[take - 1]
    return take, min(ceiling, max(epsilon - level, 0.0))


@compiled
def _take(pairs: Pairs, state: State, queue: Queue, item: int, place: int) -> None:
    """Put an item into the cheapest position of a user; whoever loses it may queue up."""
    user = pairs.iuser[place] if pairs.sparse else place - item_range(pairs, item)[0]
    position = cheapest(pairs, state, user)[0]
    out = state.slot[user, position]
    state.slot[user, position] = pair_at(pairs, item, user, place)
    state.held[place] = 1
    state.exposure[item] += 1
    if out >= 0:
        state.held[place_of(pairs, user, out)] = 0
        loser = item_of(pairs, user, out)
        state.exposure[loser] -= 1
        if _wants(state, loser):
            enqueue(queue, loser)
    state.theta[user] = cheapest(pairs, state, user)[1]


@compiled
def forward(pairs: Pairs, state: State, epsilon: float) -> int:
    """Let items that hold too little raise their bonus, up to its ceiling, until they hold what they need.

    Returns:
        How often a bonus was raised.
    """
    queue = new_queue(pairs.m)
    for item in range(pairs.m):
        if _wants(state, item):
            enqueue(queue, item)
    values = np.empty(pairs.n + 1, np.float64)
    places = np.empty(pairs.n + 1, np.int64)
    steps = 0
    item = dequeue(queue)
    while item >= 0:
        while _wants(state, item):
            steps += 1
            wanted = _least(state, item) - state.exposure[item]
            size = _best_places(pairs, state, item, min(wanted + 1, pairs.n), values, places)
            order = np.argsort(-values[:size], kind="mergesort")
            take, raised = _bid(state, item, values[:size][order], epsilon)
            stuck = take == 0 and raised <= state.w[item]
            state.w[item] = max(raised, state.w[item])
            for index in range(take):
                _take(pairs, state, queue, item, places[order[index]])
            if stuck:
                break  # no admissible user is left; the caller has checked feasibility
        item = dequeue(queue)
    refresh(pairs, state)
    return steps
