"""Life of a process, with errors that name it."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Generator
from typing import Any

import simpy

from rimsim.errors import ProcessError, RimsimError, one_line
from rimsim.market.clock import Clock

_MOST_WAKES = 100_000
"""Number of wakes at one instant from which on a process is said to stand still."""


class Life:
    """Name and wakes of a process and its further generators."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        """Text that names the process in the scenario."""
        self._clock = clock
        self._tick = clock.tick
        """Tick of the last wake."""
        self._n_wakes = 0
        """Number of wakes at this tick."""

    def begin(self, run: Callable[[], object]) -> None:
        """Let a process run on the clock.

        ``run`` is a function that returns its generator.

        Raises:
            ProcessError: If the method ``run`` raises, or returns no generator.
        """
        try:
            generator = run()
        except Exception as error:
            raise self.error(_cause(error)) from error
        self._clock.process(self.of(generator))

    def of(self, generator: object) -> Generator[simpy.Event, Any, Any]:
        """Generator whose errors name the process.

        Raises:
            ProcessError: If the generator raises, yields anything but events, or never lets time pass.
        """
        if not inspect.isgenerator(generator):
            raise self.error(
                f"run returned a {type(generator).__name__}. Write a generator that yields events, such as "
                "env.timeout(60)"
            )
        return self._events(generator)

    def _events(self, generator: Generator[Any, Any, Any]) -> Generator[simpy.Event, Any, Any]:
        """Events of a generator, while this process owns the clock."""
        resume: Callable[[Any], Any] = generator.send
        answer: Any = None
        while True:
            self._count(self._clock.tick)
            before = self._clock.owner
            self._clock.owner = self
            try:
                event = resume(answer)
            except StopIteration as stop:
                return stop.value
            except ProcessError:
                raise
            except RimsimError as error:
                raise self.error(f"{error}{_line(error)}") from error
            except Exception as error:
                raise self.error(_cause(error)) from error
            finally:
                self._clock.owner = before
            if not isinstance(event, simpy.Event):
                generator.close()
                raise self.error(
                    f"it yielded {event!r}. Yield events, such as env.timeout(60) or market.round_end()"
                )
            try:
                answer = yield event
                resume = generator.send
            except Exception as error:  # noqa: BLE001  # an event that failed, or an interrupt, goes on to the process
                answer = error
                resume = generator.throw

    def _count(self, tick: int) -> None:
        """Refuse a process that wakes without end at one instant."""
        self._n_wakes = self._n_wakes + 1 if tick == self._tick else 1
        self._tick = tick
        if self._n_wakes > _MOST_WAKES:
            raise self.error(
                f"it woke {_MOST_WAKES:,} times at one instant. Yield an event that lets time pass, such as "
                "env.timeout(60)"
            )

    def error(self, problem: str) -> ProcessError:
        """Error that names the process."""
        return ProcessError(f"process {self.name!r}: {problem}")


def _cause(error: Exception) -> str:
    """Type, text and line of an exception of a process."""
    return f"{type(error).__name__}: {one_line(error)}{_line(error)}"


def _line(error: Exception) -> str:
    """Line of the process in an exception, in brackets."""
    # The first frame is this file, the second is the generator of the process.
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    return f" ({frames[0].filename}:{frames[0].lineno})" if frames else ""
