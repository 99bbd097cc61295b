"""``training``: times at which the platform retrains."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, ClassVar

import simpy
from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.config.fields import STRICT, Duration, duration_seconds
from rimsim.errors import ConfigError
from rimsim.market.processes.handle import MarketHandle


@dataclass(frozen=True, config=STRICT)
class TrainingTimes:
    """The platform retrains at chosen times, which takes time.

    A training learns what is known when it starts. While it takes, the old model serves and the events go on. Without
    options, the platform retrains at the end of each round, as it does without this process.
    """

    decides_retraining: ClassVar[bool] = True

    every: Duration | None = None
    """Time from one training to the next, such as 6h; null: each round's end."""
    visits: int | None = Field(default=None, ge=1)
    """Number of visits from one training to the next instead; null: see `every`."""
    takes: Duration | None = None
    """Time from the start of a training until its model is live; null: 0."""

    def __post_init__(self) -> None:
        """Refuse two measures of time.

        Raises:
            ConfigError: If both `every` and `visits` are given.
        """
        if self.every is not None and self.visits is not None:
            raise ConfigError("training: every and visits are both given. Give one of them")

    def run(self, env: simpy.Environment, market: MarketHandle) -> Generator[simpy.Event, Any, None]:
        """Wait for the next time, and start a training."""
        takes = 0.0 if self.takes is None else duration_seconds(self.takes)
        memory = market.memory
        while True:
            if self.every is not None:
                due = memory.setdefault("due", env.now + duration_seconds(self.every))
                yield env.timeout(max(due - env.now, 0.0))
                memory["due"] = due + duration_seconds(self.every)
            elif self.visits is not None:
                due = memory.setdefault("due", market.served + self.visits)
                yield market.visits(due - market.served)
                memory["due"] = due + self.visits
            else:
                yield market.round_end()
            market.retrain(takes)
