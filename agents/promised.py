"""Groups, campaigns and caps as agents price them: v_j for each row of the table, beside the prices of items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rimsim.agents.progress import share_gone
from rimsim.arrays import Bools, Floats, Ints, seconds
from rimsim.compiled import compiled

if TYPE_CHECKING:
    from rimsim.agents._row_guard import RowGuard
    from rimsim.agents.positions import Positions
    from rimsim.agents.progress import Progress
    from rimsim.market import Arrivals, RoundView


class RowPacing(NamedTuple):
    """How prices of rows follow delivery, as compiled loops take it.

    A row of D exposures since the pacing began, when t of the T arrivals in which it is due are gone, has the price

        v = max(start₊ + step·h·(D − most·t/T), 0) − clip(step·h·(least·t/T − D) − start₋, 0, cost),

    h = 1 / (1 − t/T + closing), or 1 where ``closing`` is 0; ``least`` and ``most`` are what is left of them. At an
    arrival, an item has the prices of all rows that hold it and count the arrival, beside its own.
    """

    first: Ints
    """(J + 1,) where the items of each row begin in ``item``."""
    item: Ints
    """Items, row after row."""
    column: Ints
    """(J,) which column of counts says whether an arrival counts; the last one counts all."""
    start: Floats
    """(J,) price v to start from."""
    least: Floats
    """(J,) exposures that are still asked for, in the unit of the guarantee."""
    most: Floats
    """(J,) exposures that are still allowed; ∞: any number."""
    step: Floats
    """(J,) price per exposure of delivery error."""
    arrivals: Floats
    """(J,) arrivals in which they are due, T."""
    cost: float
    """c: no bonus is above it; infinite where floors are not for sale."""
    closing: float
    """δ, as for items."""


class PromisedRows:
    """What was delivered for each row of the table of promises, and how the rows' prices follow it.

    Args:
        view: The round.
        progress: How much of the round is gone.
        gain: g, relative step of prices.
        closing: δ: how much of the round a correction is spread over at its end; 0 for a constant gain.
        early: Share of its arrivals before whose end a row is to be met.
        guard: What slates hold of the rows; of none where they are not hard.
    """

    def __init__(
        self,
        view: RoundView,
        progress: Progress,
        gain: float,
        closing: float,
        early: float,
        guard: RowGuard,
    ) -> None:
        table = view.promises
        columns = int(table.audience.max(initial=-1)) + 1
        self._view, self._progress, self._gain, self._closing = view, progress, gain, closing
        self._guard = guard
        self._columns = np.where(table.audience < 0, columns, table.audience)
        self._expected = np.full(columns + 1, float(view.arrivals))
        self._opens, self._closes = np.full(columns, view.opens), np.full(columns, view.closes)
        asking = table.audience >= 0
        self._expected[table.audience[asking]] = table.arrivals[asking]
        self._opens[table.audience[asking]] = seconds(table.begin[asking])
        self._closes[table.audience[asking]] = seconds(table.end[asking])
        self._due = np.maximum(self._expected * (1.0 - early), 1.0)
        self._came = np.zeros(columns)
        self.gone = np.zeros(columns + 1)
        """(A + 1,) how much of the time of each audience, and of the round, is gone, in arrivals of those expected."""
        self.delivered = view.delivered.astype(np.float64)
        """(J,) exposures of the round so far that count for each row, in the unit of the guarantee."""
        self.pace(np.zeros(len(table)))

    def pace(self, price: Floats) -> None:
        """Let prices start from here, at the rate that what is still missing, or allowed, asks for.

        Args:
            price: (J,) prices v of rows: at most 0 where something is asked for, at least 0 where there is a cap.
        """
        table, view = self._view.promises, self._view
        self._since, self._before = self.gone.copy(), self.delivered.copy()
        size = np.where(table.least > 0, table.least, np.where(np.isfinite(table.most), table.most, 1.0))
        scale = np.maximum(view.cost, -price) if view.hard else view.cost
        self._pacing = RowPacing(
            first=table.first,
            item=table.item,
            column=self._columns,
            start=price,
            least=np.maximum(table.least - self.delivered, 0.0),
            most=np.maximum(table.most - self.delivered, 0.0),
            step=np.where((table.least > 0) | np.isfinite(table.most), self._gain * scale, 0.0)
            / np.sqrt(np.maximum(size, 1.0)),
            arrivals=np.maximum(self._due - self._since, 1.0)[self._columns],
            cost=np.inf if view.hard else view.cost,
            closing=self._closing,
        )

    def batch(self, served: int, arrivals: Arrivals) -> tuple[Any, ...]:
        """What the loop over some arrivals needs, as plain values; the arrivals are then taken to have been served.

        Args:
            served: Arrivals before them.
            arrivals: The next n arrivals, in clock order.

        Returns:
            The pacing, the guard, (n, A + 1) which arrivals count, (n, A + 1) how much is gone before each since the
            pacing began, (n, A + 1) how many arrivals are yet to come at each, itself included, (J,) what was delivered
            before the pacing began, and (J,) what has been, to be changed in place.
        """
        n, columns = len(arrivals), len(self._came)
        pacing, guard = tuple(self._pacing), tuple(self._guard)
        if not len(self.delivered):
            none = np.zeros((n, 0))
            return pacing, guard, np.ones((n, 0), np.bool_), none, none, self._before, self.delivered
        counts, gone = np.ones((n, columns + 1), np.bool_), np.empty((n, columns + 1))
        left = np.empty((n, columns + 1))
        gone[:, -1] = self._progress.gone(served, arrivals)
        left[:, -1] = self._progress.left(served, arrivals)
        if arrivals.audiences is not None and columns:
            counts[:, :-1] = arrivals.audiences
            came = self._came + np.cumsum(counts[:, :-1], axis=0)
            gone[:, :-1] = came - counts[:, :-1]
            time = arrivals.time[:, None]
            share = share_gone(time, self._opens, self._closes) if self._progress.clock else None
            left[:, :-1] = self._progress.to_come(gone[:, :-1], self._expected[:-1], share)
            self._came = came[-1]
            if share is not None:
                gone[:, :-1] = share * self._expected[:-1]
        self.gone[:-1] = gone[-1, :-1] + (0.0 if self._progress.clock else counts[-1, :-1])
        self.gone[-1] = self._progress.now(served + n, arrivals)
        return pacing, guard, counts, gone - self._since, left, self._before, self.delivered

    @property
    def row_price(self) -> Floats:
        """(J,) present prices v of rows."""
        gone = self.gone - self._since
        return np.array(
            [
                row_price(
                    self._pacing, row, gone[self._columns[row]], self.delivered[row] - self._before[row]
                )
                for row in range(len(self.delivered))
            ],
            np.float64,
        )


@compiled
def row_price(pacing: RowPacing, row: int, gone: float, delivered: float) -> float:
    """The price v of a row, see :class:`RowPacing`.

    Args:
        pacing: How prices move.
        row: Which row.
        gone: Arrivals that are gone since the pacing began.
        delivered: Exposures since then.
    """
    share = min(gone / pacing.arrivals[row], 1.0)
    pull = pacing.step[row]
    if pacing.closing > 0.0:
        pull /= 1.0 - share + pacing.closing
    start, price = pacing.start[row], 0.0
    if pacing.most[row] < np.inf:
        price = max(max(start, 0.0) + pull * (delivered - pacing.most[row] * share), 0.0)
    missing = pull * (pacing.least[row] * share - delivered) if pacing.least[row] > 0.0 else 0.0
    return float(price - min(max(missing - min(start, 0.0), 0.0), pacing.cost))


@compiled
def add_row_prices(
    pacing: RowPacing,
    counts: Bools,
    gone: Floats,
    before: Floats,
    delivered: Floats,
    price: Floats,
) -> None:
    """Add the prices of the rows that count an arrival to those of their items, ``price`` (M,).

    Args:
        pacing: How prices of rows move.
        counts: (A + 1,) which audiences count the arrival.
        gone: (A + 1,) arrivals of each that are gone since the pacing began.
        before: (J,) exposures before it began.
        delivered: (J,) exposures so far.
        price: (M,) changed in place.
    """
    for row in range(len(pacing.start)):
        column = pacing.column[row]
        if not counts[column]:
            continue
        extra = row_price(pacing, row, gone[column], delivered[row] - before[row])
        if extra != 0.0:
            for place in range(pacing.first[row], pacing.first[row + 1]):
                price[pacing.item[place]] += extra


@compiled
def hide_full(
    pacing: RowPacing,
    counts: Bools,
    before: Floats,
    delivered: Floats,
    positions: Positions,
    value: Floats,
) -> None:
    """Set the values (M,) of items to −∞ that a cap might not bear in any position of a slate.

    A slate can show all items of a row: there must be room for as many of the first positions.
    """
    for row in range(len(pacing.start)):
        if pacing.most[row] < np.inf and counts[pacing.column[row]]:
            begin, end = pacing.first[row], pacing.first[row + 1]
            most = positions.weight[: end - begin].sum()
            if delivered[row] - before[row] + most > pacing.most[row]:
                for place in range(begin, end):
                    value[pacing.item[place]] = -np.inf


@compiled
def count_rows(
    pacing: RowPacing,
    counts: Bools,
    items: Ints,
    size: int,
    positions: Positions,
    weight: Floats,
    delivered: Floats,
) -> None:
    """Count the first ``size`` shown items (k,) for the rows that hold them and count the arrival.

    Args:
        pacing: The rows.
        counts: (A + 1,) which audiences count the arrival.
        items: (k,) shown items.
        size: How many were shown.
        positions: What each position counts.
        weight: (M,) zeros, as scratch.
        delivered: (J,) exposures so far, changed in place.
    """
    if len(delivered) == 0:
        return
    for place in range(size):
        weight[items[place]] = positions.weight[place]
    for row in range(len(delivered)):
        if counts[pacing.column[row]]:
            for place in range(pacing.first[row], pacing.first[row + 1]):
                delivered[row] += weight[pacing.item[place]]
    for place in range(size):
        weight[items[place]] = 0.0
