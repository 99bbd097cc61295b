"""Threads and memory of a process."""

import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest

from rimsim import system


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted there")
def test_memory_that_was_freed_is_used_again():
    """Blocks of scores that are made and dropped time and again take their pages from the system once."""
    import resource

    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("another allocator than glibc's")
    system.single_thread()

    def faults() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    def blocks() -> None:
        # Larger ones NumPy asks for in huge pages, which hides what is counted here.
        assert sum(len(block) for block in [np.ones(3_000_000, np.int8) for _ in range(30)]) == 90_000_000

    blocks()
    before = faults()
    for _ in range(5):
        blocks()
    once = 90_000_000 // resource.getpagesize()
    assert faults() - before < once


def test_other_allocators_are_left_alone(monkeypatch):
    """Where the C library has no such option, one thread is all that is decided."""
    asked = []

    def library(name: str | None) -> object:
        asked.append(name)
        return object()

    monkeypatch.setattr(system.ctypes, "CDLL", library)
    system._keep_memory.__wrapped__()
    system.give_back()
    assert asked
    assert set(asked) == {None}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read there")
def test_memory_that_was_freed_can_be_given_back():
    """What blocks took is the system's again once it is given back, and not before."""
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("another allocator than glibc's")
    system.single_thread()

    import resource

    def resident() -> int:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * resource.getpagesize()

    held = [np.ones(3_000_000, np.int8) for _ in range(30)]
    assert len(held) == 30
    held.clear()
    before = resident()
    system.give_back()
    assert before - resident() > 60_000_000
