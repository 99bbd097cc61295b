"""The guard of hard guarantees: what is due is shown before it is too late."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.compiled import compiled
from rimsim.matching import best_items, tie_rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.agents.positions import Positions

__all__ = ["Guard", "guarded_items"]

_NOTHING = 1e-9
"""What is missing below this is rounding."""
_LAST = 4.0
"""The last arrivals are not counted on, since nobody knows whether they may be shown what is left."""


class Guard(NamedTuple):
    """What must be delivered."""

    required: NDArray[np.float64]
    """(M,) required exposures in the unit of the guarantee."""
    chance: NDArray[np.float64]
    """(M,) share of arrivals to whom an item may be shown."""
    spare: float
    """Share of the positions yet to come that is not counted on; nor are those of the last few arrivals."""


@compiled
def _later(left: float, guard: Guard) -> float:
    """Arrivals after this one that are counted on to be shown what is missing."""
    return max((left - 1.0) * (1.0 - guard.spare) - min(_LAST, left - 1.0), 0.0)


@compiled
def _needed(missing: float, left: float, positions: Positions) -> float:
    """Positions that an item needs, at positions of mean weight: one at least, and one an arrival at most."""
    return min(max(missing / positions.mean, 1.0), left) if missing > _NOTHING else 0.0


@compiled
def _cannot_wait(missing: float, left: float, later: float, chance: float, positions: Positions) -> bool:
    """Whether an item needs about as many positions as there are later arrivals to whom it may be shown.

    Of so many arrivals, each of whom it may be shown by chance, it is counted on a standard deviation less than the
    mean.
    """
    sure = later * chance - np.sqrt(later * chance * (1.0 - chance))
    return missing > _NOTHING and _needed(missing, left, positions) > sure


@compiled
def _forced(
    value: NDArray[np.float64],
    left: float,
    guard: Guard,
    exposure: NDArray[np.float64],
    positions: Positions,
) -> tuple[float, int, float]:
    """Positions of a row that must go to what is due, items that can wait no longer, and when to look again.

    Args:
        value: (M,); −inf for what may not be shown.
        left: Arrivals left, this one included.
        guard: What is required.
        exposure: (M,) exposures so far.
        positions: What positions count.

    Returns:
        The positions and the number of items, and a number of later arrivals: while there are more, nothing is due.
    """
    later = _later(left, guard)
    doubt = 0.5 * np.sqrt(later)  # no item's standard deviation is larger
    scale, needed, now, longest, rarest = 1.0 / positions.mean, 0.0, 0, 0.0, 1.0
    for item in range(len(value)):
        missing = guard.required[item] - exposure[item]
        if missing > _NOTHING:
            need, chance = missing * scale, guard.chance[item]
            need = need if need > 1.0 else 1.0  # noqa: FURB136  # max() and min() mind missing numbers
            need = need if need < left else left  # noqa: FURB136
            needed += need
            if need > longest * chance:
                longest = need / chance
            rarest = chance if chance < rarest else rarest  # noqa: FURB136
            if need > later * chance - doubt and value[item] > -np.inf:
                now += _cannot_wait(missing, left, later, chance, positions)
    root = 0.25 / rarest + np.sqrt(
        (0.25 / rarest) ** 2 + longest
    )  # later·chance − doubt is need at its square
    slate = len(positions.weight)
    return needed - later * slate, now, max(root * root, needed / slate) + 1.0


@compiled
def _seat(seats: NDArray[np.int64], weight: NDArray[np.float64], missing: float) -> int:
    """The last free position that gives all that is missing, or else the first free one."""
    seat = -1
    for place in range(len(seats) - 1, -1, -1):
        if seats[place] < 0:
            seat = place
            if weight[place] >= missing - _NOTHING:
                break
    return seat


@compiled
def _seat_urgent(
    value: NDArray[np.float64],
    missing: NDArray[np.float64],
    row: np.uint64,
    left: float,
    guard: Guard,
    positions: Positions,
    seats: NDArray[np.int64],
) -> int:
    """Seat what can wait no longer, from what lacks least to what lacks most; how many they are."""
    later = _later(left, guard)
    pool = np.full(len(value), -np.inf)
    for item in range(len(value)):
        if _cannot_wait(missing[item], left, later, guard.chance[item], positions):
            pool[item] = value[item]
    items, best = np.empty(len(seats), np.int64), np.empty(len(seats))
    urgent = items[: best_items(pool, row, items, best)]
    for which in np.argsort(missing[urgent]):
        item = urgent[which]
        seats[_seat(seats, positions.weight, missing[item])] = item
        value[item] = -np.inf
    return len(urgent)


@compiled
def _best_of(
    items: NDArray[np.int64],
    value: NDArray[np.float64],
    missing: NDArray[np.float64],
    row: np.uint64,
    most: float,
) -> int:
    """The item of largest value among some that lack so much at most, ties to the larger seeded rank; −1 for none."""
    best = -1
    for item in items:
        if missing[item] <= most and value[item] > -np.inf:
            tied = best >= 0 and value[item] == value[best]
            if best < 0 or value[item] > value[best] or (tied and tie_rank(row, item) > tie_rank(row, best)):
                best = item
    return best


@compiled
def _seat_lacking(
    value: NDArray[np.float64],
    missing: NDArray[np.float64],
    row: np.uint64,
    count: int,
    positions: Positions,
    seats: NDArray[np.int64],
) -> None:
    """Seat so many items that lack something, from the last position on.

    Each position goes to the item of largest value among those to which it gives all that they lack, or, where there
    are none, among all that lack something: so that no position gives much more than is missing while other items need
    a second one.
    """
    lacking = np.flatnonzero((missing > _NOTHING) & (value > -np.inf))
    for place in range(len(seats) - 1, -1, -1):
        if count == 0:
            break
        if seats[place] >= 0:
            continue
        item = _best_of(lacking, value, missing, row, positions.weight[place] + _NOTHING)
        if item < 0:
            item = _best_of(lacking, value, missing, row, np.inf)
        if item < 0:
            break
        seats[place] = item
        value[item] = -np.inf
        count -= 1


@compiled
def guarded_items(
    value: NDArray[np.float64],
    row: np.uint64,
    left: float,
    guard: Guard,
    exposure: NDArray[np.float64],
    positions: Positions,
    wait: NDArray[np.float64],
    items: NDArray[np.int64],
    best: NDArray[np.float64],
) -> int:
    """:func:`best_items`, but what is due comes first once it can hardly wait.

    An item can have one position an arrival at most. So an item that needs about as many positions as arrivals are
    left to whom it may be shown is shown now. And where all items together need more positions than those after this
    slate, the excess is shown now: lacking items of large value, each at a position that gives it what it lacks. A
    share of the positions yet to come is kept in reserve, since it is not known whom the last arrivals may not be
    shown. The other items stand around them in descending order of value; where every position counts alike, all do.

    Args:
        value: (M,); −inf for what may not be shown.
        row: Random bits of the row, for ties.
        left: Arrivals left, this one included.
        guard: What is required.
        exposure: (M,) exposures so far.
        positions: What positions count.
        wait: (1,) changed in place: while more later arrivals are counted on, nothing can be due, since what is missing
            only falls; ∞ at the beginning.
        items: (k,) filled in place.
        best: (k,) scratch.

    Returns:
        How many were found, at most k.
    """
    k = len(items)
    if _later(left, guard) > wait[0]:
        return best_items(value, row, items, best)
    excess, now, wait[0] = _forced(value, left, guard, exposure, positions)
    if max(np.float64(now), excess) <= 0.0:
        return best_items(value, row, items, best)
    missing, free, seats = guard.required - exposure, value.copy(), np.full(k, -1)
    urgent = _seat_urgent(free, missing, row, left, guard, positions, seats) if now else 0
    forced = int(min(np.float64(k), max(np.ceil(excess), 0.0)))
    _seat_lacking(free, missing, row, max(forced - urgent, 0), positions, seats)
    others = best_items(free, row, items, best)
    rest = items[:others].copy()
    size, which = 0, 0
    for place in range(k):
        if seats[place] < 0 and which < others:
            seats[place] = rest[which]
            which += 1
        if seats[place] >= 0:
            items[size] = seats[place]
            size += 1
    if positions.weight[0] == positions.weight[-1]:
        shown = np.full(len(value), -np.inf)
        shown[items[:size]] = value[items[:size]]
        best_items(shown, row, items, best)
    return size
