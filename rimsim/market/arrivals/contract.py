"""Contract of arrival processes, and checks of their schedules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import numpy as np

from rimsim.arrays import NEVER, Floats, ticks
from rimsim.data.log import EventLog
from rimsim.errors import MarketError
from rimsim.market.consumers.contract import World
from rimsim.market.histories import LoggedPast
from rimsim.market.past_round import PastRound
from rimsim.market.records import VISIT_BITS, Schedule


@dataclass(frozen=True, eq=False)
class Opening:
    """Opening of a market: time, past log and later releases."""

    past: EventLog
    """The warm-up log, which the platform knows at the opening."""
    time: float
    """Seconds at which the market opens; no event of ``past`` is later."""
    release: Floats | None = None
    """(M,) seconds at which each item is released; 0: from the start. None: all items are released from the start."""
    most_arrivals: int | None = None
    """Largest number of arrivals of any round; None: unknown."""
    end: Floats | None = None
    """(M,) seconds from which each item is not on offer; ∞: never. None: no item ends."""


@dataclass(frozen=True, eq=False)
class RoundsSoFar:
    """Record that an arrival process gets before a round."""

    world: World
    """World of the market: the log, the warm-up log with its sessions, the opening."""
    seed: int
    """Seed of arrivals, from which all random numbers must come (:mod:`rimsim.rng`)."""
    past: tuple[PastRound, ...] = ()
    """Past rounds that are still cached, oldest first."""


@runtime_checkable
class ArrivalProcess(Protocol):
    """Process that decides which visitors arrive, and when.

    The process has no state, and all its randomness comes from the seed in ``so_far``. Optional attributes are those of
    :class:`ArrivalCapabilities`.
    """

    known_beforehand: bool
    """True if agents know a round's arrivals with their states before the round begins, as in a broadcast."""
    keeps_users: bool
    """True if users stay from round to round with their consumptions; False: each round has new visitors."""

    def opening(self, log: EventLog) -> Opening:
        """Opening of the market, at a time within a log."""

    def round(self, number: int, so_far: RoundsSoFar) -> Schedule:
        """Arrivals of a round.

        Args:
            number: Number of the round, from 0. If users are new in each round, the number −1 is a round before the
                opening. The states of this round give the prices of round 0.
        """


@dataclass(frozen=True)
class ArrivalCapabilities:
    """Optional attributes of an arrival process, read once."""

    exogenous: bool
    """Attribute ``hangs_on_outcomes = False``: arrivals do not depend on outcomes, so all arms of a seed have the same
    arrivals."""
    replays_sessions: bool
    """Attribute ``replays_sessions``: each arrival is a session of the log."""

    @classmethod
    def of(cls, process: ArrivalProcess) -> Self:
        """Capabilities of a process; missing attributes have defaults."""
        return cls(
            exogenous=not getattr(process, "hangs_on_outcomes", True),
            replays_sessions=bool(getattr(process, "replays_sessions", False)),
        )


def checked_schedule(
    schedule: Schedule, number: int, so_far: RoundsSoFar, past: LoggedPast | None = None
) -> Schedule:
    """Given schedule, after checks that the market can use it.

    The checks include slots and lengths, because compiled code does not check these again.

    Args:
        past: Logged past of the visitors; None: the whole warm-up log.

    Raises:
        MarketError: If arrivals are out of order, outside their round, share an id, or belong to no slot; if lengths
            differ; if the round is not after the last one; or if a visitor's past is not before its first visit.
    """
    past = LoggedPast.of(so_far.world.past) if past is None else past
    for is_wrong, fault, allowed in _faults(schedule, number, so_far, past):
        if is_wrong:
            raise MarketError(f"arrivals of round {number}: {fault}. Expected {allowed}")
    return schedule


def _faults(
    schedule: Schedule, number: int, so_far: RoundsSoFar, past: LoggedPast
) -> Iterator[tuple[bool, str, str]]:
    """Result per check: true if failed; value found, value expected."""
    tick = schedule.tick
    slot = schedule.slot
    log_user = schedule.log_user
    n_users = so_far.world.log.n_users
    arrival_counts = {len(column) for column in (tick, schedule.id, slot, schedule.session)}
    yield len(arrival_counts) > 1, f"columns of {sorted(arrival_counts)} arrivals", "columns of one length"
    logged = np.zeros(len(log_user), np.int64) if schedule.logged is None else schedule.logged
    earlier = np.zeros(len(log_user), np.int64) if schedule.earlier is None else schedule.earlier
    slot_counts = {len(column) for column in (schedule.user, log_user, schedule.shift, logged, earlier)}
    yield len(slot_counts) > 1, f"columns of {sorted(slot_counts)} slots", "columns of one length"
    for name in ("tick", "id", "slot", "session", "user", "log_user", "logged", "earlier"):
        column = getattr(schedule, name)
        type_name = "" if column is None else np.asarray(column).dtype.name
        has_wrong_type = column is not None and not type_name.startswith("int")
        yield has_wrong_type, f"{name} of type {type_name}", "whole numbers, int64"
    has_unknown_user = bool(np.any((log_user < 0) | (log_user >= n_users)))
    yield has_unknown_user, "a slot whose user is not in the log", f"users from 0 to {n_users - 1}"
    yield bool(np.any(logged < 0)), "a past with a negative number of events", "numbers of at least 0"
    yield len(np.unique(schedule.user)) != len(schedule.user), "two slots for one user", "distinct users"
    yield not len(tick), "there is no arrival", "at least one"
    yield bool(np.any(tick[1:] < tick[:-1])), "arrivals are not in clock order", "ascending ticks"
    expected_ticks = f"ticks from the start, {schedule.start}, to the stop, {schedule.stop}"
    is_outside = not schedule.start <= tick[0] <= tick[-1] <= schedule.stop
    yield is_outside, f"ticks from {tick[:1]} to {tick[-1:]}", expected_ticks
    yield len(np.unique(schedule.id)) != len(tick), "two arrivals with the same id", "distinct ids"
    has_unknown_slot = bool(np.any((slot < 0) | (slot >= len(schedule.user))))
    yield (
        has_unknown_slot,
        "an arrival whose slot does not exist",
        f"slots from 0 to {len(schedule.user) - 1}",
    )
    yield (
        schedule.earlier is None and bool(np.any(schedule.id >> VISIT_BITS != schedule.user[slot])),
        "ids that are not ids of a user's visits",
        f"user << {VISIT_BITS} | earlier visits of the user, as counted or as given in `earlier`",
    )
    # Round −1 stands for the past, whose start has no bound.
    if number >= 0:
        previous_stop = so_far.past[-1].schedule.stop if so_far.past else int(ticks(so_far.world.opening))
        yield (
            schedule.start < previous_stop - 1,  # 1 tick is allowed, because both times are rounded to ticks
            f"a start at tick {schedule.start}",
            f"a start from {previous_stop} µs, when the {'round before ends' if so_far.past else 'market opens'}",
        )
    yield not np.isfinite(schedule.shift).all(), "a past whose shift is not finite", "finite shifts"
    length = past.length(log_user, schedule.logged)
    first_tick = np.full(len(log_user), NEVER)
    first_tick[slot[::-1]] = tick[::-1]  # the reversed order writes each visitor's first visit last
    late_slots = np.flatnonzero(
        (length > 0) & (ticks(past.last(log_user, length) + schedule.shift) > first_tick)
    )
    yield (
        bool(len(late_slots)),
        f"a past that is moved beyond the visitor's first visit, for {len(late_slots)} of {len(log_user)} slots",
        "shifts with which each past ends before that visit",
    )
