"""The guard of hard guarantees: what is due is shown before it is too late."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.agents._lacking import NOTHING, Lacking, positions_needed, seat_lacking
from rimsim.compiled import compiled
from rimsim.matching import best_items, enter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.agents.positions import Positions

__all__ = ["Guard", "due_now", "seat_due"]

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
    sure: float
    """Of the later arrivals to whom an item may be shown, the mean is counted on less so many standard deviations."""


@compiled
def _later(left: float, guard: Guard) -> float:
    """Arrivals after this one that are counted on to be shown what is missing."""
    return max((left - 1.0) * (1.0 - guard.spare) - min(_LAST, left - 1.0), 0.0)


@compiled
def _latest(missing: float, chance: float, mean: float, sure: float) -> float:
    """How many later arrivals must be counted on for an item to wait: with that many or fewer it is shown now.

    It needs as many positions as the mean of the arrivals n to whom it may be shown less some standard deviations:
    need = n·chance − sure·√(n·chance·(1 − chance)), solved for n.

    Args:
        missing: What the item lacks.
        chance: Share of arrivals to whom it may be shown.
        mean: What a position counts on the average.
        sure: How many standard deviations.
    """
    need, spread = missing / mean, sure * np.sqrt(chance * (1.0 - chance))
    need = need if need > 1.0 else 1.0  # noqa: FURB136  # max() minds missing numbers
    root = (spread + np.sqrt(spread * spread + 4.0 * chance * need)) / (2.0 * chance)
    return float(root * root)


@compiled
def _urgent(
    admissible: NDArray[np.bool_],
    left: float,
    guard: Guard,
    exposure: NDArray[np.float64],
    mean: float,
    lacking: Lacking,
) -> tuple[int, float, float]:
    """How many items can wait no longer, positions that are needed beyond one an arrival, and when to look again.

    Args:
        admissible: (M,) what may be shown.
        left: Arrivals left, this one included.
        guard: What is required.
        exposure: (M,) exposures so far.
        mean: What a position counts on the average.
        lacking: What is lacking; items that lack nothing any more are dropped.

    Returns:
        The number of items, the positions, which nobody can give, and a number of later arrivals: while there are more,
        no item is urgent.
    """
    later, now, beyond, wait, kept = _later(left, guard), 0, 0.0, 0.0, 0
    required, chances, sure = guard.required, guard.chance, guard.sure
    for item in lacking.item[: lacking.size[0]]:
        missing = required[item] - exposure[item]
        if missing <= NOTHING:
            continue
        lacking.item[kept] = item
        kept += 1
        beyond += max(missing / mean - left, 0.0)
        latest = _latest(missing, chances[item], mean, sure)
        now += latest >= later and admissible[item]
        wait = latest if latest > wait else wait  # noqa: FURB136
    lacking.size[0] = kept
    return now, beyond, wait


@compiled
def _seat(seats: NDArray[np.int64], weight: NDArray[np.float64], missing: float) -> int:
    """The last free position that gives all that is missing, or else the first free one."""
    seat = -1
    for place in range(len(seats) - 1, -1, -1):
        if seats[place] < 0:
            seat = place
            if weight[place] >= missing - NOTHING:
                break
    return seat


@compiled
def _seat_urgent(
    value: NDArray[np.float64],
    row: np.uint64,
    left: float,
    guard: Guard,
    exposure: NDArray[np.float64],
    positions: Positions,
    lacking: Lacking,
    seats: NDArray[np.int64],
) -> int:
    """Seat what can wait no longer, from what lacks least to what lacks most; how many they are."""
    later = _later(left, guard)
    items, best, size = np.empty(len(seats), np.int64), np.empty(len(seats)), 0
    required, chances, sure, mean = guard.required, guard.chance, guard.sure, positions.mean
    for item in lacking.item[: lacking.size[0]]:
        new, missing = value[item], required[item] - exposure[item]
        if new == -np.inf or (size == len(best) and new < best[-1]):
            continue
        if missing > NOTHING and _latest(missing, chances[item], mean, sure) >= later:
            size = enter(item, new, row, items, best, size)
    urgent = items[:size]
    for which in np.argsort(required[urgent] - exposure[urgent]):
        item = urgent[which]
        seats[_seat(seats, positions.weight, required[item] - exposure[item])] = item
        value[item] = -np.inf
    return size


@compiled
def due_now(
    admissible: NDArray[np.bool_],
    left: float,
    guard: Guard,
    exposure: NDArray[np.float64],
    positions: Positions,
    lacking: Lacking,
    wait: NDArray[np.float64],
) -> tuple[int, float]:
    """What is due at an arrival: how many items can wait no longer, and how many positions too few come after it.

    An item can have one position an arrival at most. So an item that needs about as many positions as arrivals are
    left to whom it may be shown is shown now. And where all items together need more positions than those after this
    slate, the excess is shown now. A share of the positions yet to come is kept in reserve, since it is not known whom
    the last arrivals may not be shown.

    Args:
        admissible: (M,) what may be shown.
        left: Arrivals left, this one included.
        guard: What is required.
        exposure: (M,) exposures so far.
        positions: What positions count.
        lacking: What is lacking; items that lack nothing any more are dropped.
        wait: (1,) changed in place: while more later arrivals are counted on, no item is urgent, since what is missing
            only falls; ∞ at the beginning.

    Returns:
        The number of items, and the positions; nothing is due where neither is above 0.
    """
    later, now = _later(left, guard), 0
    excess = positions_needed(lacking, later, later * len(positions.weight))
    if later <= wait[0]:
        now, beyond, wait[0] = _urgent(admissible, left, guard, exposure, positions.mean, lacking)
        excess -= beyond
    return now, excess


@compiled
def seat_due(
    value: NDArray[np.float64],
    row: np.uint64,
    left: float,
    urgent: bool,  # noqa: FBT001  # compiled code takes no names
    excess: float,
    guard: Guard,
    exposure: NDArray[np.float64],
    positions: Positions,
    lacking: Lacking,
    items: NDArray[np.int64],
    best: NDArray[np.float64],
) -> int:
    """:func:`best_items`, but what is due comes first: lacking items, at positions that give them what they lack.

    The other items stand around them in descending order of value; where every position counts alike, all do.

    Args:
        value: (M,); −inf for what may not be shown. It is changed.
        row: Random bits of the row, for ties.
        left: Arrivals left, this one included.
        urgent: Whether some items can wait no longer, see :func:`due_now`.
        excess: How many positions too few are left.
        guard: What is required.
        exposure: (M,) exposures so far.
        positions: What positions count.
        lacking: What is lacking.
        items: (k,) filled in place.
        best: (k,) scratch.

    Returns:
        How many were found, at most k.
    """
    k = len(items)
    alike = positions.weight[0] == positions.weight[-1]
    worth = value.copy() if alike else value  # what is seated is hidden in the other
    seats = np.full(k, -1)
    seated = _seat_urgent(value, row, left, guard, exposure, positions, lacking, seats) if urgent else 0
    forced = int(min(np.float64(k), max(np.ceil(excess), 0.0)))
    if forced > seated:
        seat_lacking(lacking, value, row, forced - seated, positions.weight, seats)
    size = _seat_others(value, row, seats, items, best)
    if alike:
        seats[:size] = items[:size]
        for which in range(size):
            enter(seats[which], worth[seats[which]], row, items, best, which)
    return size


@compiled
def _seat_others(
    value: NDArray[np.float64],
    row: np.uint64,
    seats: NDArray[np.int64],
    items: NDArray[np.int64],
    best: NDArray[np.float64],
) -> int:
    """Fill ``items`` (k,) with what is seated and, where nobody is, with the items of largest value; how many."""
    free = 0
    for item in seats:
        free += item < 0
    others = np.empty(free, np.int64)
    found, size, which = best_items(value, row, others, best[:free]), 0, 0
    for seat in seats:
        item = seat
        if item < 0 and which < found:
            item = others[which]
            which += 1
        if item >= 0:
            items[size] = item
            size += 1
    return size
