"""Many arms run: what they share is fitted first, then all of them play, here or on worker processes."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

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

from rimsim.errors import ConfigError, RimsimError, nearest
from rimsim.market import build_world
from rimsim.scenarios.execution.local import LostWorkerError, run_here, run_on_workers
from rimsim.scenarios.execution.signals import stop_if_asked
from rimsim.scenarios.study.arm import Arm, open_round, prepare, run_arm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rimsim.config import ScenarioConfig

    Report: TypeAlias = Callable[[int], None]
    Job: TypeAlias = Callable[[Arm, Report], None]
    Crew: TypeAlias = Callable[[Job, Sequence[Arm], Report], dict[int, RimsimError]]
    """Does a job for each arm, calls with numbers for progress, and answers position → what went wrong."""

__all__ = ["BACKENDS", "check_sizes", "expected_arrivals", "hired", "run_arms"]

BACKENDS = ("local", "ray")
"""Where arms can run: on processes of this machine, or on Ray."""


def check_sizes(batch_size: int | None, workers: int | None) -> None:
    """Refuse numbers of arrivals a batch or of processes that are none.

    Raises:
        ConfigError: If one is below 1.
    """
    for name, value in (("batch_size", batch_size), ("workers", workers)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; allowed: at least 1")


@contextmanager
def hired(backend: str, address: str | None, workers: int | None) -> Iterator[Crew]:
    """Those who run arms; they are there as long as the block.

    Args:
        backend: One of :data:`BACKENDS`.
        address: Of a Ray cluster; None: one is started on this machine.
        workers: Arms at once; None: one a core; 1 and local: no other process.

    Raises:
        ConfigError: If there is no such backend, or Ray cannot be had.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"backend: {backend!r}.{nearest(backend, BACKENDS)}")
    if backend == "local":
        if address is not None:
            raise ConfigError(f"address: {address!r} with the backend 'local'; allowed: with 'ray'")
        yield partial(_run_locally, workers)
        return
    from rimsim.scenarios.execution.ray import on_ray, run_on_ray  # noqa: PLC0415  # loads only for who asks

    with on_ray(address, workers):
        yield partial(run_on_ray, workers)


def _run_locally(
    workers: int | None, job: Job, arms: Sequence[Arm], report: Report
) -> dict[int, RimsimError]:
    most = min(workers or os.cpu_count() or 1, len(arms))
    return run_here(job, arms, report) if most == 1 else run_on_workers(job, arms, most, report)


def run_arms(arms: Sequence[Arm], crew: Crew, console: Console | None) -> dict[int, RimsimError]:
    """Fit what arms share, then run them all.

    Args:
        arms: What to run; results do not depend on their order.
        crew: Those who run them.
        console: Where progress is shown; None: nowhere.

    Returns:
        Position of an arm that failed → what went wrong.

    Raises:
        RimsimError: If a fit fails.
    """
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console or Console(quiet=True),
        disable=console is None,
    )
    fits = list({(arm.config, arm.seed): arm for arm in arms}.values())
    total = sum(expected_arrivals(arm.config) for arm in arms)
    with progress:
        fitting = progress.add_task("fitting the platform's model", total=len(fits))
        serving = progress.add_task("arrivals served", total=total)
        for error in _run(crew, _fit, fits, lambda n: progress.advance(fitting, n)).values():
            raise error
        failures = _run(crew, run_arm, arms, lambda n: progress.advance(serving, n))
    return {number: _with_round(arms[number], error) for number, error in failures.items()}


def _with_round(arm: Arm, error: RimsimError) -> RimsimError:
    """An error that names the round, also of a worker that died before it could."""
    if not isinstance(error, LostWorkerError):
        return error
    return LostWorkerError(f"agent {arm.name!r} in round {open_round(arm)}: {error}")


def _run(crew: Crew, job: Job, arms: Sequence[Arm], report: Report) -> dict[int, RimsimError]:
    def told(count: int) -> None:
        stop_if_asked()
        report(count)

    failures = crew(job, arms, told)
    stop_if_asked()
    return failures


def _fit(arm: Arm, report: Report) -> None:
    """Fit what the arms of a seed share."""
    prepare(arm.config, arm.seed)
    report(1)


def expected_arrivals(config: ScenarioConfig) -> int:
    """Arrivals of all rounds of a scenario."""
    world, most = build_world(config), config.arrivals.per_round
    if config.arrivals.kind == "replay":
        later = int((world.sessions.start >= world.opening).sum())
        return later if most is None else min(later, most * config.rounds)
    everyone = len(np.unique(world.past_sessions.user)) if config.arrivals.kind == "broadcast" else 2000
    return (most or everyone) * config.rounds
