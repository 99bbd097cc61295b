"""User-item pairs of the auction, dense or sparse."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Float32s, Floats, Ints, Ints32
from rimsim.compiled import compiled, compiled_part
from rimsim.matching.kernels import enter, keep_largest

_BLOCK = 64  # edge length of the tiles of a transposition, so that both sides stay in the first-level cache


class UserItemPairs(NamedTuple):
    """E pairs, sorted by user and sorted by item.

    A *pair* is an index in the order by user, a *place* an index in the order by item. For a dense matrix, the index
    arrays are empty, because pair = user·M + item and place = item·n + user. Inadmissible pairs have the
    value −inf.
    """

    n: int  # number of users
    m: int  # M, the number of items
    sparse: bool  # True if the arrays of indices are in use
    uval: NDArray[np.floating]  # (E,) scores of pairs, sorted by user
    ival: NDArray[np.floating]  # (E,) scores of pairs, sorted by item
    uptr: Ints  # (n+1,) first pair of each user
    uitem: Ints32  # (E,) item of each pair
    uplace: Ints  # (E,) place of each pair in the order by item
    iptr: Ints  # (M+1,) first place of each item
    iuser: Ints32  # (E,) user of each place
    ipair: Ints  # (E,) pair of each place


class Holdings(NamedTuple):
    """Pairs that users hold: the state of an auction.

    All arrays are changed in place.
    """

    w: Floats  # (M,) bonuses, w = −v
    slot: Ints  # (n, k) pairs held by each user, −1 where empty
    held: NDArray[np.uint8]  # (E,) 1 for held pairs, in the order by item
    exposure: Ints  # (M,) number of users who hold each item
    # (n,) value s + w of the pair in each user's cheapest position, or a lower bound of this value. An empty position
    # has the value 0. A pair must be worth more to enter the slate.
    cheapest: Floats
    capacity: Ints  # (n,) number of positions that are in use, at most k
    min_exposure: Ints  # (M,) required exposures
    max_exposure: Ints  # (M,) largest allowed exposures
    ceiling: Floats  # (M,) largest bonus, which is the cost of one missing exposure


@compiled_part
def user_range(pairs: UserItemPairs, user: int) -> tuple[int, int]:
    """Begin and end of a user's pairs."""
    if pairs.sparse:
        return pairs.uptr[user], pairs.uptr[user + 1]
    return user * pairs.m, (user + 1) * pairs.m


@compiled_part
def item_range(pairs: UserItemPairs, item: int) -> tuple[int, int]:
    """Begin and end of an item's pairs, sorted by item."""
    if pairs.sparse:
        return pairs.iptr[item], pairs.iptr[item + 1]
    return item * pairs.n, (item + 1) * pairs.n


@compiled_part
def item_of(pairs: UserItemPairs, user: int, pair: int) -> int:
    """Item of a pair in the order by user."""
    if pairs.sparse:
        return int(pairs.uitem[pair])
    return pair - user * pairs.m


@compiled_part
def user_of(pairs: UserItemPairs, item: int, place: int) -> int:
    """User of a pair in the order by item."""
    if pairs.sparse:
        return int(pairs.iuser[place])
    return place - item * pairs.n


@compiled_part
def place_of(pairs: UserItemPairs, user: int, pair: int) -> int:
    """Index of a user's pair in the order by item."""
    if pairs.sparse:
        return int(pairs.uplace[pair])
    return (pair - user * pairs.m) * pairs.n + user


@compiled_part
def pair_at(pairs: UserItemPairs, item: int, user: int, place: int) -> int:
    """Index of an item's pair in the order by user."""
    if pairs.sparse:
        return int(pairs.ipair[place])
    return user * pairs.m + item


@compiled
def _transpose(matrix: NDArray[np.floating], out: NDArray[np.floating]) -> None:
    """Write the transposed matrix into ``out``, tile by tile."""
    n, m = matrix.shape
    for row in range(0, n, _BLOCK):
        for column in range(0, m, _BLOCK):
            for i in range(row, min(row + _BLOCK, n)):
                for j in range(column, min(column + _BLOCK, m)):
                    out[j, i] = matrix[i, j]


def dense_pairs(scores: NDArray[np.floating]) -> UserItemPairs:
    """Pairs of a dense matrix, by user and by item."""
    n, m = scores.shape
    matrix = np.ascontiguousarray(scores)
    transposed = np.empty((m, n), matrix.dtype)
    _transpose(matrix, transposed)
    by_user = matrix.reshape(-1)
    by_item = transposed.reshape(-1)
    no_index = np.empty(0, np.int64)
    no_index32 = np.empty(0, np.int32)
    return UserItemPairs(
        n,
        m,
        sparse=False,
        uval=by_user,
        ival=by_item,
        uptr=no_index,
        uitem=no_index32,
        uplace=no_index,
        iptr=no_index,
        iuser=no_index32,
        ipair=no_index,
    )


def sparse_pairs(n: int, m: int, keys: Ints, values: Float32s) -> UserItemPairs:
    """Pairs with ascending keys user·M + item, in both orders."""
    users, items = np.divmod(keys, m)
    by_item = np.argsort(items, kind="stable")
    place = np.empty(len(keys), np.int64)
    place[by_item] = np.arange(len(keys))
    return UserItemPairs(
        n,
        m,
        sparse=True,
        uval=values,
        ival=values[by_item],
        uptr=np.searchsorted(users, np.arange(n + 1)).astype(np.int64),
        uitem=items.astype(np.int32),
        uplace=place,
        iptr=np.concatenate([[0], np.cumsum(np.bincount(items, minlength=m))]).astype(np.int64),
        iuser=users[by_item].astype(np.int32),
        ipair=by_item.astype(np.int64),
    )


def no_holdings(
    pairs: UserItemPairs,
    capacity: Ints,
    min_exposure: Ints,
    max_exposure: Ints,
    ceiling: Floats,
    bonus: Floats,
) -> Holdings:
    """Empty holdings."""
    return Holdings(
        w=bonus.copy(),
        slot=np.full((pairs.n, int(capacity.max(initial=0))), -1, np.int64),
        held=np.zeros(len(pairs.uval), np.uint8),
        exposure=np.zeros(pairs.m, np.int64),
        cheapest=np.zeros(pairs.n),
        capacity=capacity,
        min_exposure=min_exposure,
        max_exposure=max_exposure,
        ceiling=ceiling,
    )


@compiled_part
def cheapest_position(pairs: UserItemPairs, state: Holdings, user: int) -> tuple[int, float]:
    """Cheapest position of a user's slate, and its value.

    An empty position has the value 0.
    """
    lowest_position = -1
    lowest_value = np.inf
    for position in range(state.capacity[user]):
        pair = state.slot[user, position]
        value = 0.0
        if pair >= 0:
            value = pairs.uval[pair] + state.w[item_of(pairs, user, pair)]
        if value < lowest_value:
            lowest_value = value
            lowest_position = position
    return lowest_position, lowest_value


@compiled_part
def refresh(pairs: UserItemPairs, state: Holdings) -> None:
    """Set ``cheapest`` of each user to the exact value."""
    for user in range(pairs.n):
        state.cheapest[user] = cheapest_position(pairs, state, user)[1]


@compiled
def greedy(  # noqa: C901  # each part would need all the arrays as arguments
    pairs: UserItemPairs, state: Holdings, sticky: float, rows: NDArray[np.uint64]
) -> None:
    """Give every user its pairs of largest s + w ≥ 0.

    The value of a pair that is already held is raised by ``sticky``, so that near ties do not change the slates.
    ``rows`` has random bits of each user, which decide exact ties.
    """
    n, width = state.slot.shape
    items = np.empty(width, np.int64)
    values = np.empty(width, np.float64)
    pair_of = np.empty(pairs.m, np.int64)
    bonus_if_held = np.zeros(pairs.m, np.float64)
    state.exposure[:] = 0
    for user in range(n):
        k = state.capacity[user]
        for position in range(k):
            pair = state.slot[user, position]
            if pair >= 0:
                bonus_if_held[item_of(pairs, user, pair)] = sticky
                state.held[place_of(pairs, user, pair)] = 0
        # An int64 like later sizes: with a literal 0, Numba would compile ``enter`` twice.
        size = 0 * k
        threshold = 0.0
        best_items = items[:k]
        best_values = values[:k]
        first, last = user_range(pairs, user)
        for pair in range(first, last):
            item = item_of(pairs, user, pair)
            value = pairs.uval[pair] + state.w[item] + bonus_if_held[item]
            if value < threshold or k == 0:
                continue
            pair_of[item] = pair
            size = enter(item, value, rows[user], best_items, best_values, size)
            if size == k:
                threshold = best_values[k - 1]
        for position in range(k):
            pair = state.slot[user, position]
            if pair >= 0:
                bonus_if_held[item_of(pairs, user, pair)] = 0.0
        for position in range(width):
            state.slot[user, position] = pair_of[items[position]] if position < size else -1
        for item in items[:size]:
            state.held[place_of(pairs, user, pair_of[item])] = 1
            state.exposure[item] += 1
        state.cheapest[user] = cheapest_position(pairs, state, user)[1]


@compiled
def dual_value(pairs: UserItemPairs, state: Holdings, w: Floats, user_price: Floats) -> float:
    """Dual value at the bonuses w; fills in user prices."""
    # D(w) = Σ over users of the k largest (s + w)₊ − Σ w₊·min_exposure + Σ (−w)₊·max_exposure
    width = state.slot.shape[1]
    values = np.empty(width + 1, np.float64)
    heap_pairs = np.empty(width + 1, np.int64)
    total = 0.0
    for user in range(pairs.n):
        k = state.capacity[user]
        # An int64 like later sizes: with a literal 0, Numba would compile ``enter`` twice.
        size = 0 * k
        threshold = 0.0
        first, last = user_range(pairs, user)
        if k > 0:
            for pair in range(first, last):
                value = pairs.uval[pair] + w[item_of(pairs, user, pair)]
                if value > threshold:
                    size = keep_largest(values, heap_pairs, size, k, value, pair)
                    if size == k:
                        threshold = values[0]
        user_price[user] = threshold
        user_sum = 0.0
        for index in range(size):
            user_sum += values[index]
        total += user_sum
    for item in range(pairs.m):
        if w[item] > 0.0:
            total -= w[item] * state.min_exposure[item]
        elif w[item] < 0.0:
            total -= w[item] * state.max_exposure[item]
    return total
