"""Slates at prices that follow delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rimsim.agents.arrival_arrays import ArrivalArrays, ExposureUnit, arrays_of, fill_slate, fill_values
from rimsim.agents.clock import EARLY, RoundClock
from rimsim.agents.guard import Deficits, Guard, count_deficits, due_at, place_due
from rimsim.agents.pacing import Pacing, add_rows, count_rows, hide_full, move_prices, paced_windows
from rimsim.agents.past_states import admissible_shares
from rimsim.agents.prices import solved_rows
from rimsim.agents.row_table import RowTable
from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled, compiled_part
from rimsim.market import Slates
from rimsim.matching import best_items, order_items, tie_base, tie_rank

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView

SPARE = 0.1
"""Share of the remaining positions on which the guard does not rely."""
SURE = 4.0
"""Number of standard deviations below the mean at which the guard puts the number of later arrivals for an item.

With one standard deviation, an item that most visitors have consumed misses its last visitor in one of several hundred
rounds.
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


class Delivery:
    """Serves arrivals in order, with prices that follow delivery.

    If requirements are hard, a guard shows items whose exposures later arrivals could not deliver. Call :meth:`pace` at
    least once per round, and :meth:`serve` for every batch. ``gain`` is g, the relative step of prices; 0 keeps prices
    fixed. ``closing`` is δ, the share of the round over which late corrections are spread; 0 keeps the gain constant.
    If ``spend`` is true, the bonus of each requirement ends when the requirement is met.
    """

    def __init__(self, view: RoundView, gain: float, closing: float, *, spend: bool = False) -> None:
        self._view = view
        self._gain = gain
        self._closing = closing
        self._spend = spend
        self._table = RowTable.of(view)
        rows = self._table.rows
        self._m = len(view.required)
        self._required = self._table.min_exposure
        self._clock = RoundClock(view, rows)
        self._ties = tie_base(view.key)
        self._unit = ExposureUnit.of(view)
        # Column of the clock for each row: that of its audience, or the last one, which is the whole round.
        self._column = np.where(rows.audience < 0, len(self._clock.expected) - 1, rows.audience)
        row_exposure = view.delivered[self._table.place >= self._m] if len(rows) else np.zeros(0)
        self.delivered = np.concatenate([view.exposure, row_exposure]).astype(np.float64)
        """(M + G,) exposures of the round so far that count for each row, in the unit of the guarantee."""
        self._guarded: tuple[Any, ...] | None = None  # None: the compiled loop then has no code of the guard
        if view.hard:
            guard = Guard.of(
                required=self._required,
                rows=rows,
                column=self._column,
                chance=admissible_shares(view),
                unit=self._unit,
                spare=SPARE,
                sure=SURE,
                after_end=np.zeros(0) if view.windows is None else view.arrivals - view.windows.end,
            )
            self._reset_guard(guard)
        # Items without a price have −0.0, as in Pacing, so that tables have one kind of zero.
        self._pace_from_now(np.concatenate([-np.zeros(self._m), np.zeros(len(rows))]))

    @classmethod
    def solved(
        cls, view: RoundView, tol: float, gain: float, closing: float, *, spend: bool = False
    ) -> Delivery:
        """Delivery with start prices solved to the relative gap ``tol``."""
        delivery = cls(view, gain, closing, spend=spend)
        delivery.reprice(view, tol)
        return delivery

    @classmethod
    def budgeted(cls, view: RoundView, price: Floats) -> Delivery:
        """Delivery with fixed prices, whose bonuses end at the floors.

        ``price`` has the prices of the requirements of a :class:`RowTable`.
        """
        delivery = cls(view, gain=0.0, closing=0.0, spend=True)
        delivery._set_start_price(price)
        return delivery

    def pace(self, price: Floats) -> None:
        """Restart pacing of the remaining requirements from given item prices."""
        self._pace_from_now(np.concatenate([price, self.prices[self._m :]]))

    def reprice(self, view: RoundView, tol: float) -> None:
        """Solve the start prices again within the round.

        Exposures since pacing began count as before, so errors of delivery stay in the prices.
        """
        self._set_start_price(solved_rows(view, self._table, tol)[0])

    def _pace_from_now(self, price: Floats) -> None:
        """Start pacing of the remaining requirements at given prices."""
        self._since = self._clock.elapsed.copy()
        self._before = self.delivered.copy()
        self._set_start_price(price)

    def _set_start_price(self, price: Floats) -> None:
        """Set the prices at which pacing began."""
        view = self._view
        table = self._table.rows
        early = EARLY if view.hard else 0.0
        due_in = np.maximum(self._clock.expected * (1.0 - early) - self._since, 1.0)
        max_exposure = np.maximum(table.max_exposure - self._before[self._m :], 0.0)
        missing = np.maximum(self._required - self._before, 0.0)
        offer_begin = np.zeros(0)
        offer_length = np.zeros(0)
        due_of_items = np.full(self._m, due_in[-1])
        if view.windows is not None:
            offer_begin, offer_length = paced_windows(view.windows, float(self._since[-1]), early)
            due_of_items = offer_length
        due_of_requirements = np.concatenate([due_of_items, due_in[self._column]])
        pacing = Pacing.of(
            price=price,
            required=missing,
            arrivals=due_of_requirements,
            gain=self._gain,
            closing=self._closing,
            cost=view.cost,
            hard=view.hard,
            priced=np.concatenate(
                [self._table.required > 0, (table.min_exposure > 0) | np.isfinite(table.max_exposure)]
            ),
        )
        # Steps are relative to the missing exposure. A cap without a floor has none, so its step is divided by the root
        # of the exposure that the cap still allows, by which a Poisson number of exposures varies.
        pacing.step[self._m :] /= np.where(
            table.min_exposure > 0, 1.0, np.sqrt(np.maximum(max_exposure, 1.0))
        )
        self._pacing = pacing._replace(
            arrivals=due_in,
            max_exposure=max_exposure,
            first=table.first,
            item=table.item,
            column=self._column,
            budget=missing if self._spend else np.zeros(0),
            offer_begin=offer_begin,
            offer_length=offer_length,
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

    def later_on_offer(self) -> Floats:
        """(M,) number of later arrivals in each item's time on offer."""
        windows = self._view.windows
        if windows is None:
            return np.full(self._m, self.due_in)
        n_later: Floats = windows.end - np.maximum(windows.begin, self._clock.elapsed[-1])
        return np.maximum(n_later, 0.0)

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
        _serve(
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
        """Count exposures that another agent delivered; see ``PacingAgent``."""
        self.delivered[: self._m] += exposure
        # The guard updates deficits only for slates of its own, so they are computed again. The first part of
        # ``_guarded`` has the fields of the guard as a tuple, which compiled code takes.
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
def _serve(
    arrivals_: tuple[Any, ...],
    ties: np.uint64,
    counts: Bools,
    elapsed: Floats,
    remaining: Floats,
    pacing_: tuple[Any, ...],
    guarded: tuple[Any, ...] | None,
    unit_: tuple[Any, ...],
    before: Floats,
    exposure: Floats,
    items: Ints,
    prices: Float32s,
) -> None:
    """Serve arrivals in order, up to their capacities.

    Records are passed as plain tuples of their fields (ArrivalArrays, Pacing, ExposureUnit, and Guard with Deficits, or
    None). ``before`` has the exposures before pacing began. ``exposure``, the exposures of the round, is updated.
    ``items`` and ``prices`` are filled in.
    """
    arrivals = ArrivalArrays(*arrivals_)
    pacing = Pacing(*pacing_)
    unit = ExposureUnit(*unit_)
    n, k = items.shape
    m = len(exposure) - len(pacing.max_exposure)
    all_prices = np.empty(len(exposure), np.float64)
    item_price = all_prices[:m]
    value = np.empty(m, np.float64)
    best = np.empty(k, np.float64)
    weight_of_item = np.zeros(m, np.float64)
    for arrival in range(n):
        n_positions = min(arrivals.capacity[arrival], k)
        size = 0
        if n_positions > 0:
            slate = items[arrival, :n_positions]
            move_prices(pacing_, elapsed[arrival], exposure, before, all_prices)
            add_rows(pacing, counts[arrival], all_prices)
            fill_values(arrivals, arrival, item_price, value)
            hide_full(pacing, counts[arrival], exposure, before, unit.position_weights, value)
            tie_bits = tie_rank(ties, arrivals.id[arrival])
            if guarded is None:
                size = best_items(value, tie_bits, slate, best[:n_positions], 0.0)
            else:
                admissible = arrivals.admissible[arrival]
                n_later = remaining[arrival]
                is_counted = counts[arrival]
                size = _guarded_items(
                    value, tie_bits, admissible, n_later, is_counted, guarded, exposure, unit, slate, best
                )
        shown = items[arrival, :size]
        if unit.by_intensity:
            order_items(shown, arrivals.relevance[arrival])
        fill_slate(items[arrival], size, item_price, unit, exposure, prices[arrival])
        if guarded is not None:
            required = Guard(*guarded[0]).required
            count_deficits(Deficits(*guarded[1]), shown, required, exposure, unit.position_weights, unit.mean)
        count_rows(pacing, counts[arrival], shown, unit.position_weights, weight_of_item, exposure)


@compiled_part
def _guarded_items(
    value: Floats,
    tie_bits: np.uint64,
    admissible: Bools,
    remaining: Floats,
    counts: Bools,
    guarded: tuple[Any, ...],
    exposure: Floats,
    unit: ExposureUnit,
    slate: Ints,
    best: Floats,
) -> int:
    """Fill a slate, due items first; return its size."""
    guard = Guard(*guarded[0])
    deficits = Deficits(*guarded[1])
    due = due_at(admissible, remaining, counts, guard, exposure, unit, deficits)
    best_of_slate = best[: len(slate)]
    if due.is_now:
        in_round = remaining[len(remaining) - 1]
        return place_due(
            value, tie_bits, in_round, due, guard, exposure, unit, deficits, slate, best_of_slate
        )
    return best_items(value, tie_bits, slate, best_of_slate, 0.0)
