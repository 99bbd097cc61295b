"""Stages of arms: shared fits first, then each arm plays all its rounds, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rimsim.errors import RimsimError
from rimsim.market.build import expected_arrivals
from rimsim.scenarios.runs.job import Execution, Executor, Stage, run_stages
from rimsim.scenarios.runs.local import LostWorkerError, Report
from rimsim.scenarios.runs.status import Arm, is_done
from rimsim.scenarios.study.controls import waits
from rimsim.scenarios.study.play import open_round, prepare, run_arm, value_opening


def run_arms(arms: Sequence[Arm], run: Executor, execution: Execution) -> list[tuple[Arm, RimsimError]]:
    """Failed arms with their errors, after shared models were fitted and all arms ran.

    Raises:
        RimsimError: If a fit fails.
    """
    if not arms:
        return []
    left = [arm for arm in arms if not is_done(arm.folder, arm.part)]
    fits = list({(arm.config, arm.seed): arm for arm in left}.values())
    arrivals = {config: expected_arrivals(config) for config in dict.fromkeys(arm.config for arm in arms)}
    job = partial(run_arm, batch_size=execution.batch_size)
    stages = [Stage("fitting the platform's model", _fit, fits, len(fits))]
    stages += [
        Stage("arrivals served", job, some, sum(arrivals[arm.config] for arm in some), vital=False)
        for some in _stages(arms)
    ]
    return [(arm, _with_round(arm, error)) for arm, error in run_stages(stages, run, execution.console)]


def _stages(arms: Sequence[Arm]) -> list[list[Arm]]:
    """Arms that can run side by side, one stage after the other: arms that wait come after those they wait for.

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
    """Error that names the round, also of a worker that died before it could."""
    if not isinstance(error, LostWorkerError):
        return error
    return LostWorkerError(f"agent {arm.name!r} in round {open_round(arm)}: {error}")


def _fit(arm: Arm, report: Report) -> None:
    """Fit the models that the arms of a seed share, and value them at the opening."""
    prepare(arm.config, arm.seed)
    value_opening(arm)
    report(1)
