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
_LOWEST = float(np.finfo(np.float64).min)  # smaller than the value of any admissible item
_DEPTH = 3  # number of best items listed per class of deficits; a slate rarely takes more items of one class
# Number of last arrivals on which the guard does not rely, because the items in deficit may not be admissible for them.
_LAST = 4.0


_NO_ENDS = np.zeros(0)


class Guard(NamedTuple):
    """Hard requirements, and the exposures that arrivals can give them."""

    required: Floats
    """(M + G,) required exposures, in the unit of the guarantee."""
    chance: Floats
    """(M,) share of arrivals to which an item may be shown."""
    spare: float
    """Share of the remaining positions on which the guard does not rely."""
    sure: float
    """Number of standard deviations below the mean at which the guard puts the number of later arrivals for an item."""
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
    """(G,) exposures that this slate must give to a row's items, because later arrivals may not deliver them;
    overwritten at each arrival."""
    need: Floats
    """(G,) positions that a row needs beyond those that its items need for their floors, divided by ``shared``;
    overwritten at each arrival."""
    wait: Floats
    """(1,) number of later arrivals above which no item is urgent; ∞ before it is computed. It stays valid, because
    deficits only shrink."""
    after_end: Floats
    """(M,) expected arrivals of the round after each item's end; empty: no item ends."""
    by_end: Ints
    """(M,) items, earliest end first; empty: no item ends."""

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
        after_end: Floats = _NO_ENDS,
    ) -> Self:
        """Guard of floors and of other requirements."""
        no_items = rows.item[:0]
        items_of_rows = [
            rows.items(row) if rows.min_exposure[row] > 0 else no_items for row in range(len(rows))
        ]
        # Entry n is the weight of the first n positions. The weight of a mean number of items is interpolated.
        first_weights = np.concatenate([[0.0], np.cumsum(unit.position_weights)])
        mean_admissible = [chance[items].sum() for items in items_of_rows]
        rows_of_item = np.bincount(np.concatenate([no_items, *items_of_rows]), minlength=len(chance))
        return cls(
            required=required,
            chance=chance,
            spare=spare,
            sure=sure,
            first=rows.first,
            item=rows.item,
            column=column,
            holds=np.interp(mean_admissible, np.arange(len(first_weights)), first_weights),
            shared=np.array(
                [rows_of_item[items].mean() if len(items) else 1.0 for items in items_of_rows], np.float64
            ),
            due=np.zeros(len(rows)),
            need=np.zeros(len(rows)),
            wait=np.full(1, np.inf),
            after_end=after_end,
            by_end=np.argsort(-after_end, kind="stable"),
        )


class Due(NamedTuple):
    """Exposures that cannot wait for later arrivals."""

    n_urgent: int
    """Number of items that this slate may show, and that need nearly every later arrival."""
    excess: float
    """Number of positions that floors of items need beyond those of later arrivals."""
    is_now: bool
    """True if this slate must show an item, or an item of a group or campaign, because its exposure cannot wait."""
    latest: float = np.inf
    """Smallest number of arrivals after an item's end for which the item is urgent; ∞: no item is urgent by its end."""


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
        deficits = cls(
            item=np.zeros(m, np.int64),
            size=np.zeros(1, np.int64),
            need=np.zeros(m, np.int64),
            total=np.zeros(1, np.int64),
            enough=np.full(m, -1),
            of_class=np.zeros(len(unit.position_weights) + 1, np.int64),
        )
        due = np.flatnonzero(required - exposure[:m] > NOTHING)
        deficits.item[: len(due)] = due
        deficits.size[0] = len(due)
        count_deficits(deficits, due, required, exposure, unit.position_weights, unit.mean)
        return deficits


@compiled
def count_deficits(
    deficits: Deficits, items: Ints, required: Floats, exposure: Floats, position_weights: Floats, mean: float
) -> None:
    """Update the deficits of given items after their exposures.

    ``exposure`` already includes these exposures.
    """
    need = deficits.need
    enough = deficits.enough
    scale = 1.0 / mean
    change = 0
    of_class = deficits.of_class
    for item in items:
        missing = required[item] - exposure[item]
        new_need = 0
        new_class = -1
        if missing > NOTHING:
            new_need = int(np.rint(max(missing * scale, 1.0) / GRAIN))
            # A deficit only shrinks, so its class only rises, and the search starts from the present class.
            new_class = max(enough[item], 0)
            while new_class < len(position_weights) and missing <= position_weights[new_class] + NOTHING:
                new_class += 1
        change += new_need - need[item]
        if new_class != enough[item]:
            if enough[item] >= 0:
                of_class[enough[item]] -= 1
            if new_class >= 0:
                of_class[new_class] += 1
        need[item] = new_need
        enough[item] = new_class
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
    # ``additional`` is at most the number of items with a deficit. If the result is not above 0 even with this number,
    # callers need no exact value, and −1 stands for it.
    if need + deficits.size[0] <= n_positions:
        return -1.0
    additional = 0.0
    n_items = 0  # items of classes 1 … e, whose deficits only the first e positions cover
    for e in range(1, len(deficits.of_class) - 1):
        n_items += deficits.of_class[e]
        additional = max(additional, n_items - later * e)
    return need + additional - n_positions


@compiled_part
def _latest(missing: float, chance: float, mean: float, sure: float) -> float:
    """Largest number of later arrivals that makes an item urgent.

    Of n arrivals, n·chance can be shown the item on average. The result is the n for which this mean minus ``sure``
    standard deviations equals the needed positions: need = n·chance − sure·√(n·chance·(1 − chance)). This is a
    quadratic equation in √n.
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
    """Numbers of urgent items and of undeliverable positions, and ``wait``.

    ``wait`` is the number of later arrivals above which no item is urgent. Items without a deficit leave the list.
    """
    later = counted_on(remaining, guard.spare)
    n_urgent = 0
    undeliverable = 0.0
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
        undeliverable += max(missing / mean - remaining, 0.0)
        latest = _latest(missing, chances[item], mean, sure)
        n_urgent += latest >= later and admissible[item]
        wait = latest if latest > wait else wait  # noqa: FURB136
    deficits.size[0] = n_missing
    return n_urgent, undeliverable, wait


@compiled_part
def _is_urgent(item: int, missing: float, remaining: float, latest: float, guard: Guard, mean: float) -> bool:
    """True if an item cannot skip arrivals before its end."""
    if len(guard.after_end) == 0:
        return _latest(missing, guard.chance[item], mean, guard.sure) >= counted_on(remaining, guard.spare)
    n_left = remaining - guard.after_end[item]
    if n_left <= 0.0:  # the item has ended
        return False
    if guard.after_end[item] >= latest:
        return True
    return _latest(missing, guard.chance[item], mean, guard.sure) >= counted_on(max(n_left, 1.0), guard.spare)


@compiled_part
def _urgent_before_ends(
    admissible: Bools, remaining: float, guard: Guard, exposure: Floats, unit: ExposureUnit
) -> tuple[int, float, float]:
    """Numbers of urgent items and of undeliverable positions, and ``Due.latest``.

    Items that end by some instant together need no more positions than the arrivals before this instant have. Where
    they need more, all of them are urgent.
    """
    undeliverable = 0.0
    n_needed = 0.0
    latest = np.inf
    k = len(unit.position_weights)
    for item in guard.by_end:
        missing = guard.required[item] - exposure[item]
        if missing <= NOTHING:
            continue
        need = max(missing / unit.mean, 1.0)
        n_left = remaining - guard.after_end[item]
        if n_left <= 0.0:
            undeliverable += need
            continue
        undeliverable += max(missing / unit.mean - n_left, 0.0)
        n_needed += need
        if n_needed > k * counted_on(max(n_left, 1.0), guard.spare):
            latest = guard.after_end[item]
    n_urgent = 0
    for item in guard.by_end:
        missing = guard.required[item] - exposure[item]
        if missing > NOTHING and admissible[item]:
            n_urgent += _is_urgent(item, missing, remaining, latest, guard, unit.mean)
    return n_urgent, undeliverable, latest


@compiled_part
def _due_in_rows(
    remaining: Floats, counts: Bools, guard: Guard, exposure: Floats, unit: ExposureUnit, deficits: Deficits
) -> float:
    """Number of positions that groups and campaigns need; fills ``guard.due``.

    A deficit can wait if later arrivals will almost certainly have positions for it. All other deficits are due at this
    arrival. If the requirements of an audience need more positions than its later arrivals have, each gets a share of
    the excess.
    """
    need_of_audience = np.zeros(len(remaining))
    m = len(guard.chance)
    for row in range(len(guard.due)):
        missing = guard.required[m + row] - exposure[m + row]
        guard.due[row] = guard.need[row] = 0.0
        if missing <= NOTHING:
            continue
        later = counted_on(remaining[guard.column[row]], guard.spare)
        guard.due[row] = missing - later * guard.holds[row]
        need = missing / unit.mean
        for index in range(guard.first[row], guard.first[row + 1]):
            need -= deficits.need[guard.item[index]] * GRAIN
        guard.need[row] = max(need, 0.0) / guard.shared[row]
        need_of_audience[guard.column[row]] += guard.need[row]
    for row in range(len(guard.due)):
        column = guard.column[row]
        need = guard.need[row]
        if need > 0.0:
            n_positions = counted_on(remaining[column], guard.spare) * len(unit.position_weights)
            excess = need_of_audience[column] - n_positions
            # Exposures of this row per position of the excess.
            share = need / need_of_audience[column] * unit.mean
            guard.due[row] = max(guard.due[row], excess * share)
        if not counts[column]:  # this arrival is not in the row's audience
            guard.due[row] = 0.0
    return float(need_of_audience.sum())


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
    this slate, the excess is due in this slate. The result has the part of this excess that items need; ``guard.due``
    has the part of groups and campaigns. ``remaining`` and ``counts`` have an entry per audience, and a last one for
    the round.
    """
    in_round = remaining[len(remaining) - 1]
    later = counted_on(in_round, guard.spare)
    n_urgent = 0
    latest = np.inf
    need_of_rows = 0.0
    need_of_items = deficits.total[0] * GRAIN
    if len(guard.due):
        need_of_rows = _due_in_rows(remaining, counts, guard, exposure, unit, deficits)
    excess = positions_needed(deficits, later, later * len(unit.position_weights) - need_of_rows)
    if len(guard.after_end) > 0:
        n_urgent, undeliverable, latest = _urgent_before_ends(admissible, in_round, guard, exposure, unit)
        excess -= undeliverable
    elif later <= guard.wait[0]:
        n_urgent, undeliverable, guard.wait[0] = _urgent(
            admissible, in_round, guard, exposure, unit.mean, deficits
        )
        excess -= undeliverable
    is_due = False
    total_need = need_of_items + need_of_rows
    for row in range(len(guard.due)):  # the excess is divided among all requirements
        if excess > 0.0 and counts[guard.column[row]]:
            guard.due[row] = max(guard.due[row], excess * guard.need[row] / total_need * unit.mean)
        is_due |= guard.due[row] > NOTHING
    if excess > 0.0 and len(guard.due):
        excess *= need_of_items / total_need
    return Due(n_urgent, excess, is_due or n_urgent > 0 or excess > 0.0, latest)


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
    n_positions = len(items)
    equal_weights = unit.position_weights[0] == unit.position_weights[-1]
    # Placing an item sets its ``value`` to −∞. So the slate is sorted by a copy of the values.
    value_before = value.copy() if equal_weights else value
    slate = np.full(n_positions, -1)
    n_placed = (
        _place_urgent(value, bits, remaining, due.latest, guard, exposure, unit, deficits, slate)
        if due.n_urgent > 0
        else 0
    )
    if len(guard.due):
        _place_rows(guard, value, bits, unit, slate)
        # Items of rows can have floors in deficit, too, so the placed items in deficit are counted again.
        n_placed = 0
        for item in slate:
            n_placed += item >= 0 and deficits.enough[item] >= 0
    n_forced = int(min(np.float64(n_positions), max(np.ceil(due.excess), 0.0)))
    if n_forced > n_placed:
        place_deficits(deficits, value, bits, n_forced - n_placed, unit.position_weights, slate)
    size = _place_others(value, bits, slate, items, best)
    if equal_weights:
        for position in range(size):  # a loop compiles two seconds faster than the assignment of a slice
            slate[position] = items[position]
        for position in range(size):
            enter(slate[position], value_before[slate[position]], bits, items, best, position)
    return size


@compiled_part
def free_position(slate: Ints, position_weights: Floats, missing: float) -> int:
    """Last free position that covers a deficit, else the first.

    The result is −1 if no position is free. Position weights never rise, so the search goes from the last position up.
    """
    best_position = -1
    for position in range(len(slate) - 1, -1, -1):
        if slate[position] < 0:
            best_position = position
            if position_weights[position] >= missing - NOTHING:
                break
    return best_position


@compiled_part
def _place_urgent(
    value: Floats,
    bits: np.uint64,
    remaining: float,
    latest: float,
    guard: Guard,
    exposure: Floats,
    unit: ExposureUnit,
    deficits: Deficits,
    slate: Ints,
) -> int:
    """Place urgent items by ascending deficit; return their number."""
    items = np.empty(len(slate), np.int64)
    best = np.empty(len(slate))
    size = 0
    required = guard.required
    mean_weight = unit.mean
    for item in deficits.item[: deficits.size[0]]:
        item_value = value[item]
        missing = required[item] - exposure[item]
        if item_value == -np.inf or (size == len(best) and item_value < best[-1]):
            continue
        if missing > NOTHING and _is_urgent(item, missing, remaining, latest, guard, mean_weight):
            size = enter(item, item_value, bits, items, best, size)
    urgent = items[:size]
    for index in np.argsort(required[urgent] - exposure[urgent]):
        item = urgent[index]
        slate[free_position(slate, unit.position_weights, required[item] - exposure[item])] = item
        value[item] = -np.inf
    return size


@compiled_part
def _place_rows(guard: Guard, value: Floats, bits: np.uint64, unit: ExposureUnit, slate: Ints) -> None:
    """Place the best items of each requirement that is due.

    Requirements come in descending order of ``due``. Items already in the slate count towards a requirement.
    """
    for row in np.argsort(-guard.due):
        due = guard.due[row]
        if due <= NOTHING:
            break
        items = guard.item[guard.first[row] : guard.first[row + 1]]
        for position in range(len(slate)):
            if (items == slate[position]).any():
                due -= unit.position_weights[position]
        while due > NOTHING:
            best_item = np.empty(1, np.int64)
            best = np.empty(1)
            size = 0
            for item in items:
                if value[item] > -np.inf and (size == 0 or value[item] >= best[0]):
                    size = enter(item, value[item], bits, best_item, best, size)
            position = free_position(slate, unit.position_weights, due)
            if position < 0 or size == 0:
                break
            slate[position] = best_item[0]
            value[best_item[0]] = -np.inf
            due -= unit.position_weights[position]


@compiled_part
def _best_by_class(
    deficits: Deficits, value: Floats, bits: np.uint64, items: Ints, best: Floats, sizes: Ints
) -> None:
    """Fill in the best items of each class of deficits.

    Row n of ``items`` and ``best`` gets the items of class n and their values, by descending value. ``sizes`` gets the
    numbers of items. Items without a deficit leave the list of deficits.
    """
    enough = deficits.enough
    listed = deficits.item
    depth = items.shape[1]
    n_listed = 0
    thresholds = np.full(len(sizes), _LOWEST)  # value that an item must reach to enter the list of its class
    sizes[:] = 0
    for item in listed[: deficits.size[0]]:
        deficit_class = enough[item]
        if deficit_class < 0:
            continue
        listed[n_listed] = item
        n_listed += 1
        item_value = value[item]
        if item_value >= thresholds[deficit_class]:
            sizes[deficit_class] = enter(
                item, item_value, bits, items[deficit_class], best[deficit_class], sizes[deficit_class]
            )
            if sizes[deficit_class] == depth:
                thresholds[deficit_class] = best[deficit_class, depth - 1]
    deficits.size[0] = n_listed


@compiled_part
def _taken(items: Ints, best: Floats, sizes: Ints, n_taken: Ints, bits: np.uint64) -> int:
    """Best item of the classes that is not taken yet.

    Entry n of ``n_taken`` is the number of items of class n that are taken; it is updated. The result is −1 if all
    listed items are taken.
    """
    best_class = -1
    best_item = -1
    best_value = -np.inf
    for deficit_class in range(len(n_taken)):
        if n_taken[deficit_class] == sizes[deficit_class]:
            continue
        candidate = items[deficit_class, n_taken[deficit_class]]
        candidate_value = best[deficit_class, n_taken[deficit_class]]
        if (
            best_item < 0
            or candidate_value > best_value
            or (candidate_value == best_value and tie_rank(bits, candidate) > tie_rank(bits, best_item))
        ):
            best_class = deficit_class
            best_item = candidate
            best_value = candidate_value
    if best_class >= 0:
        n_taken[best_class] += 1
    return int(best_item)


@compiled_part
def place_deficits(
    deficits: Deficits, value: Floats, bits: np.uint64, count: int, position_weights: Floats, slate: Ints
) -> None:
    """Place ``count`` items in deficit, from the last position upwards.

    The last position has the smallest weight. A position goes to the most valuable item whose deficit it covers. If the
    position covers no deficit, it goes to the most valuable item in deficit. So small deficits get positions of small
    weight, and positions of large weight stay free for the large deficits, which they can cover at once. The array
    ``value``, −∞ for placed items and for items that cannot be shown, is overwritten.
    """
    classes = len(position_weights) + 1
    depth = min(count, _DEPTH)
    items = np.empty((classes, depth), np.int64)
    best = np.empty((classes, depth))
    sizes = np.empty(classes, np.int64)
    n_taken = np.zeros(classes, np.int64)
    _best_by_class(deficits, value, bits, items, best, sizes)
    for position in range(len(slate) - 1, -1, -1):
        if count == 0:
            break
        if slate[position] >= 0:
            continue
        if (n_taken == depth).any():  # all listed items of a class are used, but the class may have more
            _best_by_class(deficits, value, bits, items, best, sizes)
            n_taken[:] = 0
        first = position + 1  # this position covers deficits of class ``first`` and above
        item = _taken(items[first:], best[first:], sizes[first:], n_taken[first:], bits)
        if item < 0:
            item = _taken(items[:first], best[:first], sizes[:first], n_taken[:first], bits)
        if item < 0:
            break
        slate[position] = item
        value[item] = -np.inf
        count -= 1


@compiled_part
def _place_others(value: Floats, bits: np.uint64, slate: Ints, items: Ints, best: Floats) -> int:
    """Copy placed items to ``items``; fill gaps by value.

    The result is the number of items.
    """
    n_free = 0
    for item in slate:
        n_free += item < 0
    other_items = np.empty(n_free, np.int64)
    n_others = best_items(value, bits, other_items, best[:n_free], 0.0)
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
