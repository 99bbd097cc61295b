"""Jobs: tasks on this process, its workers or Ray, and runs made of the tables that they leave."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeAlias, TypeVar

import pandas as pd
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rimsim.errors import ConfigError, RimsimError, nearest
from rimsim.scenarios.runs.local import Report, Task, Workers, run_here
from rimsim.scenarios.runs.status import Arm
from rimsim.scenarios.runs.store import (
    CONFIG,
    Run,
    locked,
    read_table,
    require_free,
    versions,
    write_table,
    write_yaml,
    writing,
)
from rimsim.system import cores, draft_content, memory

if TYPE_CHECKING:
    from rimsim.data import EventLog


Part = TypeVar("Part")
Executor: TypeAlias = Callable[[Callable[[Any, Report], None], Sequence[Any], Report], dict[int, RimsimError]]
"""Function that does a job for each task: job, tasks, report of progress → position of a failed task and its error."""
BACKENDS = ("local", "ray")
"""Places where tasks can run: processes of this machine, tasks on Ray."""
_PARTS = "parts"
"""Folder of tables that parts of a job leave before they are joined."""


# -- execution ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Execution:
    """Batches, processes and machines of a run; results do not depend on them.

    Raises:
        ConfigError: If a number is below 1, or there is no such backend, or it takes no address.
    """

    batch_size: int | None = None
    """Arrivals per batch at most; None: no limit."""
    workers: int | None = None
    """Tasks at once; None: one per core; 1 with the backend ``local``: in this process."""
    backend: str = "local"
    """One of :data:`BACKENDS`."""
    address: str | None = None
    """Address of a Ray cluster, ``auto`` or ``host:port``; None: one is started here for the run."""
    console: Console | None = None
    """Place of progress bars; None: nowhere."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; allowed: at least 1")
        if self.backend not in BACKENDS:
            raise ConfigError(f"backend: {self.backend!r}.{nearest(self.backend, BACKENDS)}")
        if self.backend == "local" and self.address is not None:
            raise ConfigError(f"address: {self.address!r} with the backend 'local'; allowed: with 'ray'")


@contextmanager
def executor(execution: Execution) -> Iterator[Executor]:
    """Context manager that yields the executor of jobs: here, on workers, or on Ray.

    Worker processes live as long as the block, so that those which fit models also play arms.

    Raises:
        ConfigError: If Ray is not available.
    """
    workers = execution.workers
    if execution.backend == "local":
        with Workers() as pool:
            yield partial(_run_locally, pool, workers)
        return
    from rimsim.scenarios.runs.ray import on_ray, run_on_ray  # noqa: PLC0415  # an extra

    with on_ray(execution.address, workers):
        yield partial(run_on_ray, workers)


def _run_locally(
    pool: Workers,
    workers: int | None,
    job: Callable[[Task, Report], None],
    tasks: Sequence[Task],
    report: Report,
) -> dict[int, RimsimError]:
    most = min(workers or cores(), len(tasks))
    return run_here(job, tasks, report) if most == 1 else pool.run(partial(_alone, job), tasks, most, report)


def _alone(job: Callable[[Task, Report], None], task: Task, report: Report) -> None:
    """Do a job of an arm on a worker, so that whoever resumes a killed run can wait for it."""
    if not isinstance(task, Arm):
        job(task, report)
        return
    with writing(task.folder, task.part):
        job(task, report)


@dataclass(frozen=True)
class Stage(Generic[Task]):
    """Tasks of a job that can run side by side, and their progress bar."""

    bar: str
    """Text before the bar; stages with the same text share one."""
    job: Callable[[Task, Report], None]
    """Function of a module, which another process can import; it reports numbers for the bar."""
    tasks: Sequence[Task]
    """Plain data."""
    total: int
    """Sum of the numbers that all tasks report."""
    vital: bool = True
    """An error of a task is raised; else it is returned, and the other tasks and stages go on."""


def run_stages(
    stages: Sequence[Stage[Task]], run: Executor, console: Console | None
) -> list[tuple[Task, RimsimError]]:
    """Errors of tasks that failed, after one stage was run after the other.

    Raises:
        RimsimError: The first error of a vital stage.
    """
    failed = []
    with bars(console) as progress:
        names = dict.fromkeys(stage.bar for stage in stages)
        totals = {name: sum(stage.total for stage in stages if stage.bar == name) for name in names}
        shown = {name: progress.add_task(name, total=total) for name, total in totals.items()}

        def advance(bar: str, count: int) -> None:
            stop_if_asked()
            progress.advance(shown[bar], count)

        for stage in stages:
            failures = run(stage.job, stage.tasks, partial(advance, stage.bar))
            for error in failures.values() if stage.vital else ():
                raise error
            stop_if_asked()
            failed += [(stage.tasks[number], error) for number, error in failures.items()]
    return failed


def bars(console: Console | None) -> Progress:
    """Progress bars with counts, elapsed time and an estimate of the remaining time."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console or Console(quiet=True),
        disable=console is None,
    )


# -- runs that are made at once -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job(Generic[Part]):
    """A run to be made at once: parts that are played side by side, then joined."""

    described: Mapping[str, object]
    """Entries of ``config.yaml`` between the command and the versions."""
    parts: Sequence[Part]
    """Plain data, such as seeds."""
    play: Callable[[Part, Report], Mapping[str, pd.DataFrame]]
    """Tables of a part; a function of a module where parts run on workers."""
    finish: Callable[[Run], None] = lambda _: None
    """Writes pictures and whatever else the folder holds, from a run that has its tables."""
    bar: str = "parts"
    """Text before the progress bar."""
    total: int = 0
    """Sum of the numbers that all parts report."""


def make_run(job: Job[Part], folder: Path, command: str, execution: Execution) -> Run:
    """Make a run in a free folder, whole or not at all.

    Raises:
        RunFolderError: If the folder is in use or holds something.
        RimsimError: Whatever went wrong in a part.
    """
    require_free(folder)
    with locked(folder), draft_content(folder, CONFIG) as draft:
        described = {"command": command, **job.described, "versions": versions()}
        write_yaml(draft / CONFIG, described)
        for name, table in play_parts(job, draft, execution).items():
            write_table(draft / f"{name}.parquet", table)
        job.finish(Run(draft))
    return Run(folder)


def play_parts(job: Job[Part], folder: Path, execution: Execution) -> dict[str, pd.DataFrame]:
    """Tables of a job by name, joined in the order of its parts."""
    place = folder / _PARTS
    try:
        with executor(execution) as run:
            numbered = list(enumerate(job.parts))
            stage = Stage(job.bar, partial(_leave, job.play, place), numbered, job.total)
            run_stages([stage], run, execution.console)
        tables: dict[str, list[pd.DataFrame]] = {}
        for path in sorted(place.glob("[0-9]*.parquet")):
            tables.setdefault(path.stem.partition("-")[2], []).append(read_table(path))
        return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _leave(
    play: Callable[[Part, Report], Mapping[str, pd.DataFrame]],
    place: Path,
    numbered: tuple[int, Part],
    report: Report,
) -> None:
    """Play a part and write its tables."""
    number, part = numbered
    for name, table in play(part, report).items():
        write_table(place / f"{number:06d}-{name}.parquet", table)


def chosen_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Seeds of a run, from their number or a list.

    Raises:
        ConfigError: If there is none, or one stands twice or is negative.
    """
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(seed) for seed in seeds)
    if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise ConfigError(
            f"seeds: {seeds!r}; allowed: a positive number of seeds, or distinct seeds from 0 up"
        )
    return numbers


# -- memory ---------------------------------------------------------------------------------------------------------
# Measured once, within a factor of two or so; docs/scale.md has the source.

MAIN = 3e8
"""Bytes of the first process beyond the others: it fits truths, judges them and draws."""
_PROCESS = 6e8
"""Bytes of a process with all libraries, before it reads a log."""
_EVENT = 140.0
"""Bytes per event, while a log is read and sorted."""
_CELL, _CELLS = 40.0, 2.0**25
"""Bytes per pair of a user and an item, and most pairs held at once: blocks are bounded."""
_STATE, _STATES = 10.0, 2.0**26
"""Bytes per pair of an arrival and an item while prices are solved, and most pairs: of more, some are sampled."""


def log_bytes(log: EventLog) -> float:
    """Memory of a process that holds a log and fits models to it."""
    return _PROCESS + _EVENT * len(log) + _CELL * min(log.n_users * log.n_items, _CELLS)


def state_bytes(states: int, n_items: int) -> float:
    """Memory of the scores of a round's states."""
    return _STATE * min(states * n_items, _STATES)


def require_memory(main: float, worker: float, workers: int, lower: str) -> None:
    """Refuse a run that needs more memory than this machine has.

    Args:
        main: Bytes of the process that the run is started from.
        worker: Bytes of each other process; with one worker there is none.
        workers: Processes that share the work.
        lower: Option to lower where not even one process fits.

    Raises:
        ConfigError: If there is too little memory.
    """
    there = memory()

    def needed(processes: int) -> float:
        return max(main, worker) if processes == 1 else main + processes * worker

    if there is None or needed(workers) <= there:
        return
    fits = next((n for n in range(workers, 0, -1) if needed(n) <= there), 0)
    allowed = f"--workers {fits} or fewer" if fits else f"a lower {lower}"
    where = f"workers: {workers}" if fits else lower
    raise ConfigError(
        f"{where}: the run is expected to need {needed(workers) / 1e9:.1f} GB of memory, and this machine has "
        f"{there / 1e9:.1f} GB; allowed: {allowed}"
    )


# -- requests to stop -----------------------------------------------------------------------------------------------

_asked = False  # a signal is for the whole process, and so is this


@contextmanager
def stopping_on_request() -> Iterator[None]:
    """Context manager in which SIGTERM ends the work as the keyboard does.

    Raises:
        KeyboardInterrupt: If a signal came, at the latest when the work is over.
    """
    global _asked  # noqa: PLW0603
    _asked = False

    def interrupt(*_: object) -> NoReturn:
        global _asked  # noqa: PLW0603
        _asked = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with errors_of_interrupts():
            yield
        stop_if_asked()
    finally:
        _asked = False
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def errors_of_interrupts() -> Iterator[None]:
    """Context manager that turns an error caused by an interrupt back into it.

    Where a signal falls into a compiled function as it hands over an array, Python makes a SystemError of it; other
    libraries, and users' own code, may do the like.

    Raises:
        KeyboardInterrupt: If a signal has come and the work within has failed.
    """
    try:
        yield
    except Exception:
        stop_if_asked()
        raise


def stop_if_asked() -> None:
    """Raise an interrupt that Python dropped, as it does within a finaliser.

    Raises:
        KeyboardInterrupt: If a signal has come and work is still going on.
    """
    if _asked:
        raise KeyboardInterrupt
