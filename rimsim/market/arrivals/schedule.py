"""The arrivals of a round as plain arrays in clock order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim.errors import MarketError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["VISIT_BITS", "Schedule", "checked_schedule", "row_capacity", "running_count"]

VISIT_BITS = 16
"""An arrival's id is its user's number shifted by so many bits, plus its visit number."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """The n arrivals of one round in clock order (ties: by user, then visit).

    Users of the round have *slots* 0 … u−1; a slot's arrays describe where its state begins.
    """

    tick: NDArray[np.int64]
    """(n,) when, in ticks."""
    id: NDArray[np.int64]
    """(n,) arrival ids; draws are keyed by them."""
    slot: NDArray[np.int64]
    """(n,) who, as a slot."""
    user: NDArray[np.int64]
    """(u,) market user of each slot."""
    log_user: NDArray[np.int64]
    """(u,) the log's user behind each slot."""
    shift: NDArray[np.float64]
    """(u,) seconds by which the logged past of the slot is moved in time."""
    session: NDArray[np.int64]
    """(n,) the log's session behind each arrival of a replay; −1 where there is none."""
    start: int
    """Tick at which the round begins."""
    stop: int
    """Tick at which it ends and the platform retrains."""
    logged: NDArray[np.int64] | None = None
    """(u,) how many events of its log user in the warm-up log, from the first on, are each slot's past; None: all."""
    forecast: float | None = None
    """How many arrivals are expected before the round; None: so many as come are known to come."""
    earlier: NDArray[np.int64] | None = None
    """(u,) how often each slot's user came in earlier rounds; None: ids count the visits of a user."""

    @property
    def expected_over_actual(self) -> float:
        """Arrivals that are expected, over those that come."""
        return 1.0 if self.forecast is None else self.forecast / len(self)

    def __len__(self) -> int:
        return len(self.tick)


def checked_schedule(schedule: Schedule, number: int, n_log_users: int) -> Schedule:
    """The schedule, if the market can play it: compiled code trusts its slots and lengths.

    Args:
        schedule: What an arrival process made.
        number: The round.
        n_log_users: Users of the log.

    Raises:
        MarketError: If arrivals are out of order, outside their round, share an id, or belong to no slot, or lengths
            differ.
    """
    tick, slot, log_user = schedule.tick, schedule.slot, schedule.log_user
    arrivals = {len(column) for column in (tick, schedule.id, slot, schedule.session)}
    users = {len(column) for column in (schedule.user, log_user, schedule.shift)}
    logged = np.zeros(len(log_user), np.int64) if schedule.logged is None else schedule.logged
    users.add(len(logged))
    if schedule.earlier is not None:
        users.add(len(schedule.earlier))
    faults = (
        (len(arrivals) > 1, f"columns of {sorted(arrivals)} arrivals", "columns of one length"),
        (len(users) > 1, f"columns of {sorted(users)} slots", "columns of one length"),
        (
            np.any((log_user < 0) | (log_user >= n_log_users)),
            "a slot of no user of the log",
            f"users from 0 to {n_log_users - 1}",
        ),
        (np.any(logged < 0), "a past of less than no event", "numbers of events from 0"),
        (len(np.unique(schedule.user)) != len(schedule.user), "two slots of one user", "distinct users"),
        (not len(tick), "no arrival at all", "at least one"),
        (np.any(tick[1:] < tick[:-1]), "arrivals out of clock order", "ascending ticks"),
        (
            len(tick) and not schedule.start <= tick[0] <= tick[-1] <= schedule.stop,
            f"ticks from {tick[:1]} to {tick[-1:]}",
            f"from its start, {schedule.start}, to its stop, {schedule.stop}",
        ),
        (len(np.unique(schedule.id)) != len(tick), "two arrivals of one id", "distinct ids"),
        (
            np.any((slot < 0) | (slot >= len(schedule.user))),
            "an arrival of no slot",
            f"slots from 0 to {len(schedule.user) - 1}",
        ),
    )
    for wrong, what, allowed in faults:
        if wrong:
            raise MarketError(f"arrivals of round {number}: {what}; allowed: {allowed}")
    return schedule


def row_capacity(visitor: NDArray[np.int64], slate: int, user_cap: int | None) -> NDArray[np.int64] | None:
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


def running_count(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) how often each value occurred before, in order."""
    order = np.argsort(values, kind="stable")
    grouped = values[order]
    fresh = np.ones(len(values), bool)
    fresh[1:] = grouped[1:] != grouped[:-1]
    position = np.arange(len(values))
    count = np.empty(len(values), np.int64)
    count[order] = position - np.maximum.accumulate(np.where(fresh, position, 0))
    return count
