"""Tasks of one kind on this machine's processes, with one bar for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from rimsim.scenarios.execution.bars import bars
from rimsim.scenarios.execution.local import Workers, run_here
from rimsim.scenarios.execution.signals import stop_if_asked
from rimsim.system import cores

if TYPE_CHECKING:
    from rich.console import Console

Task = TypeVar("Task")


def run_tasks(
    job: Callable[[Task, Callable[[int], None]], None],
    tasks: Sequence[Task],
    workers: int | None,
    console: Console | None,
    *,
    what: str,
    total: int,
) -> None:
    """Do a job for each task.

    Args:
        job: A function of a module, which another process can import; it reports numbers for progress.
        tasks: What to do.
        workers: Tasks at once; None: one a core; 1: in this process.
        console: Where progress is shown; None: nowhere.
        what: What the bar counts, for a person.
        total: The sum of what all tasks report.

    Raises:
        RimsimError: What went wrong first.
    """
    most = min(workers or cores(), len(tasks))
    with bars(console) as progress, Workers() as pool:
        bar = progress.add_task(what, total=total)

        def advance(count: int) -> None:
            stop_if_asked()
            progress.advance(bar, count)

        failed = run_here(job, tasks, advance) if most == 1 else pool.run(job, tasks, most, advance)
    for error in failed.values():
        raise error
