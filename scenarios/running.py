"""Many arms run: what they share is fitted first, then all of them play, here or on worker processes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rimsim.errors import ConfigError, RimsimError
from rimsim.market import build_world
from rimsim.scenarios.arm import Arm, prepare, run_arm
from rimsim.scenarios.interruption import stop_if_asked
from rimsim.scenarios.workers import run_here, run_on_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rimsim.config import ScenarioConfig

__all__ = ["check_sizes", "run_arms"]

Task = TypeVar("Task")


def check_sizes(batch_size: int | None, workers: int | None) -> None:
    """Refuse numbers of arrivals a batch or of processes that are none.

    Raises:
        ConfigError: If one is below 1.
    """
    for name, value in (("batch_size", batch_size), ("workers", workers)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; allowed: at least 1")


def run_arms(arms: Sequence[Arm], workers: int | None, console: Console | None) -> dict[int, RimsimError]:
    """Fit what arms share, then run them all.

    Args:
        arms: What to run; results do not depend on their order.
        workers: Processes; None: one a core; 1: no other process.
        console: Where progress is shown; None: nowhere.

    Returns:
        Position of an arm that failed → what went wrong.

    Raises:
        RimsimError: If a fit fails.
    """
    n_workers = min(workers or os.cpu_count() or 1, len(arms))
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console or Console(quiet=True),
        disable=console is None,
    )
    fits = list(dict.fromkeys(_Fit(arm.config, arm.seed) for arm in arms))
    total = sum(_expected_arrivals(arm.config) for arm in arms)
    with progress:
        fitting = progress.add_task("fitting the platform's model", total=len(fits))
        serving = progress.add_task("arrivals served", total=total)
        for error in _run(_fit, fits, n_workers, lambda n: progress.advance(fitting, n)).values():
            raise error
        return _run(run_arm, arms, n_workers, lambda n: progress.advance(serving, n))


def _run(
    job: Callable[[Task, Callable[[int], None]], None],
    tasks: Sequence[Task],
    workers: int,
    report: Callable[[int], None],
) -> dict[int, RimsimError]:
    def told(count: int) -> None:
        stop_if_asked()
        report(count)

    failures = run_here(job, tasks, told) if workers == 1 else run_on_workers(job, tasks, workers, told)
    stop_if_asked()
    return failures


@dataclass(frozen=True)
class _Fit:
    """What the arms of a seed share."""

    config: ScenarioConfig
    seed: int


def _fit(fit: _Fit, report: Callable[[int], None]) -> None:
    prepare(fit.config, fit.seed)
    report(1)


def _expected_arrivals(config: ScenarioConfig) -> int:
    world, most = build_world(config), config.arrivals.per_round
    if config.arrivals.kind == "replay":
        later = int((world.sessions.start >= world.opening).sum())
        return later if most is None else min(later, most * config.rounds)
    everyone = len(np.unique(world.past_sessions.user)) if config.arrivals.kind == "broadcast" else 2000
    return (most or everyone) * config.rounds
