"""Prices that follow delivery: rank one arrival, then move the prices, row after row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rimsim.agents._guard import Guard, due_at, seat_due
from rimsim.agents._lacking import Lacking, count_missing
from rimsim.agents._moving import Bounds, Pacing, best_in_bounds, bound_bonuses, move_prices, stretch_of
from rimsim.agents._row_guard import RowGuard
from rimsim.agents._rows import Rows, fill_row, rows_of, value_row
from rimsim.agents.positions import Positions
from rimsim.agents.prices import chances
from rimsim.agents.progress import Progress
from rimsim.agents.promised import PromisedRows, RowPacing, add_row_prices, count_rows, hide_full
from rimsim.agents.promised_prices import solved_with_promises
from rimsim.arrays import Float32s, Floats, Ints
from rimsim.compiled import compiled
from rimsim.market import Slates
from rimsim.matching import best_items, order_items, tie_base, tie_rank

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView

__all__ = ["Delivery", "Pacing", "move_prices"]

_NONE = np.empty(0, np.int64)
_FEW = 4
"""From so many arrivals at once on, prices are bounded for a stretch of them, and computed where that may matter."""
EARLY = 0.05
"""Hard requirements are paced to be met before so much of the round is left, so that what is then still missing can be
made up for."""
SPARE = 0.1
"""Share of the positions yet to come that the guard does not count on."""
SURE = 4.0
"""Of the arrivals yet to come to whom an item may be shown, the guard counts on the mean less so many standard
deviations: at one, an item that most have consumed misses its last visitor in one round of some hundred."""


class Delivery:
    """Serves a round's arrivals in order, each with the top k of λ − v at the delivery so far.

    Where requirements are hard, a guard shows what is due before it is too late. Call :meth:`pace` once, or again and
    again as the round goes on, and :meth:`serve` for every batch.

    Args:
        view: The round.
        gain: g, relative step of prices.
        closing: δ: how much of the round a correction is spread over at its end; 0 for a constant gain.
    """

    def __init__(self, view: RoundView, gain: float, closing: float) -> None:
        self._view, self._gain, self._closing = view, gain, closing
        self._progress, self._ties = Progress.of(view), tie_base(view.key)
        self._positions = Positions.of(view)
        self._required = view.required.astype(np.float64)
        chance, table = chances(view), view.promises
        guarded = range(len(table) if view.hard else 0)
        items_of = [table.items(row) if table.least[row] > 0 else _NONE for row in guarded]
        self.rows = PromisedRows(
            view,
            self._progress,
            gain,
            closing,
            EARLY if view.hard else 0.0,
            RowGuard.of(items_of, chance, self._positions),
        )
        """What was delivered for groups, campaigns and caps, and their prices."""
        self.exposure = view.exposure.astype(np.float64)
        """(M,) exposures of the round so far, in the unit of the guarantee."""
        self._guarded: tuple[Any, ...] | None = None
        """What a guard needs, see :func:`_rank`; None where no requirement is hard."""
        if view.hard:
            self._watch(Guard(self._required, chance, SPARE, SURE))
        self._nobody = np.empty(0)
        self.served = 0
        """Arrivals so far."""
        self.gone = 0.0
        """How much of the round is gone, in arrivals of those expected, as far as the arrivals so far tell."""
        self.pace(-np.zeros(len(self.exposure)))

    @classmethod
    def solved(cls, view: RoundView, tol: float, gain: float, closing: float) -> Delivery:
        """A delivery paced from the prices of last round's states, which are solved to the relative gap ``tol``."""
        price = solved_with_promises(view, tol)
        delivery = cls(view, gain, closing)
        delivery.pace(price.item)
        delivery.rows.pace(price.row)
        return delivery

    def pace(self, price: Floats) -> None:
        """Let prices start from here, at the rate that what is still missing asks for.

        Args:
            price: (M,) prices v, at most 0.
        """
        view = self._view
        self._since, self._before = self.gone, self.exposure.copy()
        self._pacing = Pacing.of(
            price,
            np.maximum(self._required - self.exposure, 0.0),
            max(self.due_in, 1.0),
            gain=self._gain,
            closing=self._closing,
            cost=view.cost,
            hard=view.hard,
            due=self._required > 0,
        )

    @property
    def due_in(self) -> float:
        """Arrivals within which all that is missing is due; 0 or less where it is due now."""
        end = self._view.arrivals * (1.0 - EARLY) if self._view.hard else float(self._view.arrivals)
        return end - self.gone

    @property
    def item_price(self) -> Floats:
        """(M,) present item prices v."""
        return self._pacing.price(self.gone - self._since, self.exposure - self._before)

    def serve(self, arrivals: Arrivals) -> Slates:
        """Slates of the next n arrivals, in order, with the item prices v at each decision."""
        shape = (len(arrivals), self._view.k)
        items, price = np.empty(shape, np.int64), np.empty(shape, np.float32)
        _rank(
            rows_of(arrivals, self._view.k),
            self._ties,
            self._progress.gone(self.served, arrivals) - self._since,
            self._progress.left(self.served, arrivals) if self._view.hard else self._nobody,
            tuple(self._pacing),
            self._guarded,
            tuple(self._positions),
            self.rows.batch(self.served, arrivals),
            self._before,
            self.exposure,
            items,
            price,
        )
        self._pass(arrivals)
        return Slates(items, price=price)

    def note(self, exposure: Floats, arrivals: Arrivals | None) -> None:
        """Count exposures (M,), in the unit of the guarantee, that came without this, and time that they took."""
        self.exposure += exposure
        if self._guarded is not None:  # it knows what is shown here alone, and that less and less is missing
            self._watch(Guard(*self._guarded[0]))
        if arrivals is not None:
            self._pass(arrivals)

    def _watch(self, guard: Guard) -> None:
        """Let the guard count anew what is missing, and look again at once."""
        lacking = Lacking.of(self._required, self.exposure, self._positions)
        self._guarded = (tuple(guard), tuple(lacking), np.full(1, np.inf))

    def _pass(self, arrivals: Arrivals) -> None:
        self.served += len(arrivals)
        self.gone = self._progress.now(self.served, arrivals)


@compiled
def _rank(  # noqa: C901
    arrivals: tuple[Any, ...],
    ties: np.uint64,
    gone: Floats,
    left: Floats,
    pace: tuple[Any, ...],
    guarded: tuple[Any, ...] | None,
    unit: tuple[Any, ...],
    promises: tuple[Any, ...],
    before: Floats,
    exposure: Floats,
    items: Ints,
    prices: Float32s,
) -> None:
    """The rows in order, up to their capacities; records come as plain tuples.

    Args:
        arrivals: :class:`Rows`.
        ties: The round's random bits for ties, :func:`rimsim.matching.tie_base` of its key.
        gone: (n,) how much of the pacing's time is gone before each.
        left: (n,) how many arrivals are yet to come at each, itself included; none without a guard.
        pace: :class:`Pacing`.
        guarded: :class:`Guard`, :class:`Lacking`, which is changed in place, and (1,) when the guard looks again,
            likewise; None where nothing is guarded: what a guard does is then not even compiled.
        unit: :class:`Positions`.
        promises: What :meth:`PromisedRows.batch` gives.
        before: (M,) exposures before the pacing began.
        exposure: (M,) exposures of the round, changed in place.
        items: (n, k) filled.
        prices: (n, k) filled.
    """
    rows, pacing, positions = Rows(*arrivals), Pacing(*pace), Positions(*unit)
    row_pacing, to_hold, counts, row_gone, row_left, row_before, delivered = promises
    of_rows, row_guard = RowPacing(*row_pacing), RowGuard(*to_hold)
    n, k = items.shape
    price, value, best = np.empty(len(exposure)), np.empty(len(exposure)), np.empty(k)
    weight, high = np.zeros(len(exposure)), np.empty(len(exposure), np.float32)
    value32, found = np.empty(len(exposure), np.float32), np.empty(len(exposure), np.int64)
    bounds, bounded, stop = Bounds(0.0, 0.0, high), n >= _FEW and len(of_rows.start) == 0, 0
    for row in range(n):
        if bounded and row == stop:
            stop = min(row + stretch_of(pacing, gone[row]), n)
            bounds = Bounds(gone[row], gone[stop - 1], high)
            bound_bonuses(pacing, bounds, exposure, before, None)
        bits = tie_rank(ties, rows.id[row])
        most = min(rows.capacity[row], k)
        slate, of_slate, size, urgent, excess, now = items[row, :most], best[:most], 0, 0, 0.0, False
        if guarded is not None:
            guard, lacking, wait = Guard(*guarded[0]), Lacking(*guarded[1]), guarded[2]
            if most > 0:
                urgent, excess, now = due_at(
                    rows.admissible[row],
                    left[row],
                    guard,
                    exposure,
                    positions,
                    lacking,
                    wait,
                    of_rows,
                    counts[row],
                    row_left[row],
                    row_before,
                    delivered,
                    row_guard,
                )
        if most > 0 and bounded and not now:
            size = best_in_bounds(
                rows,
                row,
                bits,
                pacing,
                gone[row],
                exposure,
                before,
                bounds,
                value32,
                found,
                price,
                slate,
                of_slate,
            )
        elif most > 0:
            move_prices(pacing, gone[row], exposure, before, price)
            add_row_prices(of_rows, counts[row], row_gone[row], row_before, delivered, price)
            value_row(rows, row, price, value)
            hide_full(of_rows, counts[row], row_before, delivered, positions, value)
            if guarded is not None and now:
                size = seat_due(
                    value,
                    bits,
                    left[row],
                    urgent > 0,
                    excess,
                    guard,
                    exposure,
                    positions,
                    lacking,
                    of_rows,
                    row_guard,
                    slate,
                    of_slate,
                )
            else:
                size = best_items(value, bits, slate, of_slate)
        if positions.by_intensity:
            order_items(items[row, :size], rows.relevance[row])
        fill_row(items[row], size, price, positions, exposure, prices[row])
        if bounded:
            bound_bonuses(pacing, bounds, exposure, before, items[row, :size])
        if guarded is not None:
            count_missing(
                lacking,
                items[row, :size],
                guard.required,
                exposure,
                positions.weight,
                positions.mean,
            )
        count_rows(of_rows, counts[row], items[row], size, positions, weight, delivered)
