"""``demand``: seasons and promotions."""

from __future__ import annotations

import math
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import simpy
from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import NEVER, TICKS, Ints, ticks
from rimsim.config.fields import STRICT, Duration
from rimsim.errors import ConfigError, raised_as
from rimsim.market.processes.handle import MarketHandle
from rimsim.market.records import delay_ticks
from rimsim.requirements.filters import matching_rows, require_column


class Window(NamedTuple):
    """Time in which the demand for some items is multiplied."""

    items: Ints
    """Items with another demand."""
    begin: int
    """Tick at which the window opens."""
    end: int
    """Tick at which the window closes; NEVER: it does not close."""
    every: int
    """Ticks from one opening to the next; NEVER: the window opens once."""
    factor: float
    """Factor of the demand."""

    def is_open(self, tick: int) -> bool:
        """True if the window is open at a tick."""
        if self.every == NEVER:
            return self.begin <= tick < self.end
        return self.begin <= tick and (tick - self.begin) % self.every < self.end - self.begin

    def next_change(self, tick: int) -> int:
        """Next opening or closing of the window after a tick."""
        if tick < self.begin:
            return self.begin
        if self.every == NEVER:
            return self.end if tick < self.end else NEVER
        opened = tick - (tick - self.begin) % self.every
        changes = (opened + self.end - self.begin, opened + self.every)
        return min((change for change in changes if change > tick), default=NEVER)


@dataclass(frozen=True, config=STRICT)
class Demand:
    """A season or a promotion multiplies the demand for items.

    The demand is the true intensity of visitors, which the platform does not see. Factors of windows that are open at
    the same time multiply each other.
    """

    factor: float = Field(default=2.0, ge=0)
    """Factor of the demand while the window is open; 0: nobody takes the items."""
    column: str | None = None
    """Column of the item table that chooses the items, such as genres; null: all items."""
    values: tuple[str, ...] = ()
    """Values in this column whose items are meant."""
    after: Duration | None = None
    """Time from the opening of the market to the first window; null: it opens with the market."""
    lasts: Duration | None = None
    """Length of a window; null: it never closes."""
    every: Duration | None = None
    """Time from the opening of a window to the next, such as 7d; null: there is one window."""
    table: str | None = None
    """CSV file of windows instead, with the columns `from` and `to` (times), `factor`, and either `item` (ids) or a
    column of the item table."""

    def run(self, env: simpy.Environment, market: MarketHandle) -> Generator[simpy.Event, Any, None]:
        """Change the demand when windows open or close."""
        now = int(ticks(env.now))
        opening = int(market.memory.setdefault("opening", now))
        windows = self._windows(market, opening)
        tick = now
        while tick < NEVER:
            # Ticks are whole, so that a window neither opens twice nor closes before it has opened.
            yield env.timeout((tick - now) / TICKS)
            now = tick
            factors = np.ones(len(market.items))
            for window in windows:
                if window.is_open(tick):
                    factors[window.items] *= window.factor
            for factor in np.unique(factors):
                market.scale_demand(factors == factor, float(factor))
            tick = min((window.next_change(tick) for window in windows), default=NEVER)

    def _windows(self, market: MarketHandle, opening: int) -> list[Window]:
        """Windows of the options or of the table."""
        if self.table is not None:
            return _windows_of(Path(self.table), market)
        items = np.arange(len(market.items))
        if self.column is not None:
            items = np.flatnonzero(matching_rows(market.items, self.column, self.values, "demand.values"))
        begin = opening + delay_ticks(self.after)
        end = NEVER if self.lasts is None else begin + delay_ticks(self.lasts)
        every = NEVER if self.every is None else delay_ticks(self.every)
        return [Window(items, begin, end, every, self.factor)]


def _windows_of(file: Path, market: MarketHandle) -> list[Window]:
    """Windows of a table, one per row."""
    import pandas as pd  # noqa: PLC0415  # slow to import, and only a table needs it

    from rimsim.data.readers.values import epoch_seconds  # noqa: PLC0415  # the same

    with raised_as(ConfigError, f"demand.table {str(file)!r}", "cannot be read", (OSError, ValueError)):
        table = pd.read_csv(file, dtype=str)
    for name in ("from", "to", "factor"):
        require_column(table, name, f"demand.table {str(file)!r}")
    chosen = [name for name in table.columns if name not in ("from", "to", "factor")]
    if len(chosen) != 1:
        raise ConfigError(
            f"demand.table {str(file)!r}: it has the further columns {', '.join(chosen) or 'none'}. Expected "
            "one: item, or a column of the item table"
        )
    column = "id" if chosen[0] == "item" else chosen[0]
    windows = []
    for line, (value, begin, end, factor) in enumerate(
        zip(table[chosen[0]], table["from"], table["to"], table["factor"], strict=True), start=2
    ):
        place = f"demand.table {str(file)!r}, line {line}"
        items = np.flatnonzero(matching_rows(market.items, column, (str(value),), place))
        with raised_as(ConfigError, place, f"the factor {factor!r} is not a number", ValueError):
            number = float(factor)
        if not (math.isfinite(number) and number >= 0):
            raise ConfigError(f"{place}: the factor is {factor}. Expected a finite number of at least 0")
        start = None if pd.isna(begin) else epoch_seconds(begin, f"{place}: from")
        stop = None if pd.isna(end) else epoch_seconds(end, f"{place}: to")
        windows.append(
            Window(
                items=items,
                begin=-NEVER if start is None else int(ticks(start)),
                end=NEVER if stop is None else int(ticks(stop)),
                every=NEVER,
                factor=number,
            )
        )
    return windows
