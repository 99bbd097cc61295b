"""Training examples of a ground intensity: a user state, and how many events followed within the horizon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Floats, Ints
from rimsim.errors import ModelError
from rimsim.intensity.states import UserStates, known_events

if TYPE_CHECKING:
    from rimsim.data.log import EventLog


_MOST_EVENTS = 2**24
"""270 MB of items and times."""


@dataclass(frozen=True, eq=False)
class CountExamples:
    """n states with the number of target events that followed each within its horizon."""

    states: UserStates
    counts: Ints
    """(n,) target events within the horizon."""
    user: Ints
    """(n,) the user of each example."""


def session_examples(
    log: EventLog, gap: str | float = "30min", *, most_events: int = _MOST_EVENTS
) -> CountExamples:
    """One example a session of target events: the state strictly before its start, the count within.

    Sessions are cut from target events alone; the other events are history only. A session exists because it
    has an event, so every count is at least one. A user's history is in each of its states, so that they may hold many
    times the log; where they would be too many, sessions are left out at even steps in the order of time.

    Args:
        log: The log.
        gap: A silence longer than this ends a session.
        most_events: Events of all states together up to which all sessions are taken, and to which they are thinned,
            nearly.
    """
    goal = log if log.target is None else log.rows(log.targets)
    sessions = goal.sessions(gap)
    begin, end = known_events(log, sessions.user, sessions.start)
    taken = slice(None, None, max(-(-int((end - begin).sum()) // most_events), 1))
    user = sessions.user[taken]
    return CountExamples(UserStates.of(log, user, sessions.start[taken]), sessions.count[taken], user)


def window_examples(log: EventLog, horizon: float, windows: int) -> CountExamples:
    """Examples at calendar instants: the last ``windows`` stretches of ``horizon`` seconds of the log.

    For j = 1 … windows, every user with an event before T − j·horizon gives one example with the target
    events in [T − j·horizon, T − (j−1)·horizon), where T is just past the last event. Users not yet seen then
    give none.
    """
    if len(log) == 0:
        raise ModelError("fit: the log has no events; allowed: a log with at least one target event")
    stop = float(np.nextafter(log.time[-1], np.inf))
    first = np.full(log.n_users, np.inf)
    np.minimum.at(first, log.user, log.time)
    users, instants = [], []
    for j in range(1, windows + 1):
        instant = stop - j * horizon
        known = np.flatnonzero(first < instant)
        users.append(known)
        instants.append(np.full(len(known), instant))
    return count_examples(log, np.concatenate(users), np.concatenate(instants), horizon)


def count_examples(log: EventLog, users: Ints, now: Floats, horizon: float) -> CountExamples:
    """Examples at given instants: the states before them, the target events in [now, now + horizon).

    Args:
        log: Holds both the histories and what followed.
        users: (n,) user indices.
        now: (n,) instants, seconds.
        horizon: Length of the window to count in, seconds.
    """
    goal = log.rows(log.targets)
    counts = UserStates.of(goal, users, now + horizon).lengths - UserStates.of(goal, users, now).lengths
    return CountExamples(UserStates.of(log, users, now), counts.astype(np.int64), np.asarray(users, np.int64))
