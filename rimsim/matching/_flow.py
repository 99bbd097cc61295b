"""Can the floors be met at all? A maximum flow from items to users, and a minimum cut where they cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.matching._compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Short = NDArray[np.int32]
    Flags = NDArray[np.uint8]

__all__ = ["violated_items"]


@compiled
def _place_greedily(
    iptr: Ints, iuser: Short, order: Ints, floor: Ints, room: Ints, given: Flags, lacking: Ints
) -> None:
    """Give every item, scarcest first, to the users that have most room left."""
    deepest = 0
    for user in range(len(room)):
        deepest = max(deepest, room[user])
    count = np.empty(deepest + 2, np.int64)
    for item in order:
        need = floor[item]
        lacking[item] = need
        if need == 0:
            continue
        count[:] = 0
        for place in range(iptr[item], iptr[item + 1]):
            count[room[iuser[place]]] += 1
        level = deepest  # users with more room than `level` all get it, those at `level` as far as needed
        rest = need
        while level > 0 and count[level] < rest:
            rest -= count[level]
            level -= 1
        if level == 0:
            rest = 0
        for place in range(iptr[item], iptr[item + 1]):
            user = iuser[place]
            if room[user] > level or (room[user] == level and rest > 0):
                if room[user] == level:
                    rest -= 1
                room[user] -= 1
                given[place] = 1
                lacking[item] -= 1


@compiled
def _augment(
    uptr: Ints, uitem: Short, uplace: Ints, iptr: Ints, iuser: Short, room: Ints, given: Flags, lacking: Ints
) -> Flags:
    """Repair what is lacking along shortest alternating paths.

    Returns:
        Flags of the items that can be reached from an item that stays short: a minimum cut.
    """
    n, m = len(room), len(lacking)
    dead_user = np.zeros(n, np.uint8)  # reached in a search that failed: never on a path again (min cut side)
    dead_item = np.zeros(m, np.uint8)
    user_from = np.empty(n, np.int64)
    item_from = np.empty(m, np.int64)
    queue = np.empty(m, np.int64)
    for start in range(m):
        while lacking[start] > 0 and dead_item[start] == 0:
            user_from[:] = -1
            item_from[:] = -1
            queue[0] = start
            head, tail = 0, 1
            end = -1
            while head < tail and end < 0:
                item = queue[head]
                head += 1
                for place in range(iptr[item], iptr[item + 1]):
                    user = iuser[place]
                    if given[place] or user_from[user] >= 0 or dead_user[user]:
                        continue
                    user_from[user] = place
                    if room[user] > 0:
                        end = user
                        break
                    for pair in range(uptr[user], uptr[user + 1]):
                        if given[uplace[pair]]:
                            other = uitem[pair]
                            if other != start and item_from[other] < 0 and dead_item[other] == 0:
                                item_from[other] = uplace[pair]
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
            user = end
            while True:
                place = user_from[user]
                given[place] = 1
                item = np.searchsorted(iptr, place, "right") - 1
                if item == start:
                    break
                back = item_from[item]
                given[back] = 0
                user = iuser[back]
            lacking[start] -= 1
    return dead_item


def violated_items(
    uptr: Ints, uitem: Short, iptr: Ints, iuser: Short, ipair: Ints, floor: Ints, capacity: Ints
) -> tuple[Ints, int]:
    """Find out whether floors can be met within the capacities.

    Args:
        uptr: (n+1,) where the pairs of each user begin.
        uitem: (E,) item of each pair, by user.
        iptr: (M+1,) where the pairs of each item begin.
        iuser: (E,) user of each pair, by item.
        ipair: (E,) index, by user, of each pair by item.
        floor: (M,) required exposures.
        capacity: (n,) positions.

    Returns:
        Items whose floors together exceed what can reach them, and by how much; empty and 0 if all can be met.
    """
    uplace = np.empty_like(ipair)
    uplace[ipair] = np.arange(len(ipair))
    room = capacity.copy()
    given = np.zeros(len(ipair), np.uint8)
    lacking = np.zeros(len(floor), np.int64)
    order = np.argsort(np.diff(iptr) - floor, kind="stable")
    _place_greedily(iptr, iuser, order, floor, room, given, lacking)
    if not lacking.any():
        return np.empty(0, np.int64), 0
    reached = _augment(uptr, uitem, uplace, iptr, iuser, room, given, lacking)
    return np.flatnonzero(reached), int(lacking.sum())
