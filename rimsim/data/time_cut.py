"""Log cut at one instant, the same for all users."""

from __future__ import annotations

import numpy as np

from rimsim import rng
from rimsim.data.log import EventLog, LaterSessions

_ROUNDS = 8
_ROUND_SECONDS = 7 * 86_400.0
"""Length of a market's round by default, in seconds. A market plays ``_ROUNDS`` of them by default."""
_MOST_SHARE = 0.3
"""Largest share of the log's time after the cut."""


def sessions_after_cut(log: EventLog, *, gap: str | float, seed: int = 0) -> LaterSessions:
    """Log cut at one instant, with users' sampled later sessions.

    The time after the cut is as long as a market's rounds after the end of the log, but at most ``_MOST_SHARE`` of the
    log. So a sampled session is as far from the last known event as a session of the market. Users without events
    before the cut have no sampled session.
    """
    sessions = log.sessions(gap)
    first = float(log.time.min(initial=np.inf))
    last = float(log.time.max(initial=-np.inf))
    cut_time = last - min(_ROUNDS * _ROUND_SECONDS, _MOST_SHARE * (last - first))
    is_past = log.time < cut_time
    has_past = np.bincount(log.user[is_past], minlength=log.n_users) > 0
    order = np.lexsort((np.arange(len(sessions)), sessions.user))
    candidates = order[(sessions.start[order] >= cut_time) & has_past[sessions.user[order]]]
    users, first_candidate, n_candidates = np.unique(
        sessions.user[candidates], return_index=True, return_counts=True
    )
    uniform = rng.uniform(seed, rng.Purpose.LATER_SESSIONS, users)
    sampled = candidates[first_candidate + (uniform * n_candidates).astype(np.int64)]
    start = np.full(log.n_users, np.inf)
    start[users] = sessions.start[sampled]
    return LaterSessions(
        past=log.rows(is_past),
        future=log.rows(log.time >= start[log.user]),
        user=users,
        time=sessions.start[sampled],
        count=sessions.count[sampled],
    )
