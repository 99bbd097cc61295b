"""User states at an instant, and event counts that followed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rimsim.arrays import Floats, Ints, places_of
from rimsim.data.log import EventLog
from rimsim.errors import ModelError

_MOST_EVENTS = 2**24
"""Largest number of events of all examples together; their items and times take 270 MB."""


@dataclass(frozen=True, eq=False)
class UserStates:
    """Ragged arrays of n user states.

    Row i has the events ``offsets[i]`` to ``offsets[i + 1]``, oldest first.
    """

    offsets: Ints
    """(n + 1,) index of each state's first event."""
    items: Ints
    """(total,) consumed items."""
    times: Floats
    """(total,) times of consumption in seconds, ascending within a state and before the state's ``now``."""
    now: Floats
    """(n,) instant of each state, in seconds."""

    def __len__(self) -> int:
        return len(self.now)

    @property
    def lengths(self) -> Ints:
        """(n,) number of events of each state."""
        return np.diff(self.offsets)

    @property
    def owner(self) -> Ints:
        """(total,) index of the state of each event."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def rows_of(self, start: int, stop: int) -> tuple[Ints, Ints]:
        """State and item of each event in consecutive states."""
        offsets = self.offsets[start : stop + 1]
        return np.repeat(np.arange(stop - start), np.diff(offsets)), self.items[offsets[0] : offsets[-1]]

    @classmethod
    def of(cls, log: EventLog, users: ArrayLike, now: ArrayLike) -> UserStates:
        """States of given users of a log strictly before ``now``."""
        user_index = np.asarray(users, np.int64)
        instants = np.broadcast_to(np.asarray(now, np.float64), user_index.shape)
        begin, end = known_events(log, user_index, instants)
        positions, offsets = places_of(begin, end)
        events = log.by_user[positions]
        return cls(offsets, log.item[events], log.time[events], np.array(instants, np.float64))

    def __getitem__(self, rows: Ints | slice) -> UserStates:
        return self.take(np.arange(len(self))[rows])

    def take(self, rows: ArrayLike) -> UserStates:
        """States with the given indices, in that order."""
        state_index = np.asarray(rows, np.int64)
        events, offsets = places_of(self.offsets[state_index], self.offsets[state_index + 1])
        return UserStates(offsets, self.items[events], self.times[events], self.now[state_index])


def known_events(log: EventLog, users: Ints, now: Floats) -> tuple[Ints, Ints]:
    """Begin and end, in ``log.by_user``, of users' events before ``now``."""
    begin = log.offsets[users]
    high = log.offsets[users + 1]
    # Times of a user ascend, so the events before `now` come first. Bisection finds their number for all rows at once.
    low = begin.copy()
    while (open_rows := low < high).any():
        middle = (low + high) // 2
        earlier = log.time[log.by_user[np.minimum(middle, len(log) - 1)]] < now
        low = np.where(open_rows & earlier, middle + 1, low)
        high = np.where(open_rows & ~earlier, middle, high)
    return begin, low


@dataclass(frozen=True, eq=False)
class CountExamples:
    """n states, and number of target events that followed each."""

    states: UserStates
    counts: Ints
    """(n,) target events within the horizon."""
    user: Ints
    """(n,) user of each state."""


def session_examples(
    log: EventLog, gap: str | float = "30min", *, most_events: int = _MOST_EVENTS
) -> CountExamples:
    """Examples: the state before each session, and its event count.

    Sessions are cut from target events alone; the other events are history only. Every session has an event, so every
    count is at least one. If all states together would have more than ``most_events`` events, some sessions are left
    out, evenly over time.
    """
    target_log = log if log.target is None else log.rows(log.targets)
    sessions = target_log.sessions(gap)
    begin, end = known_events(log, sessions.user, sessions.start)
    n_events = int((end - begin).sum())
    # Every ``step``-th session is an example. Sessions are sorted by start, so the examples spread over the whole log.
    step = max(-(-n_events // most_events), 1)
    user = sessions.user[::step]
    return CountExamples(UserStates.of(log, user, sessions.start[::step]), sessions.count[::step], user)


def window_examples(log: EventLog, horizon: float, windows: int) -> CountExamples:
    """Examples at ``windows`` instants, ``horizon`` seconds apart.

    For j = 1 … windows, the users with an event before T − j·horizon give examples. T is just after the last event.
    """
    if len(log) == 0:
        raise ModelError("fit: the log has no events. Expected a log with at least one target event")
    stop = float(np.nextafter(log.time[-1], np.inf))
    first_event_time = np.full(log.n_users, np.inf)
    np.minimum.at(first_event_time, log.user, log.time)
    instants = [stop - j * horizon for j in range(1, windows + 1)]
    users = [np.flatnonzero(first_event_time < instant) for instant in instants]
    now = np.repeat(instants, [len(users_at) for users_at in users])
    return count_examples(log, np.concatenate(users), now, horizon)


def count_examples(log: EventLog, users: Ints, now: Floats, horizon: float) -> CountExamples:
    """Examples at given instants: target events in [now, now + horizon)."""
    target_log = log.rows(log.targets)
    n_before_stop = UserStates.of(target_log, users, now + horizon).lengths
    counts = n_before_stop - UserStates.of(target_log, users, now).lengths
    return CountExamples(UserStates.of(log, users, now), counts.astype(np.int64), np.asarray(users, np.int64))
