"""What a piece of work costs: CPU seconds of this process, and its peak memory."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["cpu", "median_timed", "peak", "timed"]

_Found = TypeVar("_Found")


def timed(work: Callable[[], _Found]) -> tuple[_Found, float]:
    """The result and the CPU seconds."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def cpu(work: Callable[[], object]) -> float:
    """The CPU seconds alone."""
    return timed(work)[1]


def median_timed(work: Callable[[], _Found], repeats: int) -> tuple[_Found, float]:
    """The last result and the median CPU seconds of some repeats."""
    seconds = []
    for _ in range(repeats):
        result, took = timed(work)
        seconds.append(took)
    return result, statistics.median(seconds)


def peak() -> float:
    """Peak resident memory of this process, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
