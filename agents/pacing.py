"""Prices that follow delivery: rank one arrival, then move the prices, row after row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from rimsim.agents._guard import Guard, guarded_items
from rimsim.agents._lacking import Lacking, count_missing
from rimsim.agents._rows import Rows, fill_row, rows_of, value_row
from rimsim.agents.positions import Positions
from rimsim.agents.prices import chances
from rimsim.agents.progress import Progress
from rimsim.agents.promised import PromisedRows, RowPacing, add_row_prices, count_rows, hide_full
from rimsim.compiled import compiled
from rimsim.market import Slates
from rimsim.matching import best_items, order_items, tie_base, tie_rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.market import Arrivals, RoundView

__all__ = ["Delivery", "Pacing", "move_prices"]

EARLY = 0.05
"""Hard requirements are paced to be met before so much of the round is left, so that what is then still missing can be
made up for."""
SPARE = 0.1
"""Share of the positions yet to come that the guard does not count on."""
SURE = 4.0
"""Of the arrivals yet to come to whom an item may be shown, the guard counts on the mean less so many standard
deviations: at one, an item that most have consumed misses its last visitor in one round of some hundred."""


class Pacing(NamedTuple):
    """How prices follow delivery: v = −clip(step·h·(pace·t − E) − start, 0, cost) when t of N arrivals are gone.

    h = 1, or, where ``closing`` is above 0, h = 1 / (1 − t/N + closing). From t = N on all is due.
    """

    start: NDArray[np.float64]
    """(M,) price v before arrival 0."""
    pace: NDArray[np.float64]
    """(M,) required exposures per arrival, in the unit of the guarantee."""
    step: NDArray[np.float64]
    """(M,) price per exposure of delivery error."""
    cost: float
    """c: prices lie in [−c, 0]; infinite where floors are not for sale."""
    closing: float
    """δ: how much of the round a correction is spread over at the end; 0 for a constant h = 1."""
    arrivals: float
    """Arrivals in which the exposures are due, N."""

    @classmethod
    def of(
        cls,
        price: NDArray[np.float64],
        required: NDArray[np.float64],
        arrivals: float,
        *,
        gain: float,
        closing: float,
        cost: float,
        hard: bool,
        due: NDArray[np.bool_] | None = None,
    ) -> Self:
        """Pacing with the relative step g·c/√b.

        Where requirements are hard, prices have no bound, and c is no measure of theirs: the step is relative to where
        the item starts, or to the median of all bonuses at the start, where these are more than c.

        Args:
            price: (M,) prices v to start from; 0 is taken for items that are not due.
            required: (M,) exposures b asked for.
            arrivals: Arrivals in which they are due.
            gain: g.
            closing: δ.
            cost: c.
            hard: Whether floors are not for sale.
            due: (M,) items whose prices move; None: those of which exposures are required.
        """
        due = required > 0 if due is None else due
        scale = np.maximum(max(cost, _usual(price)), -price) if hard else cost
        return cls(
            start=np.where(due, price, -0.0),  # so that a price of 0 keeps its sign in tables
            pace=required / arrivals,
            step=np.where(due, gain * scale / np.sqrt(np.maximum(required, 1.0)), 0.0),
            cost=np.inf if hard else cost,
            closing=closing,
            arrivals=float(arrivals),
        )

    def price(self, gone: float, exposure: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M,) v when so many arrivals are gone, after ``exposure`` (M,)."""
        price = np.empty(len(self.start))
        move_prices(self, gone, exposure, np.zeros(len(price)), price)
        return price


def _usual(price: NDArray[np.float64]) -> float:
    """The median bonus of the items that have one; 0 where none has."""
    bonus = -price[price < 0.0]
    return float(np.median(bonus)) if len(bonus) else 0.0


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
        self._guard = Guard(self._required if view.hard else np.empty(0), chances(view), SPARE, SURE)
        self.rows = PromisedRows(view, self._progress, gain, closing, EARLY if view.hard else 0.0)
        """What was delivered for groups, campaigns and caps, and their prices."""
        self.exposure = view.exposure.astype(np.float64)
        """(M,) exposures of the round so far, in the unit of the guarantee."""
        self._lacking = Lacking.of(self._guard.required, self.exposure, self._positions)
        self._nobody = np.empty(0)
        self._wait = np.full(1, np.inf)
        self.served = 0
        """Arrivals so far."""
        self.gone = 0.0
        """How much of the round is gone, in arrivals of those expected, as far as the arrivals so far tell."""
        self.pace(-np.zeros(len(self.exposure)))

    def pace(self, price: NDArray[np.float64]) -> None:
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
    def item_price(self) -> NDArray[np.float64]:
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
            tuple(self._guard),
            tuple(self._positions),
            self.rows.batch(self.served, arrivals),
            self._before,
            self.exposure,
            tuple(self._lacking),
            self._wait,
            items,
            price,
        )
        self._pass(arrivals)
        return Slates(items, price=price)

    def note(self, exposure: NDArray[np.float64], arrivals: Arrivals | None) -> None:
        """Count exposures (M,), in the unit of the guarantee, that came without this, and time that they took."""
        self.exposure += exposure
        if arrivals is not None:
            self._pass(arrivals)

    def _pass(self, arrivals: Arrivals) -> None:
        self.served += len(arrivals)
        self.gone = self._progress.now(self.served, arrivals)


@compiled
def move_prices(
    pacing: Pacing,
    gone: float,
    exposure: NDArray[np.float64],
    before: NDArray[np.float64],
    price: NDArray[np.float64],
) -> None:
    """Fill ``price`` (M,) with v of :class:`Pacing`.

    Prices are computed from sums of exposures each time, which are exact, so rounding cannot accumulate and the cut
    into batches cannot matter.

    Args:
        pacing: How prices move.
        gone: How many of the pacing's N arrivals are gone.
        exposure: (M,) exposures.
        before: (M,) exposures before the pacing began, which are not counted.
        price: (M,) filled in place.
    """
    factor, gone = 1.0, min(gone, pacing.arrivals)
    if pacing.closing > 0.0:
        factor = 1.0 / (max(1.0 - gone / pacing.arrivals, 0.0) + pacing.closing)
    for item in range(len(price)):
        pull = pacing.step[item] * (pacing.pace[item] * gone - (exposure[item] - before[item])) * factor
        price[item] = -min(max(pull - pacing.start[item], 0.0), pacing.cost)


@compiled
def _rank(
    arrivals: tuple[Any, ...],
    ties: np.uint64,
    gone: NDArray[np.float64],
    left: NDArray[np.float64],
    pace: tuple[Any, ...],
    due: tuple[Any, ...],
    unit: tuple[Any, ...],
    promises: tuple[Any, ...],
    before: NDArray[np.float64],
    exposure: NDArray[np.float64],
    watch: tuple[Any, ...],
    wait: NDArray[np.float64],
    items: NDArray[np.int64],
    prices: NDArray[np.float32],
) -> None:
    """The rows in order, up to their capacities; records come as plain tuples.

    Args:
        arrivals: :class:`Rows`.
        ties: The round's random bits for ties, :func:`rimsim.matching.tie_base` of its key.
        gone: (n,) how much of the pacing's time is gone before each.
        left: (n,) how many arrivals are yet to come at each, itself included; none without a guard.
        pace: :class:`Pacing`.
        due: :class:`Guard`, of which nothing is required where there is none.
        unit: :class:`Positions`.
        promises: What :meth:`PromisedRows.batch` gives.
        before: (M,) exposures before the pacing began.
        exposure: (M,) exposures of the round, changed in place.
        watch: :class:`Lacking`, changed in place.
        wait: (1,) when the guard looks again, changed in place.
        items: (n, k) filled.
        prices: (n, k) filled.
    """
    rows, pacing, guard, positions = Rows(*arrivals), Pacing(*pace), Guard(*due), Positions(*unit)
    row_pacing, counts, row_gone, row_before, delivered = promises
    of_rows, lacking = RowPacing(*row_pacing), Lacking(*watch)
    n, k = items.shape
    price, value, best = np.empty(len(exposure)), np.empty(len(exposure)), np.empty(k)
    weight = np.zeros(len(exposure))
    for row in range(n):
        move_prices(pacing, gone[row], exposure, before, price)
        add_row_prices(of_rows, counts[row], row_gone[row], row_before, delivered, price)
        value_row(rows, row, price, value)
        hide_full(of_rows, counts[row], row_before, delivered, positions, value)
        bits = tie_rank(ties, rows.id[row])
        most, size = min(rows.capacity[row], k), 0
        if most > 0 and len(guard.required):
            size = guarded_items(
                value,
                bits,
                left[row],
                guard,
                exposure,
                positions,
                lacking,
                wait,
                items[row, :most],
                best[:most],
            )
        elif most > 0:
            size = best_items(value, bits, items[row, :most], best[:most])
        if positions.by_intensity:
            order_items(items[row, :size], rows.relevance[row])
        fill_row(items[row], size, price, positions, exposure, prices[row])
        if len(guard.required):
            count_missing(
                lacking,
                items[row, :size],
                guard.required,
                exposure,
                positions.weight,
                positions.mean,
            )
        count_rows(of_rows, counts[row], items[row], size, positions, weight, delivered)
