"""A log cut where a later session of each user begins: what a returning user takes is foretold from what is before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim import rng
from rimsim.arrays import Floats, Ints
from rimsim.errors import DataError

if TYPE_CHECKING:
    from rimsim.data.log import EventLog


@dataclass(frozen=True, eq=False)
class LaterSessions:
    """n users of a log, each cut where one of its later sessions begins."""

    past: EventLog
    """Each cut user's events before its cut, and all events of the other users."""
    future: EventLog
    """The cut users' events from their cut on."""
    user: Ints
    """(n,) the cut users, ascending."""
    time: Floats
    """(n,) seconds at which the drawn session of each begins."""
    count: Ints
    """(n,) events of the drawn session."""

    def __len__(self) -> int:
        return len(self.user)

    def every(self, step: int) -> LaterSessions:
        """The cut of one user in so many, and these users' future; the past is that of all."""
        if step == 1:
            return self
        user = self.user[::step]
        future = self.future.rows(np.isin(self.future.user, user))
        return LaterSessions(self.past, future, user, self.time[::step], self.count[::step])


def later_sessions(
    log: EventLog, *, gap: str | float = "30min", seed: int = 0, after: float = 0.3
) -> LaterSessions:
    """Cut each user of several sessions where one of its later sessions begins.

    Of the sessions that begin after a share of the user's events, one is drawn. A user who has none is not cut.

    Args:
        log: The log.
        gap: A silence longer than this ends a session.
        seed: Seed of the draw; each user's draw is its own, whoever else is in the log.
        after: The share of the user's events that come before the sessions that can be drawn.

    Returns:
        The past, the future and the cuts.

    Raises:
        DataError: If no user of the log has a session that can be drawn.
    """
    sessions = log.sessions(gap)
    order = np.lexsort((np.arange(len(sessions)), sessions.user))
    user, count = sessions.user[order], sessions.count[order]
    begin = np.searchsorted(user, np.arange(log.n_users + 1))
    events_before = np.concatenate([[0], np.cumsum(count)])
    before = events_before[:-1] - events_before[begin[user]]
    total = events_before[begin[user + 1]] - events_before[begin[user]]
    can_be = order[(before > 0) & (before >= after * total)]  # sessions by user, then start
    of_user = sessions.user[can_be]
    cut, first, choices = np.unique(of_user, return_index=True, return_counts=True)
    if not len(cut):
        raise DataError(
            f"later sessions: found no user with a session after {after:.0%} of its events; allowed: a log in which "
            "some user came back"
        )
    share = rng.uniform(seed, rng.Purpose.LATER_SESSIONS, cut)
    drawn = can_be[first + (share * choices).astype(np.int64)]
    limit = np.full(log.n_users, np.inf)
    limit[cut] = sessions.start[drawn]
    is_past = log.time < limit[log.user]
    return LaterSessions(
        past=log.rows(is_past),
        future=log.rows(~is_past),
        user=cut,
        time=sessions.start[drawn],
        count=sessions.count[drawn],
    )
