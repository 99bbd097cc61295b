"""User states: what is known of users at an instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from rimsim.data.log import EventLog

__all__ = ["UserStates"]


@dataclass(frozen=True, eq=False)
class UserStates:
    """n user states as ragged arrays: row i is events ``offsets[i]`` to ``offsets[i + 1]``, oldest first."""

    offsets: NDArray[np.int64]
    """(n + 1,) where each row begins."""
    items: NDArray[np.int64]
    """(total,) consumed items."""
    times: NDArray[np.float64]
    """(total,) their times in seconds, ascending within a row and strictly before the row's ``now``."""
    now: NDArray[np.float64]
    """(n,) the instant at which each user is looked at, seconds."""

    def __len__(self) -> int:
        return len(self.now)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n,) events of each row."""
        return np.diff(self.offsets)

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
        order = np.lexsort((np.arange(len(log)), log.user))
        user, item, time = log.user[order], log.item[order], log.time[order]
        begin = np.searchsorted(user, wanted, "left")
        end = np.searchsorted(user, wanted, "right")
        # Within a user, times ascend: the events before `now` are a prefix, found by bisection on all rows at
        # once.
        low, high = begin.copy(), end.copy()
        while (open_rows := low < high).any():
            middle = (low + high) // 2
            earlier = time[np.minimum(middle, max(len(time) - 1, 0))] < instants if len(time) else open_rows
            low = np.where(open_rows & earlier, middle + 1, low)
            high = np.where(open_rows & ~earlier, middle, high)
        return cls._gather(begin, low, item, time, instants)

    @classmethod
    def _gather(
        cls,
        begin: NDArray[np.int64],
        end: NDArray[np.int64],
        item: NDArray[np.int64],
        time: NDArray[np.float64],
        now: NDArray[np.float64],
    ) -> UserStates:
        lengths = end - begin
        offsets = np.zeros(len(begin) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        rows = np.repeat(begin - offsets[:-1], lengths) + np.arange(offsets[-1])
        return cls(offsets, item[rows], time[rows], np.array(now, np.float64))

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> UserStates:
        return self.take(np.arange(len(self))[rows])

    def take(self, rows: ArrayLike) -> UserStates:
        """The states of some rows, in the given order."""
        wanted = np.asarray(rows, np.int64)
        return self._gather(
            self.offsets[wanted], self.offsets[wanted + 1], self.items, self.times, self.now[wanted]
        )
