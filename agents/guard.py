"""Guard, which shows items before their guarantee becomes infeasible."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from rimsim.agents.arrival_arrays import ExposureUnit
from rimsim.arrays import Bools, Floats, Ints
from rimsim.compiled import compiled, compiled_part
from rimsim.matching import best_items, enter, tie_rank

if TYPE_CHECKING:
    from rimsim.requirements.rows import Requirements

NOTHING = 1e-9
"""Deficits below this number are rounding errors."""
GRAIN = 2.0**-32
"""Unit in which needed positions are counted. Whole numbers of this unit have exact sums in any order."""
_LOWEST = float(np.finfo(np.float64).min)
_DEPTH = 3  # number of best items listed per class of deficits; a slate rarely takes more items of one class
# Number of last arrivals on which the guard does not rely, because they may not admit the items in deficit.
_LAST = 4.0


class Guard(NamedTuple):
    """Hard requirements, and the exposures that arrivals can give them."""

    required: Floats
    """(M + G,) required exposures, in the unit of the guarantee."""
    chance: Floats
    """(M,) share of arrivals to which an item may be shown."""
    spare: float
    """Share of the remaining positions on which the guard does not rely."""
    sure: float
    """Number of standard deviations by which the guard expects fewer later arrivals for an item than the mean."""
    first: Ints
    """(G + 1,) beginning of each row's items in ``item``."""
    item: Ints
    """Items of the rows, one row after the other."""
    column: Ints
    """(G,) column of each row's audience; the last column is the complete round."""
    holds: Floats
    """(G,) exposure that a slate can give the items of a row, on average over arrivals."""
    shared: Floats
    """(G,) mean number of rows for which an exposure of a row's item counts."""
    due: Floats
    """(G,) exposures that are due now; work array."""
    need: Floats
    """(G,) positions that a row needs beyond the needs of its items; work array."""
    wait: Floats
    """(1,) number of later arrivals above which no item is urgent; ∞ at first. It stays valid, because deficits only
    shrink."""

    @classmethod
    def of(
        cls,
        required: Floats,
        rows: Requirements,
        column: Ints,
        chance: Floats,
        unit: ExposureUnit,
        spare: float,
        sure: float,
    ) -> Self:
        """Guard of floors and of other requirements."""
        items = [rows.items(row) if rows.min_exposure[row] > 0 else rows.item[:0] for row in range(len(rows))]
        counts = np.concatenate([[0.0], np.cumsum(unit.position_weights)])
        holds = np.interp([chance[row].sum() for row in items], np.arange(len(counts)), counts)
        number = np.bincount(np.concatenate([rows.item[:0], *items]), minlength=len(chance))
        shared = np.array([number[row].mean() if len(row) else 1.0 for row in items], np.float64)
        due, need = np.zeros((2, len(rows)))
        wait = np.full(1, np.inf)
        return cls(
            required, chance, spare, sure, rows.first, rows.item, column, holds, shared, due, need, wait
        )


class Due(NamedTuple):
    """Exposures that cannot wait for later arrivals."""

    n_urgent: int
    """Number of admissible items that need nearly every later arrival."""
    excess: float
    """Number of positions that items need beyond those of later arrivals."""
    is_now: bool
    """True if this slate must show an item, or an item of a group or campaign, because its exposure cannot wait."""


class Deficits(NamedTuple):
    """Items below their guarantee, and positions that each item needs."""

    item: Ints
    """(M,) items in ascending order. The first ``size`` entries are valid, but some of these items may have no deficit
    any more."""
    size: Ints
    """(1,) number of items in ``item`` that may still have a deficit."""
    need: Ints
    """(M,) number of positions of mean weight that each item needs, at least one, in the unit ``GRAIN``."""
    total: Ints
    """(1,) sum of ``need`` over all items."""
    enough: Ints
    """(M,) class of each item. In class n, each of the first n positions alone covers the deficit. −1: no deficit."""
    of_class: Ints
    """(k + 1,) number of items in each class."""

    @classmethod
    def of(cls, required: Floats, exposure: Floats, unit: ExposureUnit) -> Self:
        """Deficits of items after given exposures."""
        m = len(required)
        sizes = (m, 1, m, 1, m, len(unit.position_weights) + 1)
        deficits = cls(*(np.zeros(size, np.int64) for size in sizes))
        deficits.enough[:] = -1
        due = np.flatnonzero(required - exposure[:m] > NOTHING)
        deficits.item[: len(due)] = due
        deficits.size[0] = len(due)
        count_deficits(deficits, due, required, exposure, unit.position_weights, unit.mean)
        return deficits


@compiled
def count_deficits(
    deficits: Deficits, items: Ints, required: Floats, exposure: Floats, position_weights: Floats, mean: float
) -> None:
    """Update the deficits of some items after their exposures."""
    need = deficits.need
    enough = deficits.enough
    scale = 1.0 / mean
    change = 0
    of_class = deficits.of_class
    for item in items:
        missing = required[item] - exposure[item]
        now = 0
        place = -1
        if missing > NOTHING:
            now = int(np.rint(max(missing * scale, 1.0) / GRAIN))
            place = max(enough[item], 0)
            while place < len(position_weights) and missing <= position_weights[place] + NOTHING:
                place += 1
        change += now - need[item]
        if place != enough[item]:
            if enough[item] >= 0:
                of_class[enough[item]] -= 1
            if place >= 0:
                of_class[place] += 1
        need[item] = now
        enough[item] = place
    deficits.total[0] += change


@compiled_part
def counted_on(remaining: float, spare: float) -> float:
    """Number of arrivals that will almost certainly follow this arrival."""
    return max((remaining - 1.0) * (1.0 - spare) - min(_LAST, remaining - 1.0), 0.0)


@compiled_part
def positions_needed(deficits: Deficits, later: float, n_positions: float) -> float:
    """Number of needed positions beyond those of later arrivals.

    Suppose that more items need one of the first e positions of a slate than later arrivals have of these positions.
    Then each further item needs two lower positions instead.
    """
    need = float(deficits.total[0] * GRAIN)
    if need + deficits.size[0] <= n_positions:
        return -1.0
    additional = 0.0
    items = 0
    for place in range(1, len(deficits.of_class) - 1):
        items += deficits.of_class[place]
        additional = max(additional, items - later * place)
    return need + additional - n_positions


@compiled_part
def _latest(missing: float, chance: float, mean: float, sure: float) -> float:
    """Largest number of later arrivals that makes an item urgent.

    Of n arrivals, n·chance can be shown the item on average. The result is the n for which this mean minus ``sure``
    standard deviations equals the needed positions: need = n·chance − sure·√(n·chance·(1 − chance)).
    """
    need = missing / mean
    spread = sure * np.sqrt(chance * (1.0 - chance))
    need = need if need > 1.0 else 1.0  # noqa: FURB136  # max() would test for NaN, too
    root = (spread + np.sqrt(spread * spread + 4.0 * chance * need)) / (2.0 * chance)
    return float(root * root)


@compiled_part
def _urgent(
    admissible: Bools, remaining: float, guard: Guard, exposure: Floats, mean: float, deficits: Deficits
) -> tuple[int, float, float]:
    """Numbers of urgent items and of undeliverable positions."""
    later = counted_on(remaining, guard.spare)
    now = 0
    beyond = 0.0
    wait = 0.0
    n_missing = 0
    required = guard.required
    chances = guard.chance
    sure = guard.sure
    for item in deficits.item[: deficits.size[0]]:
        missing = required[item] - exposure[item]
        if missing <= NOTHING:
            continue
        deficits.item[n_missing] = item
        n_missing += 1
        beyond += max(missing / mean - remaining, 0.0)
        latest = _latest(missing, chances[item], mean, sure)
        now += latest >= later and admissible[item]
        wait = latest if latest > wait else wait  # noqa: FURB136
    deficits.size[0] = n_missing
    return now, beyond, wait


@compiled_part
def _due_in_rows(
    remaining: Floats, counts: Bools, guard: Guard, exposure: Floats, unit: ExposureUnit, deficits: Deficits
) -> float:
    """Number of positions that groups and campaigns need.

    A deficit can wait if later arrivals will almost certainly have positions for it. All other deficits are due now. If
    the requirements of an audience need more positions than its later arrivals have, each gets a share of the excess.
    """
    of_audience = np.zeros(len(remaining))
    m = len(guard.chance)
    for row in range(len(guard.due)):
        missing = guard.required[m + row] - exposure[m + row]
        guard.due[row] = guard.need[row] = 0.0
        if missing <= NOTHING:
            continue
        later = counted_on(remaining[guard.column[row]], guard.spare)
        guard.due[row] = missing - later * guard.holds[row]
        need = missing / unit.mean
        for place in range(guard.first[row], guard.first[row + 1]):
            need -= deficits.need[guard.item[place]] * GRAIN
        guard.need[row] = max(need, 0.0) / guard.shared[row]
        of_audience[guard.column[row]] += guard.need[row]
    for row in range(len(guard.due)):
        column = guard.column[row]
        need = guard.need[row]
        if need > 0.0:
            n_positions = counted_on(remaining[column], guard.spare) * len(unit.position_weights)
            share = need / of_audience[column] * unit.mean
            guard.due[row] = max(guard.due[row], (of_audience[column] - n_positions) * share)
        if not counts[column]:
            guard.due[row] = 0.0
    return float(of_audience.sum())


@compiled_part
def due_at(
    admissible: Bools,
    remaining: Floats,
    counts: Bools,
    guard: Guard,
    exposure: Floats,
    unit: ExposureUnit,
    deficits: Deficits,
) -> Due:
    """Exposures that are due at an arrival.

    An item can have at most one position per arrival. So an item is urgent if it needs about as many positions as there
    are remaining arrivals that can be shown it. If items and groups together need more positions than will come after
    this slate, the excess is due now. The result has the part of this excess that items need; ``guard.due`` has the
    part of groups and campaigns. ``remaining`` and ``counts`` have an entry per audience, and a last one for the
    round.
    """
    in_round = remaining[len(remaining) - 1]
    later = counted_on(in_round, guard.spare)
    now = 0
    in_rows = 0.0
    of_items = deficits.total[0] * GRAIN
    if len(guard.due):
        in_rows = _due_in_rows(remaining, counts, guard, exposure, unit, deficits)
    excess = positions_needed(deficits, later, later * len(unit.position_weights) - in_rows)
    if later <= guard.wait[0]:
        now, beyond, guard.wait[0] = _urgent(admissible, in_round, guard, exposure, unit.mean, deficits)
        excess -= beyond
    due = False
    total = of_items + in_rows
    for row in range(len(guard.due)):  # the excess is divided among all requirements
        if excess > 0.0 and counts[guard.column[row]]:
            guard.due[row] = max(guard.due[row], excess * guard.need[row] / total * unit.mean)
        due |= guard.due[row] > NOTHING
    if excess > 0.0 and len(guard.due):
        excess *= of_items / total
    return Due(now, excess, due or now > 0 or excess > 0.0)


@compiled_part
def place_due(
    value: Floats,
    bits: np.uint64,
    remaining: float,
    due: Due,
    guard: Guard,
    exposure: Floats,
    unit: ExposureUnit,
    deficits: Deficits,
    items: Ints,
    best: Floats,
) -> int:
    """Fill a slate with due items first; return its size.

    Urgent items come first, then items of due requirements, then other items in deficit. Each of these items gets a
    position that covers its deficit. The other items fill the remaining positions by value. If every position counts
    the same, the whole slate is sorted by value. The array ``value``, −∞ for inadmissible items, is overwritten.
    """
    k = len(items)
    alike = unit.position_weights[0] == unit.position_weights[-1]
    # Placing an item sets its ``value`` to −∞. So the slate is sorted by a copy of the values.
    worth = value.copy() if alike else value
    slate = np.full(k, -1)
    placed = (
        _place_urgent(value, bits, remaining, guard, exposure, unit, deficits, slate)
        if due.n_urgent > 0
        else 0
    )
    if len(guard.due):
        _place_rows(guard, value, bits, unit, slate)
        placed = 0
        for item in slate:
            placed += item >= 0 and deficits.enough[item] >= 0
    forced = int(min(np.float64(k), max(np.ceil(due.excess), 0.0)))
    if forced > placed:
        place_deficits(deficits, value, bits, forced - placed, unit.position_weights, slate)
    size = _place_others(value, bits, slate, items, best)
    if alike:
        for position in range(size):  # a loop compiles two seconds faster than the assignment of a slice
            slate[position] = items[position]
        for position in range(size):
            enter(slate[position], worth[slate[position]], bits, items, best, position)
    return size


@compiled_part
def free_position(slate: Ints, position_weights: Floats, missing: float) -> int:
    """Last free position that covers a deficit, else first one."""
    position = -1
    for place in range(len(slate) - 1, -1, -1):
        if slate[place] < 0:
            position = place
            if position_weights[place] >= missing - NOTHING:
                break
    return position


@compiled_part
def _place_urgent(
    value: Floats,
    bits: np.uint64,
    remaining: float,
    guard: Guard,
    exposure: Floats,
    unit: ExposureUnit,
    deficits: Deficits,
    slate: Ints,
) -> int:
    """Place urgent items by ascending deficit; return their number."""
    later = counted_on(remaining, guard.spare)
    items = np.empty(len(slate), np.int64)
    best = np.empty(len(slate))
    size = 0
    required = guard.required
    chances = guard.chance
    sure = guard.sure
    mean = unit.mean
    for item in deficits.item[: deficits.size[0]]:
        new = value[item]
        missing = required[item] - exposure[item]
        if new == -np.inf or (size == len(best) and new < best[-1]):
            continue
        if missing > NOTHING and _latest(missing, chances[item], mean, sure) >= later:
            size = enter(item, new, bits, items, best, size)
    urgent = items[:size]
    for index in np.argsort(required[urgent] - exposure[urgent]):
        item = urgent[index]
        slate[free_position(slate, unit.position_weights, required[item] - exposure[item])] = item
        value[item] = -np.inf
    return size


@compiled_part
def _place_rows(guard: Guard, value: Floats, bits: np.uint64, unit: ExposureUnit, slate: Ints) -> None:
    """Place the best items of each requirement that is due."""
    for row in np.argsort(-guard.due):
        due = guard.due[row]
        if due <= NOTHING:
            break
        items = guard.item[guard.first[row] : guard.first[row + 1]]
        for place in range(len(slate)):
            if (items == slate[place]).any():
                due -= unit.position_weights[place]
        while due > NOTHING:
            best_item = np.empty(1, np.int64)
            best = np.empty(1)
            size = 0
            for item in items:
                if value[item] > -np.inf and (size == 0 or value[item] >= best[0]):
                    size = enter(item, value[item], bits, best_item, best, size)
            place = free_position(slate, unit.position_weights, due)
            if place < 0 or size == 0:
                break
            slate[place] = best_item[0]
            value[best_item[0]] = -np.inf
            due -= unit.position_weights[place]


@compiled_part
def _best_by_class(
    deficits: Deficits, value: Floats, bits: np.uint64, items: Ints, best: Floats, sizes: Ints
) -> None:
    """Fill in the best items of each class of deficits."""
    enough = deficits.enough
    listed = deficits.item
    depth = items.shape[1]
    count = 0
    lowest = np.full(len(sizes), _LOWEST)  # value that an item must reach to enter the list of its class
    sizes[:] = 0
    for item in listed[: deficits.size[0]]:
        place = enough[item]
        if place < 0:
            continue
        listed[count] = item
        count += 1
        new = value[item]
        if new >= lowest[place]:
            sizes[place] = enter(item, new, bits, items[place], best[place], sizes[place])
            if sizes[place] == depth:
                lowest[place] = best[place, depth - 1]
    deficits.size[0] = count


@compiled_part
def _taken(items: Ints, best: Floats, sizes: Ints, begin: Ints, bits: np.uint64) -> int:
    """Best item of the classes that is not taken, else −1."""
    best_class = -1
    item = -1
    value = -np.inf
    for row in range(len(begin)):
        if begin[row] == sizes[row]:
            continue
        new = items[row, begin[row]]
        worth = best[row, begin[row]]
        if item < 0 or worth > value or (worth == value and tie_rank(bits, new) > tie_rank(bits, item)):
            best_class = row
            item = new
            value = worth
    if best_class >= 0:
        begin[best_class] += 1
    return int(item)


@compiled_part
def place_deficits(
    deficits: Deficits, value: Floats, bits: np.uint64, count: int, position_weights: Floats, slate: Ints
) -> None:
    """Place ``count`` items in deficit, from the last position upwards.

    A position goes to the most valuable item whose deficit it covers. If the position covers no deficit, it goes to the
    most valuable item in deficit. So no item gets much more than it lacks while another item needs a second position.
    The array ``value``, −∞ for placed items and for items that cannot be shown, is overwritten.
    """
    classes = len(position_weights) + 1
    depth = min(count, _DEPTH)
    items = np.empty((classes, depth), np.int64)
    best = np.empty((classes, depth))
    sizes = np.empty(classes, np.int64)
    begin = np.zeros(classes, np.int64)
    _best_by_class(deficits, value, bits, items, best, sizes)
    for place in range(len(slate) - 1, -1, -1):
        if count == 0:
            break
        if slate[place] >= 0:
            continue
        if (begin == depth).any():  # all listed items of a class are used, but the class may have more
            _best_by_class(deficits, value, bits, items, best, sizes)
            begin[:] = 0
        first = place + 1  # this position covers deficits of class ``first`` and above
        item = _taken(items[first:], best[first:], sizes[first:], begin[first:], bits)
        if item < 0:
            item = _taken(items[:first], best[:first], sizes[:first], begin[:first], bits)
        if item < 0:
            break
        slate[place] = item
        value[item] = -np.inf
        count -= 1


@compiled_part
def _place_others(value: Floats, bits: np.uint64, slate: Ints, items: Ints, best: Floats) -> int:
    """Fill ``items`` with placed items, and gaps with other items."""
    free = 0
    for item in slate:
        free += item < 0
    other_items = np.empty(free, np.int64)
    n_others = best_items(value, bits, other_items, best[:free], 0.0)
    size = 0
    n_used = 0
    for placed in slate:
        item = placed
        if item < 0 and n_used < n_others:
            item = other_items[n_used]
            n_used += 1
        if item >= 0:
            items[size] = item
            size += 1
    return size
