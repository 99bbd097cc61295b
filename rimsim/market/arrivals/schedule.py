"""The arrivals of a round as plain arrays in clock order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import NEVER, Floats, Ints, ticks
from rimsim.errors import MarketError
from rimsim.market.histories import LoggedPast
from rimsim.requirements.audiences import RoundVisits

if TYPE_CHECKING:
    from rimsim.market.arrivals.contract import RoundsSoFar


VISIT_BITS = 16
"""An arrival's id is its user's number shifted by so many bits, plus its visit number."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """The n arrivals of one round in clock order (ties: by user, then visit).

    Users of the round have *slots* 0 … u−1; a slot's arrays describe where its state begins.
    """

    tick: Ints
    """(n,) when, in ticks."""
    id: Ints
    """(n,) arrival ids, distinct over all rounds; draws are keyed by them.

    Where ``earlier`` is None, an id is ``user << 16 | visit``: the market user and how often it came before.
    """
    slot: Ints
    """(n,) who, as a slot."""
    user: Ints
    """(u,) market user of each slot."""
    log_user: Ints
    """(u,) the log's user behind each slot."""
    shift: Floats
    """(u,) seconds by which the logged past of the slot is moved in time."""
    session: Ints
    """(n,) the log's session behind each arrival of a replay; −1 where there is none."""
    start: int
    """Tick at which the round begins."""
    stop: int
    """Tick at which it ends and the platform retrains."""
    logged: Ints | None = None
    """(u,) how many events of its log user in the warm-up log, from the first on, are each slot's past; None: all."""
    forecast: float | None = None
    """How many arrivals are expected before the round; None: so many as come are known to come."""
    earlier: Ints | None = None
    """(u,) how often each slot's user came in earlier rounds; None: ids count the visits of a user."""

    @property
    def expected_over_actual(self) -> float:
        """Arrivals that are expected, over those that come."""
        return 1.0 if self.forecast is None else self.forecast / len(self)

    def visits(self, past_events: Ints) -> RoundVisits:
        """The arrivals as requirements see them.

        Args:
            past_events: (users of the log,) events of each that the platform knows at the opening.
        """
        known = past_events[self.log_user]
        if self.logged is not None:
            known = np.minimum(known, self.logged)
        if self.earlier is None:
            visit = self.id & ((1 << VISIT_BITS) - 1)
        else:
            visit = self.earlier[self.slot] + running_count(self.slot)
        first = (known[self.slot] == 0) & (visit == 0)
        return RoundVisits(self.tick, self.log_user[self.slot], first, self.start, self.stop)

    def __len__(self) -> int:
        return len(self.tick)


def checked_schedule(
    schedule: Schedule, number: int, so_far: RoundsSoFar, past: LoggedPast | None = None
) -> Schedule:
    """The schedule, if the market can play it: compiled code trusts its slots and lengths.

    Args:
        schedule: What an arrival process made.
        number: The round.
        so_far: What the process was told.
        past: The logged past that visitors come with; None: all of the warm-up log.

    Raises:
        MarketError: If arrivals are out of order, outside their round, share an id, or belong to no slot, lengths
            differ, the round is not after what is over, or a visitor's past is not before its first visit.
    """
    past = LoggedPast.of(so_far.world.past) if past is None else past
    for wrong, what, allowed in _faults(schedule, number, so_far, past):
        if wrong:
            raise MarketError(f"arrivals of round {number}: {what}; allowed: {allowed}")
    return schedule


def _faults(
    schedule: Schedule, number: int, so_far: RoundsSoFar, past: LoggedPast
) -> Iterator[tuple[bool, str, str]]:
    """Whether there is a fault, what it is, and what is allowed; each may be looked at where those before are not."""
    tick, slot, log_user, n_users = schedule.tick, schedule.slot, schedule.log_user, so_far.world.log.n_users
    arrivals = {len(column) for column in (tick, schedule.id, slot, schedule.session)}
    yield len(arrivals) > 1, f"columns of {sorted(arrivals)} arrivals", "columns of one length"
    logged = np.zeros(len(log_user), np.int64) if schedule.logged is None else schedule.logged
    earlier = np.zeros(len(log_user), np.int64) if schedule.earlier is None else schedule.earlier
    users = {len(column) for column in (schedule.user, log_user, schedule.shift, logged, earlier)}
    yield len(users) > 1, f"columns of {sorted(users)} slots", "columns of one length"
    for name in ("tick", "id", "slot", "session", "user", "log_user", "logged", "earlier"):
        column = getattr(schedule, name)
        kind = "" if column is None else np.asarray(column).dtype.name
        yield (
            column is not None and not kind.startswith("int"),
            f"{name} of type {kind}",
            "whole numbers, int64",
        )
    yield (
        bool(np.any((log_user < 0) | (log_user >= n_users))),
        "a slot of no user of the log",
        f"users from 0 to {n_users - 1}",
    )
    yield bool(np.any(logged < 0)), "a past of less than no event", "numbers of events from 0"
    yield len(np.unique(schedule.user)) != len(schedule.user), "two slots of one user", "distinct users"
    yield not len(tick), "no arrival at all", "at least one"
    yield bool(np.any(tick[1:] < tick[:-1])), "arrivals out of clock order", "ascending ticks"
    yield (
        not schedule.start <= tick[0] <= tick[-1] <= schedule.stop,
        f"ticks from {tick[:1]} to {tick[-1:]}",
        f"from its start, {schedule.start}, to its stop, {schedule.stop}",
    )
    yield len(np.unique(schedule.id)) != len(tick), "two arrivals of one id", "distinct ids"
    yield (
        bool(np.any((slot < 0) | (slot >= len(schedule.user)))),
        "an arrival of no slot",
        f"slots from 0 to {len(schedule.user) - 1}",
    )
    yield (
        schedule.earlier is None and bool(np.any(schedule.id >> VISIT_BITS != schedule.user[slot])),
        "ids that are not those of a user's visits",
        f"the user's number << {VISIT_BITS} | how often it came before, or how often that is in `earlier`",
    )
    if number >= 0:  # round −1 is of the past
        over = so_far.past[-1].schedule.stop if so_far.past else int(ticks(so_far.world.opening))
        yield (
            schedule.start < over - 1,  # seconds are rounded to ticks at both ends
            f"a start at tick {schedule.start}",
            f"from {over}, where the {'round before ends' if so_far.past else 'market opens'}, in microseconds",
        )
    yield not np.isfinite(schedule.shift).all(), "a past that is moved by no number", "finite shifts"
    length = past.length(log_user, schedule.logged)
    came = np.full(len(log_user), NEVER)
    came[slot[::-1]] = tick[::-1]  # the first visit of each is written last
    late = np.flatnonzero((length > 0) & (ticks(past.last(log_user, length) + schedule.shift) > came))
    yield (
        bool(len(late)),
        f"a past that is moved beyond the visitor's first visit, for {len(late)} of {len(log_user)} slots",
        "shifts by which it ends before",
    )


def row_capacity(visitor: Ints, slate: int, user_cap: int | None) -> Ints | None:
    """(n,) positions that each visit of a round may fill under a user's cap; None without one.

    The v-th visit of a user (from 0) may fill what v full slates leave of the cap, whether they were filled or not:
    so capacities are known before the round.

    Args:
        visitor: (n,) who comes, in clock order.
        slate: k.
        user_cap: Exposures that each of them can get.
    """
    if user_cap is None:
        return None
    return np.clip(user_cap - running_count(visitor) * slate, 0, slate)


def running_count(values: Ints) -> Ints:
    """(n,) how often each value occurred before, in order."""
    order = np.argsort(values, kind="stable")
    grouped = values[order]
    fresh = np.ones(len(values), bool)
    fresh[1:] = grouped[1:] != grouped[:-1]
    position = np.arange(len(values))
    count = np.empty(len(values), np.int64)
    count[order] = position - np.maximum.accumulate(np.where(fresh, position, 0))
    return count
