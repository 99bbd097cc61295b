"""Prices that follow delivery, and the loop that serves arrivals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from rimsim.agents.guard import Deficits, Guard, count_deficits, due_at, place_due
from rimsim.agents.prices import RowTable, admissible_shares, solved_rows
from rimsim.agents.rounds import ArrivalRows, ExposureUnit, RoundClock, fill_row, rows_of, value_row
from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled
from rimsim.market import Slates
from rimsim.matching import (
    best_items,
    enter,
    items_between,
    kth_of_parts,
    order_items,
    part_maxima,
    tie_base,
    tie_rank,
)

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView

_FEW = 4  # arrivals per batch from which prices are bounded for a stretch, and computed only where that may matter
EARLY = 0.05
"""Share of the round before whose end hard requirements are to be met, so that deficits can be made up for."""
SPARE = 0.1
"""Share of the remaining positions that the guard does not rely on."""
SURE = 4.0
"""Standard deviations below the mean number of later arrivals that may be shown an item, for the guard.

At one, an item that most visitors have consumed misses its last visitor in one round of some hundred.
"""
_ROUNDING, _TINY = 1e-6, 1e-30
"""Relative and absolute float32 rounding error of a sum of two numbers, rounded up."""
_STRETCH, _SHORT, _LATE = 16, 2, 0.1
"""Arrivals for which bonuses are bounded at once: at most, at least, and as a share of the remaining ones."""
_NONE = np.zeros(0, np.int64)


class Pacing(NamedTuple):
    """Prices of M floors and G rows that follow delivery.

    A row of D exposures since the pacing began, when t of its T arrivals have elapsed, has the price

        v = max(start₊ + step·h·(D − most·t/T), 0) − clip(step·h·(pace·t − D) − start₋, 0, cost),

    h = 1, or, where ``closing`` is above 0, h = 1 / (1 − t/T + closing). From t = T on all is due. An item has the
    price of its floor and those of all other rows that hold it and count the arrival.
    """

    start: Floats
    """(M + G,) price v before arrival 0."""
    pace: Floats
    """(M + G,) required exposures per arrival, in the unit of the guarantee."""
    step: Floats
    """(M + G,) price per exposure of delivery error."""
    cost: float
    """c: no bonus is above it; infinite where floors are not for sale."""
    closing: float
    """δ: share of the round over which a correction is spread at its end; 0 for a constant h = 1."""
    arrivals: Floats
    """(A + 1,) arrivals T in which exposures are due, of each audience and of the round."""
    most: Floats = np.zeros(0)
    """(G,) exposures still allowed; ∞: any number."""
    first: Ints = np.zeros(1, np.int64)
    """(G + 1,) beginning of each row's items in ``item``."""
    item: Ints = _NONE
    """Items, row after row."""
    column: Ints = _NONE
    """(G,) audience of each row; the last one is the whole round."""

    @classmethod
    def of(
        cls,
        price: Floats,
        required: Floats,
        arrivals: Floats | float,
        *,
        gain: float,
        closing: float,
        cost: float,
        hard: bool,
        due: Bools | None = None,
    ) -> Self:
        """Pacing with the relative step g·c/√b.

        Where requirements are hard, prices have no bound, and c is no measure of theirs: the step is relative to the
        row's start, or to the median of all bonuses at the start, where these are more than c. Rows that are not
        ``due`` (None: those with required exposures) start and stay at 0.
        """
        due = required > 0 if due is None else due
        scale: Floats | float = cost
        if hard:
            bonus = -price[price < 0.0]
            usual = float(np.median(bonus)) if len(bonus) else 0.0
            scale = np.maximum(max(cost, usual), -price)
        return cls(
            start=np.where(due, price, -0.0),  # so that a price of 0 keeps its sign in tables
            pace=required / arrivals,
            step=np.where(due, gain * scale / np.sqrt(np.maximum(required, 1.0)), 0.0),
            cost=np.inf if hard else cost,
            closing=closing,
            arrivals=np.atleast_1d(np.asarray(arrivals, np.float64)),
        )

    def price(self, elapsed: Floats | float, exposure: Floats) -> Floats:
        """(M + G,) prices v after elapsed arrivals and exposures."""
        price = np.empty(len(self.start))
        at = np.atleast_1d(np.asarray(elapsed, np.float64))
        move_prices(tuple(self), at, exposure, np.zeros(len(price)), price)
        return price


@compiled
def closing_factor(closing: float, arrivals: float, elapsed: float) -> float:
    """Factor h of :class:`Pacing`."""
    return 1.0 / (max(1.0 - elapsed / arrivals, 0.0) + closing) if closing > 0.0 else 1.0


@compiled
def bonus_of(  # scalars alone, so that it is compiled into the loops that call it
    start: float, pace: float, step: float, cost: float, elapsed: float, factor: float, delivered: float
) -> float:
    """Bonus of a floor, after ``elapsed`` arrivals, at most T."""
    bonus = step * (pace * elapsed - delivered) * factor - start
    bonus = bonus if bonus > 0.0 else 0.0  # noqa: FURB136  # max() and min() mind missing numbers, one at a time
    return bonus if bonus < cost else cost  # noqa: FURB136


@compiled
def move_prices(
    pace: tuple[Any, ...], elapsed: Floats, exposure: Floats, before: Floats, price: Floats
) -> None:
    """Fill ``price`` (M + G,) with v of :class:`Pacing`.

    It depends on sums of exposures alone, which are exact, so rounding cannot accumulate and the cut into batches
    cannot matter. ``elapsed`` (A + 1,) counts from the pacing's beginning; ``before`` (M + G,) are earlier exposures.
    """
    pacing = Pacing(*pace)
    others = len(pacing.most)
    m, last = len(price) - others, len(pacing.arrivals) - 1
    now = min(elapsed[last], pacing.arrivals[last])
    factor = closing_factor(pacing.closing, pacing.arrivals[last], now)
    starts, rates, steps, cost = pacing.start, pacing.pace, pacing.step, pacing.cost
    for item in range(m):
        delivered = exposure[item] - before[item]
        price[item] = -bonus_of(starts[item], rates[item], steps[item], cost, now, factor, delivered)
    for which in range(others):
        row, column = m + which, pacing.column[which]
        due_in, start, step = pacing.arrivals[column], starts[row], steps[row]
        now, delivered, toll = min(elapsed[column], due_in), exposure[row] - before[row], 0.0
        factor = closing_factor(pacing.closing, due_in, now)
        if pacing.most[which] < np.inf:
            excess = step * (delivered - pacing.most[which] / due_in * now) * factor
            toll = max(max(start, 0.0) + excess, 0.0)
        low = min(start, 0.0)
        price[row] = toll - bonus_of(low, rates[row], step, cost, now, factor, delivered)


@compiled
def add_rows(pacing: Pacing, counts: Bools, price: Floats) -> None:
    """Add prices of rows that count an arrival to items'."""
    m = len(price) - len(pacing.most)
    for which in range(len(pacing.most)):
        extra = price[m + which]
        if counts[pacing.column[which]] and extra != 0.0:
            for place in range(pacing.first[which], pacing.first[which + 1]):
                price[pacing.item[place]] += extra


@compiled
def hide_full(
    pacing: Pacing, counts: Bools, exposure: Floats, before: Floats, weight: Floats, value: Floats
) -> None:
    """Hide items (M,) for which a cap has no room."""
    m = len(value)
    for which in range(len(pacing.most)):
        if pacing.most[which] < np.inf and counts[pacing.column[which]]:
            begin, end = pacing.first[which], pacing.first[which + 1]
            # A slate can show all items of a row: there must be room for as many of the first positions.
            room = weight[: end - begin].sum()
            if exposure[m + which] - before[m + which] + room > pacing.most[which]:
                for place in range(begin, end):
                    value[pacing.item[place]] = -np.inf


@compiled
def count_rows(
    pacing: Pacing, counts: Bools, items: Ints, size: int, weight: Floats, scratch: Floats, exposure: Floats
) -> None:
    """Count the first ``size`` shown items for their G rows."""
    if len(pacing.most) == 0:
        return
    m = len(scratch)
    for place in range(size):
        scratch[items[place]] = weight[place]
    for which in range(len(pacing.most)):
        if counts[pacing.column[which]]:
            for place in range(pacing.first[which], pacing.first[which + 1]):
                exposure[m + which] += scratch[pacing.item[place]]
    for place in range(size):
        scratch[items[place]] = 0.0


class Bounds(NamedTuple):
    """Upper bounds of bonuses −v over a stretch of time.

    Between two exposures of an item its bonus moves one way, since the derivative of h·(pace·t − E) has the sign of
    pace·(1 + closing) − E/N throughout: it is at most the larger of those at both ends. An exposure makes it less.
    """

    first: float
    """Elapsed arrivals at the beginning."""
    last: float
    """Elapsed arrivals at the end."""
    high: Float32s
    """(M,) bounds, rounded."""


@compiled
def _stretch_of(pacing: Pacing, elapsed: float) -> int:
    """Number of arrivals for which bonuses are bounded at once."""
    left = max(pacing.arrivals[-1] - elapsed, 0.0) + pacing.closing * pacing.arrivals[-1]
    return int(min(max(_LATE * left, _SHORT), _STRETCH))


@compiled
def bound_bonuses(
    pacing: Pacing, bounds: Bounds, exposure: Floats, before: Floats, shown: Ints | None
) -> None:
    """Fill ``bounds.high`` for shown items, or for all if None."""
    start, pace, step, cost, high = pacing.start, pacing.pace, pacing.step, pacing.cost, bounds.high
    due_in = pacing.arrivals[-1]
    first, last = min(bounds.first, due_in), min(bounds.last, due_in)
    early = closing_factor(pacing.closing, due_in, first)
    late = closing_factor(pacing.closing, due_in, last)
    for place in range(len(high) if shown is None else len(shown)):
        item = place if shown is None else shown[place]
        delivered = exposure[item] - before[item]
        one = bonus_of(start[item], pace[item], step[item], cost, first, early, delivered)
        other = bonus_of(start[item], pace[item], step[item], cost, last, late, delivered)
        high[item] = one if one > other else other  # noqa: FURB136


@compiled
def _best_in_bounds(
    rows: ArrivalRows,
    row: int,
    ties: np.uint64,
    pacing: Pacing,
    elapsed: float,
    exposure: Floats,
    before: Floats,
    high: Float32s,
    value: Float32s,
    found: Ints,
    price: Floats,
    items: Ints,
    best: Floats,
) -> int:
    """:func:`rimsim.matching.best_items` of λ − v, with few prices computed.

    The items that come first by their bounds ``high`` are valued; any item of the best has a bound that reaches the
    last of these. Prices of valued items are filled in; ``value`` and ``found`` (M,) are scratch.
    """
    relevance, ground, k, size = rows.relevance[row], rows.ground[row], len(items), 0
    for item in range(len(value)):
        value[item] = (
            relevance[item] * ground + high[item] if rows.admissible[row, item] else np.float32(-np.inf)
        )
    highest = part_maxima(value, k)
    elapsed = min(elapsed, pacing.arrivals[-1])
    factor = closing_factor(pacing.closing, pacing.arrivals[-1], elapsed)
    below, lowest = np.inf, kth_of_parts(highest, k)
    start, pace, step, cost = pacing.start, pacing.pace, pacing.step, pacing.cost
    for _ in range(2):
        for item in found[: items_between(value, highest, lowest, below, found)]:
            delivered = exposure[item] - before[item]
            bonus = bonus_of(start[item], pace[item], step[item], cost, elapsed, factor, delivered)
            price[item] = -bonus
            new = np.float64(relevance[item] * ground) + bonus
            if size < k or new >= best[k - 1]:
                size = enter(item, new, ties, items, best, size)
        below, lowest = lowest, -np.inf
        if size == k:
            lowest = best[k - 1] - _ROUNDING * abs(best[k - 1]) - _TINY
        if lowest >= below:
            break
    return size


class Delivery:
    """Serves a round's arrivals in order, by paced prices.

    Where requirements are hard, a guard shows due items before it is too late. Call :meth:`pace` once, or again as the
    round goes on, and :meth:`serve` for every batch. ``gain`` is g, the relative step of prices; ``closing`` δ, the
    share of the round over which a correction is spread at its end, 0 for a constant gain.
    """

    def __init__(self, view: RoundView, gain: float, closing: float) -> None:
        self._view, self._gain, self._closing = view, gain, closing
        self._table = RowTable.of(view)
        rows, self._m = self._table.rows, len(view.required)
        self._least = self._table.least
        self._clock, self._ties = RoundClock(view, rows), tie_base(view.key)
        self._unit = ExposureUnit.of(view)
        self._column = np.where(rows.audience < 0, len(self._clock.expected) - 1, rows.audience)
        others = view.delivered[self._table.place >= self._m] if len(rows) else np.zeros(0)
        self.delivered = np.concatenate([view.exposure, others]).astype(np.float64)
        """(M + G,) exposures of the round so far that count for each row, in the unit of the guarantee."""
        self._guarded: tuple[Any, ...] | None = None  # without hard requirements, no guard is even compiled
        if view.hard:
            self._reset_guard(
                Guard.of(self._least, rows, self._column, admissible_shares(view), self._unit, SPARE, SURE)
            )
        self._start(np.concatenate([-np.zeros(self._m), np.zeros(len(rows))]))

    @classmethod
    def solved(cls, view: RoundView, tol: float, gain: float, closing: float) -> Delivery:
        """Delivery at prices of last round's states, to gap ``tol``."""
        delivery = cls(view, gain, closing)
        delivery._start(solved_rows(view, delivery._table, tol)[0])
        return delivery

    def pace(self, price: Floats) -> None:
        """Restart item prices (M,) at the remaining requirements' rate."""
        self._start(np.concatenate([price, self.prices[self._m :]]))

    def _start(self, price: Floats) -> None:
        view, table = self._view, self._table.rows
        self._since, self._before = self._clock.elapsed.copy(), self.delivered.copy()
        early = EARLY if view.hard else 0.0
        due_in = np.maximum(self._clock.expected * (1.0 - early) - self._since, 1.0)
        most = np.maximum(table.most - self.delivered[self._m :], 0.0)
        pacing = Pacing.of(
            price,
            np.maximum(self._least - self.delivered, 0.0),
            np.concatenate([np.full(self._m, due_in[-1]), due_in[self._column]]),
            gain=self._gain,
            closing=self._closing,
            cost=view.cost,
            hard=view.hard,
            due=np.concatenate([self._table.required > 0, (table.least > 0) | np.isfinite(table.most)]),
        )
        # The step of a cap without a floor is relative to the cap.
        pacing.step[self._m :] /= np.where(table.least > 0, 1.0, np.sqrt(np.maximum(most, 1.0)))
        self._pacing = pacing._replace(
            arrivals=due_in, most=most, first=table.first, item=table.item, column=self._column
        )

    @property
    def required(self) -> Floats:
        """(M,) floors of items."""
        return self._table.required

    @property
    def exposure(self) -> Floats:
        """(M,) exposures of items so far."""
        return self.delivered[: self._m]

    @property
    def served(self) -> int:
        """Arrivals served."""
        return self._clock.served

    @property
    def due_in(self) -> float:
        """Arrivals left until deficits are due; 0 or less: now."""
        early = EARLY if self._view.hard else 0.0
        return float(self._clock.expected[-1] * (1.0 - early) - self._clock.elapsed[-1])

    @property
    def prices(self) -> Floats:
        """(M + G,) present prices v of floors and other rows."""
        return self._pacing.price(self._clock.elapsed - self._since, self.delivered - self._before)

    @property
    def item_price(self) -> Floats:
        """(M,) present item prices v."""
        return self._table.split(self.prices)[0]

    @property
    def row_price(self) -> Floats:
        """(J,) present prices v of groups, campaigns and caps."""
        return self._table.split(self.prices)[1]

    def serve(self, arrivals: Arrivals) -> Slates:
        """Slates of the next n arrivals, with prices at decision."""
        shape, clock = (len(arrivals), self._view.k), self._clock
        items, price = np.empty(shape, np.int64), np.empty(shape, np.float32)
        _rank(
            rows_of(arrivals, self._view.k),
            self._ties,
            clock.counts(arrivals),
            clock.before(arrivals) - self._since,
            clock.remaining(arrivals) if self._view.hard else np.empty((0, 0)),
            tuple(self._pacing),
            self._guarded,
            tuple(self._unit),
            self._before,
            self.delivered,
            items,
            price,
        )
        clock.advance(arrivals)
        return Slates(items, price=price)

    def note(self, exposure: Floats, arrivals: Arrivals | None) -> None:
        """Count exposures (M,) delivered by others, and the arrivals they answered."""
        self.delivered[: self._m] += exposure
        if self._guarded is not None:  # it knows only its own slates, and that deficits only shrink
            self._reset_guard(Guard(*self._guarded[0]))
        if arrivals is not None:
            self._clock.advance(arrivals)

    def _reset_guard(self, guard: Guard) -> None:
        """Recompute deficits; check for due items at the next arrival."""
        guard.wait[0] = np.inf
        deficits = Deficits.of(guard.required[: self._m], self.exposure, self._unit)
        self._guarded = (tuple(guard), tuple(deficits))


class PacedAgent:
    """Part of an agent: prices of its delivery."""

    _delivery: Delivery

    @property
    def item_price(self) -> Floats:
        """(M,) present item prices v."""
        return self._delivery.item_price

    @property
    def row_price(self) -> Floats:
        """(J,) present prices v of groups, campaigns and caps."""
        return self._delivery.row_price


@compiled
def _rank(  # noqa: C901
    arrivals: tuple[Any, ...],
    ties: np.uint64,
    counts: Bools,
    elapsed: Floats,
    remaining: Floats,
    pace: tuple[Any, ...],
    guarded: tuple[Any, ...] | None,
    unit_: tuple[Any, ...],
    before: Floats,
    exposure: Floats,
    items: Ints,
    prices: Float32s,
) -> None:
    """Serve rows in order, up to their capacities.

    Records come as plain tuples: ArrivalRows, Pacing, (Guard, Deficits) or None, ExposureUnit. ``counts``, ``elapsed``
    and ``remaining`` are (n, A + 1); ``exposure`` (M + G,) changes; ``items`` and ``prices`` (n, k) are filled.
    """
    rows, pacing, unit = ArrivalRows(*arrivals), Pacing(*pace), ExposureUnit(*unit_)
    n, k = items.shape
    m, last = len(exposure) - len(pacing.most), len(pacing.arrivals) - 1
    all_prices, value, best, scratch = np.empty(len(exposure)), np.empty(m), np.empty(k), np.zeros(m)
    price, high = all_prices[:m], np.empty(m, np.float32)
    value32, found = np.empty(m, np.float32), np.empty(m, np.int64)
    bounds, bounded, stop = Bounds(0.0, 0.0, high), n >= _FEW and len(pacing.most) == 0, 0
    for row in range(n):
        if bounded and row == stop:
            stop = min(row + _stretch_of(pacing, elapsed[row, last]), n)
            bounds = Bounds(elapsed[row, last], elapsed[stop - 1, last], high)
            bound_bonuses(pacing, bounds, exposure, before, None)
        bits = tie_rank(ties, rows.id[row])
        most = min(rows.capacity[row], k)
        slate, of_slate, size, urgent, excess, now = items[row, :most], best[:most], 0, 0, 0.0, False
        if guarded is not None:
            guard, deficits = Guard(*guarded[0]), Deficits(*guarded[1])
            if most > 0:
                urgent, excess, now = due_at(
                    rows.admissible[row], remaining[row], counts[row], guard, exposure, unit, deficits
                )
        if most > 0 and bounded and not now:
            size = _best_in_bounds(
                rows,
                row,
                bits,
                pacing,
                elapsed[row, last],
                exposure,
                before,
                high,
                value32,
                found,
                price,
                slate,
                of_slate,
            )
        elif most > 0:
            move_prices(pace, elapsed[row], exposure, before, all_prices)
            add_rows(pacing, counts[row], all_prices)
            value_row(rows, row, price, value)
            hide_full(pacing, counts[row], exposure, before, unit.weight, value)
            if guarded is not None and now:
                size = place_due(
                    value,
                    bits,
                    remaining[row, last],
                    urgent > 0,
                    excess,
                    guard,
                    exposure,
                    unit,
                    deficits,
                    slate,
                    of_slate,
                )
            else:
                size = best_items(value, bits, slate, of_slate)
        if unit.by_intensity:
            order_items(items[row, :size], rows.relevance[row])
        fill_row(items[row], size, price, unit, exposure, prices[row])
        if bounded:
            bound_bonuses(pacing, bounds, exposure, before, items[row, :size])
        if guarded is not None:
            count_deficits(deficits, items[row, :size], guard.required, exposure, unit.weight, unit.mean)
        count_rows(pacing, counts[row], items[row], size, unit.weight, scratch, exposure)
