"""The market's clock: SimPy with whole microseconds and a fixed order of what happens at the same instant."""

from __future__ import annotations

from collections.abc import Generator
from enum import IntEnum
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import simpy
from numpy.typing import ArrayLike

from rimsim.arrays import Floats, Ints
from rimsim.config.fields import duration_seconds

if TYPE_CHECKING:
    Process: TypeAlias = Generator[simpy.Event, object, None]


TICKS = 1_000_000
"""Ticks of the clock in a second. Whole ticks add and compare exactly, floating seconds would not."""


ALWAYS = -(2**62)
"""The release tick of what has always been there: before any log begins, those before 1970 included."""


NEVER = 2**62
"""A tick after all rounds, such as the release of what is not on offer."""


class Rank(IntEnum):
    """Who goes first at the same tick. SimPy keeps 0 and 1 for itself; within a rank, first scheduled goes first.

    An item that is released at a tick, and a consumption that becomes visible at it, need no event: they are there for
    the arrivals of that tick. The retraining of that tick does not know of the consumption.
    """

    RETRAIN = 2
    ARRIVAL = 3


def ticks(time: ArrayLike) -> Ints:
    """Seconds as whole ticks."""
    return np.rint(np.asarray(time, np.float64) * TICKS).astype(np.int64)


def seconds(tick: ArrayLike) -> Floats:
    """Ticks as seconds."""
    return np.asarray(tick, np.int64) / TICKS


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
