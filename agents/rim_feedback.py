"""``rim-feedback``: prices that adapt to delivery, arrival by arrival."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.agents.contract import OPTIONS
from rimsim.agents.guard import Deficits, Guard, count_deficits, due_at, place_due
from rimsim.agents.pacing import (
    EARLY,
    ArrivalArrays,
    Bounds,
    ExposureUnit,
    Pacing,
    RoundClock,
    add_rows,
    arrays_of,
    best_in_bounds,
    bound_bonuses,
    count_rows,
    fill_slate,
    fill_values,
    hide_full,
    move_prices,
    stretch_of,
)
from rimsim.agents.prices import RowTable, admissible_shares, solved_rows
from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled
from rimsim.market import Slates
from rimsim.matching import best_items, order_items, tie_base, tie_rank

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView

_FEW = 4  # arrivals per batch from which prices are bounded for a stretch, and computed only where that may matter
SPARE = 0.1
"""Share of the remaining positions that the guard does not rely on."""
SURE = 4.0
"""Standard deviations below the mean number of later arrivals that may be shown an item, for the guard.

At one, an item that most visitors have consumed misses its last visitor in one round of some hundred.
"""


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
    of an item is relative to its floor, not to its intensities, because items whose floors bind have tiny intensities.
    The start price v₀ is optimal for the last round's states. If an item has had too much exposure, its bonus falls.
    Prices depend on exposures, which the agent knows, and never on consumption.

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
        self._view, self._gain, self._closing = view, gain, closing
        self._table = RowTable.of(view)
        rows, self._m = self._table.rows, len(view.required)
        self._required = self._table.least
        self._clock, self._ties = RoundClock(view, rows), tie_base(view.key)
        self._unit = ExposureUnit.of(view)
        self._column = np.where(rows.audience < 0, len(self._clock.expected) - 1, rows.audience)
        others = view.delivered[self._table.place >= self._m] if len(rows) else np.zeros(0)
        self.delivered = np.concatenate([view.exposure, others]).astype(np.float64)
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
        view, table = self._view, self._table.rows
        self._since, self._before = self._clock.elapsed.copy(), self.delivered.copy()
        early = EARLY if view.hard else 0.0
        due_in = np.maximum(self._clock.expected * (1.0 - early) - self._since, 1.0)
        most = np.maximum(table.most - self.delivered[self._m :], 0.0)
        pacing = Pacing.of(
            price,
            np.maximum(self._required - self.delivered, 0.0),
            np.concatenate([np.full(self._m, due_in[-1]), due_in[self._column]]),
            gain=self._gain,
            closing=self._closing,
            cost=view.cost,
            hard=view.hard,
            priced=np.concatenate([self._table.required > 0, (table.least > 0) | np.isfinite(table.most)]),
        )
        # The step of a cap without a floor is relative to the cap.
        pacing.step[self._m :] /= np.where(table.least > 0, 1.0, np.sqrt(np.maximum(most, 1.0)))
        self._pacing = pacing._replace(
            arrivals=due_in, most=most, first=table.first, item=table.item, column=self._column
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
        shape, clock = (len(arrivals), self._view.k), self._clock
        items, price = np.empty(shape, np.int64), np.empty(shape, np.float32)
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
        if self._guarded is not None:  # it knows only its own slates, and that deficits only shrink
            self._reset_guard(Guard(*self._guarded[0]))
        if arrivals is not None:
            self._clock.advance(arrivals)

    def _reset_guard(self, guard: Guard) -> None:
        """Recompute deficits; seek urgent items again at the next arrival."""
        guard.wait[0] = np.inf
        deficits = Deficits.of(guard.required[: self._m], self.exposure, self._unit)
        self._guarded = (tuple(guard), tuple(deficits))


@compiled
def _rank(  # noqa: C901
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
    arrivals, pacing, unit = ArrivalArrays(*arrivals_), Pacing(*pacing_), ExposureUnit(*unit_)
    n, k = items.shape
    m, last = len(exposure) - len(pacing.most), len(pacing.arrivals) - 1
    all_prices, value = np.empty(len(exposure), np.float64), np.empty(m, np.float64)
    best, scratch = np.empty(k, np.float64), np.empty(m, np.float64)
    for item in range(m):
        scratch[item] = 0.0
    price, high = all_prices[:m], np.empty(m, np.float32)
    value32, found = np.empty(m, np.float32), np.empty(m, np.int64)
    bounds, bounded, stop = Bounds(0.0, 0.0, high), n >= _FEW and len(pacing.most) == 0, 0
    for arrival in range(n):
        if bounded and arrival == stop:
            stop = min(arrival + stretch_of(pacing, elapsed[arrival, last]), n)
            bounds = Bounds(elapsed[arrival, last], elapsed[stop - 1, last], high)
            bound_bonuses(pacing, bounds, exposure, before, None)
        bits = tie_rank(ties, arrivals.id[arrival])
        most = min(arrivals.capacity[arrival], k)
        slate, of_slate, size, urgent, excess, now = items[arrival, :most], best[:most], 0, 0, 0.0, False
        if guard_ is not None:
            guard, deficits = Guard(*guard_[0]), Deficits(*guard_[1])
            if most > 0:
                urgent, excess, now = due_at(
                    arrivals.admissible[arrival],
                    remaining[arrival],
                    counts[arrival],
                    guard,
                    exposure,
                    unit,
                    deficits,
                )
        if most > 0 and bounded and not now:
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
                found,
                price,
                slate,
                of_slate,
            )
        elif most > 0:
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
