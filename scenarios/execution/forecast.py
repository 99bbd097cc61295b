"""What a long run is expected to take: said before it starts, and refused where memory is lacking."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rimsim.errors import ConfigError
from rimsim.intensity.registry import mark_and_ground
from rimsim.scenarios.execution.rates import FITS, RATES, UPDATES
from rimsim.system import memory

if TYPE_CHECKING:
    from rimsim.data import EventLog


LONG = 60.0
"""Seconds from which on a run is long enough to say so."""


@dataclass(frozen=True)
class Forecast:
    """CPU seconds and memory of a run, within a factor of two or so."""

    alone: float
    """CPU seconds of what one process does by itself: truths, pictures."""
    shared: float
    """CPU seconds of what processes share out among them."""
    workers: int
    """Processes that share it."""
    main: float
    """Bytes of the process that the run is started from."""
    worker: float
    """Bytes of each other process; with one worker there is none."""
    unknown: tuple[str, ...] = ()
    """Models whose fits are not counted, since no rate of them is known."""

    @property
    def seconds(self) -> float:
        """How long it takes on cores of its own."""
        return self.alone + self.shared / self.workers

    @property
    def memory(self) -> float:
        """Bytes of all processes."""
        return self._with(self.workers)

    def most_workers(self, there: float) -> int:
        """With how many workers at most so many bytes are enough; 0 if not even with one."""
        return next((n for n in range(self.workers, 0, -1) if self._with(n) <= there), 0)

    def _with(self, workers: int) -> float:
        return max(self.main, self.worker) if workers == 1 else self.main + workers * self.worker

    def __str__(self) -> str:
        shared = f" on {self.workers} workers" if self.workers > 1 else ""
        without = f", without the fits of {', '.join(self.unknown)}" if self.unknown else ""
        took = _duration(self.alone + self.shared)
        return f"estimate: {_duration(self.seconds)}{shared} ({took} of CPU time) and {_size(self.memory)}{without}"


def announce(forecast: Forecast, say: Callable[[str], None], lower: str, *, here: bool = True) -> None:
    """Say what a long run is expected to take, and refuse one that needs more memory than there is.

    Args:
        forecast: What it takes.
        say: Called with the line, if the run is long.
        lower: The option to lower where not even one process fits, with what it stands for.
        here: False: it runs on other machines, whose memory is not known.

    Raises:
        ConfigError: If this machine has too little memory.
    """
    there = memory()
    if here and there is not None and forecast.memory > there:
        fits = forecast.most_workers(there)
        allowed = f"--workers {fits} or fewer" if fits else f"a lower {lower}"
        what = f"workers: {forecast.workers}" if fits else lower
        raise ConfigError(
            f"{what}: the run is expected to need {_size(forecast.memory)} of memory, and this machine has "
            f"{_size(there)}; allowed: {allowed}"
        )
    if forecast.seconds > LONG:
        say(str(forecast))


def fit_seconds(models: Iterable[str], log: EventLog) -> tuple[float, tuple[str, ...]]:
    """CPU seconds of a fit of each mark model to a log, and the models of whose fits no rate is known.

    Args:
        models: Names of the registry, or places of one's own; what shares a mark model shares its fit.
        log: The log.
    """
    seconds: dict[str, float] = {}
    unknown = []
    for model in dict.fromkeys(models):
        mark, _ = mark_and_ground(model)
        if mark not in FITS:
            unknown.append(model)
            continue
        once, event, pair = FITS[mark]
        seconds[mark] = once + event * len(log) + pair * min(len(log) * log.n_items, RATES.pairs)
    return sum(seconds.values()), tuple(unknown)


def update_seconds(model: str) -> float:
    """CPU seconds of a round's end that go into updates of a model and its folds, beyond those of the usual one."""
    return UPDATES.get(mark_and_ground(model)[0], 0.0)


def linear(rate: tuple[float, float], number: float) -> float:
    """What is paid once, and so much for each."""
    return rate[0] + rate[1] * number


def log_bytes(log: EventLog) -> float:
    """Bytes of a process that holds a log and fits models to it."""
    return RATES.process + RATES.event * len(log) + RATES.cell * min(log.n_users * log.n_items, RATES.cells)


def state_bytes(states: Iterable[int], n_items: int) -> float:
    """Bytes of the scores of the largest of some numbers of states."""
    return RATES.state * min(max(states, default=0) * n_items, RATES.states)


def _duration(seconds: float) -> str:
    if seconds < 5400:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3600:.1f} h"


def _size(number: float) -> str:
    return f"{number / 1e9:.1f} GB"
