"""Event log, its sessions, and checks of its size."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from rimsim import rng
from rimsim.arrays import Bools, Float32s, Floats, Ints, offsets_of
from rimsim.config.fields import duration_seconds
from rimsim.data.readers.columns import PRICES, first_of
from rimsim.errors import DataError, many, refuse
from rimsim.renamed import renamed_attribute

if TYPE_CHECKING:
    import pandas as pd


ITEM_COLUMNS: Final = ("id", "title", "genres", "year", "release")
"""Columns that every item table begins with."""


@dataclass(frozen=True)
class BadRow:
    """Row of a file that the log leaves out."""

    file: str
    """File, or zip and member."""
    line: int
    """Line of a text file, row of a Parquet file; both from 1."""
    problem: str
    """Value found and values allowed."""

    def __str__(self) -> str:
        return f"{self.file}, line {self.line:,}: {self.problem}"


@dataclass(frozen=True)
class ColumnUse:
    """Use of a column without a role."""

    column: str
    """Name in the file."""
    attribute: str | None
    """Column of the item table that has its values; None: the column is ignored."""
    note: str = ""
    """Reason why the column is ignored, or rule for values that differ within an item."""
    example: str = ""
    """Two values of one item, if the column differs within items."""
    table: str = ""
    """Name of the table of items that has the column; empty: the events."""

    @property
    def is_renamed(self) -> bool:
        """True if the attribute has another name than the column."""
        return self.attribute not in (None, self.column)

    def text(self) -> str:
        """Use of the column, for a list of columns."""
        note = f"{self.note}{f', such as {self.example}' * bool(self.example)}"
        if self.attribute is None:
            return f"ignored: {note}"
        return f"attribute of items{f', as {self.attribute}' * self.is_renamed}{f': {note}' * bool(note)}"


@dataclass(frozen=True)
class ReadReport:
    """Report of the reading of a log."""

    source: str
    """Name or path that was asked for."""
    layout: str
    """Layout that was found, such as ``MovieLens 1M`` or ``CSV``."""
    columns: tuple[tuple[str, str], ...]
    """Pairs of a role (user, item, time, value) and the column that was read for it."""
    time_unit: str
    """``s``, ``ms``, ``us``, ``ns``, ``yyyymmdd`` for dates written as numbers, or ``iso``."""
    rows: int
    """Rows read into the log, before any selection."""
    skipped: int = 0
    """Number of bad rows that were left out, as ``skip_bad_rows`` allows."""
    bad_rows: tuple[BadRow, ...] = ()
    """First few bad rows."""
    backwards: int = 0
    """Rows whose time is earlier than that of the row before; the log is sorted nevertheless."""
    notes: tuple[str, ...] = ()
    """Sentences on byte-order marks, mixed line ends and rows left out."""
    warnings: tuple[str, ...] = ()
    """Sentences on likely mistakes, with remedies."""
    column_uses: tuple[ColumnUse, ...] = ()
    """Use of each column without a role, of the events and of the table of items."""

    others = renamed_attribute("others", "column_uses")

    def columns_text(self) -> str:
        """Line for each column with its use."""
        rows = [(column, role) for role, column in self.columns]
        rows += [
            (use.column, f"{use.text()}{f' (of {use.table})' * bool(use.table)}") for use in self.column_uses
        ]
        width = max([10, *(len(name) for name, _ in rows)]) + 2
        return "\n".join(f"{name:<{width}}{use}" for name, use in rows)

    def _short(self) -> list[str]:
        """Lines about columns other than user, item, time and value."""
        attributes = [
            f"{use.attribute} from {use.column}" if use.is_renamed else f"{use.attribute}"
            for use in self.column_uses
            if use.attribute is not None
        ]
        ignored = [f"{use.column} ({use.note})" for use in self.column_uses if use.attribute is None]
        differing = [
            f"{use.column}: {use.note}" for use in self.column_uses if use.attribute is not None and use.note
        ]
        lines = [f"attributes of items: {', '.join(attributes)}"] if attributes else []
        lines += differing
        return [*lines, f"ignored columns: {'; '.join(ignored)}"] if ignored else lines

    def text(self, *, columns: bool = True) -> str:
        """Text of several lines that reports the reading.

        ``columns`` adds lines about columns other than user, item, time and value.
        """
        named = ", ".join(f"{role} from {column}" for role, column in self.columns)
        unit = "ISO 8601" if self.time_unit == "iso" else self.time_unit
        lines = [f"{self.source}: {self.layout}, {many(self.rows, 'row')} ({named}; times in {unit})"]
        lines += self._short() if columns else []
        if self.skipped:
            lines.append(f"{many(self.skipped, 'bad row')} skipped, the first of them:")
            lines += [f"  {row}" for row in self.bad_rows]
        if self.backwards:
            lines.append(f"times go backwards at {many(self.backwards, 'row')}; the log is sorted by time")
        return "\n".join([*lines, *self.notes, *(f"warning: {text}" for text in self.warnings)])


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
    """Row per user; column ``id`` holds the id of the source."""
    items: pd.DataFrame
    """Row per item: ``id``, ``title`` and ``genres`` (names joined by ``|``; both empty where unknown),
    ``year`` (nullable) and ``release`` (seconds since the epoch; 0 = always there). Further columns are attributes
    such as ``seller`` (texts, empty where unknown) and ``price`` (numbers)."""
    target: Bools | None = None
    """(n,) events that a model is fitted to; the others are only history of their users. None: all are."""
    weight: Floats | None = None
    """(n,) weight of each target event in a fit, positive, 1 on average; None: all 1. A model that uses weights has
    an attribute ``takes_weights = True``."""
    report: ReadReport | None = None
    """Report of the reading, where :func:`rimsim.data.load` read the log."""

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
    def targets(self) -> Bools:
        """(n,) booleans: ``target``, or all true if it is None."""
        return np.ones(len(self), bool) if self.target is None else self.target

    @property
    def weights(self) -> Floats:
        """(n,) numbers: ``weight``, or all 1 if it is None."""
        return np.ones(len(self)) if self.weight is None else self.weight

    def rows(self, keep: Bools | Ints | slice) -> EventLog:
        """Log of some events, in the same order."""
        columns = {
            name: getattr(self, name) for name in ("user", "item", "time", "value", "target", "weight")
        }
        chosen_columns: dict[str, Any] = {
            name: None if column is None else column[keep] for name, column in columns.items()
        }
        return dataclasses.replace(self, **chosen_columns)

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
        """Log of events strictly before ``time`` (seconds)."""
        return self.rows(slice(0, int(np.searchsorted(self.time, time, "left"))))

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
        n = len(self)
        order = self.by_user
        user = self.user[order]
        time = self.time[order]
        first = np.ones(n, bool)
        first[1:] = (user[1:] != user[:-1]) | (time[1:] - time[:-1] > gap)
        begin = np.flatnonzero(first)
        end = np.append(begin[1:], n)
        by_start = np.lexsort((user[begin], time[begin]))
        rank = np.empty(len(begin), np.int64)
        rank[by_start] = np.arange(len(begin))
        of_event = np.empty(n, np.int64)
        of_event[order] = rank[np.cumsum(first) - 1] if n else rank
        last = end - 1
        return Sessions(
            user=user[begin][by_start],
            start=time[begin][by_start],
            stop=time[last][by_start] if n else time,
            count=(end - begin)[by_start].astype(np.int64),
            of_event=of_event,
        )


def own_attributes(items: pd.DataFrame) -> list[str]:
    """Attributes in an item table, such as seller and price."""
    return [str(name) for name in items if name not in ITEM_COLUMNS]


def prices_of(items: pd.DataFrame) -> Floats | None:
    """(M,) price of each item, 0 where unknown; None without prices."""
    names = [name for name in own_attributes(items) if items[name].dtype.kind in "fiu"]
    place = first_of(PRICES, names)
    if place is None:
        return None
    price: Floats = np.nan_to_num(items[names[place]].to_numpy(np.float64, na_value=np.nan))
    return price


@dataclass(frozen=True, eq=False)
class LaterSessions:
    """Log of n users, each cut before a later session."""

    past: EventLog
    """Each cut user's events before its cut, and all events of the other users."""
    future: EventLog
    """Cut users' events from their cut on."""
    user: Ints
    """(n,) cut users, ascending."""
    time: Floats
    """(n,) seconds at which each sampled session begins."""
    count: Ints
    """(n,) events of the sampled session."""

    def __len__(self) -> int:
        return len(self.user)

    def every(self, step: int) -> LaterSessions:
        """Later sessions of every ``step``-th user; everybody's past is kept."""
        if step == 1:
            return self
        user = self.user[::step]
        future = self.future.rows(np.isin(self.future.user, user))
        return LaterSessions(self.past, future, user, self.time[::step], self.count[::step])


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
    before = events_before[:-1] - events_before[begin[user]]
    total = events_before[begin[user + 1]] - events_before[begin[user]]
    candidates = order[(before > 0) & (before >= after * total)]  # sessions by user, then start
    of_user = sessions.user[candidates]
    cut, first, choices = np.unique(of_user, return_index=True, return_counts=True)
    if not len(cut):
        problem = f"found no user with a session after {after:.0%} of its events"
        refuse(DataError, "later sessions", problem, "a log in which some user came back")
    share = rng.uniform(seed, rng.Purpose.LATER_SESSIONS, cut)
    sampled = candidates[first + (share * choices).astype(np.int64)]
    limit = np.full(log.n_users, np.inf)
    limit[cut] = sessions.start[sampled]
    is_past = log.time < limit[log.user]
    return LaterSessions(
        past=log.rows(is_past),
        future=log.rows(~is_past),
        user=cut,
        time=sessions.start[sampled],
        count=sessions.count[sampled],
    )


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class LogNeeds:
    """Minimum numbers of users, items and events for a purpose."""

    users: int = Field(default=2, ge=1)
    """users with events"""
    items: int = Field(default=2, ge=1)
    """items with events; a market needs more than a slate holds"""
    events: int = Field(default=4, ge=1)
    """events"""
    sessions: int = Field(default=2, ge=1)
    """sessions, each of which is an arrival"""
    instants: int = Field(default=2, ge=1)
    """different times"""
    transitions: int = Field(default=1, ge=0)
    """events that follow an earlier one of the same user: what a state can predict"""
    gap: float = Field(default=1800.0, gt=0)
    """seconds of silence that end a session"""


Needs = LogNeeds


def shortcomings(log: EventLog, needs: LogNeeds | None = None) -> tuple[str, ...]:
    """Sentences about numbers of a log that are too small."""
    needs = LogNeeds() if needs is None else needs
    # An event has a past if it is later than the first event of its user; ties with the first do not count.
    first = np.full(log.n_users, np.inf)
    np.minimum.at(first, log.user, log.time)
    instants = len(np.unique(log.time))
    later = int((log.time > first[log.user]).sum())
    gap = f" ({needs.gap / 60:g} minutes without events end a session)"
    counts = {
        "users": (len(np.unique(log.user)), "user", " with events"),
        "items": (len(np.unique(log.item)), "item", " with events"),
        "events": (len(log), "event", ""),
        "sessions": (len(log.sessions(needs.gap)), "session", gap),
        "instants": (instants, "different time", " (all events are ties)" * (instants == 1)),
        "transitions": (later, "event", " with an earlier one of the same user"),
    }
    return tuple(
        f"{many(count, noun)}{words}, but needs {getattr(needs, name):,}"
        for name, (count, noun, words) in counts.items()
        if count < getattr(needs, name)
    )


def require_usable(log: EventLog, needs: LogNeeds | None = None, *, use: str = "fit and simulate") -> None:
    """Refuse a log that is too small for its purpose.

    Raises:
        DataError: If the log has too few users, items or events; the message lists everything that is too few.
    """
    lacking = shortcomings(log, needs)
    if lacking:
        name = log.report.source if log.report is not None else "the log"
        raise DataError(f"{name}: the log is too small to {use}. It has {'; '.join(lacking)}")
