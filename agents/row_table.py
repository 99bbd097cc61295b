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
    """(J,) place of each requirement of ``view.promises`` in this table: an item if below M, otherwise M plus a row."""

    @classmethod
    def of(cls, view: RoundView, promises: Requirements | None = None) -> Self:
        """Requirements of a round: floors, then ``promises``."""
        table = view.promises if promises is None else promises
        required = np.array(view.required, np.float64)
        place = np.empty(len(table), np.int64)
        rest = np.ones(len(table), bool)
        single = (
            (table.audience < 0)
            & (np.diff(table.first) == 1)
            & (table.min_exposure > 0)
            & np.isinf(table.max_exposure)
        )
        for row in np.flatnonzero(single):
            item = table.item[table.first[row]]
            if required[item] == 0.0:  # an item has one floor; each further floor becomes a row
                required[item] = table.min_exposure[row]
                place[row] = item
                rest[row] = False
        place[rest] = len(required) + np.arange(rest.sum())
        return cls(required, table if rest.all() else table.rows(rest), place)

    @property
    def min_exposure(self) -> Floats:
        """(M + G,) required exposures of items, then of rows."""
        return np.concatenate([self.required, self.rows.min_exposure])

    def split(self, price: Floats) -> tuple[Floats, Floats]:
        """Prices, split into those of items and of ``view.promises``."""
        item_price = price[: len(self.required)].copy()
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
    mine = active[:, is_row]
    scale = 1.0
    share = np.ones(len(rows_table))
    if arrivals is not None:
        scale = n / arrivals
        share = np.where(rows_table.audience < 0, scale, mine.sum(0) / np.maximum(rows_table.arrivals, 1e-9))
    max_exposure = table.max_exposure_of_items(len(required)) * scale
    rows = Rows(
        first=rows_table.first,
        item=rows_table.item,
        min_exposure=rows_table.min_exposure * share,
        max_exposure=np.multiply(
            rows_table.max_exposure,
            share,
            out=np.full(len(rows_table), np.inf),
            where=np.isfinite(rows_table.max_exposure),
        ),
        cost=np.full(len(rows_table), cost),
        active=mine,
    )
    return Constraints(
        np.minimum(required * scale, max_exposure), np.minimum(max_exposure, n * 1.0), rows, is_row
    )


def counted(table: Requirements, chunks: Sequence[Arrivals]) -> Bools:
    """Mask of the states that count for each requirement."""
    return np.concatenate([table.active(chunk.audiences, len(chunk)) for chunk in chunks])


def spread_prices(view: RoundView, price: Floats, arrivals: Arrivals) -> Floats:
    """Sum of requirements' prices for each arrival and item."""
    table = view.promises
    columns = 0 if arrivals.audiences is None else arrivals.audiences.shape[1]
    of_items = np.zeros((columns + 1, len(view.required)))
    sizes = np.diff(table.first)
    np.add.at(of_items, (np.repeat(table.audience, sizes), table.item), np.repeat(price, sizes))
    shared = np.tile(of_items[-1], (len(arrivals), 1))
    return shared if arrivals.audiences is None else arrivals.audiences @ of_items[:-1] + shared
