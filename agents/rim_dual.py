"""``rim-dual``: agent of Ma, Liu and Deoras (ICLR 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.agents.arrival_arrays import ExposureUnit
from rimsim.agents.contract import OPTIONS
from rimsim.agents.delivery import Delivery
from rimsim.agents.prices import solved_rows
from rimsim.agents.row_table import RowTable, spread_prices
from rimsim.arrays import Floats
from rimsim.market import Slates
from rimsim.market.slates import at_items
from rimsim.matching import ordered_by, price_slates

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView


@dataclass(config=OPTIONS, eq=False)
class RimDual:
    """Ranks by λ(x,y) − v_y; the bonus −v_y is a budget.

    This is online matching of Ma, Liu and Deoras (ICLR 2022). Prices are solved once, on the last round's states. The
    bonus of an item is spent when the item has its required exposure, and its price is then 0. Bonuses of groups and
    campaigns end in the same way. An item is not shown if its next exposure could exceed a cap. For hard requirements,
    a guard shows items that later arrivals could not deliver.

    Without ``spend``, as published, all prices stay fixed for the round, and arrivals may come in any order. The agent
    then does not count its exposures. So an item can get no exposure or far too much, and a cap can be exceeded.

    Args:
        tol: Relative gap at which the price solver stops.
        spend: End each bonus when its requirement is met.
    """

    name = "rim-dual"
    barrier_every = None
    keeps_promises = True

    tol: float = Field(default=1e-3, gt=0)
    spend: bool = True

    def __post_init__(self) -> None:
        """Allow any order of arrivals if prices stay fixed."""
        self.order_free = not self.spend

    def begin_round(self, view: RoundView) -> None:
        """Solve the prices on the last round's states."""
        self._prices: Delivery | FixedPrices
        if self.spend:
            self._prices = Delivery.solved(view, self.tol, gain=0.0, closing=0.0, spend=True)
        else:
            self._prices = FixedPrices(view, self.tol)

    def reprice(self, view: RoundView) -> None:
        """Solve the prices again; spent bonuses stay spent."""
        if isinstance(self._prices, Delivery):
            self._prices.reprice(view, self.tol)
        else:
            self._prices = FixedPrices(view, self.tol)

    @property
    def item_price(self) -> Floats:
        """Current price v of each item."""
        return self._prices.item_price

    @property
    def row_price(self) -> Floats:
        """Current prices v of groups, campaigns and caps."""
        return self._prices.row_price

    def note_delivery(self, exposure: Floats, arrivals: Arrivals | None) -> None:
        """Count exposures that another agent delivered to arrivals."""
        if isinstance(self._prices, Delivery):
            self._prices.note(exposure, arrivals)

    def act(self, arrivals: Arrivals) -> Slates:
        """Items of largest λ − v at each arrival."""
        return self._prices.serve(arrivals)


class FixedPrices:
    """Serves arrivals in any order, at prices that never change."""

    def __init__(self, view: RoundView, tol: float) -> None:
        self._view = view
        table = RowTable.of(view)
        price, self._tie_width = solved_rows(view, table, tol)
        item_price, row_price = table.split(price)
        self.item_price = item_price
        """(M,) price v of each item."""
        self.row_price = row_price
        """(J,) prices v of groups, campaigns and caps."""

    def serve(self, arrivals: Arrivals) -> Slates:
        """Items of largest λ − v; the seed decides near ties."""
        view = self._view
        value = arrivals.intensity
        row_prices = None
        if self.row_price.any():  # rows have prices that apply only to arrivals of their audiences
            row_prices = spread_prices(view, self.row_price, arrivals)
            value = value - torch.from_numpy(row_prices).to(value)
        items = price_slates(
            value,
            self.item_price,
            view.k,
            admissible=arrivals.admissible,
            tie_seed=view.key,
            row_keys=arrivals.id,
            tie_width=self._tie_width,
        )
        if ExposureUnit.of(view).by_intensity:
            items = ordered_by(items, arrivals.intensity)
        price = self.item_price[items]
        if row_prices is not None:
            price = price + at_items(row_prices, items)
        return Slates(items, price=price.astype(np.float32))
