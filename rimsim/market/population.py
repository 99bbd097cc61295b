"""The users of the market and what each has consumed: plain arrays and lists, never generators."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from rimsim.compiled import compiled
from rimsim.intensity.states import UserStates
from rimsim.market.clock import seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from rimsim.data.log import EventLog
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
def _slices(
    begin: NDArray[np.int64], length: NDArray[np.int64], values: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Values of n slices one after the other, and the number of the slice (total,) that each is of."""
    rows = np.empty(length.sum(), np.int64)
    out = np.empty(len(rows), np.int64)
    end = 0
    for row in range(len(begin)):
        for place in range(begin[row], begin[row] + length[row]):
            rows[end], out[end] = row, values[place]
            end += 1
    return rows, out


class Population:
    """The users present in a round, by slot: each a logged past and a mailbox of what it consumed in the market.

    A mailbox holds (due tick, item) in order. What is due by the tick of an arrival is in the arrival's state; what
    is due later is not, in whatever order the arrivals are served. So waves and batches see the same states.
    """

    def __init__(self, schedule: Schedule, history: History) -> None:
        self.history = history
        self.user = schedule.user
        self.log_user = schedule.log_user
        self.shift = schedule.shift
        self._mail: dict[int, tuple[list[int], list[int]]] = {}
        self._count = np.zeros(len(schedule.user), np.int64)
        self._last_due = np.full(len(schedule.user), np.iinfo(np.int64).min)
        self._begin = history.offsets[self.log_user]
        self._length = history.offsets[self.log_user + 1] - self._begin

    def __len__(self) -> int:
        return len(self.user)

    def post(self, slot: int, due: int, items: list[int]) -> None:
        """Put consumed items into a mailbox; they are part of the state from tick ``due`` on."""
        ticks, box = self._mail.setdefault(slot, ([], []))
        ticks.extend([due] * len(items))
        box.extend(items)
        self._count[slot] = len(box)
        self._last_due[slot] = due

    def mail(self, slot: int) -> tuple[list[int], list[int]]:
        """Due ticks and items of a mailbox, in order."""
        return self._mail.get(slot, ([], []))

    def posts(self) -> Iterator[tuple[int, int, int]]:
        """(slot, due tick, item) of all that is in the mailboxes, by slot, then in order."""
        for slot in sorted(self._mail):
            for due, item in zip(*self._mail[slot], strict=True):
                yield slot, due, item

    def visible(self, slot: int, tick: int) -> int:
        """How many events of the mailbox are in the state at a tick."""
        mail = self._mail.get(slot)
        if mail is None:
            return 0
        due = mail[0]
        count = len(due)
        while count and due[count - 1] > tick:
            count -= 1
        return count

    def visible_at(self, slots: NDArray[np.int64], ticks: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) :meth:`visible` of each slot at its tick."""
        counts = self._count[slots]
        for row in np.flatnonzero(self._last_due[slots] > ticks).tolist():
            counts[row] = self.visible(int(slots[row]), int(ticks[row]))
        return counts

    def past(self, slots: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Logged items of some slots.

        Returns:
            ``rows`` (total,): position in ``slots`` of each event, and ``items`` (total,).
        """
        return _slices(self._begin[slots], self._length[slots], self.history.items)

    def consumed_pairs(
        self, slots: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(row, item) pairs of everything consumed by some slots: the past and ``counts`` events of the mailbox."""
        rows, items = self.past(slots)
        if not counts.any():
            return rows, items
        new = [self._mail[int(slots[row])][1][: int(counts[row])] for row in np.flatnonzero(counts)]
        flat = np.fromiter(itertools.chain.from_iterable(new), np.int64)
        return np.concatenate([rows, np.repeat(np.arange(len(slots)), counts)]), np.concatenate([items, flat])

    def states(
        self, slots: NDArray[np.int64], counts: NDArray[np.int64], now: NDArray[np.int64]
    ) -> UserStates:
        """User states of some slots.

        Args:
            slots: (n,) who.
            counts: (n,) how many events of each mailbox are in the state.
            now: (n,) the instants, ticks.
        """
        rows, items = self.past(slots)
        length = self._length[slots]
        begin = np.repeat(self._begin[slots] - (np.cumsum(length) - length), length)
        times = self.history.times[np.arange(len(rows)) + begin] + self.shift[slots][rows]
        total = length + counts
        offsets = np.zeros(len(slots) + 1, np.int64)
        np.cumsum(total, out=offsets[1:])
        all_items = np.empty(offsets[-1], np.int64)
        all_times = np.empty(offsets[-1], np.float64)
        old = offsets[:-1][rows] + (np.arange(len(rows)) - np.repeat(np.cumsum(length) - length, length))
        all_items[old], all_times[old] = items, times
        for row in np.flatnonzero(counts).tolist():
            slot, stop = int(slots[row]), int(offsets[row + 1])
            count = int(counts[row])
            due, box = self._mail[slot]
            all_items[stop - count : stop] = box[:count]
            all_times[stop - count : stop] = seconds(due[:count])
        return UserStates(offsets, all_items, all_times, seconds(now))
