"""Memory that a run needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.errors import ConfigError
from rimsim.system import memory

if TYPE_CHECKING:
    from rimsim.data import EventLog


# These figures were measured once, and hold within a factor of about two. benchmarks/log/scale.md has the measurements.

MAIN = 3e8
"""Bytes that the main process needs in addition to those of a worker, because it fits truths, tests truths and draws
pictures."""
_PROCESS = 6e8
"""Bytes of a process with all libraries, before it reads a log."""
_EVENT = 140.0
"""Bytes per event while a log is read and sorted."""
_CELL = 40.0
"""Bytes per pair of a user and an item, while a model is fitted."""
_CELLS = 2.0**25
"""Largest number of pairs of a user and an item in memory at once, because fits go through them block by block."""
_STATE = 10.0
"""Bytes per pair of an arrival and an item, while prices are solved."""
_STATES = 2.0**26
"""Largest number of pairs of an arrival and an item for which prices are solved. If a round has more, its arrivals are
sampled."""


def log_bytes(log: EventLog) -> float:
    """Memory of a process that fits models to a log."""
    return _PROCESS + _EVENT * len(log) + _CELL * min(log.n_users * log.n_items, _CELLS)


def state_bytes(states: int, n_items: int) -> float:
    """Memory of the scores of a round's states."""
    return _STATE * min(states * n_items, _STATES)


def require_memory(main: float, worker: float, workers: int, lower: str) -> None:
    """Refuse a run that exceeds this machine's memory.

    Args:
        main: Bytes of the process that the run is started from.
        worker: Bytes of each other process; with one worker there is no other process.
        workers: Processes that share the work.
        lower: Option that the message suggests to lower if not even one process fits into memory.

    Raises:
        ConfigError: If there is too little memory.
    """
    memory_bytes = memory()

    def needed(processes: int) -> float:
        """Bytes of a run with a number of processes."""
        # A single process does the work of the main process and of a worker, one after the other.
        return max(main, worker) if processes == 1 else main + processes * worker

    if memory_bytes is None or needed(workers) <= memory_bytes:
        return
    most_workers = next((n for n in range(workers, 0, -1) if needed(n) <= memory_bytes), 0)
    allowed = f"--workers {most_workers} or fewer" if most_workers else f"a lower {lower}"
    option = f"workers: {workers}" if most_workers else lower
    raise ConfigError(
        f"{option}: the run will need about {needed(workers) / 1e9:.1f} GB of memory, but this machine has "
        f"{memory_bytes / 1e9:.1f} GB. Use {allowed}"
    )
