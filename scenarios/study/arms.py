"""Arms are run: what they share is fitted first, then each plays all its rounds, in any order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from rimsim.market.world import expected_arrivals
from rimsim.scenarios.execution.bars import bars
from rimsim.scenarios.execution.local import LostWorkerError
from rimsim.scenarios.execution.signals import stop_if_asked
from rimsim.scenarios.store.status import is_done
from rimsim.scenarios.study.controls import waits
from rimsim.scenarios.study.play import open_round, prepare, run_arm, value_opening

if TYPE_CHECKING:
    from rich.progress import TaskID

    from rimsim.errors import RimsimError
    from rimsim.scenarios.execution.arm import Arm, Report
    from rimsim.scenarios.execution.executor import Execution, Executor


def run_arms(arms: Sequence[Arm], run: Executor, execution: Execution) -> list[tuple[Arm, RimsimError]]:
    """Fit what arms share, then run them all.

    Args:
        arms: What to run; results do not depend on their order.
        run: What :func:`rimsim.scenarios.execution.executor.executor` yields.
        execution: Size of a batch, and where progress is shown.

    Returns:
        Each arm that failed, with what went wrong.

    Raises:
        RimsimError: If a fit fails.
    """
    if not arms:
        return []
    left = [arm for arm in arms if not is_done(arm.folder, arm.part)]
    fits = list({(arm.config, arm.seed): arm for arm in left}.values())
    of_scenario = Counter(arm.config for arm in arms)
    total = sum(expected_arrivals(config) * number for config, number in of_scenario.items())
    with bars(execution.console) as progress:
        fitting = progress.add_task("fitting the platform's model", total=len(fits))
        serving = progress.add_task("arrivals served", total=total)

        def advance(task: TaskID, count: int) -> None:
            stop_if_asked()
            progress.advance(task, count)

        for error in run(_fit, fits, partial(advance, fitting)).values():
            raise error
        stop_if_asked()
        job = partial(run_arm, batch_size=execution.batch_size)
        failed = []
        for some in _stages(arms):
            failures = run(job, some, partial(advance, serving))
            stop_if_asked()
            failed += [(some[number], _with_round(some[number], error)) for number, error in failures.items()]
    return failed


def _stages(arms: Sequence[Arm]) -> list[list[Arm]]:
    """Arms that can run side by side, one stage after the other: those that wait come after those they wait for.

    A sweep has all its points at the first seed before it begins the next, so that one that is interrupted can be read.
    """
    sweep = len({arm.folder for arm in arms}) > 1
    seeds = dict.fromkeys(arm.seed for arm in arms) if sweep else [None]
    stages = [
        [arm for arm in arms if waits(arm) == late and seed in (arm.seed, None)]
        for seed in seeds
        for late in (False, True)
    ]
    return [stage for stage in stages if stage]


def _with_round(arm: Arm, error: RimsimError) -> RimsimError:
    """An error that names the round, also of a worker that died before it could."""
    if not isinstance(error, LostWorkerError):
        return error
    return LostWorkerError(f"agent {arm.name!r} in round {open_round(arm)}: {error}")


def _fit(arm: Arm, report: Report) -> None:
    """Fit what the arms of a seed share, and value what the platform's model is worth at the opening."""
    prepare(arm.config, arm.seed)
    value_opening(arm)
    report(1)
