"""Which tests come through the place of a fault, and how they are run: in a copy of the tree, in forked processes."""

from __future__ import annotations

import ast
import builtins
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numba
import pytest
from mutants_places import defined
from numba.core import caching

if TYPE_CHECKING:
    from mutants_places import Mutant

__all__ = [
    "TESTS",
    "Copy",
    "Reached",
    "forked",
    "functions_of",
    "kernels_of",
    "load_libraries",
    "play",
    "recorded",
    "tests_of",
]

HERE = Path(__file__).resolve().parent.parent
TESTS = (
    "agents",
    "envs",
    "intensity",
    "market",
    "matching",
    "measures",
    "requirements",
    "scenarios",
    "tracking",
)
"""Folders of tests that are asked."""
PLAIN = ("agents", "intensity", "market", "matching", "requirements")
"""Folders of tests that are asked with kernels as plain Python."""
QUICK = 2
FILE = 100
"""CPU seconds that a test, and a file of tests, may take with kernels as plain Python."""
OPTIONS = "tests/agents/test_options.py"
"""Asked about what stands in a class's body too: which options are refused is told before any method runs."""
LIBRARIES = (
    "scipy.optimize",
    "scipy.stats",
    "scipy.sparse.csgraph",
    "pandas",
    "pyarrow.parquet",
    "torch",
    "gymnasium",
    "rich.progress",
    "hypothesis.extra.numpy",
)
BELOW = ("rimsim.data", "rimsim.intensity", "rimsim.config", "rimsim.rng")
"""Loaded once, before any fault is in; loaded again where a fault is in what they import."""


class Copy:
    """The files of this checkout, committed or not, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = folder / "tree"
        shutil.rmtree(self.tree, ignore_errors=True)
        listed = ["git", "-C", str(HERE), "ls-files", "-co", "--exclude-standard", "-z"]
        for name in subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\0"):
            source = HERE / name
            target = self.tree / name
            if name and (source.is_symlink() or source.is_file()):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        self.files = sorted(
            file
            for room in ("rimsim", "agents", "envs", "scenarios")
            for file in (self.tree / room).rglob("*.py")
        )
        self.parsed = {file: ast.parse(file.read_text(encoding="utf-8")) for file in self.files}
        self.kernels = {kernel for tree in self.parsed.values() for kernel in kernels_of(tree)}
        self.mentions = self._mentions()
        kit = self.tree / "tests" / "kit"
        self.shared = sorted([self.tree / "tests" / "conftest.py", *kit.glob("*.py")])
        self.time = 0

    def _mentions(self) -> dict[str, list[tuple[Path, ast.stmt]]]:
        """Name → the functions and constants in which it stands."""
        mentions: dict[str, list[tuple[Path, ast.stmt]]] = {}
        for file, tree in self.parsed.items():
            functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
            constants = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
            for node in (*functions, *constants):
                inside = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
                inside |= {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
                for name in inside:
                    mentions.setdefault(name, []).append((file, node))
        return mentions

    def module(self, file: Path) -> str:
        """The module of a file of the copy."""
        parts = file.relative_to(self.tree).with_suffix("").parts
        parts = parts if parts[0] == "rimsim" else ("rimsim", *parts)
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def machine_code(self) -> Path:
        """Where the compiled kernels of this code are kept."""
        return self.folder / f"machine-code-{self.digest(*self.files)}"

    def digest(self, *files: Path) -> str:
        """Of the text of files."""
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]

    def stands(self, store: Path, path: Path) -> bool:
        """Whether what was noted of a file of tests still holds: no file that they came through has changed."""
        if not store.is_file():
            return False
        entry = json.loads(store.read_text(encoding="utf-8"))
        return entry["tests"] == self.digest(*self.shared, path) and all(
            (self.tree / file).is_file() and self.digest(self.tree / file) == digest
            for file, digest in entry["files"].items()
        )

    def next_time(self) -> int:
        """Another time of change for every fault."""
        self.time += 1
        return self.time

    @property
    def environment(self) -> dict[str, str]:
        """Variables for a process that runs the copy."""
        return {
            "PYTHONPATH": str(self.tree),
            "RIMSIM_TEST_CACHE": str(self.folder / "fits"),
            "NUMBA_CACHE_DIR": str(self.machine_code),
            "OMP_NUM_THREADS": "1",
        }


Reached: TypeAlias = dict[str, tuple[float, set[tuple[str, int]]]]
"""Test → its CPU seconds, and the functions that it came through as file and first line."""


def _lines_of(node: ast.stmt) -> range:
    """Lines of a statement, its decorators included."""
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return range(first, (node.end_lineno or 0) + 1)


def function_at(tree: ast.Module, line: int) -> ast.FunctionDef | None:
    """The innermost function that a line is in; None for a line of a module or class."""
    inside = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and line in _lines_of(node)
    ]
    return max(inside, key=lambda node: node.lineno, default=None)


def kernels_of(tree: ast.Module) -> set[ast.FunctionDef]:
    """Functions of a module that Numba compiles, so that nothing can be recorded inside them.

    A function is a kernel by its decorator, or because a call such as ``compiled(function)`` takes it.
    """
    compilers = {"compiled", "compiled_part"}
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    calls = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) in compilers
    ]
    compiled_names = {ast.unparse(argument) for call in calls for argument in call.args}
    return {
        function
        for function in functions
        if function.name in compiled_names
        or any(ast.unparse(decorator) in compilers for decorator in function.decorator_list)
    }


def functions_of(copy: Copy, mutant: Mutant) -> dict[tuple[str, int], bool]:
    """The functions that a fault can be noticed in, as file and first line; whether each is a kernel.

    That is the function it is in; of a line of a class, its methods; of a constant, those that name it, at any remove.
    """
    tree = copy.parsed[copy.tree / mutant.file]
    function = function_at(tree, mutant.line)
    if function is not None:
        return {(mutant.file, function.lineno): function in copy.kernels}
    holder = next((node for node in tree.body if mutant.line in _lines_of(node)), None)
    if isinstance(holder, ast.ClassDef):
        methods = [node for node in ast.walk(holder) if isinstance(node, ast.FunctionDef)]
        if methods:
            return {(mutant.file, method.lineno): False for method in methods} | {(OPTIONS, 0): False}
    todo = list(defined(ast.Module([holder] if holder else [], [])))
    seen = set(todo)
    functions = {}
    while todo:
        for file, node in copy.mentions.get(todo.pop(), ()):
            if isinstance(node, ast.FunctionDef):
                functions[str(file.relative_to(copy.tree)), node.lineno] = node in copy.kernels
            else:
                new_names = set(defined(ast.Module([node], []))) - seen
                seen |= new_names
                todo += new_names
    return functions


def tests_of(functions: Iterable[tuple[str, int]], reached: Reached, max_seconds: float) -> list[str]:
    """The tests that come through some functions, those that come through few others first, as they see most.

    Args:
        functions: Of which one is enough.
        reached: What each test comes through.
        most: CPU seconds that they may take.
    """
    through = [test for test, (_, places) in reached.items() if not places.isdisjoint(functions)]
    chosen: list[str] = []
    seconds_left = max_seconds
    for test in sorted(through, key=lambda test: (len(reached[test][1]), reached[test][0])):
        if reached[test][0] <= seconds_left:
            seconds_left -= reached[test][0]
            chosen.append(test)
    first = {test.partition("::")[0]: number for number, test in reversed(list(enumerate(chosen)))}
    return sorted(
        chosen, key=lambda test: first[test.partition("::")[0]]
    )  # a file's together: it makes fixtures once


class TooSlowError(BaseException):
    """A test takes too long with kernels as plain Python; no test catches this."""


class Recorder:
    """A plugin of pytest that notes which functions each test comes through."""

    def __init__(self, tree: Path, *, plain: bool) -> None:
        self.tree = tree
        self.plain = plain
        self.reached: dict[str, tuple[float, list[tuple[str, int]]]] = {}
        self.failed: set[str] = set()
        self.places: set[tuple[str, int]] = set()
        self.begun = time.process_time()

    def watch(self) -> None:
        """Let every function that is imported from now on note that it was called."""
        vars(builtins)["_came_through"] = self.places.add
        compile_source = SourceFileLoader.source_to_code
        rooms = tuple(str(self.tree / room) for room in ("rimsim", "agents", "envs", "scenarios"))

        def noted(loader: SourceFileLoader, data: bytes, path: str, **options: Any) -> Any:
            real = Path(path).resolve()
            if not str(real).startswith(rooms):
                return compile_source(loader, data, path, **options)
            module = ast.parse(data)
            kernels = kernels_of(module)
            for node in ast.walk(module):
                if isinstance(node, ast.FunctionDef) and (self.plain or node not in kernels):
                    place = str(real.relative_to(self.tree)), node.lineno
                    call = ast.parse(f"_came_through({place!r})").body[0]
                    after = 1 if ast.get_docstring(node) is not None else 0
                    node.body.insert(after, ast.copy_location(call, node.body[0]))
            return compile(ast.fix_missing_locations(module), path, "exec", dont_inherit=True)

        vars(noted)["__name__"] = "source_to_code"
        setattr(SourceFileLoader, "source_to_code", noted)  # noqa: B010  # a method of the standard library
        sys.dont_write_bytecode = True
        if self.plain:
            signal.signal(signal.SIGPROF, self._stop)

    def _stop(self, *_: object) -> None:
        raise TooSlowError

    def pytest_collection_finish(self) -> None:
        """Import what fixtures of the session do: no test's time, and one that stops there takes all others along."""
        import_module("kit.markets")

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Run a test, its fixtures included."""
        self.places.clear()
        start = time.process_time()
        if self.plain:
            signal.setitimer(signal.ITIMER_PROF, QUICK)
        yield
        signal.setitimer(signal.ITIMER_PROF, 0)
        self.reached[item.nodeid] = (time.process_time() - start, sorted(self.places))
        if self.plain and time.process_time() - self.begun > FILE:
            item.session.shouldstop = "enough of this file"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep in mind which tests fail."""
        if report.failed:
            self.failed.add(report.nodeid)


def forked(folder: Path, action: Callable[[], int]) -> tuple[int, float, str]:
    """Do something in a forked process: its status, CPU seconds and the last lines that it printed."""
    output = folder / "output.txt"
    child = os.fork()
    if child == 0:
        os.setsid()
        out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        try:
            status = action()
        except BaseException as error:  # noqa: BLE001  # whatever it is, the fault was seen
            print(error)
            status = 1
        sys.stdout.flush()
        os._exit(status)
    _, status, used = os.wait4(child, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it may have left behind
    text = output.read_text(encoding="utf-8", errors="replace")
    return status, used.ru_utime + used.ru_stime, text[-3000:]


def play(copy: Copy, tests: list[str], plugin: Recorder | None = None, *, plain: bool) -> int:
    """Run tests in this process, until one fails; with a recorder, all."""
    os.chdir(copy.tree)
    if plain:
        numba.config.DISABLE_JIT = True
    # What is asked of compiled kernels is not wrong in them: they stay good, whatever else their files say.
    caching._SourceFileBackedLocatorMixin.get_source_stamp = lambda _self: (0, 0)  # noqa: SLF001
    for name in [name for name in sys.modules if name.partition(".")[0] == "rimsim"]:
        del sys.modules[name]  # loaded before a fault was in
    quiet = ["-q", "--tb=line", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return int(pytest.main([*quiet, *tests], [plugin]) if plugin else pytest.main(["-x", *quiet, *tests]))


def recorded(copy: Copy, rooms: Sequence[str], *, plain: bool) -> Reached:
    """Which functions each test comes through, with compiled kernels or with kernels as plain Python.

    Tests that fail or take too long as plain Python are left out. Compiled, none may fail; they leave fits and machine
    code behind.
    """
    reached: dict[str, tuple[float, list[tuple[str, int]]]] = {}
    folders = [copy.tree / "tests" / name for name in (PLAIN if plain else TESTS) if name in rooms]
    for path in sorted(file for folder in folders for file in folder.rglob("test_*.py")):
        store = copy.folder / f"reached-{'plain-' if plain else ''}{path.parent.name}-{path.stem}.json"
        if not copy.stands(store, path):
            status, seconds, output = forked(copy.folder, partial(_record, copy, path, store, plain=plain))
            print(f"without a fault: {path.name} {seconds:.0f} CPU s", flush=True)
            if status:
                raise SystemExit(f"{path} fails without a fault:\n{output}")
        reached |= json.loads(store.read_text(encoding="utf-8"))["reached"]
    return {
        test: (seconds, {(file, line) for file, line in places} | {(test.partition("::")[0], 0)})
        for test, (seconds, places) in reached.items()
    }


def _record(copy: Copy, path: Path, store: Path, *, plain: bool) -> int:
    """Run a file of tests and keep what they came through, with the digests of the files that this hangs on."""
    for cache in copy.tree.rglob("__pycache__"):  # the recorder adds its notes to source, not to bytecode
        shutil.rmtree(cache)
    recorder = Recorder(copy.tree, plain=plain)
    recorder.watch()
    status = play(copy, [str(path.relative_to(copy.tree))], recorder, plain=plain)
    if status and not plain:
        return status
    reached = {test: lines for test, lines in recorder.reached.items() if test not in recorder.failed}
    files = {file for _, places in reached.values() for file, _ in places}
    digests = {file: copy.digest(copy.tree / file) for file in sorted(files)}
    store.write_text(
        json.dumps({"tests": copy.digest(*copy.shared, path), "files": digests, "reached": reached})
    )
    return 0


def load_libraries() -> None:
    """Import what no fault is in, for all processes that are forked from this one."""
    for name in (*LIBRARIES, *BELOW):
        import_module(name)
