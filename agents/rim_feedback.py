"""``rim-feedback``: prices that adapt to delivery, arrival by arrival."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.agents.contract import OPTIONS
from rimsim.agents.guard import Deficits, Guard, count_deficits, due_at, place_due
from rimsim.agents.prices import (
    EARLY,
    ArrivalArrays,
    ExposureUnit,
    RoundClock,
    RowTable,
    admissible_shares,
    arrays_of,
    fill_slate,
    fill_values,
    solved_rows,
)
from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled, compiled_part
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
from rimsim.renamed import warn_renamed

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView

_ROUNDING = 1e-6
_TINY = 1e-30
"""Relative and absolute float32 rounding error of a sum of two numbers, rounded up."""
_STRETCH = 16
_SHORT = 2
_LATE = 0.1
"""Arrivals for which bonuses are bounded at once: at most, at least, and as a share of the remaining ones."""
_NONE = np.zeros(0, np.int64)
# From this many arrivals per batch on, an upper bound of all prices over the next arrivals is cheaper than exact
# prices for each of them.
_FEW = 4
SPARE = 0.1
"""Share of the remaining positions that the guard does not rely on."""
SURE = 4.0
"""Standard deviations below the mean number of later arrivals that may be shown an item, for the guard.

At one, an item that most visitors have consumed misses its last visitor in one round of some hundred.
"""


# -- prices -----------------------------------------------------------------------------------------------------------
class Pacing(NamedTuple):
    """Prices of requirements that adapt to delivery.

    Suppose that t of the T arrivals of a requirement have elapsed since pacing began, and have delivered D exposures.
    The price of the requirement is

        v = max(start_price₊ + step·h·(D − max_exposure·t/T), 0) − clip(step·h·(pace·t − D) − start_price₋, 0, cost),

    where h = 1 / (1 − t/T + closing), or 1 if ``closing`` is 0. From t = T on, the whole requirement is due. The price
    of an item is the price of its floor plus the prices of all other requirements that contain it and for which the
    arrival counts.
    """

    start_price: Floats
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
    max_exposure: Floats = np.zeros(0)
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
        priced: Bools | None = None,
    ) -> Self:
        """Pacing with the relative step g·c/√b.

        If requirements are hard, prices have no limit and can be much larger than c. So the step is relative to the
        start price, or to the median bonus at the start, if these exceed c. Only requirements marked in ``priced`` have
        prices; None: requirements with required exposures.
        """
        priced = required > 0 if priced is None else priced
        scale: Floats | float = cost
        if hard:
            bonus = -price[price < 0.0]
            usual = float(np.median(bonus)) if len(bonus) else 0.0
            scale = np.maximum(max(cost, usual), -price)
        return cls(
            start_price=np.where(priced, price, -0.0),  # so that a price of 0 keeps its sign in tables
            pace=required / arrivals,
            step=np.where(priced, gain * scale / np.sqrt(np.maximum(required, 1.0)), 0.0),
            cost=np.inf if hard else cost,
            closing=closing,
            arrivals=np.atleast_1d(np.asarray(arrivals, np.float64)),
        )

    @property
    def start(self) -> Floats:
        """Old name of ``start_price``, until 0.3."""
        warn_renamed("Pacing.start", "Pacing.start_price")
        return self.start_price

    def price(self, elapsed: Floats | float, exposure: Floats) -> Floats:
        """Prices v of all requirements, after elapsed arrivals and exposures."""
        price = np.empty(len(self.start_price))
        at = np.atleast_1d(np.asarray(elapsed, np.float64))
        move_prices(tuple(self), at, exposure, np.zeros(len(price)), price)
        return price


@compiled_part
def closing_factor(closing: float, arrivals: float, elapsed: float) -> float:
    """Factor h of :class:`Pacing`."""
    return 1.0 / (max(1.0 - elapsed / arrivals, 0.0) + closing) if closing > 0.0 else 1.0


@compiled_part
def bonus_of(  # scalars alone, so that it is compiled into the loops that call it
    start_price: float, pace: float, step: float, cost: float, elapsed: float, factor: float, delivered: float
) -> float:
    """Bonus of a floor when ``elapsed`` arrivals are over."""
    bonus = step * (pace * elapsed - delivered) * factor - start_price
    bonus = bonus if bonus > 0.0 else 0.0  # noqa: FURB136  # max() and min() would test each number for NaN
    return bonus if bonus < cost else cost  # noqa: FURB136


@compiled
def move_prices(
    pace: tuple[Any, ...], elapsed: Floats, exposure: Floats, before: Floats, price: Floats
) -> None:
    """Fill ``price`` with the prices v of :class:`Pacing`.

    The price depends only on sums of exposures, which are exact. So rounding errors do not accumulate, and batches do
    not change results. ``elapsed`` counts from the start of pacing; ``before`` has the exposures before this start.
    """
    pacing = Pacing(*pace)
    n_rows = len(pacing.max_exposure)
    m = len(price) - n_rows
    last = len(pacing.arrivals) - 1
    now = min(elapsed[last], pacing.arrivals[last])
    factor = closing_factor(pacing.closing, pacing.arrivals[last], now)
    start_prices = pacing.start_price
    rates = pacing.pace
    steps = pacing.step
    cost = pacing.cost
    for item in range(m):
        delivered = exposure[item] - before[item]
        price[item] = -bonus_of(start_prices[item], rates[item], steps[item], cost, now, factor, delivered)
    for requirement in range(n_rows):
        row = m + requirement
        column = pacing.column[requirement]
        due_in = pacing.arrivals[column]
        start_price = start_prices[row]
        step = steps[row]
        now = min(elapsed[column], due_in)
        delivered = exposure[row] - before[row]
        cap_price = 0.0
        factor = closing_factor(pacing.closing, due_in, now)
        if pacing.max_exposure[requirement] < np.inf:
            excess = step * (delivered - pacing.max_exposure[requirement] / due_in * now) * factor
            cap_price = max(max(start_price, 0.0) + excess, 0.0)
        low = min(start_price, 0.0)
        price[row] = cap_price - bonus_of(low, rates[row], step, cost, now, factor, delivered)


@compiled_part
def add_rows(pacing: Pacing, counts: Bools, price: Floats) -> None:
    """Add prices of the requirements for which an arrival counts."""
    m = len(price) - len(pacing.max_exposure)
    for requirement in range(len(pacing.max_exposure)):
        row_price = price[m + requirement]
        if counts[pacing.column[requirement]] and row_price != 0.0:
            for place in range(pacing.first[requirement], pacing.first[requirement + 1]):
                price[pacing.item[place]] += row_price


@compiled_part
def hide_full(
    pacing: Pacing, counts: Bools, exposure: Floats, before: Floats, position_weights: Floats, value: Floats
) -> None:
    """Exclude items whose next exposure could exceed a cap."""
    m = len(value)
    for requirement in range(len(pacing.max_exposure)):
        if pacing.max_exposure[requirement] < np.inf and counts[pacing.column[requirement]]:
            begin = pacing.first[requirement]
            end = pacing.first[requirement + 1]
            # A slate can show all items of a row: there must be room for as many of the first positions.
            room = 0.0
            for weight in position_weights[: end - begin]:
                room += weight
            if exposure[m + requirement] - before[m + requirement] + room > pacing.max_exposure[requirement]:
                for place in range(begin, end):
                    value[pacing.item[place]] = -np.inf


@compiled_part
def count_rows(
    pacing: Pacing,
    counts: Bools,
    items: Ints,
    size: int,
    position_weights: Floats,
    scratch: Floats,
    exposure: Floats,
) -> None:
    """Add the first ``size`` shown items to requirements' exposures."""
    if len(pacing.max_exposure) == 0:
        return
    m = len(scratch)
    for position in range(size):
        scratch[items[position]] = position_weights[position]
    for requirement in range(len(pacing.max_exposure)):
        if counts[pacing.column[requirement]]:
            for place in range(pacing.first[requirement], pacing.first[requirement + 1]):
                exposure[m + requirement] += scratch[pacing.item[place]]
    for position in range(size):
        scratch[items[position]] = 0.0


class Bounds(NamedTuple):
    """Upper bounds of bonuses −v over the next arrivals.

    Between two exposures of an item, its bonus never falls or never rises, because the derivative of h·(pace·t − E) has
    the constant sign of pace·(1 + closing) − E/N. So the bonus is at most the larger of its values at the first and the
    last of the next arrivals. An exposure only lowers the bonus.
    """

    first: float
    """Elapsed arrivals at the beginning."""
    last: float
    """Elapsed arrivals at the end."""
    high: Float32s
    """(M,) bounds, rounded."""


@compiled_part
def stretch_of(pacing: Pacing, elapsed: float) -> int:
    """Number of arrivals for which one bound of bonuses holds."""
    n_remaining = max(pacing.arrivals[-1] - elapsed, 0.0) + pacing.closing * pacing.arrivals[-1]
    return int(min(max(_LATE * n_remaining, _SHORT), _STRETCH))


@compiled_part
def bound_bonuses(
    pacing: Pacing, bounds: Bounds, exposure: Floats, before: Floats, shown: Ints | None
) -> None:
    """Fill ``bounds.high`` for ``shown`` items; None: for all items."""
    start_prices = pacing.start_price
    pace = pacing.pace
    step = pacing.step
    cost = pacing.cost
    high = bounds.high
    due_in = pacing.arrivals[-1]
    first = min(bounds.first, due_in)
    last = min(bounds.last, due_in)
    early = closing_factor(pacing.closing, due_in, first)
    late = closing_factor(pacing.closing, due_in, last)
    for place in range(len(high) if shown is None else len(shown)):
        item = place if shown is None else shown[place]
        delivered = exposure[item] - before[item]
        bonus_at_first = bonus_of(start_prices[item], pace[item], step[item], cost, first, early, delivered)
        bonus_at_last = bonus_of(start_prices[item], pace[item], step[item], cost, last, late, delivered)
        high[item] = bonus_at_first if bonus_at_first > bonus_at_last else bonus_at_last  # noqa: FURB136


@compiled_part
def best_in_bounds(
    arrivals: ArrivalArrays,
    arrival: int,
    ties: np.uint64,
    pacing: Pacing,
    elapsed: float,
    exposure: Floats,
    before: Floats,
    high: Float32s,
    value: Float32s,
    contenders: Ints,
    price: Floats,
    items: Ints,
    best: Floats,
) -> int:
    """Best items by λ − v, found with few exact prices.

    Only items with the largest bounds ``high`` get an exact value. These items suffice, because no item with a bound
    below the smallest value in the slate can be in the slate. The function fills in the prices of these items. The
    arrays ``value`` and ``contenders`` are scratch.
    """
    relevance = arrivals.relevance[arrival]
    ground = arrivals.ground[arrival]
    k = len(items)
    size = 0 * k  # not the literal 0, which would compile ``enter`` once more
    for item in range(len(value)):
        value[item] = (
            relevance[item] * ground + high[item]
            if arrivals.admissible[arrival, item]
            else np.float32(-np.inf)
        )
    highest = part_maxima(value, k)
    elapsed = min(elapsed, pacing.arrivals[-1])
    factor = closing_factor(pacing.closing, pacing.arrivals[-1], elapsed)
    below = np.inf
    lowest = kth_of_parts(highest, k)
    start_prices = pacing.start_price
    pace = pacing.pace
    step = pacing.step
    cost = pacing.cost
    for _ in range(2):
        for item in contenders[: items_between(value, highest, lowest, below, contenders)]:
            delivered = exposure[item] - before[item]
            bonus = bonus_of(start_prices[item], pace[item], step[item], cost, elapsed, factor, delivered)
            price[item] = -bonus
            new = np.float64(relevance[item] * ground) + bonus
            if size < k or new >= best[k - 1]:
                size = enter(item, new, ties, items, best, size)
        below = lowest
        lowest = -np.inf
        if size == k:
            lowest = best[k - 1] - _ROUNDING * abs(best[k - 1]) - _TINY
        if lowest >= below:
            break
    return size


# -- the agent --------------------------------------------------------------------------------------------------------
class PacedAgent:
    """Base of agents whose prices come from a :class:`Delivery`."""

    _delivery: Delivery

    @property
    def item_price(self) -> Floats:
        """Current price v of each item."""
        return self._delivery.item_price

    @property
    def row_price(self) -> Floats:
        """Current prices v of groups, campaigns and caps."""
        return self._delivery.row_price


@dataclass(config=OPTIONS, eq=False)
class RimFeedback(PacedAgent):
    """Ranks by λ(x,y) − v_y with prices that adapt to delivery.

    Before arrival t of N, the price of an item with E exposures so far is

        v = clip(v₀ − g·c/√b · (b·t/N − E) / (1 − t/N + δ), −c, 0),

    Thus the error of delivery feeds back to prices in [−c, 0] (Balseiro, Lu and Mirrokni, arXiv 2007.00514). The step
    of an item is relative to its floor, not to its intensities. Items that only their floors bring into slates have
    tiny intensities, so steps relative to these would be too small. The start price v₀ is optimal for the last round's
    states. If an item has had too much exposure, its bonus falls. Prices depend on exposures, which the agent knows,
    and never on consumption.

    The remaining requirement must be delivered at the rate (b − E)/(N − t), but the start price v₀ was solved for the
    rate b/N. The difference of these rates, times N, is (b·t/N − E)/(1 − t/N). So early errors, which later arrivals
    can correct, barely change prices, but late errors change them much. Therefore a small gain suffices, and prices
    oscillate less. With ``closing=0`` the error is not divided by 1 − t/N + δ. The agent is then dual mirror descent
    with the Euclidean map (Balseiro, Lu and Mirrokni 2020), and it needs a gain of about 1.

    Args:
        gain: g, relative step of prices.
        tol: Relative gap at which the price solver stops.
        closing: δ, share of the round over which late corrections are spread; 0 keeps the gain constant.
    """

    name = "rim-feedback"
    order_free = False
    keeps_promises = True
    barrier_every = None

    gain: float = Field(default=0.1, gt=0)
    tol: float = Field(default=1e-3, gt=0)
    closing: float = Field(default=0.02, ge=0)

    def begin_round(self, view: RoundView) -> None:
        """Solve prices on the last round's states, and start pacing."""
        self._delivery = Delivery.solved(view, self.tol, self.gain, self.closing)

    def note_delivery(self, exposure: Floats, arrivals: Arrivals | None) -> None:
        """Count exposures that another agent delivered to arrivals."""
        self._delivery.note(exposure, arrivals)

    def act(self, arrivals: Arrivals) -> Slates:
        """Serve arrivals in order, and update prices after every slate."""
        return self._delivery.serve(arrivals)


class Delivery:
    """Serves arrivals in order, with prices that adapt to delivery.

    If requirements are hard, a guard shows items whose exposures later arrivals could not deliver. Call :meth:`pace` at
    least once per round, and :meth:`serve` for every batch. ``gain`` is g, the relative step of prices. ``closing`` is
    δ, the share of the round over which late corrections are spread; 0 keeps the gain constant.
    """

    def __init__(self, view: RoundView, gain: float, closing: float) -> None:
        self._view = view
        self._gain = gain
        self._closing = closing
        self._table = RowTable.of(view)
        rows = self._table.rows
        self._m = len(view.required)
        self._required = self._table.min_exposure
        self._clock = RoundClock(view, rows)
        self._ties = tie_base(view.key)
        self._unit = ExposureUnit.of(view)
        self._column = np.where(rows.audience < 0, len(self._clock.expected) - 1, rows.audience)
        row_exposure = view.delivered[self._table.place >= self._m] if len(rows) else np.zeros(0)
        self.delivered = np.concatenate([view.exposure, row_exposure]).astype(np.float64)
        """(M + G,) exposures of the round so far that count for each row, in the unit of the guarantee."""
        self._guarded: tuple[Any, ...] | None = None  # without hard requirements, no guard is even compiled
        if view.hard:
            self._reset_guard(
                Guard.of(self._required, rows, self._column, admissible_shares(view), self._unit, SPARE, SURE)
            )
        self._start(np.concatenate([-np.zeros(self._m), np.zeros(len(rows))]))

    @classmethod
    def solved(cls, view: RoundView, tol: float, gain: float, closing: float) -> Delivery:
        """Delivery with start prices solved to the relative gap ``tol``."""
        delivery = cls(view, gain, closing)
        delivery._start(solved_rows(view, delivery._table, tol)[0])
        return delivery

    def pace(self, price: Floats) -> None:
        """Restart pacing of the remaining requirements from given item prices."""
        self._start(np.concatenate([price, self.prices[self._m :]]))

    def _start(self, price: Floats) -> None:
        view = self._view
        table = self._table.rows
        self._since = self._clock.elapsed.copy()
        self._before = self.delivered.copy()
        early = EARLY if view.hard else 0.0
        due_in = np.maximum(self._clock.expected * (1.0 - early) - self._since, 1.0)
        max_exposure = np.maximum(table.max_exposure - self.delivered[self._m :], 0.0)
        pacing = Pacing.of(
            price,
            np.maximum(self._required - self.delivered, 0.0),
            np.concatenate([np.full(self._m, due_in[-1]), due_in[self._column]]),
            gain=self._gain,
            closing=self._closing,
            cost=view.cost,
            hard=view.hard,
            priced=np.concatenate(
                [self._table.required > 0, (table.min_exposure > 0) | np.isfinite(table.max_exposure)]
            ),
        )
        # The step of a cap without a floor is relative to the cap.
        pacing.step[self._m :] /= np.where(
            table.min_exposure > 0, 1.0, np.sqrt(np.maximum(max_exposure, 1.0))
        )
        self._pacing = pacing._replace(
            arrivals=due_in,
            max_exposure=max_exposure,
            first=table.first,
            item=table.item,
            column=self._column,
        )

    @property
    def required(self) -> Floats:
        """Floor of each item."""
        return self._table.required

    @property
    def exposure(self) -> Floats:
        """Exposures of each item so far."""
        return self.delivered[: self._m]

    @property
    def served(self) -> int:
        """Arrivals served."""
        return self._clock.served

    @property
    def due_in(self) -> float:
        """Number of arrivals until every guarantee is due."""
        early = EARLY if self._view.hard else 0.0
        return float(self._clock.expected[-1] * (1.0 - early) - self._clock.elapsed[-1])

    @property
    def prices(self) -> Floats:
        """Current prices v of floors and of other requirements."""
        return self._pacing.price(self._clock.elapsed - self._since, self.delivered - self._before)

    @property
    def item_price(self) -> Floats:
        """Current price v of each item."""
        return self._table.split(self.prices)[0]

    @property
    def row_price(self) -> Floats:
        """Current prices v of groups, campaigns and caps."""
        return self._table.split(self.prices)[1]

    def serve(self, arrivals: Arrivals) -> Slates:
        """Slates of the next arrivals, with prices at the decision."""
        shape = (len(arrivals), self._view.k)
        clock = self._clock
        items = np.empty(shape, np.int64)
        price = np.empty(shape, np.float32)
        _rank(
            arrays_of(arrivals, self._view.k),
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
        """Count the exposures that another agent delivered to arrivals."""
        self.delivered[: self._m] += exposure
        # The guard sees only its own slates, and assumes that deficits only shrink.
        if self._guarded is not None:
            self._reset_guard(Guard(*self._guarded[0]))
        if arrivals is not None:
            self._clock.advance(arrivals)

    def _reset_guard(self, guard: Guard) -> None:
        """Recompute deficits; seek urgent items again at the next arrival."""
        guard.wait[0] = np.inf
        deficits = Deficits.of(guard.required[: self._m], self.exposure, self._unit)
        self._guarded = (tuple(guard), tuple(deficits))


@compiled
def _rank(  # noqa: C901, PLR0915
    arrivals_: tuple[Any, ...],
    ties: np.uint64,
    counts: Bools,
    elapsed: Floats,
    remaining: Floats,
    pacing_: tuple[Any, ...],
    guard_: tuple[Any, ...] | None,
    unit_: tuple[Any, ...],
    before: Floats,
    exposure: Floats,
    items: Ints,
    prices: Float32s,
) -> None:
    """Serve arrivals in order, up to their capacities.

    Records are passed as plain tuples of their fields (ArrivalArrays, Pacing, ExposureUnit, and Guard with Deficits, or
    None). ``exposure`` is updated, and ``items`` and ``prices`` are filled in.
    """
    arrivals = ArrivalArrays(*arrivals_)
    pacing = Pacing(*pacing_)
    unit = ExposureUnit(*unit_)
    n, k = items.shape
    m = len(exposure) - len(pacing.max_exposure)
    last = len(pacing.arrivals) - 1
    all_prices = np.empty(len(exposure), np.float64)
    value = np.empty(m, np.float64)
    best = np.empty(k, np.float64)
    scratch = np.empty(m, np.float64)
    for item in range(m):
        scratch[item] = 0.0
    price = all_prices[:m]
    high = np.empty(m, np.float32)
    value32 = np.empty(m, np.float32)
    contenders = np.empty(m, np.int64)
    bounds = Bounds(0.0, 0.0, high)
    bounded = n >= _FEW and len(pacing.max_exposure) == 0
    stop = 0
    for arrival in range(n):
        if bounded and arrival == stop:
            stop = min(arrival + stretch_of(pacing, elapsed[arrival, last]), n)
            bounds = Bounds(elapsed[arrival, last], elapsed[stop - 1, last], high)
            bound_bonuses(pacing, bounds, exposure, before, None)
        bits = tie_rank(ties, arrivals.id[arrival])
        n_positions = min(arrivals.capacity[arrival], k)
        slate = items[arrival, :n_positions]
        of_slate = best[:n_positions]
        size = 0
        urgent = 0
        excess = 0.0
        now = False
        if guard_ is not None:
            guard = Guard(*guard_[0])
            deficits = Deficits(*guard_[1])
            if n_positions > 0:
                urgent, excess, now = due_at(
                    arrivals.admissible[arrival],
                    remaining[arrival],
                    counts[arrival],
                    guard,
                    exposure,
                    unit,
                    deficits,
                )
        if n_positions > 0 and bounded and not now:
            size = best_in_bounds(
                arrivals,
                arrival,
                bits,
                pacing,
                elapsed[arrival, last],
                exposure,
                before,
                high,
                value32,
                contenders,
                price,
                slate,
                of_slate,
            )
        elif n_positions > 0:
            move_prices(pacing_, elapsed[arrival], exposure, before, all_prices)
            add_rows(pacing, counts[arrival], all_prices)
            fill_values(arrivals, arrival, price, value)
            hide_full(pacing, counts[arrival], exposure, before, unit.position_weights, value)
            if guard_ is not None and now:
                size = place_due(
                    value,
                    bits,
                    remaining[arrival, last],
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
                size = best_items(value, bits, slate, of_slate, 0.0)
        if unit.by_intensity:
            order_items(items[arrival, :size], arrivals.relevance[arrival])
        fill_slate(items[arrival], size, price, unit, exposure, prices[arrival])
        if bounded:
            bound_bonuses(pacing, bounds, exposure, before, items[arrival, :size])
        if guard_ is not None:
            count_deficits(
                deficits, items[arrival, :size], guard.required, exposure, unit.position_weights, unit.mean
            )
        count_rows(pacing, counts[arrival], items[arrival], size, unit.position_weights, scratch, exposure)
