"""Execution of tasks, here, on worker processes or on Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from rich.console import Console

from rimsim.compiled import has_machine_code
from rimsim.errors import ConfigError, RimsimError, require_known
from rimsim.matching.kernels import best_rows
from rimsim.scenarios.runs.arms import Arm
from rimsim.scenarios.runs.locks import writing
from rimsim.scenarios.runs.process import stop_if_asked
from rimsim.scenarios.runs.progress import Report, bars
from rimsim.scenarios.runs.workers import Workers
from rimsim.system import cores

Task = TypeVar("Task")
AnyJob: TypeAlias = Callable[[Any, Report], None]
Executor: TypeAlias = Callable[[AnyJob, Sequence[Any], Report], dict[int, RimsimError]]
"""Function that does a job for each task, and reports progress. Its result is the position of each failed task → its
error."""
BACKENDS = ("local", "ray")
"""Names of places where tasks can run: processes on this machine, or tasks on Ray."""


@dataclass(frozen=True)
class Execution:
    """Options of execution, which do not change results.

    Raises:
        ConfigError: If a number is below 1, or there is no such backend, or the backend takes no address.
    """

    batch_size: int | None = None
    """Largest number of arrivals per batch; None: no limit."""
    workers: int | None = None
    """Number of tasks that run at once; None: one per core. With ``local`` and 1, tasks run in this process."""
    backend: str = "local"
    """Name of the place where tasks run, from :data:`BACKENDS`."""
    address: str | None = None
    """Address of a Ray cluster, ``auto`` or ``host:port``; None: a cluster is started here for the run."""
    console: Console | None = None
    """Console for progress bars; None: there are no bars."""

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
                """Run tasks on workers, or a single one here."""
                n_processes = min(workers or cores(), len(tasks))
                if n_processes == 1:
                    return run_here(job, tasks, report)
                return pool.run(partial(_under_lock, job), tasks, n_processes, report)

            yield run_locally
        return
    from rimsim.scenarios.runs.ray import on_ray, run_on_ray  # noqa: PLC0415  # an optional package

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


def _under_lock(job: Callable[[Task, Report], None], task: Task, report: Report) -> None:
    """Do a worker's task while an arm's files are locked.

    By the lock, a later run of the folder learns that a worker of a killed run still writes.
    """
    if not isinstance(task, Arm):
        job(task, report)
        return
    with writing(task.folder, task.part):
        job(task, report)


@dataclass(frozen=True)
class Stage(Generic[Task]):
    """Stage: tasks that can run in parallel, with progress bar."""

    bar: str
    """Text before the progress bar. Stages with the same text share a bar."""
    job: Callable[[Task, Report], None]
    """Function of a module, which other processes can import. It does a task and reports numbers for the bar."""
    tasks: Sequence[Task]
    """Arguments of the tasks, as plain data."""
    total: int
    """Sum of the numbers that all tasks report."""
    vital: bool = True
    """True: an error of a task is raised. False: the error is returned, and the other tasks and stages go on."""


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
            """Add a reported number to a bar."""
            stop_if_asked()
            # A user's arrival process may bring more arrivals than in the first round.
            n_reported[bar] += count
            progress.update(bar_ids[bar], completed=n_reported[bar], total=max(totals[bar], n_reported[bar]))

        def fill(bar: str) -> None:
            """Let a bar end at the reported numbers."""
            progress.update(bar_ids[bar], completed=max(n_reported[bar], 1), total=max(n_reported[bar], 1))

        for stage in stages:
            failures = run(stage.job, stage.tasks, partial(advance, stage.bar))
            for error in failures.values() if stage.vital else ():
                raise error
            stop_if_asked()
            failed += [(stage.tasks[number], error) for number, error in failures.items()]
        if not failed:
            for name in names:
                # A user's arrival process may also bring fewer arrivals, so the bar is filled at the end.
                fill(name)
    return failed
