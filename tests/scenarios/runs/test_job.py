"""The engine of all kinds of runs: parts, workers, folders, memory; and files that appear whole or not at all."""

import ctypes
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock, Timeout
from kit import ROOT, cases, ended, forked, refused, until
from kit.markets import drawn, small_run, small_scenario
from kit.worker_tasks import Errand, do, play_part
from rich.console import Console

from rimsim import system
from rimsim.errors import (
    AgentError,
    ConfigError,
    DataError,
    MissingTableError,
    ModelError,
    RimsimError,
    RunFolderError,
)
from rimsim.market import Market, build_world
from rimsim.scenarios import compare
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.runs import execution, memory
from rimsim.scenarios.runs.checkpoint import Checkpoint
from rimsim.scenarios.runs.execution import Execution, Stage, executor, run_here, run_stages
from rimsim.scenarios.runs.job import Job, make_run
from rimsim.scenarios.runs.locks import folder_for, locked, require_free
from rimsim.scenarios.runs.memory import require_memory
from rimsim.scenarios.runs.progress import Progress
from rimsim.scenarios.runs.store import RunFolder
from rimsim.scenarios.runs.workers import Workers
from rimsim.system import draft_content, draft_file, draft_folder, remove_drafts


def _made(folder, parts=("a", "b", "c"), workers=1, finish=lambda run: None):
    asked = {"backtest": {"x": 1}, "seeds": [0]}
    job = Job(asked, list(parts), play_part, finish, "parts", len(parts))
    return make_run(job, folder, "rimsim backtest", Execution(workers=workers))


def test_a_run_holds_the_tables_of_its_parts_in_their_order(tmp_path):
    """Config, joined tables and what is drawn are in the folder, no parts or drafts; the same on other processes."""
    seen = []
    run = _made(tmp_path / "run", finish=lambda run: seen.append(run.backtest))
    assert run.kind == "backtest"
    assert list(run.config) == ["command", "backtest", "seeds", "versions"]
    assert run.table["part"].tolist() == ["a", "a", "b", "b", "c", "c"]
    assert run.table.equals(seen[0])
    assert len(run.fits) == 3
    files = sorted(path.name for path in run.folder.iterdir() if path.name != ".lock")
    assert files == ["backtest.parquet", "config.yaml", "fits.parquet"]
    assert _made(tmp_path / "two", workers=2).table.equals(run.table)


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_left_of_a_run_that_fails(tmp_path, workers):
    """The folder of a part that raises can be used again."""
    refused(ModelError, "it does not fit", _made, tmp_path, ["a", "bad"], workers)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == []
    assert len(_made(tmp_path, ["a"]).table) == 2


def test_a_folder_that_is_taken_is_refused(tmp_path):
    """A run and another process keep their folder."""
    folder = _made(tmp_path / "run").folder
    refused(RunFolderError, "already holds a run. Name a new folder$", _made, folder)
    with locked(tmp_path / "held"), pytest.raises(RunFolderError, match="another process uses this folder"):
        _made(tmp_path / "held")


def _fail_for(names, task, report):
    report(1)
    if task in names:
        raise ModelError(f"{task} fails")


def test_a_stage_that_is_not_vital_goes_on_after_an_error():
    """Errors are returned with their tasks; those of a vital stage end the stages."""
    first = Stage("bar", partial(_fail_for, {"b"}), ["a", "b"], 2, vital=False)
    second = Stage("bar", partial(_fail_for, {"c"}), ["c", "d"], 2)
    with executor(Execution(workers=1)) as run:
        ((task, error),) = run_stages([first], run, None)
        assert (task, str(error)) == ("b", "b fails")
        refused(ModelError, "c fails", run_stages, [first, second], run, None)


@cases("compiled", [False], [True])
def test_the_first_run_tells_that_it_compiles(monkeypatch, compiled):
    """A line before the bars says that this run takes longer; a run that finds machine code prints none."""
    monkeypatch.setattr(execution, "has_machine_code", lambda _: compiled)
    console = Console(file=io.StringIO())
    run_stages([], run_here, console)
    assert ("once: this run takes" in console.file.getvalue()) != compiled


@cases("available named", (5 * 10**9, "--workers 3 or fewer"), (10**9, "a lower arrivals"))
def test_a_run_that_needs_more_memory_than_there_is_is_refused(monkeypatch, available, named):
    """The message has both figures and names the option to lower: workers as long as one fits."""
    needed = 2e9, 1e9, 8, "arrivals"
    monkeypatch.setattr(memory, "memory", lambda: available)
    refused(ConfigError, rf"10\.0 GB.*{available / 1e9:.1f} GB.*{named}", require_memory, *needed)
    for enough in (10**10, None):
        monkeypatch.setattr(memory, "memory", lambda enough=enough: enough)
        require_memory(*needed)


def test_a_comparison_that_does_not_fit_is_refused_where_memory_is_known(monkeypatch, tmp_path):
    """Before its folder is made and its truth fitted; memory is a number, or none where the system does not say."""
    installed = system.memory()
    assert installed is None or installed > 2**28
    monkeypatch.setattr(system.os, "sysconf", lambda _: (_ for _ in ()).throw(ValueError))
    assert system.memory() is None
    monkeypatch.setattr(memory, "memory", lambda: 1000)
    config = small_scenario(name="never-fitted")
    refused(ConfigError, r"arrivals\.per_round", compare, config, ["random"], seeds=1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def _run(kinds, place, workers=2):
    news = []
    with Workers() as pool:
        failures = pool.run(do, [Errand(kind, place) for kind in kinds], workers, news.append)
    return {number: (type(error), str(error)) for number, error in failures.items()}, sum(news)


def test_all_tasks_are_done_and_reported_and_one_that_fails_leaves_the_others(tmp_path):
    """As without any workers; an error of ours keeps its kind, another is told by its type."""
    news = []
    assert run_here(do, [Errand("well", tmp_path)] * 5, news.append) == {}
    assert _run(["well"] * 5, tmp_path) == ({}, sum(news)) == ({}, 15)
    failures, count = _run(["ours", "well", "other", "well"], tmp_path)
    assert failures == {0: (DataError, "a bad log"), 2: (RimsimError, "KeyError: 'a slip'")}
    assert count == 2 * 3 + 2


def test_a_worker_that_dies_twice_is_told_by_its_task(tmp_path):
    """The death names signal or status, and every other task is done; of one that died once no failure is left."""
    failures, _ = _run(["die", "well", "quit", "well"], tmp_path)
    assert {number: message for number, (_, message) in failures.items()} == {
        0: "the worker process was killed by SIGKILL, 2 times over",
        2: "the worker process ended with status 7, 2 times over",
    }
    assert _run(["die-once", "well"], tmp_path / "mark", workers=1)[0] == {}


def test_workers_stay_for_tasks_to_come(tmp_path):
    """What comes after the first tasks is done by the same processes, a fresh one where one has died between."""
    place = tmp_path / "signed"

    def ignored(count):
        pass

    with Workers() as pool:
        for kind in ("sign", "die", "sign", "sign"):
            pool.run(do, [Errand(kind, place)], 1, ignored)
    first, second, third = place.read_text().split()
    assert first != second == third
    assert int(third) not in {worker.pid for worker in multiprocessing.active_children()}


_UNGUARDED = """
import rimsim

print("begun", flush=True)
settings = {"arrivals.per_round": 40, "data.min_item_events": 120, "platform.model": "popularity-hp", "slate": 5}
settings |= {"consumer.truth": "popularity"}
asked = {"frozen": [], "settings": settings, "certify": False, "workers": 2}
run = rimsim.compare(agents=["random", "popularity"], rounds=1, seeds=1, **asked)
print(sorted(set(run.rounds["agent"])))
"""
_TASKS = """
from pathlib import Path

from rimsim.scenarios.runs.workers import Workers
from kit.worker_tasks import Errand, do

print("begun", flush=True)
with Workers() as pool:
    print(pool.run(do, [Errand("well", Path())] * 2, 2, lambda count: None))
"""


@pytest.mark.thorough
@cases("words text output runs", (["ung.py"], None, "['popularity', 'random']", 1), (["-"], _TASKS, "{}", 0))
def test_a_script_without_a_guard_runs_once_with_several_workers(tmp_path, words, text, output, runs):
    """Workers do not import the script, a file or standard input: it prints once, ends well and leaves its run (F1)."""
    (tmp_path / "ung.py").write_text(_UNGUARDED)
    path = os.pathsep.join(filter(None, [str(ROOT / "tests"), os.environ.get("PYTHONPATH")]))
    told_by = {"env": os.environ | {"PYTHONPATH": path}, "capture_output": True, "text": True}
    script = subprocess.run([sys.executable, *words], cwd=tmp_path, input=text, check=False, **told_by)
    assert (script.returncode, script.stdout) == (0, f"begun\n{output}\n"), script.stderr
    assert "Traceback" not in script.stderr
    assert len(list(tmp_path.glob("runs/*"))) == runs


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs signals that can be blocked")
def test_an_interrupt_does_not_reach_a_worker_that_still_starts(tmp_path, capfd):
    """Workers that are interrupted from their first instruction on do their tasks and print no traceback."""
    over = threading.Event()

    def interrupt():
        while not over.wait(0.01):
            for worker in multiprocessing.active_children():
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGINT)

    watch = threading.Thread(target=interrupt)
    watch.start()
    try:
        assert _run(["well"] * 2, tmp_path) == ({}, 6)
    finally:
        over.set()
        watch.join()
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_process_that_made_them(tmp_path, number):
    """Of a process that is killed or ended, a worker ends too, even amid a task that reports nothing."""
    held = tmp_path / "held"
    parent = forked(lambda: _run(["hold"], held, workers=1))
    lock = FileLock(held.with_suffix(".lock"))
    until(held.exists)
    refused(Timeout, "lock", lock.acquire, timeout=0)
    os.kill(parent, number)
    assert ended(parent) == -number
    lock.acquire(timeout=60)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of one agent and one round."""
    return small_run(tmp_path_factory.mktemp("runs") / "run", ["relevance"], rounds=1).folder


@cases(
    "damaged options",
    ("ledger/relevance-0-000.parquet", []),
    ("ledger/relevance-0-000.parquet", ["--digest"]),
    ("rounds.parquet", ["--markdown"]),
    ("catalogue.parquet", []),
    ("config.yaml", []),
)
def test_a_damaged_run_is_told_by_its_file(run, capsys, damaged, options):
    """A table or config that is cut off or overwritten ends the report with one line that names the file."""
    path = run / damaged
    content_before = path.read_bytes()
    for content in (content_before[:-9] if path.suffix == ".parquet" else b"a: [", b"\x00\xff"):
        path.write_bytes(content)
        with drawn("lorenz"):  # which is of the ledger
            status = main(["report", str(run), *options])
        path.write_bytes(content_before)
        assert status == 2
        (message,) = capsys.readouterr().err.splitlines()
        assert message.startswith(f"rimsim: {path}: the file cannot be read")


def test_a_folder_with_files_of_others_is_refused(tmp_path, run):
    """What was killed at its beginning may be there; an empty path is none; of a whole run it is said how to go on."""
    killed = tmp_path / "killed"
    (killed / "state").mkdir(parents=True)
    for name in (".lock", "catalogue.parquet", ".draft-12ab"):
        (killed / name).touch()
    require_free(killed)
    require_free(tmp_path / "new")
    killed.rename(tmp_path / "thesis.tex")
    message = "holds 'thesis.tex', which is not part of a run. Name an empty or new"
    refused(RunFolderError, message, small_run, tmp_path)
    message = rf"already holds a run. .*: rimsim compare --resume --out {run}$"
    refused(RunFolderError, message, require_free, run)
    refused(ConfigError, "out: '' is not a path", folder_for, "", "usual")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_table_of_drafts_alone_is_none(tmp_path):
    """A run that was killed while it wrote its first part has no such table; read anew, it has what was written."""
    (tmp_path / "promises").mkdir()
    (tmp_path / "promises" / ".draft-0.parquet").write_bytes(b"half")
    assert RunFolder(tmp_path).promises is None
    refused(MissingTableError, r"neither prices\.parquet nor prices/", getattr, RunFolder(tmp_path), "prices")
    table = pd.DataFrame({"agent": ["random"], "due": [1.0]})
    table.to_parquet(tmp_path / "promises" / "random-0-000.parquet")
    assert RunFolder(tmp_path).promises["due"].tolist() == [1.0]


def test_what_an_agent_remembers_is_kept_by_any_name(tmp_path):
    """Arrays come back as they were, also under names that NumPy's writer takes for itself; objects are refused."""
    state = Market(small_scenario(rounds=1)).state
    names = ("file", "allow_pickle", "args", "weights")
    remembered = {name: np.arange(3.0) + number for number, name in enumerate(names)}
    Checkpoint(state, {"served": np.array(7)}, remembered).save(tmp_path, "arm")
    checkpoint = Checkpoint.latest(tmp_path, "arm", ["served"])
    assert checkpoint.arm["served"] == 7
    assert checkpoint.agent.keys() == remembered.keys()
    assert all((checkpoint.agent[name] == array).all() for name, array in remembered.items())
    bad = Checkpoint(state, {}, {"notes": np.array([{}])})
    refused(AgentError, "'notes' holds Python objects. Expected numbers and text", bad.save, tmp_path, "arm")


def test_a_world_is_built_on_one_thread():
    """Building a world limits torch, and each BLAS of NumPy and SciPy, to one thread."""
    from threadpoolctl import threadpool_info, threadpool_limits

    with threadpool_limits(limits=2, user_api="blas"):
        build_world.__wrapped__(small_scenario())
        n_threads = {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}
    assert n_threads == {1}
    assert torch.get_num_threads() == 1


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read there")


def _blocks():
    """Thirty blocks of scores; larger ones NumPy asks for in huge pages, which hides what is counted here."""
    assert sum(len(block) for block in [np.ones(3_000_000, np.int8) for _ in range(30)]) == 90_000_000


@linux
def test_memory_that_was_freed_is_used_again_and_can_be_given_back():
    """Blocks that are made and dropped take their pages from the system once, and leave them when they are told to."""
    import resource

    if not hasattr(ctypes.CDLL(None), "mallopt") or not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("another allocator than glibc's")
    system.single_thread()
    _blocks()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        _blocks()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults < 90_000_000 // resource.getpagesize()

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    before = resident()
    system.give_back()
    assert before - resident() > 60_000_000


def test_other_allocators_are_left_alone(monkeypatch):
    """Where the C library has no such option, one thread is all that is decided."""
    asked = []
    monkeypatch.setattr(system.ctypes, "CDLL", lambda name: asked.append(name) or object())
    system._keep_memory.__wrapped__()
    system.give_back()
    assert set(asked) == {None}


def contents(folder):
    """Relative path → text of every file below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_a_file_appears_when_the_block_ends(tmp_path):
    """Until then the old content stands; afterwards the new one and no draft; folders above are made."""
    path = tmp_path / "a" / "b.txt"
    for content in ("old", "new"):
        before = contents(tmp_path)
        with draft_file(path) as draft:
            draft.write_text(content)
            assert draft.suffix == ".txt"
            assert contents(tmp_path) == {**before, f"a/{draft.name}": content}
        assert contents(tmp_path) == {"a/b.txt": content}


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_what_fails_leaves_everything_as_it_was(tmp_path, error):
    """An error or an interruption inside the block leaves the old file and the old folder, and no draft."""
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "part").write_text("old")
    before = contents(tmp_path)

    def half(writer, name):
        with writer as draft:
            (draft / name).write_text("half")
            raise error

    refused(type(error), None, half, draft_file(tmp_path / "file"), "")
    refused(type(error), None, half, draft_folder(tmp_path / "folder"), "part")
    assert contents(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@cases("existing files", ("replace", {"new": "2"}), ("keep", {"old": "1"}), ("refuse", {"old": "1"}))
def test_a_folder_that_is_there_already(tmp_path, existing, files):
    """It is replaced as a whole, or kept, or the draft is refused; no draft stays."""
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "old").write_text("1")

    def write():
        with draft_folder(tmp_path / "place", existing=existing) as draft:
            (draft / "new").write_text("2")

    if existing == "refuse":
        refused(OSError, "place", write)
    else:
        write()
    assert contents(tmp_path / "place") == files
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_drafts_of_a_killed_process_are_removed(tmp_path):
    """Files and folders that were being written go, also in folders below; everything else stays."""
    writers = [draft_file(tmp_path / "one.txt"), draft_folder(tmp_path / "below" / "two")]
    for number, writer in enumerate(writers):  # entered and never left, as when the process dies
        draft = writer.__enter__()
        (draft / "part" if number else draft).write_text("half")
    (tmp_path / "below" / "kept").write_text("whole")
    remove_drafts(tmp_path)
    assert contents(tmp_path) == {"below/kept": "whole"}
    assert [path.name for path in (tmp_path / "below").iterdir()] == ["kept"]


def test_content_comes_into_a_folder_as_a_whole(tmp_path, monkeypatch):
    """The named file is moved last, what had the same name is replaced, the rest stays; an error leaves nothing."""
    (tmp_path / "pictures").mkdir()
    for name in ("pictures/old.png", "stays"):
        (tmp_path / name).write_text("old")

    def write(error=None):
        with draft_content(tmp_path, "config") as draft:
            (draft / "pictures").mkdir()
            for name in ("config", "table", "pictures/new.png"):
                (draft / name).write_text("new")
            assert not (tmp_path / "table").exists()
            if error is not None:
                raise error

    before = contents(tmp_path)
    refused(KeyboardInterrupt, None, write, KeyboardInterrupt())
    assert contents(tmp_path) == before
    moved = []
    plainly = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, place: moved.append(path.name) or plainly(path, place))
    write()
    assert moved == ["pictures", "table", "config"]
    new = dict.fromkeys(("config", "table", "pictures/new.png"), "new")
    assert contents(tmp_path) == new | {"stays": "old"}


def test_two_runs_of_one_second_have_two_folders(monkeypatch):
    """Folders that nobody named differ by the millisecond."""
    monkeypatch.setattr("time.strftime", lambda _: "20260101-000000")
    ticks = iter([10**6, 2 * 10**6])
    monkeypatch.setattr("time.time_ns", lambda: next(ticks))
    assert folder_for(None, "x") != folder_for(None, "x")


def test_a_bar_of_progress_does_not_pass_its_end(monkeypatch):
    """More arrivals than were expected move the end, and the last update fills the bar."""
    seen = []
    monkeypatch.setattr(Progress, "update", lambda *_, completed, total: seen.append((completed, total)))
    task = Stage("served", lambda _, report: [report(3), report(3)], [0], 4)
    run_stages([task], run_here, None)
    assert seen == [(3, 4), (6, 6), (6, 6)]
