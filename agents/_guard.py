"""The guard of hard guarantees: what is due is shown before it is too late."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.agents._lacking import (
    GRAIN,
    NOTHING,
    Lacking,
    counted_on,
    free_seat,
    positions_needed,
    seat_lacking,
)
from rimsim.agents._row_guard import due_of_rows, seat_rows, share_excess
from rimsim.arrays import Bools, Floats, Ints
from rimsim.compiled import compiled
from rimsim.matching import best_items, enter

if TYPE_CHECKING:
    from rimsim.agents._row_guard import RowGuard
    from rimsim.agents.positions import Positions
    from rimsim.agents.promised import RowPacing


class Guard(NamedTuple):
    """What must be delivered."""

    required: Floats
    """(M,) required exposures in the unit of the guarantee."""
    chance: Floats
    """(M,) share of arrivals to whom an item may be shown."""
    spare: float
    """Share of the positions yet to come that is not counted on; nor are those of the last few arrivals."""
    sure: float
    """Of the later arrivals to whom an item may be shown, the mean is counted on less so many standard deviations."""


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
    admissible: Bools,
    left: float,
    guard: Guard,
    exposure: Floats,
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
    later, now, beyond, wait, kept = counted_on(left, guard.spare), 0, 0.0, 0.0, 0
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
def _seat_urgent(
    value: Floats,
    row: np.uint64,
    left: float,
    guard: Guard,
    exposure: Floats,
    positions: Positions,
    lacking: Lacking,
    seats: Ints,
) -> int:
    """Seat what can wait no longer, from what lacks least to what lacks most; how many they are."""
    later = counted_on(left, guard.spare)
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
        seats[free_seat(seats, positions.weight, required[item] - exposure[item])] = item
        value[item] = -np.inf
    return size


@compiled
def due_now(
    admissible: Bools,
    left: float,
    guard: Guard,
    exposure: Floats,
    positions: Positions,
    lacking: Lacking,
    reserved: float,
    wait: Floats,
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
        reserved: Positions that groups and campaigns need besides.
        wait: (1,) changed in place: while more later arrivals are counted on, no item is urgent, since what is missing
            only falls; ∞ at the beginning.

    Returns:
        The number of items, and the positions; nothing is due where neither is above 0.
    """
    later, now = counted_on(left, guard.spare), 0
    excess = positions_needed(lacking, later, later * len(positions.weight) - reserved)
    if later <= wait[0]:
        now, beyond, wait[0] = _urgent(admissible, left, guard, exposure, positions.mean, lacking)
        excess -= beyond
    return now, excess


@compiled
def due_at(
    admissible: Bools,
    left: float,
    guard: Guard,
    exposure: Floats,
    positions: Positions,
    lacking: Lacking,
    wait: Floats,
    of_rows: RowPacing,
    counts: Bools,
    row_left: Floats,
    row_before: Floats,
    delivered: Floats,
    row_guard: RowGuard,
) -> tuple[int, float, bool]:
    """What is due at an arrival of items, see :func:`due_now`, and of groups and campaigns.

    Where items and rows together need more positions than are left, the excess is shared out over both.

    Args:
        admissible: (M,) what may be shown.
        left: Arrivals left, this one included.
        guard: What is required.
        exposure: (M,) exposures so far.
        positions: What positions count.
        lacking: What is lacking; items that lack nothing any more are dropped.
        wait: (1,) as :func:`due_now` has it.
        of_rows: Groups and campaigns.
        counts: (A + 1,) which audiences count the arrival.
        row_left: (A + 1,) how many arrivals of each are yet to come, this one included.
        row_before: (J,) exposures of rows before the pacing began.
        delivered: (J,) exposures of rows so far.
        row_guard: What slates hold of rows; changed in place to what is due of each.

    Returns:
        What :func:`due_now` returns, and whether anything is due.
    """
    if len(row_guard.due) == 0:
        urgent, excess = due_now(admissible, left, guard, exposure, positions, lacking, 0.0, wait)
        return urgent, excess, urgent > 0 or excess > 0.0
    of_items = lacking.total[0] * GRAIN
    in_rows = due_of_rows(
        of_rows, counts, row_left, row_before, delivered, guard.spare, positions, lacking, row_guard
    )
    urgent, excess = due_now(admissible, left, guard, exposure, positions, lacking, in_rows, wait)
    total = of_items + in_rows
    now = share_excess(of_rows, counts, excess, total, positions.mean, row_guard)
    if excess > 0.0:
        excess *= of_items / total
    return urgent, excess, now or urgent > 0 or excess > 0.0


@compiled
def seat_due(
    value: Floats,
    row: np.uint64,
    left: float,
    urgent: bool,  # noqa: FBT001  # compiled code takes no names
    excess: float,
    guard: Guard,
    exposure: Floats,
    positions: Positions,
    lacking: Lacking,
    of_rows: RowPacing,
    row_guard: RowGuard,
    items: Ints,
    best: Floats,
) -> int:
    """:func:`best_items`, but what is due comes first: lacking items, at positions that give them what they lack.

    Items that can wait no longer are seated first, then what is due of groups and campaigns, then as many lacking items
    as there are positions too few.

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
        of_rows: Groups and campaigns.
        row_guard: What is due of each.
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
    if len(row_guard.due):
        seat_rows(of_rows, row_guard, value, row, positions, seats)
        seated = 0
        for item in seats:
            seated += item >= 0 and lacking.enough[item] >= 0
    forced = int(min(np.float64(k), max(np.ceil(excess), 0.0)))
    if forced > seated:
        seat_lacking(lacking, value, row, forced - seated, positions.weight, seats)
    size = _seat_others(value, row, seats, items, best)
    if alike:
        for which in range(size):  # to assign a slice compiles two seconds' worth of error message
            seats[which] = items[which]
        for which in range(size):
            enter(seats[which], worth[seats[which]], row, items, best, which)
    return size


@compiled
def _seat_others(
    value: Floats,
    row: np.uint64,
    seats: Ints,
    items: Ints,
    best: Floats,
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
