"""The one place that decides how many threads a process has and how many processes run at once."""

from __future__ import annotations

import os

__all__ = ["cores", "single_thread"]


def single_thread() -> None:
    """Let this process compute on one thread.

    The bits of a matrix product, and so of a fit, depend on the number of threads; workers share the cores besides.
    """
    import torch  # noqa: PLC0415 - what only counts cores need not wait for it

    torch.set_num_threads(1)


def cores() -> int:
    """How many cores this process may use: those that it is bound to, where the system says so."""
    bound = getattr(os, "sched_getaffinity", None)
    return len(bound(0)) if bound is not None else os.cpu_count() or 1
