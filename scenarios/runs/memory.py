"""Memory that a run needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.errors import ConfigError
from rimsim.system import memory

if TYPE_CHECKING:
    from rimsim.data import EventLog


# These figures were measured once, and hold within a factor of about two. benchmarks/log/scale.md has the measurements.

MAIN = 3e8
"""Bytes that the first process needs beyond the others, because it fits truths, tests truths and draws pictures."""
_PROCESS = 6e8
"""Bytes of a process with all libraries, before it reads a log."""
_EVENT = 140.0
"""Bytes per event while a log is read and sorted."""
_CELL = 40.0
_CELLS = 2.0**25
"""Bytes per pair of a user and an item. ``_CELLS`` is the largest number of pairs in memory at once, because blocks are
bounded."""
_STATE = 10.0
_STATES = 2.0**26
"""Bytes per pair of an arrival and an item while prices are solved. ``_STATES`` is the largest number of such pairs,
because arrivals are sampled beyond it."""


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
        return max(main, worker) if processes == 1 else main + processes * worker

    if memory_bytes is None or needed(workers) <= memory_bytes:
        return
    fits = next((n for n in range(workers, 0, -1) if needed(n) <= memory_bytes), 0)
    allowed = f"--workers {fits} or fewer" if fits else f"a lower {lower}"
    option = f"workers: {workers}" if fits else lower
    raise ConfigError(
        f"{option}: the run will need about {needed(workers) / 1e9:.1f} GB of memory, but this machine has "
        f"{memory_bytes / 1e9:.1f} GB. Use {allowed}"
    )
