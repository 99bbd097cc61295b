"""The market's clock: SimPy with whole microseconds and a fixed order of what happens at the same instant."""

from __future__ import annotations

from collections.abc import Generator
from enum import IntEnum
from typing import TYPE_CHECKING, TypeAlias

import simpy

from rimsim.arrays import ticks
from rimsim.config.fields import duration_seconds

if TYPE_CHECKING:
    Process: TypeAlias = Generator[simpy.Event, object, None]


class Rank(IntEnum):
    """Who goes first at the same tick. SimPy keeps 0 and 1 for itself; within a rank, first scheduled goes first.

    An item that is released at a tick, and a consumption that becomes visible at it, need no event: they are there for
    the arrivals of that tick. The retraining of that tick does not know of the consumption.
    """

    RETRAIN = 2
    ARRIVAL = 3


def delay_ticks(delay: str | None) -> int:
    """A duration such as ``1h`` as whole ticks; 0 for None."""
    return 0 if delay is None else int(ticks(duration_seconds(delay)))


class Moment(simpy.Event):
    """An event at an absolute tick with a rank among the events of that tick."""

    def __init__(self, env: simpy.Environment, tick: int, rank: Rank) -> None:
        super().__init__(env)
        self._ok = True
        self._value = None
        # Whole ticks: now + (tick - now) is exactly tick, so the order never hangs on rounding.
        env.schedule(self, rank, tick - env.now)  # type: ignore[arg-type]


class Clock:
    """A SimPy environment whose time is in ticks."""

    def __init__(self, start: int) -> None:
        self.env = simpy.Environment(initial_time=start)

    @property
    def now(self) -> int:
        """The present tick."""
        return int(self.env.now)

    def moment(self, tick: int, rank: Rank) -> Moment:
        """An event to yield in a process: it happens at ``tick``, in the order of its rank."""
        return Moment(self.env, tick, rank)

    def start(self, process: Process) -> None:
        """Let a generator live on the clock."""
        self.env.process(process)

    def step(self) -> None:
        """Let the next event happen."""
        self.env.step()
