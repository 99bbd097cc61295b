"""``rim-dual``: agent of Ma, Liu and Deoras (ICLR 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.agents.arrival_arrays import ExposureUnit
from rimsim.agents.contract import OPTIONS
from rimsim.agents.prices import solved_rows
from rimsim.agents.row_table import RowTable, spread_prices
from rimsim.market import Slates
from rimsim.market.slates import at_items
from rimsim.matching import ordered_by, price_slates

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView


@dataclass(config=OPTIONS, eq=False)
class RimDual:
    """Ranks by λ(x,y) − v_y with fixed prices for the round.

    This is online matching of Ma, Liu and Deoras (ICLR 2022). The prices of groups, campaigns and caps are fixed, too.
    The agent does not count its exposures, so it may exceed a cap. Prices are solved to the relative gap ``tol``.
    """

    name = "rim-dual"
    order_free = True
    barrier_every = None
    keeps_promises = True

    tol: float = Field(default=1e-3, gt=0)

    def begin_round(self, view: RoundView) -> None:
        """Solve the prices on the last round's states."""
        self._slate = view.k
        self._key = view.key
        self._by_intensity = ExposureUnit.of(view).by_intensity
        self._view = view
        table = RowTable.of(view)
        price, self._tie_width = solved_rows(view, table, self.tol)
        self.item_price, self.row_price = table.split(price)

    def act(self, arrivals: Arrivals) -> Slates:
        """Items of largest λ − v; the seed decides near ties."""
        value = arrivals.intensity
        row_prices = None
        if self.row_price.any():  # rows have prices that apply only to arrivals of their audiences
            row_prices = spread_prices(self._view, self.row_price, arrivals)
            value = value - torch.from_numpy(row_prices).to(value)
        items = price_slates(
            value,
            self.item_price,
            self._slate,
            admissible=arrivals.admissible,
            tie_seed=self._key,
            row_keys=arrivals.id,
            tie_width=self._tie_width,
        )
        if self._by_intensity:
            items = ordered_by(items, arrivals.intensity)
        price = self.item_price[items]
        if row_prices is not None:
            price = price + at_items(row_prices, items)
        return Slates(items, price=price.astype(np.float32))
