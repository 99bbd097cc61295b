"""``outage``: times at which the model cannot be asked."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal

import simpy
from pydantic.dataclasses import dataclass

from rimsim.arrays import NEVER, TICKS, ticks
from rimsim.config.fields import STRICT, Duration, duration_seconds
from rimsim.errors import ConfigError
from rimsim.market.processes.handle import MarketHandle


@dataclass(frozen=True, config=STRICT)
class Outage:
    """Outages of the platform's model.

    During an outage, a fallback answers all visits instead of the agent. The agent counts the fallback's exposures when
    it answers again.
    """

    after: Duration | None = None
    """Time from the opening of the market to the first outage; null: `every`."""
    lasts: Duration = "2h"
    """Length of an outage."""
    every: Duration | None = "1d"
    """Time from the beginning of an outage to the next; null: there is one outage."""
    waits: Literal["fixed", "exponential"] = "fixed"
    """fixed: all times are exact. exponential: the times are means of exponential variables, and `every` less `lasts`
    is the mean time from the end of an outage to the next."""
    fallback: Literal["popularity", "last", "random"] = "popularity"
    """Slates during an outage. popularity: the items with the most events. last: the visitor's last slate, then popular
    items. random: random items."""

    def __post_init__(self) -> None:
        if self.after is None and self.every is None:
            raise ConfigError("outage.after and outage.every are null. Give one of them, such as after='1d'")
        if self.every is not None and duration_seconds(self.every) <= duration_seconds(self.lasts):
            raise ConfigError(
                f"outage.every is {self.every}, but an outage lasts {self.lasts}. Give a longer time, or null for one "
                "outage"
            )

    def run(self, env: simpy.Environment, market: MarketHandle) -> Generator[simpy.Event, Any, None]:
        """Stop the model, and start it again."""
        memory = market.memory
        if not memory:
            # The time of the next change is a whole tick, so that a resumed run waits for the same instant.
            memory |= {"change": self._next(env, market, self.after or self.every), "is_down": False}
        while memory["change"] < NEVER:
            yield env.timeout((memory["change"] - ticks(env.now)) / TICKS)
            if memory["is_down"]:
                market.start_model()
                memory["change"] = self._next(env, market, self.every, self.lasts)
            else:
                market.stop_model(self.fallback)
                memory["change"] = self._next(env, market, self.lasts)
            memory["is_down"] = not memory["is_down"]

    def _next(
        self, env: simpy.Environment, market: MarketHandle, duration: str | None, elapsed: str | None = None
    ) -> int:
        """Tick at which the rest of a duration is over."""
        if duration is None:
            return NEVER
        wait = duration_seconds(duration) - (0.0 if elapsed is None else duration_seconds(elapsed))
        if self.waits == "exponential":
            wait *= float(market.rng.standard_exponential())
        return int(ticks(env.now) + ticks(wait))
