"""The door to Numba: what several processes need is compiled by one of them."""

from __future__ import annotations

import importlib
import multiprocessing
import sys

import pytest

from rimsim.compiled import _lock_of

KERNEL = """
from rimsim.compiled import compiled


@compiled
def doubled(x):
    return x + x
"""


def _first_call(folder, begin, results):
    """Call a kernel at the same time as others; report what was compiled and what was read from disk."""
    sys.path.insert(0, folder)
    kernel = importlib.import_module("kernel")
    begin.wait(60)
    found = kernel.doubled(21)
    stats = kernel.doubled.stats
    results.put((found, sum(stats.cache_misses.values()), sum(stats.cache_hits.values())))


def test_a_kernel_that_processes_need_at_once_is_compiled_by_one_of_them(tmp_path, monkeypatch):
    """Of three processes that call it first at the same time, one compiles and two read what it left."""
    (tmp_path / "kernel.py").write_text(KERNEL)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    context = multiprocessing.get_context("spawn")
    begin, results = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_first_call, args=(str(tmp_path), begin, results)) for _ in range(3)]
    for process in processes:
        process.start()
    found = sorted(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert found == [(42, 0, 1), (42, 0, 1), (42, 1, 0)]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a folder that cannot be made")
def test_where_nothing_can_be_kept_kernels_work_all_the_same(tmp_path):
    """A lock that cannot be made is done without."""
    (tmp_path / "file").touch()

    class Dispatcher:
        stats = type("Stats", (), {"cache_path": str(tmp_path / "file" / "cache")})
        py_func = test_where_nothing_can_be_kept_kernels_work_all_the_same

    with _lock_of(Dispatcher):
        assert not (tmp_path / "file" / "cache").exists()
