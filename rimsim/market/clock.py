"""Clock of a market, and queue of its arrivals."""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import simpy

from rimsim.arrays import Bools, Ints
from rimsim.compiled import CompiledRecord, compiled_part
from rimsim.errors import MarketError
from rimsim.market.records import Schedule


class Rank(IntEnum):
    """Ranks that order events of the same tick.

    SimPy reserves ranks 0 and 1. Of two events with the same rank, the one that was scheduled first goes
    first. Releases of items, and consumptions that become visible, need no events. An arrival sees releases
    and consumptions of its own tick. A retraining ignores consumptions that become visible at its tick.
    """

    RETRAIN = 2
    ARRIVAL = 3


_ARRIVAL = Rank.ARRIVAL  # a look-up in the class would take as long as an event of the clock


class Moment(simpy.Event):
    """SimPy event at an absolute tick, with a rank."""

    def __init__(self, env: simpy.Environment, tick: int, rank: Rank) -> None:
        super().__init__(env)
        self._ok = True
        self._value = None
        # The delay is in whole ticks, so now + (tick − now) is exactly tick. The order of events never depends on
        # rounding.
        env.schedule(self, rank, tick - env.now)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class QueueState(CompiledRecord):
    """State of each arrival of a round, for compiled code."""

    is_waiting: Bools
    """(n,) True for arrivals that were handed out and wait for a slate."""
    is_served: Bools
    """(n,) True for arrivals that have been served."""
    is_busy: Bools
    """(slots,) True for users with a waiting arrival."""
    n_arrived: Ints
    """(1,) number of arrivals that were handed out or held."""
    n_served: Ints
    """(1,) number of served arrivals."""
    n_held: Ints
    """(1,) number of arrivals that are held back until an earlier visit of the same user is served."""

    @classmethod
    def of(cls, schedule: Schedule) -> QueueState:
        """State before the first arrival."""
        return cls(
            is_waiting=np.zeros(len(schedule), bool),
            is_served=np.zeros(len(schedule), bool),
            is_busy=np.zeros(len(schedule.user), bool),
            n_arrived=np.zeros(1, np.int64),
            n_served=np.zeros(1, np.int64),
            n_held=np.zeros(1, np.int64),
        )


@compiled_part
def next_after(row: int, slot: Ints, queue: QueueState) -> int:
    """Row after ``row``; −1 if another arrival must go first."""
    # Compiled code serves arrivals in clock order without :meth:`ArrivalQueue.take`. It stops where that method would
    # hand out a held arrival, or would hold the next one back.
    following = queue.n_arrived[0]
    if not queue.is_waiting[row] or queue.n_held[0] > 0 or following == len(slot):
        return -1
    if queue.is_busy[slot[following]] and slot[following] != slot[row]:
        return -1
    return int(following)


@compiled_part
def mark_served(row: int, slot: int, queue: QueueState) -> None:
    """Record that an arrival got its slate."""
    queue.is_waiting[row] = False
    queue.is_served[row] = True
    queue.is_busy[slot] = False
    queue.n_served[0] += 1


@compiled_part
def hand_out(row: int, slot: int, queue: QueueState) -> None:
    """Let the next arrival wait for its slate."""
    queue.is_waiting[row] = True
    queue.is_busy[slot] = True
    queue.n_arrived[0] = row + 1


class ArrivalQueue:
    """Arrivals in clock order, with one open visit per user."""

    def __init__(self, schedule: Schedule, env: simpy.Environment) -> None:
        self._env = env
        self._tick: list[int] = schedule.tick.tolist()
        self._slot: list[int] = schedule.slot.tolist()
        self.state = QueueState.of(schedule)
        self._held: dict[int, deque[int]] = {}
        """By slot, rows that arrived and wait for an earlier visit of the same user."""
        self._ready: list[int] = []
        """A heap of the first held row of each slot that is not busy."""
        self._n_events = 0
        """Number of arrivals whose event the clock has passed."""
        self._end = Moment(env, schedule.stop, Rank.RETRAIN)
        self._callbacks: list[Any] = [self._arrive]
        self._schedule_event: Any = env.schedule
        if self._tick:
            Moment(env, self._tick[0], Rank.ARRIVAL).callbacks = self._callbacks

    def _arrive(self, moment: simpy.Event) -> None:
        """Count an arrival, and schedule the event of the next."""
        # All arrivals share one event of SimPy, because a new event takes as long as the rest of the clock.
        number = self._n_events = self._n_events + 1
        if number < len(self._tick):
            moment.callbacks = self._callbacks
            self._schedule_event(moment, _ARRIVAL, self._tick[number] - self._tick[number - 1])

    @property
    def served(self) -> int:
        """Number of served arrivals."""
        return int(self.state.n_served[0])

    @property
    def share(self) -> float:
        """Share of the round's arrivals that have been served."""
        return self.served / len(self._tick) if self._tick else 1.0

    @property
    def untouched(self) -> bool:
        """True if no arrival was handed to an agent yet."""
        return int(self.state.n_arrived[0]) == 0

    def run_out(self) -> None:
        """Advance the clock to the end of the round."""
        while not self._end.processed:
            self._env.step()

    def take(self, limit: int, barrier_every: int | None = None, *, in_waves: bool = False) -> Ints:
        """Rows of the next arrivals, which now wait for slates.

        Args:
            in_waves: If true, other users go before the later visits of a user who waits for a slate.

        Raises:
            MarketError: If the next arrivals must wait for arrivals that have not been served.
        """
        barrier = len(self._tick)
        if barrier_every is not None:
            barrier = min(barrier, (self.served // barrier_every + 1) * barrier_every)
        rows, is_blocked = self._take_held(limit, in_waves=in_waves)
        if not is_blocked:
            self._take_new(rows, limit, barrier, in_waves=in_waves)
        if not rows:
            n_waiting = np.count_nonzero(self.state.is_waiting)
            raise MarketError(
                f"next_arrivals: {n_waiting} arrivals of the last call have not been served. Serve them first"
            )
        taken = np.array(rows)
        self.state.is_waiting[taken] = True
        return taken

    def _take_held(self, limit: int, *, in_waves: bool) -> tuple[list[int], bool]:
        """Held rows that may go; true if others must wait."""
        rows: list[int] = []
        is_busy = self.state.is_busy
        # Outside waves, no arrival overtakes an earlier one. So no row may go from ``first_blocked`` on, the first row
        # that waits for an earlier visit of its user.
        blocked_rows = (held_rows[0] for slot, held_rows in self._held.items() if is_busy[slot])
        first_blocked = math.inf if in_waves else min(blocked_rows, default=math.inf)
        while len(rows) < limit and self._ready and self._ready[0] < first_blocked:
            row = heapq.heappop(self._ready)
            slot = self._slot[row]
            held_rows = self._held[slot]
            held_rows.popleft()
            self.state.n_held[0] -= 1
            if not held_rows:
                del self._held[slot]
            elif not in_waves:
                first_blocked = min(first_blocked, held_rows[0])
            is_busy[slot] = True
            rows.append(row)
        return rows, first_blocked < math.inf

    def _take_new(self, rows: list[int], limit: int, barrier: int, *, in_waves: bool) -> None:
        """Add new arrivals to ``rows``, and advance the clock."""
        is_busy = self.state.is_busy
        row = int(self.state.n_arrived[0])
        room = limit - len(rows)
        while room and row < barrier:
            slot = self._slot[row]
            if not is_busy[slot]:
                is_busy[slot] = True
                rows.append(row)
                room -= 1
            else:
                self._held.setdefault(slot, deque()).append(row)
                self.state.n_held[0] += 1
                room = room if in_waves else 0  # outside waves, no arrival may overtake the held one
            row += 1
        while self._n_events < row:
            self._env.step()
        self.state.n_arrived[0] = row

    def require_waiting(self, rows: Ints) -> None:
        """Refuse rows that do not wait for slates."""
        distinct_rows = set(rows.tolist())
        is_within = min(distinct_rows, default=0) >= 0 and max(distinct_rows, default=0) < len(self._tick)
        if not is_within or len(distinct_rows) != len(rows) or not self.state.is_waiting[rows].all():
            raise MarketError(
                "serve: some of these arrivals are not waiting. Serve each arrival of next_arrivals once"
            )

    def release_held(self, slots: Ints) -> None:
        """Allow the next visits of users who were served."""
        for slot in self._held.keys() & slots.tolist():
            heapq.heappush(self._ready, self._held[slot][0])
