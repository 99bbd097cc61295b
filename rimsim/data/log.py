"""The event log: who interacted with what, and when."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.config.fields import duration_seconds
from rimsim.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.data.report import ReadReport


@dataclass(frozen=True, eq=False)
class Sessions:
    """Sessions of a log, sorted by start time (ties: by user); a session is one *arrival* of its user.

    With s sessions over n events:
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
    """(n,) the session of each event of the log, in the log's order."""

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True, eq=False)
class EventLog:
    """A log of n events, sorted by (time, user, item), with its user and item tables.

    Users and items are indices into the tables, so that a log cut by time keeps the meaning of its indices.
    """

    user: Ints
    """(n,) row of ``users``."""
    item: Ints
    """(n,) row of ``items``."""
    time: Floats
    """(n,) seconds since the epoch, ascending."""
    value: Float32s
    """(n,) the logged value, such as a rating in stars; 1 where the log has none."""
    users: pd.DataFrame
    """One row a user; column ``id`` holds the id as it stood in the source."""
    items: pd.DataFrame
    """One row an item: ``id``, ``title`` and ``genres`` (names joined by ``|``; both empty where unknown),
    ``year`` (nullable) and ``release`` (seconds since the epoch; 0 = always there)."""
    target: Bools | None = None
    """(n,) events that a model is fitted to; the others are only history of their users. None: all are."""
    weight: Floats | None = None
    """(n,) how much each target event counts in a fit, positive, 1 on average; None: all alike. A model that looks at
    it says so with an attribute ``takes_weights = True``."""
    report: ReadReport | None = None
    """What was read and noticed, where the log was read by :func:`rimsim.data.load`."""

    def __len__(self) -> int:
        return len(self.user)

    @property
    def n_users(self) -> int:
        """Rows of the user table."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Size of the catalogue, M."""
        return len(self.items)

    @property
    def targets(self) -> Bools:
        """(n,) ``target``, or all true where it is None."""
        return np.ones(len(self), bool) if self.target is None else self.target

    @property
    def weights(self) -> Floats:
        """(n,) ``weight``, or all 1 where it is None."""
        return np.ones(len(self)) if self.weight is None else self.weight

    def rows(self, keep: Bools | Ints | slice) -> EventLog:
        """The log reduced to some of its events, in the same order, with the same tables."""
        return dataclasses.replace(
            self,
            user=self.user[keep],
            item=self.item[keep],
            time=self.time[keep],
            value=self.value[keep],
            target=None if self.target is None else self.target[keep],
            weight=None if self.weight is None else self.weight[keep],
        )

    @cached_property
    def by_user(self) -> Ints:
        """(n,) the events' places by user, each user's in the order of time; found once a log."""
        return np.argsort(self.user, kind="stable")

    @cached_property
    def offsets(self) -> Ints:
        """(users + 1,) where the events of each user begin in ``by_user``."""
        found = np.zeros(self.n_users + 1, np.int64)
        np.cumsum(np.bincount(self.user, minlength=self.n_users), out=found[1:])
        return found

    @cached_property
    def _cut(self) -> dict[float, Sessions]:
        """The sessions that were asked for, by gap in seconds."""
        return {}

    def before(self, time: float) -> EventLog:
        """Events strictly before ``time`` (seconds)."""
        return self.rows(slice(0, int(np.searchsorted(self.time, time, "left"))))

    def sessions(self, gap: str | float = "30min") -> Sessions:
        """Cut every user's events into sessions.

        Args:
            gap: A silence longer than this ends a session: seconds, or what :class:`pandas.Timedelta` reads.

        Returns:
            The sessions, sorted by start time; the same ones whenever they are asked for.

        Raises:
            DataError: If the gap is not positive.
        """
        seconds = duration_seconds(gap) if isinstance(gap, str) else float(gap)
        if not seconds > 0:
            raise DataError(f"sessions: gap is {gap!r}; allowed: a positive duration such as '30min'")
        if seconds not in self._cut:
            self._cut[seconds] = self._sessions(seconds)
        return self._cut[seconds]

    def _sessions(self, gap: float) -> Sessions:
        n, order = len(self), self.by_user
        user, time = self.user[order], self.time[order]
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
