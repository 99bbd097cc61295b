"""``stock``: items that sell out and are restocked."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import simpy
from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Bools, Floats
from rimsim.config.fields import STRICT, Duration, duration_seconds
from rimsim.errors import ConfigError
from rimsim.market.processes.handle import MarketHandle
from rimsim.requirements.filters import require_column


@dataclass(frozen=True, config=STRICT)
class UnitStock:
    """Items have units, sell out and are restocked.

    A consumption takes a unit at the visit itself. An item without units is not on offer until it is restocked. No unit
    is sold twice, whatever the batch.
    """

    units: int = Field(default=20, ge=1)
    """Units of each item at the opening, and of each delivery."""
    column: str | None = None
    """Column of the item table with the units of each item instead; an item without a number never sells out."""
    lead: Duration | None = None
    """Time from the sale of the last unit to the next delivery; null: items are never restocked."""

    def run(self, env: simpy.Environment, market: MarketHandle) -> Generator[simpy.Event, Any, None]:
        """Wait until items sell out or are delivered."""
        units = self._units(market)
        memory = market.memory
        if not memory:
            memory |= {
                "left": units.copy(),
                "due": np.full(len(units), np.inf),
                "sold": np.zeros(len(units)),
            }
            market.end(units == 0)
        left: Floats = memory["left"]
        due: Floats = memory["due"]
        sold: Floats = memory["sold"]
        while True:
            consumption = market.consumption
            left -= consumption - sold
            sold[:] = consumption
            self._end(env, market, (left <= 0) & np.isinf(due) & (units > 0), due)
            is_delivered = due <= env.now
            left[is_delivered] = units[is_delivered]
            due[is_delivered] = np.inf
            market.release(is_delivered)
            events = self._next_events(env, market, left, due)
            if not events:
                return
            yield env.any_of(events)

    def _units(self, market: MarketHandle) -> Floats:
        """Units of each item at the opening."""
        items = market.items
        if self.column is None:
            return np.full(len(items), float(self.units))
        require_column(items, self.column, "stock.column")
        import pandas as pd  # noqa: PLC0415  # slow to import, and only a column of units needs it

        numbers = pd.to_numeric(items[self.column], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        if (numbers < 0).any() or not np.isfinite(numbers).any():
            raise ConfigError(f"stock.column: column {self.column!r} has no numbers of at least 0")
        return np.where(np.isfinite(numbers), np.floor(numbers), np.inf)

    def _end(self, env: simpy.Environment, market: MarketHandle, is_sold_out: Bools, due: Floats) -> None:
        """Take items that have just sold out off offer."""
        if is_sold_out.any():
            market.end(is_sold_out)
            if self.lead is not None:
                # A delivery is due at a whole microsecond, which is exact in the clock's time.
                due[is_sold_out] = np.round(env.now + duration_seconds(self.lead), 6)

    def _next_events(
        self, env: simpy.Environment, market: MarketHandle, left: Floats, due: Floats
    ) -> list[simpy.Event]:
        """Events that come before the next change."""
        events: list[simpy.Event] = []
        # A visit takes at most one unit of an item.
        in_stock = left[(left > 0) & np.isfinite(left)]
        if len(in_stock):
            events.append(market.visits(int(in_stock.min())))
        if np.isfinite(due).any():
            events.append(env.timeout(max(float(due.min()) - env.now, 0.0)))
        return events
