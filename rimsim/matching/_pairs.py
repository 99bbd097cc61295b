"""Pairs of users and items as the kernels see them: a whole matrix, or a sparse selection, in both orders."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Floats, Ints, Ints32
from rimsim.compiled import compiled

_BLOCK = 64  # edge of the tiles of a transposition: both sides stay in the first-level cache


class Pairs(NamedTuple):
    """E pairs. A *pair* indexes the order by user, a *place* the order by item.

    A whole matrix needs no index arrays (they are empty): pair = user·M + item, place = item·n + user; what is not
    admissible has the value −inf.
    """

    n: int
    """Users."""
    m: int
    """Items, M."""
    sparse: bool
    """True if the index arrays are in use."""
    uval: NDArray[np.floating]
    """(E,) values by user."""
    ival: NDArray[np.floating]
    """(E,) the same by item."""
    uptr: Ints
    """(n+1,) where the pairs of each user begin."""
    uitem: Ints32
    """(E,) item of each pair."""
    uplace: Ints
    """(E,) place of each pair."""
    iptr: Ints
    """(M+1,) where the places of each item begin."""
    iuser: Ints32
    """(E,) user of each place."""
    ipair: Ints
    """(E,) pair of each place."""


class State(NamedTuple):
    """Who holds what. All arrays are changed in place."""

    w: Floats
    """(M,) bonuses, w = −v."""
    slot: Ints
    """(n, k) the pairs held by each user, −1 where empty."""
    held: NDArray[np.uint8]
    """(E,) by place: 1 where the pair is in a slot."""
    exposure: Ints
    """(M,) users that hold each item."""
    theta: Floats
    """(n,) value s + w of the cheapest slot of each user (0 if one is empty), or a lower bound of it."""
    capacity: Ints
    """(n,) slots in use, at most k."""
    floor: Ints
    """(M,) required exposures."""
    cap: Ints
    """(M,) largest allowed exposures."""
    ceiling: Floats
    """(M,) largest bonus: the cost of one exposure of shortfall."""


@compiled
def user_range(pairs: Pairs, user: int) -> tuple[int, int]:
    """First pair of a user and the one after its last."""
    if pairs.sparse:
        return pairs.uptr[user], pairs.uptr[user + 1]
    return user * pairs.m, (user + 1) * pairs.m


@compiled
def item_range(pairs: Pairs, item: int) -> tuple[int, int]:
    """First place of an item and the one after its last."""
    if pairs.sparse:
        return pairs.iptr[item], pairs.iptr[item + 1]
    return item * pairs.n, (item + 1) * pairs.n


@compiled
def item_of(pairs: Pairs, user: int, pair: int) -> int:
    """The item of a pair of a user."""
    if pairs.sparse:
        return int(pairs.uitem[pair])
    return pair - user * pairs.m


@compiled
def place_of(pairs: Pairs, user: int, pair: int) -> int:
    """The place of a pair of a user."""
    if pairs.sparse:
        return int(pairs.uplace[pair])
    return (pair - user * pairs.m) * pairs.n + user


@compiled
def pair_at(pairs: Pairs, item: int, user: int, place: int) -> int:
    """The pair at a place of an item that belongs to a user."""
    if pairs.sparse:
        return int(pairs.ipair[place])
    return user * pairs.m + item


@compiled
def _transpose(matrix: NDArray[np.floating], out: NDArray[np.floating]) -> None:
    n, m = matrix.shape
    for row in range(0, n, _BLOCK):
        for column in range(0, m, _BLOCK):
            for i in range(row, min(row + _BLOCK, n)):
                for j in range(column, min(column + _BLOCK, m)):
                    out[j, i] = matrix[i, j]


_NO_INT64 = np.empty(0, np.int64)
_NO_INT32 = np.empty(0, np.int32)


def dense_pairs(scores: NDArray[np.floating], admissible: Bools | None) -> Pairs:
    """All pairs of a matrix; one transposed copy is made, and one more where there is a mask."""
    n, m = scores.shape
    matrix = np.ascontiguousarray(scores) if admissible is None else np.where(admissible, scores, -np.inf)
    matrix = matrix.astype(scores.dtype, copy=False)
    turned = np.empty((m, n), matrix.dtype)
    _transpose(matrix, turned)
    return Pairs(
        n=n,
        m=m,
        sparse=False,
        uval=matrix.reshape(-1),
        ival=turned.reshape(-1),
        uptr=_NO_INT64,
        uitem=_NO_INT32,
        uplace=_NO_INT64,
        iptr=_NO_INT64,
        iuser=_NO_INT32,
        ipair=_NO_INT64,
    )


def bonus_ceiling(cost: Floats, largest: float) -> Floats:
    """(M,) largest bonuses: what a missing exposure costs, or for hard floors far more than any scores differ.

    Hard floors that cannot be met then end in a shortfall, where bonuses would rise without end.

    Args:
        cost: (M,) cost of a missing exposure, ∞ for hard floors.
        largest: The largest score, without its sign.
    """
    return np.where(np.isinf(cost), 100.0 * max(largest, 1e-300), cost)


def fresh_state(
    pairs: Pairs,
    capacity: Ints,
    floor: Ints,
    cap: Ints,
    ceiling: Floats,
    bonus: Floats,
) -> State:
    """Nobody holds anything yet."""
    width = int(capacity.max(initial=0))
    return State(
        w=bonus.copy(),
        slot=np.full((pairs.n, width), -1, np.int64),
        held=np.zeros(len(pairs.uval), np.uint8),
        exposure=np.zeros(pairs.m, np.int64),
        theta=np.zeros(pairs.n),
        capacity=capacity,
        floor=floor,
        cap=cap,
        ceiling=ceiling,
    )
