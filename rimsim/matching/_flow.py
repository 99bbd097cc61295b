"""Can the floors be met at all? A maximum flow from items to users, and a minimum cut where they cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.compiled import compiled
from rimsim.matching._pairs import Pairs, item_range

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Flags = NDArray[np.uint8]

__all__ = ["violated_items", "violated_items_of_all"]


@compiled
def _place_greedily(  # noqa: C901  # one compiled loop, read as a whole
    pairs: Pairs, order: Ints, floor: Ints, room: Ints, slot: Ints, given: Flags
) -> int:
    """Give every item, in the given order, to the users that have most room left.

    Returns:
        How many exposures found no room.
    """
    deepest = 0
    for user in range(pairs.n):
        deepest = max(deepest, room[user])
    count = np.empty(deepest + 1, np.int64)
    lacking = 0
    for item in order:
        need = floor[item]
        if need == 0:
            continue
        first, last = item_range(pairs, item)
        count[:] = 0
        for place in range(first, last):
            if pairs.ival[place] > -np.inf:
                count[room[pairs.iuser[place] if pairs.sparse else place - first]] += 1
        level = deepest  # users with more room than `level` all get it, those at `level` as far as needed
        rest = need
        while level > 0 and count[level] < rest:
            rest -= count[level]
            level -= 1
        if level == 0:
            lacking += rest
            rest = 0
        for place in range(first, last):
            user = pairs.iuser[place] if pairs.sparse else place - first
            if pairs.ival[place] > -np.inf and (room[user] > level or (room[user] == level and rest > 0)):
                if room[user] == level:
                    rest -= 1
                room[user] -= 1
                slot[user, room[user]] = place
                given[place] = 1
    return lacking


@compiled
def _flip(
    pairs: Pairs,
    start: int,
    end: int,
    user_from: Ints,
    item_from: Ints,
    holder: Ints,
    slot: Ints,
    given: Flags,
) -> None:
    """Shift one exposure along the path that ends at a user with room (a free slot is −1)."""
    user, freed = end, -1
    while True:
        place = user_from[user]
        position = 0
        while slot[user, position] != freed:
            position += 1
        slot[user, position] = place
        given[place] = 1
        item = np.searchsorted(pairs.iptr, place, "right") - 1 if pairs.sparse else place // pairs.n
        if item == start:
            return
        freed = item_from[item]
        given[freed] = 0
        user = holder[item]


@compiled
def _augment(  # noqa: C901, PLR0912  # one compiled loop, read as a whole
    pairs: Pairs, floor: Ints, capacity: Ints, room: Ints, slot: Ints, given: Flags
) -> tuple[Flags, int]:
    """Repair what is lacking along shortest alternating paths.

    Returns:
        Flags of the items that can be reached from an item that stays short (a minimum cut), and what is
        lacking.
    """
    n, m = pairs.n, pairs.m
    dead_user = np.zeros(n, np.uint8)  # reached by a search that failed: on no path ever after
    dead_item = np.zeros(m, np.uint8)
    user_from = np.empty(n, np.int64)
    item_from = np.empty(m, np.int64)
    holder = np.empty(m, np.int64)
    queue = np.empty(m + 1, np.int64)
    total = 0
    for start in range(m):
        first, last = item_range(pairs, start)
        lacking = floor[start]
        for place in range(first, last):
            lacking -= given[place]
        while lacking > 0 and dead_item[start] == 0:
            user_from[:] = -1
            item_from[:] = -1
            queue[0] = start
            head, tail, end = 0, 1, -1
            while head < tail and end < 0:
                item = queue[head]
                head += 1
                first, last = item_range(pairs, item)
                for place in range(first, last):
                    user = pairs.iuser[place] if pairs.sparse else place - first
                    if (
                        given[place]
                        or user_from[user] >= 0
                        or dead_user[user]
                        or not pairs.ival[place] > -np.inf
                    ):
                        continue
                    user_from[user] = place
                    if room[user] > 0:
                        end = user
                        break
                    for position in range(capacity[user]):
                        back = slot[user, position]
                        other = np.searchsorted(pairs.iptr, back, "right") - 1 if pairs.sparse else back // n
                        if other != start and item_from[other] < 0 and dead_item[other] == 0:
                            item_from[other] = back
                            holder[other] = user
                            queue[tail] = other
                            tail += 1
            if end < 0:
                for index in range(tail):
                    dead_item[queue[index]] = 1
                for user in range(n):
                    if user_from[user] >= 0:
                        dead_user[user] = 1
                break
            room[end] -= 1
            _flip(pairs, start, end, user_from, item_from, holder, slot, given)
            lacking -= 1
        total += lacking
    return dead_item, total


def violated_items_of_all(m: int, n: int, floor: Ints, capacity: Ints) -> tuple[Ints, int]:
    """The same where every pair is admissible, in closed form (Gale and Ryser, 1957).

    The t largest floors can be met for every t exactly if Σ of them ≤ Σ_users min(capacity, t).
    """
    order = np.argsort(-floor, kind="stable")
    users_with = n - np.searchsorted(np.sort(capacity), np.arange(1, m + 1), "left")  # capacity ≥ t
    excess = np.cumsum(floor[order]) - np.cumsum(users_with)
    worst = int(np.argmax(excess)) if m else 0
    if not m or excess[worst] <= 0:
        return np.empty(0, np.int64), 0
    return np.sort(order[: worst + 1]), int(excess[worst])


def violated_items(pairs: Pairs, floor: Ints, capacity: Ints) -> tuple[Ints, int]:
    """Find out whether floors can be met within the capacities.

    Args:
        pairs: The admissible pairs (value above −inf).
        floor: (M,) required exposures.
        capacity: (n,) positions.

    Returns:
        Items whose floors together exceed what can reach them, and by how much; empty and 0 if all can be
        met.
    """
    room = capacity.copy()
    slot = np.full((pairs.n, int(capacity.max(initial=0))), -1, np.int64)
    given = np.zeros(len(pairs.ival), np.uint8)
    order = np.argsort(-floor, kind="stable")
    if not _place_greedily(pairs, order, floor, room, slot, given):
        return np.empty(0, np.int64), 0
    reached, lacking = _augment(pairs, floor, capacity, room, slot, given)
    return (np.flatnonzero(reached), int(lacking)) if lacking else (np.empty(0, np.int64), 0)
