"""Compiled passes over all pairs: slates at given bonuses, and the dual value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Floats
from rimsim.compiled import compiled
from rimsim.matching._best import enter
from rimsim.matching._kernels import push_min, replace_min
from rimsim.matching._pairs import Pairs, State, item_of, place_of, user_range


@compiled
def cheapest(pairs: Pairs, state: State, user: int) -> tuple[int, float]:
    """The slot of a user that is worth least, and what it is worth (empty: 0; no slot: −1, inf)."""
    best = -1
    worth = np.inf
    for position in range(state.capacity[user]):
        pair = state.slot[user, position]
        value = 0.0
        if pair >= 0:
            value = pairs.uval[pair] + state.w[item_of(pairs, user, pair)]
        if value < worth:
            worth = value
            best = position
    return best, worth


@compiled
def refresh(pairs: Pairs, state: State) -> None:
    """Make every ``theta`` exact."""
    for user in range(pairs.n):
        state.theta[user] = cheapest(pairs, state, user)[1]


@compiled
def greedy(  # noqa: C901  # one compiled loop, read as a whole
    pairs: Pairs, state: State, sticky: float, rows: NDArray[np.uint64]
) -> None:
    """Give every user the pairs with the largest s + w, not below 0; ties by seed.

    Args:
        pairs: The pairs.
        state: Slots, exposures and ``theta`` are set.
        sticky: A pair that is held already counts for so much more: near ties stay where they are.
        rows: (n,) random bits of the users.
    """
    n, width = state.slot.shape
    items, values = np.empty(width, np.int64), np.empty(width, np.float64)
    pair_of = np.empty(pairs.m, np.int64)
    extra = np.zeros(pairs.m, np.float64)
    state.exposure[:] = 0
    for user in range(n):
        k = state.capacity[user]
        for position in range(k):
            pair = state.slot[user, position]
            if pair >= 0:
                extra[item_of(pairs, user, pair)] = sticky
                state.held[place_of(pairs, user, pair)] = 0
        size = 0
        threshold = 0.0
        best, worth = items[:k], values[:k]
        first, last = user_range(pairs, user)
        for pair in range(first, last):
            item = item_of(pairs, user, pair)
            value = pairs.uval[pair] + state.w[item] + extra[item]
            if value < threshold or k == 0:
                continue
            pair_of[item] = pair
            size = enter(item, value, rows[user], best, worth, size)
            if size == k:
                threshold = worth[k - 1]
        for position in range(k):
            pair = state.slot[user, position]
            if pair >= 0:
                extra[item_of(pairs, user, pair)] = 0.0
        for position in range(width):
            state.slot[user, position] = pair_of[items[position]] if position < size else -1
        for item in items[:size]:
            state.held[place_of(pairs, user, pair_of[item])] = 1
            state.exposure[item] += 1
        state.theta[user] = cheapest(pairs, state, user)[1]


@compiled
def dual_value(  # noqa: C901  # one compiled loop, read as a whole
    pairs: Pairs, state: State, w: Floats, user_price: Floats
) -> float:
    """D(w) = Σ top sums of (s + w)₊ − Σ w₊·floor + Σ (−w)₊·cap; sets user prices."""
    width = state.slot.shape[1]
    values = np.empty(width + 1, np.float64)
    tags = np.empty(width + 1, np.int64)
    total = 0.0
    for user in range(pairs.n):
        k = state.capacity[user]
        size = 0
        threshold = 0.0
        first, last = user_range(pairs, user)
        if k > 0:
            for pair in range(first, last):
                value = pairs.uval[pair] + w[item_of(pairs, user, pair)]
                if value > threshold:
                    if size < k:
                        push_min(values, tags, size, value, pair)
                        size += 1
                        if size == k:
                            threshold = values[0]
                    else:
                        replace_min(values, tags, size, value, pair)
                        threshold = values[0]
        user_price[user] = threshold
        part = 0.0
        for index in range(size):
            part += values[index]
        total += part
    for item in range(pairs.m):
        if w[item] > 0.0:
            total -= w[item] * state.floor[item]
        elif w[item] < 0.0:
            total -= w[item] * state.cap[item]
    return total
