"""The users of the market and what each has consumed: plain arrays, never generators."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from rimsim.compiled import compiled
from rimsim.intensity.states import UserStates
from rimsim.market.clock import TICKS, seconds
from rimsim.market.mailboxes import Mailboxes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.data.log import EventLog
    from rimsim.market.mailboxes import Mails
    from rimsim.market.schedule import Schedule

__all__ = ["History", "Population"]


@dataclass(frozen=True, eq=False)
class History:
    """The events of a log grouped by user, so that a user's past is a slice."""

    offsets: NDArray[np.int64]
    """(users + 1,) where each user begins."""
    items: NDArray[np.int64]
    """(n,) items, by user, then time."""
    times: NDArray[np.float64]
    """(n,) times in seconds, by user, ascending."""

    @classmethod
    def of(cls, log: EventLog, *, empty: bool = False) -> History:
        """Group a log; ``empty`` gives every user no past at all. Markets over one log share one history."""
        return _grouped(log, empty)


@lru_cache(maxsize=4)
def _grouped(log: EventLog, empty: bool) -> History:  # noqa: FBT001  # a key of the cache
    if empty:
        nothing = np.zeros(0, np.int64)
        return History(np.zeros(log.n_users + 1, np.int64), nothing, nothing.astype(np.float64))
    order = np.lexsort((np.arange(len(log)), log.user))
    offsets = np.searchsorted(log.user[order], np.arange(log.n_users + 1))
    return History(offsets.astype(np.int64), log.item[order], log.time[order])


@compiled
def _events(
    slots: NDArray[np.int64],
    counts: NDArray[np.int64],
    begin: NDArray[np.int64],
    length: NDArray[np.int64],
    past: NDArray[np.int64],
    mails: Mails,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows (total,) and items (total,) of what some slots have consumed: their logged past, then their mail.

    Args:
        slots: (n,) who; a row is a place among them.
        counts: (n,) how many events of each mailbox.
        begin: (slots,) where each slot's past begins.
        length: (slots,) how long it is.
        past: Items of the log, by user.
        mails: The mailboxes.
    """
    total = length[slots].sum() + counts.sum()
    rows, items = np.empty(total, np.int64), np.empty(total, np.int64)
    end = 0
    for row in range(len(slots)):
        slot, start = slots[row], end
        for place in range(begin[slot], begin[slot] + length[slot]):
            items[end] = past[place]
            end += 1
        place = mails.first[slot]
        for _ in range(counts[row]):
            items[end], place = mails.item[place], mails.after[place]
            end += 1
        rows[start:end] = row
    return rows, items


@compiled
def _times(
    slots: NDArray[np.int64],
    counts: NDArray[np.int64],
    begin: NDArray[np.int64],
    length: NDArray[np.int64],
    past: NDArray[np.float64],
    shift: NDArray[np.float64],
    mails: Mails,
) -> NDArray[np.float64]:
    """(total,) times of :func:`_events` in seconds; ``past`` are the log's, and ``shift`` (slots,) moves them."""
    times = np.empty(length[slots].sum() + counts.sum(), np.float64)
    end = 0
    for row in range(len(slots)):
        slot = slots[row]
        for place in range(begin[slot], begin[slot] + length[slot]):
            times[end] = past[place] + shift[slot]
            end += 1
        place = mails.first[slot]
        for _ in range(counts[row]):
            times[end], place = mails.due[place] / TICKS, mails.after[place]
            end += 1
    return times


class Population:
    """The users present in a round, by slot: each a logged past and a mailbox of what it consumed in the market.

    What is due by the tick of an arrival is in the arrival's state; what is due later is not, in whatever order the
    arrivals are served. So waves and batches see the same states.
    """

    def __init__(self, schedule: Schedule, history: History) -> None:
        self.history = history
        self.user = schedule.user
        self.log_user = schedule.log_user
        self.shift = schedule.shift
        self.mail = Mailboxes(len(schedule.user))
        self._begin = history.offsets[self.log_user]
        self._length = history.offsets[self.log_user + 1] - self._begin

    def __len__(self) -> int:
        return len(self.user)

    def past(self, slots: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(row, item) pairs of the logged events of some slots; a row is a place among them."""
        return self.consumed_pairs(slots, np.zeros(len(slots), np.int64))

    def consumed_pairs(
        self, slots: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(row, item) pairs of all that some slots consumed: the past and ``counts`` (n,) events of their mail."""
        return _events(slots, counts, self._begin, self._length, self.history.items, self.mail.mails)

    def states(
        self, slots: NDArray[np.int64], counts: NDArray[np.int64], now: NDArray[np.int64]
    ) -> UserStates:
        """User states of some slots.

        Args:
            slots: (n,) who.
            counts: (n,) how many events of each mailbox are in the state.
            now: (n,) the instants, ticks.
        """
        begin, length, mails = self._begin, self._length, self.mail.mails
        _, items = _events(slots, counts, begin, length, self.history.items, mails)
        times = _times(slots, counts, begin, length, self.history.times, self.shift, mails)
        offsets = np.zeros(len(slots) + 1, np.int64)
        np.cumsum(length[slots] + counts, out=offsets[1:])
        return UserStates(offsets, items, times, seconds(now))
