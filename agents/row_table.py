"""Requirements of a round, for agents and the price solver.

A floor is a requirement of one item. So the requirements of a round are M floors, followed by those of groups,
campaigns and caps (:class:`RowTable`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from rimsim.arrays import Bools, Floats, Ints
from rimsim.matching import Rows
from rimsim.requirements.rows import Requirements

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView


class RowTable(NamedTuple):
    """Requirements of a round: M floors, then G other requirements."""

    required: Floats
    """(M,) required exposures of items, including those from a requirement with one item."""
    rows: Requirements
    """The G requirements that are not floors of single items."""
    place: Ints
    """(J,) index of each requirement of ``view.promises`` among the M + G requirements of this table: an item for a
    floor, M + g for row g."""

    @classmethod
    def of(cls, view: RoundView, promises: Requirements | None = None) -> Self:
        """Requirements of a round: floors, then ``promises``.

        ``promises`` replaces ``view.promises``. A requirement that is a floor of one item becomes the floor of this
        item, if the item has none.
        """
        promises_table = view.promises if promises is None else promises
        required = np.array(view.required, np.float64)
        place = np.empty(len(promises_table), np.int64)
        is_row = np.ones(len(promises_table), bool)
        is_floor = (
            (promises_table.audience < 0)
            & (np.diff(promises_table.first) == 1)
            & (promises_table.min_exposure > 0)
            & np.isinf(promises_table.max_exposure)
        )
        for row in np.flatnonzero(is_floor):
            item = promises_table.item[promises_table.first[row]]
            if required[item] == 0.0:  # an item has one floor; each further floor becomes a row
                required[item] = promises_table.min_exposure[row]
                place[row] = item
                is_row[row] = False
        place[is_row] = len(required) + np.arange(is_row.sum())
        return cls(required, promises_table if is_row.all() else promises_table.rows(is_row), place)

    @property
    def min_exposure(self) -> Floats:
        """(M + G,) required exposures of items, then of rows."""
        return np.concatenate([self.required, self.rows.min_exposure])

    def split(self, price: Floats) -> tuple[Floats, Floats]:
        """Prices, split into those of items and of ``view.promises``."""
        item_price = price[: len(self.required)].copy()
        # A promise that became a floor has a price of its own, so the item does not have this price again.
        item_price[self.place[self.place < len(item_price)]] = -0.0
        return item_price, price[self.place]


class Constraints(NamedTuple):
    """Requirements of a round, scaled to the solver's n states."""

    min_exposure: Floats
    """(M,) smallest number of exposures of each item."""
    max_exposure: Floats
    """(M,) largest number of exposures of each item."""
    rows: Rows
    """Requirements of groups and campaigns."""
    is_row: Bools
    """(J,) True for requirements of the table that are in ``rows``; False for caps of single items."""

    def prices(self, table: Requirements, item_price: Floats, row_price: Floats) -> Floats:
        """Price of each requirement, from the solver's prices.

        A solved item price above 0 is the price of the item's cap.
        """
        price = np.zeros(len(table))
        price[self.is_row] = row_price
        price[~self.is_row] = np.maximum(item_price[table.rows(~self.is_row).item], 0.0)
        return price


def constraints_of(
    required: Floats, table: Requirements, active: Bools, cost: float, arrivals: float | None = None
) -> Constraints:
    """Solver's constraints for n states, in the unit of guarantees.

    ``active`` marks the states that count for each requirement. The states represent this number of ``arrivals``, and
    each requirement is scaled to its expected number of arrivals. If ``arrivals`` is None, the states are the arrivals
    themselves, and nothing is scaled.
    """
    n = len(active)
    is_row = ~table.item_caps
    rows_table = table.rows(is_row)
    active_of_rows = active[:, is_row]
    item_scale = 1.0
    row_scale = np.ones(len(rows_table))
    if arrivals is not None:
        item_scale = n / arrivals
        audience_scale = active_of_rows.sum(0) / np.maximum(rows_table.arrivals, 1e-9)
        row_scale = np.where(rows_table.audience < 0, item_scale, audience_scale)
    # An item is at most once in a slate, so that a floor above the number of states cannot be delivered in full.
    max_exposure = np.minimum(table.max_exposure_of_items(len(required)) * item_scale, n * 1.0)
    rows = Rows(
        first=rows_table.first,
        item=rows_table.item,
        min_exposure=rows_table.min_exposure * row_scale,
        max_exposure=np.multiply(
            rows_table.max_exposure,
            row_scale,
            out=np.full(len(rows_table), np.inf),
            where=np.isfinite(rows_table.max_exposure),
        ),
        cost=np.full(len(rows_table), cost),
        active=active_of_rows,
    )
    return Constraints(
        min_exposure=np.minimum(required * item_scale, max_exposure),
        max_exposure=max_exposure,
        rows=rows,
        is_row=is_row,
    )


def counted(table: Requirements, chunks: Sequence[Arrivals]) -> Bools:
    """Mask of the states that count for each requirement."""
    return np.concatenate([table.active(chunk.audiences, len(chunk)) for chunk in chunks])


def spread_prices(view: RoundView, price: Floats, arrivals: Arrivals) -> Floats:
    """Sum of requirements' prices for each arrival and item."""
    table = view.promises
    n_audiences = 0 if arrivals.audiences is None else arrivals.audiences.shape[1]
    # Requirements without an audience have the audience −1, and −1 is the index of the last row.
    price_by_audience = np.zeros((n_audiences + 1, len(view.required)))
    sizes = np.diff(table.first)
    np.add.at(price_by_audience, (np.repeat(table.audience, sizes), table.item), np.repeat(price, sizes))
    price_of_all = np.tile(price_by_audience[-1], (len(arrivals), 1))
    return (
        price_of_all
        if arrivals.audiences is None
        else arrivals.audiences @ price_by_audience[:-1] + price_of_all
    )
