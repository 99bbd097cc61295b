"""What an arrival process is to the market: when it opens, and who comes in each round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from rimsim.arrays import Floats

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.market.arrivals.schedule import Schedule
    from rimsim.market.training_log import PastRound
    from rimsim.market.world import World


@dataclass(frozen=True, eq=False)
class Opening:
    """What is past when the market opens, and which items are not there yet."""

    past: EventLog
    """The warm-up log: what the platform knows at the opening."""
    time: float
    """Seconds at which the market opens; no event of ``past`` is later."""
    release: Floats | None = None
    """(M,) seconds at which each item is released; 0: there from the start. None: all are."""
    most_arrivals: int | None = None
    """No round has more arrivals than this; None: unknown."""


@dataclass(frozen=True, eq=False)
class RoundsSoFar:
    """What an arrival process may know at the barrier before a round."""

    world: World
    """The log, the warm-up log with its sessions, the opening."""
    seed: int
    """Seed of arrivals; the only source of chance (:mod:`rimsim.rng`)."""
    past: tuple[PastRound, ...] = ()
    """The rounds that are over and still kept, oldest first: who came, and what each had consumed by when."""


@runtime_checkable
class ArrivalProcess(Protocol):
    """Decides who arrives when. It keeps no state of its own: all chance comes from the seed that it is told.

    It may also have ``hangs_on_outcomes = False``: who comes hangs on nothing that was shown or taken before, so that
    all arms of a seed have the same arrivals. Without it, arms are taken to differ.
    """

    known_beforehand: bool
    """Agents are told a round's arrivals, with their states, before it begins (a broadcast)."""
    keeps_users: bool
    """A user is the same one in every round and keeps what it consumed; false: each round's visitors are new."""

    def opening(self, log: EventLog) -> Opening:
        """Cut the log where the market opens."""
        ...

    def round(self, number: int, so_far: RoundsSoFar) -> Schedule:
        """The arrivals of a round.

        Args:
            number: The round, from 0. Where users are not kept, −1 asks for states of the past, on which the prices
                of round 0 are solved.
            so_far: What may be known.
        """
        ...
