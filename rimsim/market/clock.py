"""SimPy clock of a market, and queue of its arrivals."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
import simpy

from rimsim.arrays import ALWAYS, NEVER, TICKS, Bools, Ints
from rimsim.compiled import CompiledRecord, compiled_part
from rimsim.errors import MarketError, ProcessError, RimsimError, one_line
from rimsim.market.records import Schedule


class Rank(IntEnum):
    """Ranks that order what happens at the same tick.

    This is the only place of the order: releases, ends and wakes of processes, then models that go live within a
    round, then the retraining at a round's end, then consumptions that become known, then arrivals. SimPy gives rank 0
    to the start of processes, and rank 1 to all other events. Of two events with the same rank, the one that was
    scheduled first goes first. Releases and ends that are known beforehand, and consumptions that become known, need no
    events. An arrival sees those of its own tick, and is scored by a model that goes live at its tick. A training
    ignores consumptions that become known at the tick of its start.
    """

    PROCESS = 1
    LIVE = 2
    RETRAIN = 3
    ARRIVAL = 4


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc(time: float) -> datetime:
    """Time in UTC, from seconds on the market's clock."""
    return _EPOCH + timedelta(seconds=time)


class Owner(Protocol):
    """Process of the user, which may start further generators."""

    def of(self, generator: object) -> Generator[simpy.Event, Any, Any]:
        """Generator whose errors name the process."""


class Clock(simpy.Environment):
    """SimPy environment in seconds, which counts whole ticks.

    Serving does not need an event per arrival. So ``now`` is the later of two times: of the last event, and of
    the last arrival that was handed out.
    """

    _now: int  # the tick of the last event; floating seconds would not add exactly

    def __init__(self, tick: int) -> None:
        super().__init__(tick)
        self.turn: simpy.Event | None = None
        """Event for which the clock waits, because the market must serve or retrain first; None without one."""
        self.owner: Owner | None = None
        """Process of the user that runs at this moment; None: the market itself."""
        self._queue_of_arrivals: ArrivalQueue | None = None
        self._is_stepping = False

    @property
    def tick(self) -> int:
        """Current time in ticks."""
        # Arrivals are handed out only while the clock waits for the market.
        arrivals = self._queue_of_arrivals
        return self._now if self.turn is None or arrivals is None else max(self._now, arrivals.last_tick)

    @property
    def now(self) -> float:
        """Current time in seconds."""
        return self.tick / TICKS

    def follow(self, arrivals: ArrivalQueue) -> None:
        """Follow the arrivals of a round."""
        self._queue_of_arrivals = arrivals

    def schedule(self, event: simpy.Event, priority: int = Rank.PROCESS, delay: float = 0) -> None:
        """Schedule an event after a delay in seconds.

        Raises:
            MarketError: If the delay is negative or not a number.
        """
        if not delay >= 0:
            raise MarketError(f"env.schedule: the delay is {delay} s. Expected at least 0 s")
        self.schedule_at(event, self.tick + (round(delay * TICKS) if delay < math.inf else NEVER), priority)

    def schedule_at(self, event: simpy.Event, tick: int, rank: int) -> None:
        """Schedule an event at a tick."""
        queue: list[Any] = self._queue  # SimPy's type has its own enumeration of ranks
        heapq.heappush(queue, (tick, rank, next(self._eid), event))
        if self.turn is not None and self._queue_of_arrivals is not None:
            self._queue_of_arrivals.stop_before(tick)

    @property
    def next_tick(self) -> int:
        """Tick of the next event; NEVER without one."""
        return int(self._queue[0][0]) if self._queue else NEVER

    def peek(self) -> float:
        """Time of the next event in seconds; infinite without one."""
        return self.next_tick / TICKS if self._queue else math.inf

    def process(self, generator: Generator[simpy.Event, Any, Any]) -> simpy.Process:
        """Process of a generator, whose errors name its owner."""
        if self.owner is not None:
            generator = self.owner.of(generator)
        return simpy.Process(self, generator)

    def step(self) -> None:
        """Process the next event.

        Raises:
            MarketError: If the market must serve arrivals or retrain first, or if a process calls this method.
        """
        if self._is_stepping:
            raise MarketError(
                "env: a process cannot advance the clock. Yield an event, such as env.timeout(60)"
            )
        if self.turn is not None:
            raise MarketError(
                "market.env: the clock cannot go on, because the market must serve arrivals first. Serve them; the "
                "market then advances its clock"
            )
        super().step()

    def wait_for_market(self) -> simpy.Event:
        """Event of the market's turn, for which the clock waits."""
        self.turn = self.event()
        return self.turn

    def end_turn(self, tick: int, rank: int) -> None:
        """Let the clock go on, and trigger the turn's event."""
        turn = self.turn
        if turn is not None:
            self._now = self.tick
            self.turn = None
            turn._ok = True  # noqa: SLF001  # as Event.succeed does, which schedules for the present instant only
            turn._value = None  # noqa: SLF001
            self.schedule_at(turn, tick, rank)

    def run_to_turn(self) -> None:
        """Process events until the market must act."""
        self._step_while(lambda: self.turn is None)

    def run_instant(self) -> None:
        """Process the events of processes at the current instant."""
        self._step_while(lambda: bool(self._queue) and self._queue[0][:2] <= (self.tick, Rank.PROCESS))

    def _step_while(self, goes_on: Callable[[], bool]) -> None:
        """Process events, whoever waits for them."""
        step = super().step
        self._is_stepping = True
        try:
            while goes_on():
                step()
        except RimsimError:
            raise
        except Exception as error:  # an event that failed, for which no process waits
            raise ProcessError(f"processes: {type(error).__name__}: {one_line(error)}") from error
        finally:
            self._is_stepping = False


class Moment(simpy.Event):
    """SimPy event at an absolute tick, with a rank."""

    def __init__(self, clock: Clock, tick: int, rank: Rank) -> None:
        super().__init__(clock)
        self._ok = True
        self._value = None
        clock.schedule_at(self, tick, rank)


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
    n_open: Ints
    """(1,) number of arrivals before the next event of the clock, which may be handed out."""

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
            n_open=np.zeros(1, np.int64),
        )


NO_ROW = -1
"""Result of :func:`next_after` if another arrival must go first, or if the round ends."""
CLOCK_FIRST = -2
"""Result of :func:`next_after` if only the clock must go on before the next arrival is handed out."""


@compiled_part
def next_after(row: int, slot: Ints, queue: QueueState) -> int:
    """Row after ``row``, or NO_ROW or CLOCK_FIRST."""
    # Compiled code serves arrivals in clock order without :meth:`ArrivalQueue.take`. It stops where that method would
    # hand out a held arrival, would hold the next one back, or would advance the clock to its next event.
    following = queue.n_arrived[0]
    if not queue.is_waiting[row] or queue.n_held[0] > 0 or following == len(slot):
        return NO_ROW
    if following >= queue.n_open[0]:
        # The clock goes on when all arrivals of the stretch are served, so ``row`` must be the only one that waits.
        return CLOCK_FIRST if queue.n_served[0] + 1 == following else NO_ROW
    if queue.is_busy[slot[following]] and slot[following] != slot[row]:
        return NO_ROW
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


class VisitCounts:
    """Events that wait until a number of visits were served."""

    def __init__(self, served: int = 0) -> None:
        self.served = served
        """Number of visits that were served when the last stretch ended."""
        self._waits: list[tuple[int, int, simpy.Event]] = []
        """A heap of numbers of visits and the events that wait for them, in the order of their making."""
        self._n_waits = 0

    def after(self, n: int, event: simpy.Event) -> None:
        """Trigger an event after ``n`` more visits."""
        self._n_waits += 1
        heapq.heappush(self._waits, (self.served + n, self._n_waits, event))

    def next_stop(self) -> int:
        """Number of visits for which the next event waits."""
        return self._waits[0][0] if self._waits else NEVER

    def note(self, served: int) -> None:
        """Note the number of served visits, and trigger events."""
        self.served = served
        while self._waits and self._waits[0][0] <= served:
            heapq.heappop(self._waits)[2].succeed()


class ArrivalQueue:
    """Arrivals in clock order, with one open visit per user.

    The clock opens stretches of arrivals. A stretch ends before the next event of the clock, and the clock goes on when
    all arrivals of the stretch have been served.
    """

    def __init__(self, schedule: Schedule, clock: Clock, visits: VisitCounts | None = None) -> None:
        self._clock = clock
        self._visits = VisitCounts() if visits is None else visits
        self._schedule = schedule
        self._tick: list[int] = schedule.tick.tolist()
        self._slot: list[int] = schedule.slot.tolist()
        self.state = QueueState.of(schedule)
        self._held: dict[int, deque[int]] = {}
        """By slot, rows that arrived and wait for an earlier visit of the same user."""
        self._ready: list[int] = []
        """A heap of the first held row of each slot that is not busy."""
        self._ahead: list[int] = []
        """Rows after the open stretch that the last call of :meth:`take` returned."""
        self._n_before = self._visits.served
        """Number of visits served before the round."""
        clock.follow(self)
        self.arrivals = clock.process(self._arrive())
        """Process of the round's arrivals, which ends when all have been served."""

    def _arrive(self) -> Generator[simpy.Event]:
        """Visitors arrive, in stretches up to the next event."""
        if self._tick:
            yield Moment(self._clock, self._tick[0], Rank.ARRIVAL)
        while self.served < len(self._tick):
            self.state.n_open[0] = max(
                min(self._first_at(self._clock.next_tick), self._visits.next_stop() - self._n_before),
                self.served + 1,
            )
            yield self._clock.wait_for_market()  # it goes off when the first visitor of the next stretch arrives

    def _first_at(self, tick: int) -> int:
        """First row that arrives at a tick or later."""
        return bisect_left(self._tick, tick)

    @property
    def last_tick(self) -> int:
        """Tick of the last handed-out arrival; ALWAYS before."""
        number = int(self.state.n_arrived[0])
        return self._tick[number - 1] if number else ALWAYS

    def stop_before(self, tick: int) -> None:
        """End the open stretch before a tick."""
        n_open = self.state.n_open
        if n_open[0] > self.served and self._tick[n_open[0] - 1] >= tick:
            n_open[0] = max(self._first_at(tick), int(self.state.n_arrived[0]))

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

    def open_stretch(self) -> None:
        """Let the clock go on after a served stretch.

        Nothing changes if arrivals of the stretch are not served yet.
        """
        if self.state.n_served[0] == self.state.n_open[0] < len(self._tick):
            self.end_stretch()
            self._clock.run_to_turn()

    def end_stretch(self) -> None:
        """Count the visits of a served stretch, and go on."""
        served = self.served
        self._visits.note(self._n_before + served)
        if 0 < served < len(self._tick):
            self._clock.end_turn(self._tick[served], Rank.ARRIVAL)
        else:
            self._clock.end_turn(self._clock.tick, Rank.PROCESS)

    def take(
        self, limit: int, barrier_every: int | None = None, *, in_waves: bool = False, ahead: bool = False
    ) -> Ints:
        """Rows of the next arrivals, which now wait for slates.

        Args:
            in_waves: If true, other users go before the later visits of a user who waits for a slate.
            ahead: If true, rows of later stretches follow, up to a user's second visit. They wait for slates only after
                :meth:`hand_out_ahead`.

        Raises:
            MarketError: If the next arrivals must wait for arrivals that have not been served.
        """
        self.open_stretch()
        barrier = int(self.state.n_open[0])
        if ahead and barrier - self.served < limit:
            in_waves = False  # a visit that a wave holds back would keep the next stretch from opening
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
        self.state.is_waiting[rows] = True
        self._ahead = self._rows_ahead(rows, limit) if ahead and self.served + len(rows) == barrier else []
        return np.array(rows + self._ahead)

    def _rows_ahead(self, rows: list[int], limit: int) -> list[int]:
        """Rows after the open stretch, before a user's second visit."""
        slots = {self._slot[row] for row in rows}
        first = int(self.state.n_open[0])
        stop = first
        while stop < min(first + limit - len(rows), len(self._tick)) and self._slot[stop] not in slots:
            slots.add(self._slot[stop])
            stop += 1
        return list(range(first, stop))

    def n_ahead(self, rows: Ints) -> int:
        """Number of the last rows that were taken ahead.

        Raises:
            MarketError: If any other row does not wait for a slate.
        """
        n = len(self._ahead)
        if n >= len(rows) or rows[len(rows) - n :].tolist() != self._ahead:
            n = 0
        self.require_waiting(rows[: len(rows) - n])
        return n

    def hand_out_ahead(self, rows: Ints) -> int:
        """Hand out rows that are in the open stretch.

        The result is their number.
        """
        first = int(rows[0])
        stop = min(int(self.state.n_open[0]), int(rows[-1]) + 1)
        self.state.is_waiting[first:stop] = True
        self.state.is_busy[self._schedule.slot[first:stop]] = True
        self.state.n_arrived[0] = stop
        return stop - first

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
        """Add new arrivals to ``rows``."""
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
