"""Arms and other tasks: their execution and their tables."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Self, TypeAlias, TypeVar

import pandas as pd
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rimsim.compiled import has_machine_code
from rimsim.config import ScenarioConfig
from rimsim.errors import ConfigError, RimsimError, require_known
from rimsim.matching.kernels import best_rows
from rimsim.scenarios.runs import store
from rimsim.scenarios.runs.process import errors_of_interrupts, stop_if_asked
from rimsim.system import cores, draft_content

Part = TypeVar("Part")
Task = TypeVar("Task")
Report: TypeAlias = Callable[[int], None]
"""Function that a job calls with numbers of its progress."""
ATTEMPTS = 2
"""Number of times a task is started; if its worker dies each time, the task has failed."""
AnyJob: TypeAlias = Callable[[Any, Report], None]
Executor: TypeAlias = Callable[[AnyJob, Sequence[Any], Report], dict[int, RimsimError]]
"""Function that does a job for each task: job, tasks, report of progress → position of a failed task and its error."""
BACKENDS = ("local", "ray")
"""Places where tasks can run: processes of this machine, tasks on Ray."""
_PARTS = "parts"
"""Folder of tables that parts of a job leave before they are joined."""


# -- arms -----------------------------------------------------------------------------------------------------------
CHAIN = ("frozen", "organic", "random", "static")
"""Kinds of controls whose differences add up, from never retrained to the agent itself.

A frozen control never retrains. The others retrain on as many events as the agent: of the log (organic), under random
slates (random), or under slates of the warm-up model, which never learns (static).
"""
CONTROLS = (*CHAIN, "yoked")
"""Kinds of controls in ``CHAIN``, and yoked: it retrains on as many events of another market of the same agent."""
DONE = "done"
"""File that marks an arm as complete, in the folder of the arm's states."""


def control_name(agent: str, control: str) -> str:
    """Name of an agent's control in tables."""
    return f"{agent}-{control}"


def control_in(name: str) -> str | None:
    """Kind of control in an arm's name; None without control."""
    return next((control for control in CONTROLS if name.endswith(f"-{control}")), None)


def is_control(name: str) -> bool:
    """True for the name of a control."""
    return control_in(name) is not None


def subject_of(name: str) -> str:
    """Agent of an arm or control."""
    control = control_in(name)
    return name if control is None else name.removesuffix(f"-{control}")


def file_name(name: str) -> str:
    """Name of an arm or model in file names."""
    return "".join(letter if letter.isalnum() or letter in "-_.=," else "_" for letter in name)


def part_name(name: str, seed: int) -> str:
    """Beginning of the names of an arm's files."""
    return f"{file_name(name)}-{seed}"


@dataclass(frozen=True)
class StudyOptions:
    """Options of a study, as :func:`rimsim.scenarios.compare` describes them."""

    agents: Sequence[str] | None = None
    frozen: Sequence[str] | None = None
    control: Sequence[str] | None = ("frozen",)
    """Kinds of controls, of :data:`CONTROLS`. None: ``frozen``, in a sweep only with ``frozen`` agents."""
    seeds: int | Sequence[int] = 2
    certify: bool = True
    ledger: bool = True
    reveal: Sequence[str] = ()
    measures: Sequence[str] = ()
    """Places of the user's own measures."""
    groups: Sequence[str] = ()
    """Columns of the item table whose groups are reported, in addition to those with a guarantee."""

    @classmethod
    def names(cls) -> list[str]:
        """Names of all options."""
        return [field.name for field in fields(cls)]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Options in a config; configs of earlier versions lack some."""
        entries = {name: config[name] for name in cls.names() if name in config}
        return {
            name: tuple(value) if isinstance(value, list | dict) else value for name, value in entries.items()
        }

    def entries(self) -> dict[str, object]:
        """Entries of a config, without measures."""
        plain = {name: getattr(self, name) for name in self.names() if name != "measures"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


@dataclass(frozen=True)
class Arm:
    """An agent in a scenario at a seed."""

    config: ScenarioConfig
    agent: str
    """Text for :func:`rimsim.agents.make_agent`."""
    name: str
    """Name in tables: that of the agent, followed by the kind of control."""
    seed: int
    folder: Path
    """The run folder."""
    options: StudyOptions
    """Options of the study, with measures as places."""
    control: str | None = None
    """Kind of control; None: the agent itself."""
    labels: tuple[tuple[str, object], ...] = ()
    """Further fields for TensorBoard's table of hyperparameters."""
    shared: Path | None = None
    """Folder of the sweep, with results that arms of other points can use; None: the run folder."""

    @property
    def group_columns(self) -> tuple[str, ...]:
        """Columns of the item table whose groups are reported."""
        guaranteed = (group.column for group in self.config.exposure.groups)
        return tuple(dict.fromkeys([*guaranteed, *self.options.groups]))

    @property
    def subject(self) -> str:
        """Name of the agent in tables."""
        return subject_of(self.name)

    @property
    def part(self) -> str:
        """Beginning of the names of the arm's files."""
        return part_name(self.name, self.seed)

    def round_file(self, table: str, number: int) -> Path:
        """Path of the arm's part of a table."""
        return self.folder / table / f"{self.part}-{number:03d}.parquet"


def is_done(folder: Path, part: str) -> bool:
    """True if the arm with the given files is complete."""
    return (folder / store.STATES / part / DONE).is_file()


# -- execution ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Execution:
    """Options of execution, which do not change results.

    Raises:
        ConfigError: If a number is below 1, or there is no such backend, or the backend takes no address.
    """

    batch_size: int | None = None
    """Most arrivals per batch; None: no limit."""
    workers: int | None = None
    """Number of tasks at once; None: one per core. With ``local``, 1 task runs in this process."""
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
                raise ConfigError(f"{name} is {value}. Expected at least 1")
        require_known("backend: {}", [self.backend], BACKENDS)
        if self.backend == "local" and self.address is not None:
            raise ConfigError(
                f"address: {self.address!r} was given for the backend 'local'. Give an address only with "
                "the backend 'ray'"
            )


@contextmanager
def executor(execution: Execution) -> Iterator[Executor]:
    """Context manager that yields the executor of jobs.

    Worker processes live as long as the ``with`` block, so that they can fit models and then run arms.

    Raises:
        ConfigError: If Ray is not available.
    """
    workers = execution.workers
    if execution.backend == "local":
        with Workers() as pool:

            def run_locally(job: AnyJob, tasks: Sequence[Any], report: Report) -> dict[int, RimsimError]:
                n_processes = min(workers or cores(), len(tasks))
                if n_processes == 1:
                    return run_here(job, tasks, report)
                return pool.run(partial(_alone, job), tasks, n_processes, report)

            yield run_locally
        return
    from rimsim.scenarios.runs.ray import on_ray, run_on_ray  # noqa: PLC0415  # an extra

    with on_ray(execution.address, workers):
        yield partial(run_on_ray, workers)


def run_here(job: AnyJob, tasks: Sequence[Any], report: Report) -> dict[int, RimsimError]:
    """Run tasks in this process; return errors by task number.

    An error that is not a RimsimError ends the run.
    """
    failures: dict[int, RimsimError] = {}
    for number, task in enumerate(tasks):
        try:
            job(task, report)
        except RimsimError as error:
            failures[number] = error
    return failures


def _alone(job: Callable[[Task, Report], None], task: Task, report: Report) -> None:
    """Do a task while locking an arm's files."""
    if not isinstance(task, Arm):
        job(task, report)
        return
    with store.writing(task.folder, task.part):
        job(task, report)


@dataclass(frozen=True)
class Stage(Generic[Task]):
    """Stage: tasks that can run in parallel, with progress bar."""

    bar: str
    """Text before the bar; stages with the same text share one."""
    job: Callable[[Task, Report], None]
    """Function of a module, so that other processes can import it; reports numbers for the bar."""
    tasks: Sequence[Task]
    """Arguments of the tasks, plain data."""
    total: int
    """Sum of the numbers that all tasks report."""
    vital: bool = True
    """True: an error of a task is raised. False: it is returned, and other tasks and stages go on."""


def run_stages(
    stages: Sequence[Stage[Task]], run: Executor, console: Console | None
) -> list[tuple[Task, RimsimError]]:
    """Failed tasks with their errors, after all stages ran.

    Raises:
        RimsimError: The first error of a stage that later stages need.
    """
    failed = []
    if console is not None and not has_machine_code(best_rows):
        console.print("compiling the code of markets, once: this run takes about 15 s longer", style="dim")
    with bars(console) as progress:
        names = dict.fromkeys(stage.bar for stage in stages)
        totals = {name: sum(stage.total for stage in stages if stage.bar == name) for name in names}
        bar_ids = {name: progress.add_task(name, total=total) for name, total in totals.items()}

        n_reported = dict.fromkeys(names, 0)

        def advance(bar: str, count: int) -> None:
            stop_if_asked()
            n_reported[bar] += count  # your own arrivals may be more than the first round's
            progress.update(bar_ids[bar], completed=n_reported[bar], total=max(totals[bar], n_reported[bar]))

        def fill(bar: str) -> None:
            progress.update(bar_ids[bar], completed=max(n_reported[bar], 1), total=max(n_reported[bar], 1))

        for stage in stages:
            failures = run(stage.job, stage.tasks, partial(advance, stage.bar))
            for error in failures.values() if stage.vital else ():
                raise error
            stop_if_asked()
            failed += [(stage.tasks[number], error) for number, error in failures.items()]
        if not failed:
            for name in names:
                fill(name)  # and your own arrivals may be fewer
    return failed


class Bars(Progress):
    """Progress bars with room for an echoed ``^C``.

    If the terminal's echo of Ctrl-C broke the last line, the first bar would be left above its next version.
    """

    def get_renderable(self) -> RenderableType:
        """Bars, narrower than the terminal."""
        return _Narrow(super().get_renderable())


@dataclass(frozen=True)
class _Narrow:
    """Renderable without the last columns of the console."""

    content: RenderableType
    columns: int = 4
    """Columns of two echoes."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(
            self.content, options.update(width=max(options.max_width - self.columns, 1))
        )


def bar_console(console: Console | None, *, show: bool | None) -> Console | None:
    """Console of progress bars; None: no bars.

    Args:
        console: Console that was given; None: the standard output.
        show: If true or false, bars are shown or not. None: with a given console, in a terminal or in a notebook.
    """
    chosen = console or Console()
    is_shown = (console is not None or chosen.is_terminal or chosen.is_jupyter) if show is None else show
    return chosen if is_shown else None


def bars(console: Console | None) -> Progress:
    """Progress bars with counts, elapsed and remaining time."""
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console or Console(quiet=True),
        disable=console is None,
    )


# -- worker processes -------------------------------------------------------------------------------------------------
class LostWorkerError(RimsimError):
    """Error: a worker process or its machine died."""


@dataclass(frozen=True)
class _Done:
    """A worker's message at the end of a task."""

    failure: RimsimError | None
    """Error of the task; None if it succeeded."""


@dataclass(eq=False)
class _Worker:
    """A process, its pipe and its current task."""

    process: SpawnProcess
    pipe: Connection
    task: int | None = None


class Workers:
    """Worker processes for tasks of any job.

    Workers live until the ``with`` block or this process ends. If a worker dies (killed, out of memory, a crash in
    native code), a new worker repeats its task once.
    """

    def __init__(self) -> None:
        self._workers: list[_Worker] = []
        self._context = multiprocessing.get_context("spawn")  # a forked torch hangs where its threads were

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def run(
        self, job: Callable[[Task, Report], None], tasks: Sequence[Task], n_workers: int, report: Report
    ) -> dict[int, RimsimError]:
        """Run tasks on workers; return errors by task number.

        Args:
            job: Function of a module that other processes can import; it is called with a task and ``report``.
            tasks: Plain data, one for each call of the job.
            most: Largest number of workers.
            report: Called in this process with the numbers that jobs report.
        """
        queue = TaskQueue(job, tasks)
        try:
            while self._assign(queue, n_workers):
                for count in self._receive(queue):
                    report(count)
        except BaseException:
            self._close()  # at once: nobody may write to a folder that is about to be given free
            raise
        return queue.failures

    def _assign(self, queue: TaskQueue[Task], n_workers: int) -> bool:
        """Give waiting tasks to workers; false if all are idle."""
        while queue.waiting and sum(worker.task is not None for worker in self._workers) < n_workers:
            idle = next((worker for worker in self._workers if worker.task is None), None) or self._started()
            idle.task = task = queue.begin()
            with suppress(OSError):  # it is dead already, which its broken pipe will show
                idle.pipe.send((queue.job, queue.tasks[task]))
        return any(worker.task is not None for worker in self._workers)

    def _receive(self, queue: TaskQueue[Task]) -> Iterator[int]:
        """Read the progress of workers, and record finished tasks."""
        by_pipe = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(list(by_pipe)):
            worker = by_pipe[pipe]  # type: ignore[index]  # only our pipes were waited for
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                self._workers.remove(worker)
                worker.pipe.close()
                worker.process.join()
                message = _Done(_lost(worker.process.exitcode))
            if not isinstance(message, _Done):
                yield message
                continue
            if worker.task is not None:
                queue.end(worker.task, message.failure)
            worker.task = None

    def _close(self) -> None:
        """End all workers at once."""
        for worker in self._workers:
            worker.process.terminate()
            worker.process.join()
            worker.pipe.close()
        self._workers = []

    def _started(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs,), daemon=True)
        _start(process)
        theirs.close()  # so that the death of the worker breaks the pipe
        self._workers.append(_Worker(process, ours))
        return self._workers[-1]


class TaskQueue(Generic[Task]):
    """Tasks of a job, with waiting tasks, attempts and failures."""

    def __init__(self, job: Callable[[Task, Report], None], tasks: Sequence[Task]) -> None:
        self.job = job
        self.tasks = tasks
        self.waiting = deque(range(len(tasks)))
        self.failures: dict[int, RimsimError] = {}
        self._attempts = [0] * len(tasks)

    def begin(self) -> int:
        """Begin the next waiting task and return its number."""
        task = self.waiting.popleft()
        self._attempts[task] += 1
        return task

    def end(self, task: int, failure: RimsimError | None) -> None:
        """Record the end of a task, or begin it again.

        If its worker died, a task begins again while attempts are left.
        """
        if isinstance(failure, LostWorkerError) and self._attempts[task] < ATTEMPTS:
            self.waiting.appendleft(task)
        elif failure is not None:
            self.failures[task] = failure


def _start(process: SpawnProcess) -> None:
    """Start a worker process without main script and keyboard interrupts."""
    # A worker would import the main module, of which it needs nothing. Without a guard there, it would begin the run
    # again; a script from standard input cannot be imported at all.
    main = sys.modules["__main__"]
    if sys.platform != "win32":
        resource_tracker.ensure_running()  # its own start, else part of ours, would unblock the signal
        blocked_before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a worker inherits it
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        process.start()
    finally:
        sys.modules["__main__"] = main
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked_before)


def _lost(code: int | None) -> LostWorkerError:
    """Error that reports the exit status of a worker process."""
    end = f"ended with status {code}"
    if code is not None and code < 0:
        end = f"was killed by {signal.Signals(-code).name}"
    return LostWorkerError(f"the worker process {end}, {ATTEMPTS} times over")


def _work(pipe: Connection) -> None:
    """Do tasks in a worker process until its pipe breaks."""
    # The keyboard reaches every process; the first ends the rest.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def send(message: int | _Done) -> None:
        try:
            pipe.send(message)
        except OSError:
            os._exit(1)  # nobody waits any more: leave the folder to the one that resumes the run

    while True:
        try:
            job, task = pipe.recv()
        except (EOFError, OSError):
            return
        failure: RimsimError | None = None
        try:
            job(task, send)
        except RimsimError as error:
            failure = error
        except Exception as error:  # noqa: BLE001  # whatever it is, the other tasks go on
            failure = RimsimError(f"{type(error).__name__}: {error}")
        send(_Done(failure))


def _end_with_parent() -> None:
    """End this process when its parent ends, even during tasks."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


# -- runs that are made at once -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Job(Generic[Part]):
    """Parts of a run that is written as a whole."""

    described: Mapping[str, object]
    """Entries of ``config.yaml`` between the command and the versions."""
    parts: Sequence[Part]
    """Arguments of the parts, plain data such as seeds."""
    play: Callable[[Part, Report], Mapping[str, pd.DataFrame]]
    """Function that returns the tables of a part; a module's function, if parts run on workers."""
    finish: Callable[[store.Run], object] = store.Run.draw
    """Function that writes pictures and all other files of the folder, given a run with its tables."""
    bar: str = "parts"
    """Text before the progress bar."""
    total: int = 0
    """Sum of the numbers that all parts report."""


def make_run(job: Job[Part], folder: Path, command: str, execution: Execution) -> store.Run:
    """Write all parts of a run, or nothing.

    Raises:
        RunFolderError: If the folder is in use or is not empty.
        RimsimError: If a part failed.
    """
    store.require_free(folder)
    with store.locked(folder), draft_content(folder, store.CONFIG) as draft:
        described = {"command": command, **job.described, "versions": store.versions()}
        store.write_yaml(draft / store.CONFIG, described)
        for name, table in play_parts(job, draft, execution).items():
            store.write_table(draft / f"{name}.parquet", table)
        job.finish(store.Run(draft))
    return store.Run(folder)


@contextmanager
def all_or_nothing() -> Iterator[None]:
    """Context manager in which interruptions report that nothing is saved."""
    try:
        with errors_of_interrupts():
            yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "nothing is saved, because such a run is written when all of it is finished"
        ) from None


def play_parts(job: Job[Part], folder: Path, execution: Execution) -> dict[str, pd.DataFrame]:
    """Tables of a job, joined in order of parts."""
    place = folder / _PARTS
    try:
        with executor(execution) as run:
            numbered = list(enumerate(job.parts))
            stage = Stage(job.bar, partial(_leave, job.play, place), numbered, job.total)
            run_stages([stage], run, execution.console)
        tables: dict[str, list[pd.DataFrame]] = {}
        for path in sorted(place.glob("[0-9]*.parquet")):
            tables.setdefault(path.stem.partition("-")[2], []).append(store.read_table(path))
        return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _leave(
    play: Callable[[Part, Report], Mapping[str, pd.DataFrame]],
    place: Path,
    numbered: tuple[int, Part],
    report: Report,
) -> None:
    """Run a part and write its tables."""
    number, part = numbered
    for name, table in play(part, report).items():
        store.write_table(place / f"{number:06d}-{name}.parquet", table)


def chosen_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Seeds of a run, from their number or a list.

    Raises:
        ConfigError: If there is no seed, or a seed occurs twice or is negative.
    """
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(seed) for seed in seeds)
    if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise ConfigError(
            f"seeds: {seeds!r} is not a choice of seeds. Give a positive number of seeds, or a list of "
            "distinct seeds from 0 up"
        )
    return numbers
