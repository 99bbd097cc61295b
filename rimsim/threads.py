"""The one place that decides how many threads a process has, how it keeps memory and how many processes run at once."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

_KEPT = ((-1, 2**28), (-3, 2**25))
"""Options of glibc's mallopt with values: how much that is free at its end the heap keeps (M_TRIM_THRESHOLD), and from
which size on an array has pages of its own, which go back as soon as it is freed (M_MMAP_THRESHOLD; no larger value is
allowed)."""


def single_thread() -> None:
    """Let this process compute on one thread, and keep the memory that it frees.

    The bits of a matrix product, and so of a fit, depend on the number of threads; workers share the cores besides.
    """
    import torch  # noqa: PLC0415 - what only counts cores need not wait for it

    torch.set_num_threads(1)
    _keep_memory()


@cache
def _keep_memory() -> None:
    """Keep freed memory for what is asked for next; with glibc alone, elsewhere nothing happens.

    Blocks of some megabytes are made and dropped for every block of scores and every step of a fit. Memory that went
    back to the system in between comes anew a page at a time, each of them cleared.
    """
    for option, value in _KEPT:
        _of_glibc("mallopt", option, value)


def give_back() -> None:
    """Give what this process has freed and kept back to the system, before a time in which much is asked for at once.

    Between what is still in use, the heap keeps holes for as long as the process runs.
    """
    _of_glibc("malloc_trim", 0)


def _of_glibc(name: str, *numbers: int) -> None:
    """Call a function of glibc; where there is none, nothing happens."""
    with suppress(AttributeError, OSError, TypeError):
        getattr(ctypes.CDLL(None), name)(*numbers)


def cores() -> int:
    """How many cores this process may use: those that it is bound to, where the system says so."""
    bound = getattr(os, "sched_getaffinity", None)
    return len(bound(0)) if bound is not None else os.cpu_count() or 1


def memory() -> int | None:
    """Bytes of memory that this process may use: the machine's, or its container's; None where nobody says."""
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    with suppress(OSError, ValueError):  # no limit is written as "max"
        there = min(there, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return there
