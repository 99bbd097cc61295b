"""The door to Numba: what several processes need is compiled by one of them."""

from __future__ import annotations

import ast
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rimsim
from rimsim.compiled import _lock_of, compiled
from rimsim.matching import solve_prices

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


def test_a_cache_that_names_a_class_of_an_older_version_is_made_again(tmp_path):
    """An upgrade that moves a record, but not the kernel that takes it, compiles the kernel again."""
    kernel = KERNEL.replace("doubled(x)", "total(pair)").replace("x + x", "pair.first + pair.second")
    (tmp_path / "kernel.py").write_text(kernel)
    pair = "from typing import NamedTuple\n\n\nclass Pair(NamedTuple):\n    first: int\n    second: int\n"
    environment = os.environ | {"NUMBA_CACHE_DIR": "", "PYTHONDONTWRITEBYTECODE": "1"}
    for module in ("old", "new"):
        for place in tmp_path.glob("old.py"):
            place.unlink()
        (tmp_path / f"{module}.py").write_text(pair)
        call = f"import kernel, {module}; assert kernel.total({module}.Pair(20, 1)) == 21"
        subprocess.run([sys.executable, "-c", call], cwd=tmp_path, env=environment, check=True)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a folder that cannot be made")
def test_where_nothing_can_be_kept_kernels_work_all_the_same(tmp_path):
    """A lock that cannot be made is done without."""
    (tmp_path / "file").touch()

    class Dispatcher:
        stats = type("Stats", (), {"cache_path": str(tmp_path / "file" / "cache")})
        py_func = test_where_nothing_can_be_kept_kernels_work_all_the_same

    with _lock_of(Dispatcher):
        assert not (tmp_path / "file" / "cache").exists()


def _functions(trees):
    """The functions of a package, with whether each is compiled."""
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                yield node, any(ast.unparse(mark) == compiled.__name__ for mark in node.decorator_list)


def test_no_compiled_function_hands_python_a_named_tuple():
    """Numba calls Python to make one, and crashes if an interrupt falls there: such kernels are for kernels alone."""
    folders = [Path(rimsim.__file__).parent, *map(Path, rimsim.__path__)]
    files = {
        file.resolve()
        for base in folders
        for folder in (base, *base.iterdir())
        for file in folder.rglob("*.py")
    }
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    named = {node.name for node in classes if "NamedTuple" in map(ast.unparse, node.bases)}
    functions = list(_functions(trees))
    makers = {
        node.name for node, fast in functions if fast and node.returns and ast.unparse(node.returns) in named
    }
    assert {"UserDual", "Queue"} <= named
    assert "new_queue" in makers
    for node, fast in functions:
        calls = {ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
        assert fast or not calls & makers, node.name


@pytest.mark.skipif(
    not hasattr(signal, "setitimer") or not hasattr(os, "fork"), reason="needs a timer and fork"
)
def test_an_interrupt_within_the_search_for_prices_ends_no_process():
    """A signal at any time of the search arrives as what its handler raises, or as the SystemError made of it."""

    def interrupt(*_):
        raise KeyboardInterrupt

    def solve():
        solve_prices(scores, np.full(200, 3), 8.0, cost=1.0, position_weights=[1.0, 0.6, 0.3])

    scores = np.random.default_rng(0).random((200, 60))
    solve()  # compiled before it is interrupted
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, interrupt)
        found = 0
        for number in range(200):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-4 * (1 + number))
                while True:
                    solve()
            except (KeyboardInterrupt, SystemError):
                found += 1
        os._exit(found)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 200
