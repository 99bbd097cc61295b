"""The guard of hard groups and campaigns: what is due of them is shown before it is too late."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from rimsim.agents._lacking import GRAIN, NOTHING, counted_on, free_seat
from rimsim.arrays import Bools, Floats, Ints
from rimsim.compiled import compiled
from rimsim.matching import enter

if TYPE_CHECKING:
    from rimsim.agents._lacking import Lacking
    from rimsim.agents.positions import Positions
    from rimsim.agents.promised import RowPacing


class RowGuard(NamedTuple):
    """What must be delivered of rows, and what slates can give them."""

    holds: Floats
    """(J,) what the first positions count, as many as items of the row may be shown to an arrival on average."""
    shared: Floats
    """(J,) how many rows an exposure of an item of the row counts for, on average."""
    due: Floats
    """(J,) what must be shown now of each row, in the unit of the guarantee; scratch."""
    need: Floats
    """(J,) positions that each row needs beyond those that its items need by themselves; scratch."""

    @classmethod
    def of(cls, items: list[Ints], chance: Floats, positions: Positions) -> Self:
        """The guard of some rows.

        Args:
            items: The items of each of J rows; none of a row that is not asked for.
            chance: (M,) share of arrivals to whom an item may be shown.
            positions: What positions count.
        """
        there = np.array([chance[row].sum() for row in items])
        counts = np.concatenate([[0.0], np.cumsum(positions.weight)])
        rows = np.bincount(np.concatenate([np.empty(0, np.int64), *items]), minlength=len(chance))
        shared = np.array([rows[row].mean() if len(row) else 1.0 for row in items])
        nothing = np.zeros(len(items))
        return cls(np.interp(there, np.arange(len(counts)), counts), shared, nothing, nothing.copy())


@compiled
def due_of_rows(
    pacing: RowPacing,
    counts: Bools,
    left: Floats,
    before: Floats,
    delivered: Floats,
    spare: float,
    positions: Positions,
    lacking: Lacking,
    guard: RowGuard,
) -> float:
    """Find what is due of each row at an arrival, ``guard.due``, and how many positions rows need, ``guard.need``.

    What a row lacks can wait as long as the later arrivals that are counted on hold it. What they do not is due now.
    And where all rows of one audience need more positions than those arrivals have, each has its share of the excess.

    Args:
        pacing: The rows, and what is asked for.
        counts: (A + 1,) which audiences count the arrival.
        left: (A + 1,) how many arrivals of each are yet to come, this one included.
        before: (J,) exposures before the pacing began.
        delivered: (J,) exposures so far.
        spare: Share of the positions yet to come that is not counted on.
        positions: What positions count.
        lacking: What items lack by themselves.
        guard: Changed in place.

    Returns:
        Positions that all rows need together.
    """
    of_audience, mean = np.zeros(len(left)), positions.mean
    for row in range(len(guard.due)):
        missing = pacing.least[row] - (delivered[row] - before[row])
        guard.due[row] = guard.need[row] = 0.0
        if missing <= NOTHING:
            continue
        later = counted_on(left[pacing.column[row]], spare)
        guard.due[row] = missing - later * guard.holds[row]
        need = missing / mean
        for place in range(pacing.first[row], pacing.first[row + 1]):
            need -= lacking.need[pacing.item[place]] * GRAIN
        guard.need[row] = max(need, 0.0) / guard.shared[row]
        of_audience[pacing.column[row]] += guard.need[row]
    for row in range(len(guard.due)):
        column, need = pacing.column[row], guard.need[row]
        if need > 0.0:
            there = counted_on(left[column], spare) * len(positions.weight)
            share = need / of_audience[column] * mean
            guard.due[row] = max(guard.due[row], (of_audience[column] - there) * share)
        if not counts[column]:
            guard.due[row] = 0.0
    return float(of_audience.sum())


@compiled
def share_excess(
    pacing: RowPacing, counts: Bools, excess: float, total: float, mean: float, guard: RowGuard
) -> bool:
    """Give each row its share of the positions that items and rows together need too many; whether anything is due.

    Args:
        pacing: The rows.
        counts: (A + 1,) which audiences count the arrival.
        excess: How many positions too few are left.
        total: How many items and rows need.
        mean: What a position counts on the average.
        guard: ``due`` is changed in place.
    """
    due = False
    for row in range(len(guard.due)):
        if excess > 0.0 and counts[pacing.column[row]]:
            guard.due[row] = max(guard.due[row], excess * guard.need[row] / total * mean)
        due |= guard.due[row] > NOTHING
    return due


@compiled
def seat_rows(
    pacing: RowPacing,
    guard: RowGuard,
    value: Floats,
    ties: np.uint64,
    positions: Positions,
    seats: Ints,
) -> None:
    """Seat the items of largest value of each row until what is due of it is seated, the row first of which most is.

    Args:
        pacing: The rows.
        guard: What is due of each.
        value: (M,) −inf for what may not be shown or is seated; changed in place.
        ties: Random bits of the arrival, for ties.
        positions: What positions count.
        seats: (k,) items by position, −1 where none is yet; filled in place.
    """
    for row in np.argsort(-guard.due):
        due = guard.due[row]
        if due <= NOTHING:
            break
        items = pacing.item[pacing.first[row] : pacing.first[row + 1]]
        for place in range(len(seats)):
            if (items == seats[place]).any():
                due -= positions.weight[place]
        while due > NOTHING:
            seat, item = free_seat(seats, positions.weight, due), _best_of(items, value, ties)
            if seat < 0 or item < 0:
                break
            seats[seat] = item
            value[item] = -np.inf
            due -= positions.weight[seat]


@compiled
def _best_of(items: Ints, value: Floats, ties: np.uint64) -> int:
    """The item of largest value, ties to the larger seeded rank; −1 where none may be shown."""
    found, best, size = np.empty(1, np.int64), np.empty(1), 0
    for item in items:
        new = value[item]
        if new > -np.inf and (size == 0 or new >= best[0]):
            size = enter(item, new, ties, found, best, size)
    return int(found[0]) if size else -1
