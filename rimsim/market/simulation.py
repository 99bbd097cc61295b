"""Life of a market as processes on its clock."""

from __future__ import annotations

from collections.abc import Callable, Generator

import simpy

from rimsim.errors import MarketError, RimsimError, one_line
from rimsim.market.clock import ArrivalQueue, Clock, Moment, Rank, VisitCounts
from rimsim.market.records import Schedule


class _Waiters:
    """Events that wait for the same thing to happen next."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._events: list[simpy.Event] = []

    def event(self) -> simpy.Event:
        """Event of the next time."""
        event = self._clock.event()
        self._events.append(event)
        return event

    def succeed(self, number: int) -> None:
        """Trigger the events that wait now."""
        events = self._events
        self._events = []
        for event in events:
            event.succeed(number)


class Simulation:
    """Calendar of a market: arrivals, rounds and retraining.

    Processes only decide when something happens. The market itself serves and retrains outside the processes, while the
    clock waits for it. So an error or an interrupt does not end a process.
    """

    def __init__(self, tick: int, served: int = 0) -> None:
        self.clock = Clock(tick)
        self.visits = VisitCounts(served)
        """Number of served visits, and events that wait for visits."""
        self._queue: ArrivalQueue | None = None
        self._stop = tick
        self._round_ends = _Waiters(self.clock)
        self._live_models = _Waiters(self.clock)
        self.clock.process(self._rounds())

    def queue_of(self, schedule: Schedule) -> ArrivalQueue:
        """Queue of a round's arrivals, which the calendar follows."""
        self._queue = ArrivalQueue(schedule, self.clock, self.visits)
        self._stop = schedule.stop
        return self._queue

    def run_out(self, number: int) -> None:
        """Advance the clock to the end of round ``number``."""
        if self._queue is not None:
            self._queue.end_stretch()
        self.clock.run_to_turn()
        self._round_ends.succeed(number)
        self.clock.run_instant()

    def round_end(self) -> simpy.Event:
        """Event at the end of the open round."""
        return self._round_ends.event()

    def model_live(self) -> simpy.Event:
        """Event of the next model that goes live."""
        return self._live_models.event()

    def note_live(self, number: int) -> None:
        """Trigger the events of the model with a number."""
        self._live_models.succeed(number)

    def go_live_at(self, tick: int, go_live: Callable[[], None]) -> None:
        """Call a function when a model goes live.

        If it is interrupted, it is called again when the clock goes on.
        """

        def call(_: simpy.Event) -> None:
            """Call the function."""
            try:
                go_live()
            except BaseException as error:
                self.go_live_at(self.clock.tick, go_live)
                if isinstance(error, RimsimError) or not isinstance(error, Exception):
                    raise
                raise MarketError(f"retraining: {type(error).__name__}: {one_line(error)}") from error

        moment = Moment(self.clock, tick, Rank.LIVE)
        moment.callbacks.append(call)

    def after_visits(self, n: int) -> simpy.Event:
        """Event after ``n`` more visits."""
        event = self.clock.event()
        self.visits.after(n, event)
        return event

    def _rounds(self) -> Generator[simpy.Event]:
        """Visitors arrive, then the platform retrains, round by round."""
        while self._queue is not None:
            yield self._queue.arrivals
            yield Moment(self.clock, self._stop, Rank.RETRAIN)
            yield self.clock.wait_for_market()
