"""The door to Numba: what several processes need is compiled by one of them, and does what its Python does."""

import ast
import dataclasses
import hashlib
import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kit import ROOT, ended, forked
from kit.markets import SMALL, play_out
from kit.worker_tasks import first_call

import rimsim
from rimsim.agents import BUILT_IN, make_agent, market_for
from rimsim.compiled import _lock_of, compiled, compiled_part, has_machine_code
from rimsim.config import ConsumerConfig, DataConfig
from rimsim.intensity import UserStates
from rimsim.intensity.registry import make
from rimsim.intensity.sets.bag import BagConfig
from rimsim.market import build_world
from rimsim.matching import Rows, solve_dual, solve_prices
from rimsim.testing import random_log

KERNEL = """
from rimsim.compiled import compiled


@compiled
def doubled(x):
    return x + x
"""


def test_a_kernel_that_processes_need_at_once_is_compiled_by_one_of_them(tmp_path, monkeypatch):
    """Of three processes that call it first at the same time, one compiles and two read what it left."""
    (tmp_path / "kernel.py").write_text(KERNEL)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    context = multiprocessing.get_context("spawn")
    begin = context.Barrier(3)
    results = context.Queue()
    processes = [context.Process(target=first_call, args=(str(tmp_path), begin, results)) for _ in range(3)]
    for process in processes:
        process.start()
    first_calls = sorted(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert first_calls == [(42, 0, 1), (42, 0, 1), (42, 1, 0)]


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


def test_machine_code_of_a_kernel_is_made_again_when_a_part_of_another_file_changes(tmp_path):
    """An edit of a function that a kernel calls changes the kernel's result, although the kernel's file is the same."""
    kernel = KERNEL.replace("\n\n\n@", "\nfrom part import grown\n\n\n@", 1).replace("x + x", "grown(x)")
    (tmp_path / "kernel.py").write_text(kernel)
    environment = os.environ | {"NUMBA_CACHE_DIR": "", "PYTHONDONTWRITEBYTECODE": "1"}
    for step in (1, 20):
        part = KERNEL.replace("import compiled", "import compiled_part").replace(
            "@compiled", "@compiled_part"
        )
        (tmp_path / "part.py").write_text(part.replace("doubled", "grown").replace("x + x", f"x + {step}"))
        call = f"import kernel; assert kernel.doubled(1) == {1 + step}"
        subprocess.run([sys.executable, "-c", call], cwd=tmp_path, env=environment, check=True)


def test_machine_code_of_a_kernel_is_made_again_when_a_number_of_another_file_changes(tmp_path):
    """An edit of a number that a kernel names changes the kernel's result, although no function is another."""
    kernel = KERNEL.replace("\n\n\n@", "\nfrom part import STEP\n\n\n@", 1).replace("x + x", "x + STEP")
    (tmp_path / "kernel.py").write_text(kernel)
    environment = os.environ | {"NUMBA_CACHE_DIR": "", "PYTHONDONTWRITEBYTECODE": "1"}
    for step in (0.25, 0.5):
        (tmp_path / "part.py").write_text(f"STEP = {step}\n")
        call = f"import kernel; assert kernel.doubled(1) == {1 + step}"
        subprocess.run([sys.executable, "-c", call], cwd=tmp_path, env=environment, check=True)


def test_a_part_is_compiled_for_kernels_and_plain_for_python(tmp_path, monkeypatch):
    """Only a call of the kernel compiles the part; then there is machine code of both."""
    part = KERNEL.replace("import compiled", "import compiled, compiled_part")
    part = part.replace("@comp", "@compiled_part #")
    part += "\n\n@compiled\ndef quadrupled(x):\n    return doubled(doubled(x))\n"
    (tmp_path / "parts.py").write_text(part)
    monkeypatch.syspath_prepend(tmp_path)
    kernels = importlib.import_module("parts")
    assert kernels.doubled("ab") == "abab"
    assert not has_machine_code(kernels.quadrupled)
    assert not has_machine_code(kernels.doubled.compiled)
    assert kernels.quadrupled(21) == 84
    assert has_machine_code(kernels.quadrupled)
    assert has_machine_code(kernels.doubled.compiled)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a folder that cannot be made")
def test_where_nothing_can_be_kept_kernels_work_all_the_same(tmp_path):
    """A lock that cannot be made is done without."""
    (tmp_path / "file").touch()

    class Dispatcher:
        stats = type("Stats", (), {"cache_path": str(tmp_path / "file" / "cache")})
        py_func = test_where_nothing_can_be_kept_kernels_work_all_the_same

    with _lock_of(Dispatcher):
        assert not (tmp_path / "file" / "cache").exists()


def test_no_compiled_function_hands_python_a_named_tuple():
    """Numba calls Python to make one, and crashes if an interrupt falls there: such kernels are for kernels alone."""
    folders = [Path(rimsim.__file__).parent, *map(Path, rimsim.__path__)]
    folders += [folder for base in folders for folder in base.iterdir()]
    files = {file.resolve() for folder in folders for file in folder.rglob("*.py")}
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    named = {node.name for node in classes if "NamedTuple" in map(ast.unparse, node.bases)}
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    marks = {compiled.__name__, compiled_part.__name__}
    fast = [node for node in functions if marks & set(map(ast.unparse, node.decorator_list))]
    makers = {node.name for node in fast if node.returns and ast.unparse(node.returns) in named}
    assert {"UserDual", "Queue"} <= named
    assert "new_queue" in makers
    for node in set(functions) - set(fast):
        calls = {ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
        assert not calls & makers, node.name


@pytest.mark.skipif(not hasattr(signal, "setitimer") or not hasattr(os, "fork"), reason="no timer or fork")
def test_an_interrupt_within_the_search_for_prices_ends_no_process():
    """A signal at any time of the search arrives as what its handler raises, or as the SystemError made of it."""

    def interrupt(*_):
        raise KeyboardInterrupt

    def solve():
        solve_prices(scores, np.full(200, 3), 8.0, cost=1.0, position_weights=[1.0, 0.6, 0.3])

    scores = np.random.default_rng(0).random((200, 60))
    solve()  # compiled before it is interrupted

    def interrupt_often():
        signal.signal(signal.SIGALRM, interrupt)
        interrupts = 0
        for number in range(200):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-4 * (1 + number))
                while True:
                    solve()
            except (KeyboardInterrupt, SystemError):
                interrupts += 1
        os._exit(interrupts)

    assert ended(forked(interrupt_often)) == 200


AGENTS = (
    *(name for name, agent in BUILT_IN.items() if not getattr(agent, "needs_providers", False)),
    "rim-feedback(closing=0)",
    "rim-resolve(every=7)",
)


def _tiny(kind, unit="shown"):
    """Some tens of arrivals over some thirty items."""
    config = SMALL[kind](rounds=2, slate=3)
    arrivals = dataclasses.replace(config.arrivals, per_round=12)
    consumer = dataclasses.replace(config.consumer, truth="factors", rank=1)
    exposure = dataclasses.replace(config.exposure, unit=unit)
    data = DataConfig(min_item_events=60, start="2009-01-01")
    return dataclasses.replace(config, data=data, arrivals=arrivals, consumer=consumer, exposure=exposure)


def _under_a_bag(kind):
    return dataclasses.replace(_tiny(kind), rounds=1, consumer=ConsumerConfig(truth="bag"))


def _ledgers(name, config):
    agent = make_agent(name)
    return [closed.ledger for closed in play_out(market_for(agent, config), agent, 10).closed]


def _ledger_digest(ledgers):
    return _digest(part for ledger in ledgers for part in (ledger.item, ledger.consumed, ledger.probability))


def digests():
    """Digests of ledgers of all agents, in two kinds of tiny markets each, and solutions of the price problem."""
    results = {}
    planning = {name for name in AGENTS if getattr(BUILT_IN.get(name), "needs_audience", False)}
    other_kinds = sorted(set(SMALL) - {"clones"})
    for number, name in enumerate(AGENTS):
        for kind in (
            ("broadcast",) if name in planning else ("clones", other_kinds[number % len(other_kinds)])
        ):
            results[f"{kind} {name}"] = _ledger_digest(_ledgers(name, _tiny(kind)))
    for name in sorted(set(AGENTS) - planning):
        # Prices of examined guarantees come of sums in floating point, which differ in their last bits between the
        # two; what is compared is that slates are filled, and that no index leaves its array.
        ledgers = _ledgers(name, _tiny("clones", unit="examined"))
        results[f"examined {name}"] = sum(int((ledger.item >= 0).sum()) for ledger in ledgers)
    for kind in ("clones", "cold-start"):
        results[f"bag {kind}"] = _ledger_digest(_ledgers("relevance", _under_a_bag(kind)))
    model = make("bag-visits", mark=BagConfig(steps=3)).fit(log := random_log(20, 15, mean_events=6.0))
    scores = model.score(UserStates.of(log, np.arange(20), np.full(20, log.time[-1] + 60.0)))
    results["weighted bag"] = float(scores.double().square().sum())
    for seed in range(8):
        draw = np.random.default_rng(seed)
        n = int(draw.integers(2, 12))
        m = int(draw.integers(3, 9))
        k = int(draw.integers(1, 4))
        scores = (draw.integers(0, 5, (n, m)) / 4).astype(np.float32)
        capacity = draw.integers(0, k + 1, n)
        required = draw.integers(0, n, m)
        asked = {"admissible": draw.random((n, m)) < 0.8, "cost": 0.7}
        solution = solve_dual(scores, capacity, required, **asked, tol=1e-6)
        results[f"dual {seed}"] = _digest([solution.slates, np.round(solution.item_price, 9)])
        ends = np.array([0, 2, 4])
        columns = np.array([0, 1, 1, 2])
        least_exposure = np.array([0.4 * n, 0.0])
        most_exposure = np.array([np.inf, 0.3 * n])
        rows = Rows(ends, columns, least_exposure, most_exposure, np.full(2, 0.9), draw.random((n, 2)) < 0.7)
        asked |= {"position_weights": 0.5 ** np.arange(k), "rows": rows}
        weighted = solve_dual(scores, capacity, np.minimum(0.3 * required, n), n * 1.0, **asked)
        # Of sums in floating point too: near the least one, by either way.
        results[f"weighted {seed}"] = weighted.dual
    return results


def _digest(arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in arrays)).hexdigest()


@pytest.mark.thorough
def test_compiled_kernels_do_what_their_python_does():
    """In an interpreter without Numba's compiler no index leaves its array, and all digests are those of this one."""
    path = os.pathsep.join(filter(None, [str(ROOT / "tests"), os.environ.get("PYTHONPATH")]))
    without_compiler = {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    script = [sys.executable, __file__]
    build_world(_under_a_bag("clones"))  # its truth is kept for the other, which would else fit it again
    interpreter = subprocess.run(
        script, env=os.environ | without_compiler, check=True, capture_output=True, text=True
    )
    compiled = digests()
    plain = json.loads(interpreter.stdout)
    for name in [name for name in compiled if name.startswith("weighted")]:
        assert plain.pop(name) == pytest.approx(compiled.pop(name), rel=2e-3, abs=1e-9)
    assert plain == compiled


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    sys.stdout.write(json.dumps(digests()))
