"""What is still missing of hard guarantees, kept from arrival to arrival so that one look passes only over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from rimsim.arrays import Floats, Ints
from rimsim.compiled import compiled
from rimsim.matching import enter, tie_rank

if TYPE_CHECKING:
    from rimsim.agents.positions import Positions


NOTHING = 1e-9
"""What is missing below this is rounding."""
_LOWEST = float(np.finfo(np.float64).min)
_DEPTH = 3
"""How many items of a class are looked for at once: hardly ever are more of one seated in a slate."""
GRAIN = 2.0**-32
"""Needed positions are counted in whole numbers of this, so that their sum is exact in any order."""

_LAST = 4.0
"""The last arrivals are not counted on, since nobody knows whether they may be shown what is left."""


class Lacking(NamedTuple):
    """The items that lack something, and how many positions would give each all that it lacks."""

    item: Ints
    """(M,) the items in ascending order, ``size`` of them; what lacks nothing any more is dropped now and then."""
    size: Ints
    """(1,) how many they are."""
    need: Ints
    """(M,) positions that each item needs, at positions of mean weight and one at least, in grains; 0 for none."""
    total: Ints
    """(1,) their sum."""
    enough: Ints
    """(M,) the class of each item: how many of the positions, from the first on, give it all that it lacks; −1 for an
    item that lacks nothing."""
    of_class: Ints
    """(k + 1,) how many items are in each class."""

    @classmethod
    def of(cls, required: Floats, exposure: Floats, positions: Positions) -> Self:
        """What is missing after some exposures.

        Args:
            required: (M,) required exposures.
            exposure: (M,) exposures so far.
            positions: What positions count.
        """
        m = len(required)
        sizes = (m, 1, m, 1, m, len(positions.weight) + 1)
        lacking = cls(*(np.zeros(size, np.int64) for size in sizes))
        lacking.enough[:] = -1
        due = np.flatnonzero(required - exposure[:m] > NOTHING)
        lacking.item[: len(due)], lacking.size[0] = due, len(due)
        count_missing(lacking, due, required, exposure, positions.weight, positions.mean)
        return lacking


@compiled
def count_missing(
    lacking: Lacking,
    items: Ints,
    required: Floats,
    exposure: Floats,
    weight: Floats,
    mean: float,
) -> None:
    """Bring up to date what some items lack, of which some may have been shown.

    Args:
        lacking: Changed in place.
        items: Which items.
        required: (M,) required exposures.
        exposure: (M,) exposures so far.
        weight: (k,) what positions count.
        mean: What a position counts on the average.
    """
    need, enough, scale, change = lacking.need, lacking.enough, 1.0 / mean, 0
    of_class = lacking.of_class
    for item in items:
        missing, now, place = required[item] - exposure[item], 0, -1
        if missing > NOTHING:
            now, place = int(np.rint(max(missing * scale, 1.0) / GRAIN)), max(enough[item], 0)
            while place < len(weight) and missing <= weight[place] + NOTHING:
                place += 1
        change += now - need[item]
        if place != enough[item]:
            if enough[item] >= 0:
                of_class[enough[item]] -= 1
            if place >= 0:
                of_class[place] += 1
        need[item], enough[item] = now, place
    lacking.total[0] += change


@compiled
def counted_on(left: float, spare: float) -> float:
    """Arrivals after this one that are counted on to be shown what is missing.

    Args:
        left: Arrivals yet to come, this one included.
        spare: Share of their positions that is not counted on.
    """
    return max((left - 1.0) * (1.0 - spare) - min(_LAST, left - 1.0), 0.0)


@compiled
def free_seat(seats: Ints, weight: Floats, missing: float) -> int:
    """The last free position that gives all that is missing, or else the first free one; −1 where none is free."""
    seat = -1
    for place in range(len(seats) - 1, -1, -1):
        if seats[place] < 0:
            seat = place
            if weight[place] >= missing - NOTHING:
                break
    return seat


@compiled
def positions_needed(lacking: Lacking, later: float, there: float) -> float:
    """Positions that all items need together beyond those there are; below 0 where there are enough.

    An item to which only the first e positions give all that it lacks needs one of them, or two lower ones. So as many
    as there are more such items than such positions, so many positions are needed besides.

    Args:
        lacking: What is lacking.
        later: Arrivals that are counted on.
        there: Their positions.
    """
    need = float(lacking.total[0] * GRAIN)
    if need + lacking.size[0] <= there:
        return -1.0
    besides, items = 0.0, 0
    for place in range(1, len(lacking.of_class) - 1):
        items += lacking.of_class[place]
        besides = max(besides, items - later * place)
    return need + besides - there


@compiled
def _best_by_class(
    lacking: Lacking,
    value: Floats,
    row: np.uint64,
    items: Ints,
    best: Floats,
    sizes: Ints,
) -> None:
    """The items of largest value of each class.

    Args:
        lacking: What is lacking; items that lack nothing any more are dropped.
        value: (M,) −inf for what may not be shown.
        row: Random bits of the row, for ties.
        items: (k + 1, n) filled with n items at most, in descending order.
        best: (k + 1, n) their values.
        sizes: (k + 1,) filled: how many of each class were found.
    """
    enough, lacks, depth, count = lacking.enough, lacking.item, items.shape[1], 0
    lowest = np.full(len(sizes), _LOWEST)  # what a value of each class must reach
    sizes[:] = 0
    for item in lacks[: lacking.size[0]]:
        place = enough[item]
        if place < 0:
            continue
        lacks[count] = item
        count += 1
        new = value[item]
        if new >= lowest[place]:
            sizes[place] = enter(item, new, row, items[place], best[place], sizes[place])
            if sizes[place] == depth:
                lowest[place] = best[place, depth - 1]
    lacking.size[0] = count


@compiled
def _taken(
    items: Ints,
    best: Floats,
    sizes: Ints,
    begin: Ints,
    row: np.uint64,
) -> int:
    """Take the item of largest value among the best of some classes, ties to the larger seeded rank; −1 for none.

    Args:
        items: (classes, n) in descending order.
        best: (classes, n) their values.
        sizes: (classes,) how many there are.
        begin: (classes,) how many of them are taken, changed in place.
        row: Random bits of the row, for ties.
    """
    found, item, value = -1, -1, -np.inf
    for of in range(len(begin)):
        if begin[of] == sizes[of]:
            continue
        new, worth = items[of, begin[of]], best[of, begin[of]]
        if item < 0 or worth > value or (worth == value and tie_rank(row, new) > tie_rank(row, item)):
            found, item, value = of, new, worth
    if found >= 0:
        begin[found] += 1
    return int(item)


@compiled
def seat_lacking(
    lacking: Lacking,
    value: Floats,
    row: np.uint64,
    count: int,
    weight: Floats,
    seats: Ints,
) -> None:
    """Seat so many items that lack something, from the last position on.

    Each position goes to the item of largest value among those to which it gives all that they lack, or, where there
    are none, among all that lack something: so that no position gives much more than is missing while other items need
    a second one.

    Args:
        lacking: What is lacking.
        value: (M,) −inf for what may not be shown or is seated; changed in place.
        row: Random bits of the row, for ties.
        count: How many, 1 at least and k at most.
        weight: (k,) what positions count.
        seats: (k,) items by position, −1 where none is yet; filled in place.
    """
    classes, depth = len(weight) + 1, min(count, _DEPTH)
    items, best = np.empty((classes, depth), np.int64), np.empty((classes, depth))
    sizes, begin = np.empty(classes, np.int64), np.zeros(classes, np.int64)
    _best_by_class(lacking, value, row, items, best, sizes)
    for place in range(len(seats) - 1, -1, -1):
        if count == 0:
            break
        if seats[place] >= 0:
            continue
        if (begin == depth).any():  # a class may have more
            _best_by_class(lacking, value, row, items, best, sizes)
            begin[:] = 0
        first = place + 1  # of the classes to which the position gives all
        item = _taken(items[first:], best[first:], sizes[first:], begin[first:], row)
        if item < 0:
            item = _taken(items[:first], best[:first], sizes[:first], begin[:first], row)
        if item < 0:
            break
        seats[place] = item
        value[item] = -np.inf
        count -= 1
