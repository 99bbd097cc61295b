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

from rimsim.arrays import Ints
from rimsim.config.fields import STRICT, Duration, duration_seconds
from rimsim.errors import ConfigError, raised_as
from rimsim.market.processes.handle import MarketHandle
from rimsim.requirements.filters import matching_rows, require_column


class Window(NamedTuple):
    """Time in which the demand for some items is multiplied."""

    items: Ints
    """Items with another demand."""
    begin: float
    """Seconds on the market's clock at which the window opens."""
    end: float
    """Seconds at which the window closes; ∞: never."""
    every: float
    """Seconds from one opening to the next; ∞: the window opens once."""
    factor: float
    """Factor of the demand."""

    def is_open(self, time: float) -> bool:
        """True if the window is open at a time."""
        return self.begin <= time and self._since(time) < self.end - self.begin

    def next_change(self, time: float) -> float:
        """Next opening or closing of the window after a time."""
        if time < self.begin:
            return self.begin
        opened = time - self._since(time)
        changes = (opened + self.end - self.begin, opened + self.every)
        return min((change for change in changes if change > time), default=math.inf)

    def _since(self, time: float) -> float:
        """Seconds since the window opened last."""
        return time - self.begin if math.isinf(self.every) else (time - self.begin) % self.every


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
        opening = float(market.memory.setdefault("opening", env.now))
        windows = self._windows(market, opening)
        time = env.now
        while math.isfinite(time):
            yield env.timeout(max(time - env.now, 0.0))
            factors = np.ones(len(market.items))
            for window in windows:
                if window.is_open(time):
                    factors[window.items] *= window.factor
            for factor in np.unique(factors):
                market.scale_demand(factors == factor, float(factor))
            time = min((window.next_change(time) for window in windows), default=math.inf)

    def _windows(self, market: MarketHandle, opening: float) -> list[Window]:
        """Windows of the options or of the table."""
        if self.table is not None:
            return _windows_of(Path(self.table), market)
        items = np.arange(len(market.items))
        if self.column is not None:
            items = np.flatnonzero(matching_rows(market.items, self.column, self.values, "demand.values"))
        begin = opening + (0.0 if self.after is None else duration_seconds(self.after))
        length = math.inf if self.lasts is None else duration_seconds(self.lasts)
        every = math.inf if self.every is None else duration_seconds(self.every)
        return [Window(items, begin, begin + length, every, self.factor)]


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
        start = epoch_seconds(begin, f"{place}: from")
        stop = epoch_seconds(end, f"{place}: to")
        windows.append(
            Window(
                items=items,
                begin=-math.inf if start is None else start,
                end=math.inf if stop is None else stop,
                every=math.inf,
                factor=number,
            )
        )
    return windows
