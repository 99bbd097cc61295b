"""User states: what is known of users at an instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from rimsim.arrays import Floats, Ints, places_of

if TYPE_CHECKING:
    from rimsim.data.log import EventLog


@dataclass(frozen=True, eq=False)
class UserStates:
    """n user states as ragged arrays: row i is events ``offsets[i]`` to ``offsets[i + 1]``, oldest first."""

    offsets: Ints
    """(n + 1,) where each row begins."""
    items: Ints
    """(total,) consumed items."""
    times: Floats
    """(total,) their times in seconds, ascending within a row and strictly before the row's ``now``."""
    now: Floats
    """(n,) the instant at which each user is looked at, seconds."""

    def __len__(self) -> int:
        return len(self.now)

    @property
    def lengths(self) -> Ints:
        """(n,) events of each row."""
        return np.diff(self.offsets)

    @property
    def owner(self) -> Ints:
        """(total,) the row that each event is of."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def rows_of(self, start: int, stop: int) -> tuple[Ints, Ints]:
        """The events of rows ``start`` to ``stop``: (e,) the row of each, counted from ``start``, and (e,) its item."""
        offsets = self.offsets[start : stop + 1]
        return np.repeat(np.arange(stop - start), np.diff(offsets)), self.items[offsets[0] : offsets[-1]]

    @classmethod
    def of(cls, log: EventLog, users: ArrayLike, now: ArrayLike) -> UserStates:
        """The states of users of a log at given instants; only events strictly before ``now`` are in them.

        Args:
            log: The log to look into.
            users: (n,) user indices; a user may occur at several instants.
            now: (n,) or scalar instants, seconds.
        """
        wanted = np.asarray(users, np.int64)
        instants = np.broadcast_to(np.asarray(now, np.float64), wanted.shape)
        begin, end = known_events(log, wanted, instants)
        places, offsets = places_of(begin, end)
        rows = log.by_user[places]
        return cls(offsets, log.item[rows], log.time[rows], np.array(instants, np.float64))

    def __getitem__(self, rows: Ints | slice) -> UserStates:
        return self.take(np.arange(len(self))[rows])

    def take(self, rows: ArrayLike) -> UserStates:
        """The states of some rows, in the given order."""
        wanted = np.asarray(rows, np.int64)
        places, offsets = places_of(self.offsets[wanted], self.offsets[wanted + 1])
        return UserStates(offsets, self.items[places], self.times[places], self.now[wanted])


def known_events(log: EventLog, users: Ints, now: Floats) -> tuple[Ints, Ints]:
    """(n,) the first and the end of the places in ``log.by_user`` of users' events strictly before instants.

    Args:
        log: The log to look into.
        users: (n,) user indices.
        now: (n,) instants, seconds.
    """
    begin, high = log.offsets[users], log.offsets[users + 1]
    # Within a user, times ascend: the events before `now` are a prefix, found by bisection on all rows at once.
    low = begin.copy()
    while (open_rows := low < high).any():
        middle = (low + high) // 2
        earlier = log.time[log.by_user[np.minimum(middle, len(log) - 1)]] < now
        low = np.where(open_rows & earlier, middle + 1, low)
        high = np.where(open_rows & ~earlier, middle, high)
    return begin, low
