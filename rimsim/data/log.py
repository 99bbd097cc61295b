"""Event log, its sessions, and its cut at later sessions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rimsim import rng
from rimsim.arrays import Bools, Float32s, Floats, Ints, offsets_of
from rimsim.config.fields import duration_seconds
from rimsim.data.impressions import LoggedImpressions
from rimsim.data.read_report import ReadReport
from rimsim.data.readers.columns import PRICES, first_of
from rimsim.errors import DataError, refuse

if TYPE_CHECKING:
    import pandas as pd


ITEM_COLUMNS: Final = ("id", "title", "genres", "year", "release", "end")
"""First columns of every item table."""


@dataclass(frozen=True, eq=False)
class Sessions:
    """Sessions of a log of n events; each is an *arrival*.

    The s sessions are sorted by start time; sessions that start at the same time are sorted by user.
    """

    user: Ints
    """(s,) index of the user."""
    start: Floats
    """(s,) time of the first event, seconds."""
    stop: Floats
    """(s,) time of the last event, seconds."""
    count: Ints
    """(s,) events in the session, at least 1."""
    of_event: Ints
    """(n,) session of each event of the log, in the log's order."""

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True, eq=False)
class EventLog:
    """Log of n events, with tables of users and items.

    Events are sorted by (time, user, item). Users and items are indices into the tables, so an index means the same
    user or item after the log is cut by time.
    """

    user: Ints
    """(n,) user of each event, as a row of ``users``."""
    item: Ints
    """(n,) item of each event, as a row of ``items``."""
    time: Floats
    """(n,) seconds since the epoch, ascending."""
    value: Float32s
    """(n,) logged value, such as a rating in stars; 1 where the log has none."""
    users: pd.DataFrame
    """Table of users. Column ``id`` holds the id that the source uses."""
    items: pd.DataFrame
    """Table of items: ``id``, ``title`` and ``genres`` (names joined by ``|``; both empty where unknown), ``year``
    (nullable), ``release`` (seconds since the epoch; 0 for items that are released from the start) and ``end`` (seconds
    since the epoch; ∞ for items that do not end). Further columns are attributes such as ``seller`` (texts, empty where
    unknown) and ``price`` (numbers)."""
    target: Bools | None = None
    """(n,) True for events that a model is fitted to; the other events are only history of their users. None: all
    True."""
    weight: Floats | None = None
    """(n,) weight of each target event in a fit, positive, 1 on average; None: all 1. A model that uses weights has
    an attribute ``takes_weights = True``."""
    repeatable: bool = False
    """True if a user may take an item again; False if an item that a user took is never offered to this user again."""
    report: ReadReport | None = None
    """Report of reading the log; None unless :func:`rimsim.data.load` read it."""
    impressions: LoggedImpressions | None = None
    """Shown items, and whether they were taken; None if the log has events alone."""

    def __len__(self) -> int:
        return len(self.user)

    @property
    def n_users(self) -> int:
        """Number of users in the user table."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Size of the catalogue, M."""
        return len(self.items)

    @property
    def release(self) -> Floats:
        """(M,) release of each item in seconds; 0: the start."""
        return self.items["release"].to_numpy(np.float64, na_value=0.0)

    @property
    def end(self) -> Floats:
        """(M,) seconds from which each item is not on offer; ∞: never."""
        if "end" not in self.items:  # a log made by hand may lack the column
            return np.full(self.n_items, np.inf)
        return self.items["end"].to_numpy(np.float64, na_value=np.inf)

    @property
    def targets(self) -> Bools:
        """(n,) booleans: ``target``, or all true if it is None."""
        return np.ones(len(self), bool) if self.target is None else self.target

    @property
    def weights(self) -> Floats:
        """(n,) numbers: ``weight``, or all 1 if it is None."""
        return np.ones(len(self)) if self.weight is None else self.weight

    def rows(self, keep: Bools | Ints | slice) -> EventLog:
        """Log of some events, in the same order, without impressions."""
        columns = {
            name: getattr(self, name) for name in ("user", "item", "time", "value", "target", "weight")
        }
        chosen_columns: dict[str, Any] = {
            name: None if column is None else column[keep] for name, column in columns.items()
        }
        # A choice of events does not say which impressions belong to it.
        return dataclasses.replace(self, **chosen_columns, impressions=None)

    @cached_property
    def by_user(self) -> Ints:
        """(n,) indices of the log's events, sorted by user and time."""
        return np.argsort(self.user, kind="stable")

    @cached_property
    def offsets(self) -> Ints:
        """(users + 1,) position at which each user's events begin in ``by_user``."""
        return offsets_of(np.bincount(self.user, minlength=self.n_users))

    @cached_property
    def _cut(self) -> dict[float, Sessions]:
        """Cached sessions, by gap in seconds."""
        return {}

    def before(self, time: float) -> EventLog:
        """Log of events and impressions strictly before ``time`` (seconds)."""
        past = self.rows(slice(0, int(np.searchsorted(self.time, time, "left"))))
        if self.impressions is None:
            return past
        return dataclasses.replace(past, impressions=self.impressions.before(time))

    def sessions(self, gap: str | float = "30min") -> Sessions:
        """Sessions by start time; the same object at each call.

        Args:
            gap: An inactivity gap longer than this ends a session: seconds, or text for :class:`pandas.Timedelta`.

        Raises:
            DataError: If the gap is not positive.
        """
        seconds = duration_seconds(gap) if isinstance(gap, str) else float(gap)
        if not seconds > 0:
            refuse(DataError, "sessions", f"gap is {gap!r}", "a positive duration such as '30min'")
        if seconds not in self._cut:
            self._cut[seconds] = self._sessions(seconds)
        return self._cut[seconds]

    def _sessions(self, gap: float) -> Sessions:
        """Sessions of a log, which gaps separate."""
        n = len(self)
        order = self.by_user
        user = self.user[order]
        time = self.time[order]
        is_first = np.ones(n, bool)
        is_first[1:] = (user[1:] != user[:-1]) | (time[1:] - time[:-1] > gap)
        begin = np.flatnonzero(is_first)
        end = np.append(begin[1:], n)
        by_start = np.lexsort((user[begin], time[begin]))
        # Number of each session by start; sessions are still sorted by user here.
        rank = np.empty(len(begin), np.int64)
        rank[by_start] = np.arange(len(begin))
        session_of_event = np.empty(n, np.int64)
        session_of_event[order] = rank[np.cumsum(is_first) - 1] if n else rank
        last = end - 1
        return Sessions(
            user=user[begin][by_start],
            start=time[begin][by_start],
            stop=time[last][by_start] if n else time,
            count=(end - begin)[by_start].astype(np.int64),
            of_event=session_of_event,
        )


def own_attributes(items: pd.DataFrame) -> list[str]:
    """Attributes in an item table, such as seller and price."""
    return [str(name) for name in items if name not in ITEM_COLUMNS]


def n_values(items: pd.DataFrame | None) -> tuple[tuple[str, int], ...]:
    """Number of values of each attribute with texts."""
    if items is None:
        return ()
    names = [name for name in own_attributes(items) if items[name].dtype.kind not in "fiu"]
    # A text may have several values, joined by |; an empty text has none.
    texts_of = {name: set(items[name].dropna().astype(str)) for name in names}
    return tuple(
        (name, len({value for text in texts for value in text.split("|")} - {""}))
        for name, texts in texts_of.items()
    )


def prices_of(items: pd.DataFrame) -> Floats | None:
    """(M,) price of each item, 0 where unknown; None without prices."""
    numeric_names = [name for name in own_attributes(items) if items[name].dtype.kind in "fiu"]
    position = first_of(PRICES, numeric_names)
    if position is None:
        return None
    price: Floats = np.nan_to_num(items[numeric_names[position]].to_numpy(np.float64, na_value=np.nan))
    return price


@dataclass(frozen=True, eq=False)
class LaterSessions:
    """Log of n users, each cut before a later session."""

    past: EventLog
    """Events of each cut user before the cut, and all events of the other users. With one cut for all users, all
    events before it."""
    future: EventLog
    """Events of each cut user from the sampled session on."""
    user: Ints
    """(n,) index of each user whose events are cut, ascending."""
    time: Floats
    """(n,) begin of each user's sampled session, in seconds."""
    count: Ints
    """(n,) number of events in each sampled session."""

    def __len__(self) -> int:
        return len(self.user)

    def every(self, step: int) -> LaterSessions:
        """Later sessions of every ``step``-th cut user.

        The past stays as it is: the events of the other cut users after their cuts are in neither log.
        """
        if step == 1:
            return self
        user = self.user[::step]
        future = self.future.rows(np.isin(self.future.user, user))
        return LaterSessions(
            past=self.past, future=future, user=user, time=self.time[::step], count=self.count[::step]
        )


def later_sessions(
    log: EventLog, *, gap: str | float = "30min", seed: int = 0, after: float = 0.3
) -> LaterSessions:
    """Cut each user's events before a randomly chosen later session.

    A session can be chosen if it begins after the share ``after`` of the user's events. If no session of a user can be
    chosen, the user's events are not cut.

    Args:
        log: Log to cut.
        gap: An inactivity gap longer than this ends a session.
        seed: Seed. The session that is chosen for a user does not depend on other users.
        after: Share of a user's events that must come before a session so that it can be chosen.

    Raises:
        DataError: If no user of the log has a session that can be chosen.
    """
    sessions = log.sessions(gap)
    order = np.lexsort((np.arange(len(sessions)), sessions.user))
    user = sessions.user[order]
    count = sessions.count[order]
    begin = np.searchsorted(user, np.arange(log.n_users + 1))
    events_before = offsets_of(count)
    # Numbers of events of a session's user, before the session and in all.
    n_before = events_before[:-1] - events_before[begin[user]]
    n_all = events_before[begin[user + 1]] - events_before[begin[user]]
    # Candidates are sorted by user, then by start.
    candidates = order[(n_before > 0) & (n_before >= after * n_all)]
    candidate_user = sessions.user[candidates]
    cut_users, first_candidate, n_candidates = np.unique(
        candidate_user, return_index=True, return_counts=True
    )
    if not len(cut_users):
        problem = f"found no user with a session after {after:.0%} of its events"
        refuse(DataError, "later sessions", problem, "a log in which some user came back")
    uniform = rng.uniform(seed, rng.Purpose.LATER_SESSIONS, cut_users)
    sampled = candidates[first_candidate + (uniform * n_candidates).astype(np.int64)]
    cut_time = np.full(log.n_users, np.inf)
    cut_time[cut_users] = sessions.start[sampled]
    is_past = log.time < cut_time[log.user]
    return LaterSessions(
        past=log.rows(is_past),
        future=log.rows(~is_past),
        user=cut_users,
        time=sessions.start[sampled],
        count=sessions.count[sampled],
    )
