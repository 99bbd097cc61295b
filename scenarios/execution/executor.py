"""How arms are executed: batches, processes, machines. Results do not depend on any of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from rimsim.errors import ConfigError, nearest
from rimsim.scenarios.execution.local import Workers, run_here
from rimsim.scenarios.store.folders import writing
from rimsim.system import cores

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.errors import RimsimError
    from rimsim.scenarios.execution.arm import Arm, Job, Report

    Executor: TypeAlias = Callable[[Job, Sequence[Arm], Report], dict[int, RimsimError]]
    """Does a job for each arm, reports numbers for progress, and answers position → what went wrong."""


BACKENDS = ("local", "ray")
"""Where arms can run: on processes of this machine, or as tasks on Ray."""


@dataclass(frozen=True)
class Execution:
    """How the arms of a comparison or sweep are executed.

    Raises:
        ConfigError: If a number is below 1, or there is no such backend, or it takes no address.
    """

    batch_size: int | None = None
    """Arrivals a batch at most; None: no limit."""
    workers: int | None = None
    """Arms at once; None: one a core; 1 with the backend ``local``: in this process."""
    backend: str = "local"
    """One of :data:`BACKENDS`."""
    address: str | None = None
    """Of a Ray cluster, ``auto`` or ``host:port``; None: one is started here for as long as the run."""
    console: Console | None = None
    """Where progress is shown; None: nowhere."""

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
    """Context manager that yields what runs a job for each arm: here, on worker processes, or on Ray.

    Worker processes live as long as the block, so that those which fit models also play arms.

    Args:
        execution: Backend, address and number of workers.

    Raises:
        ConfigError: If Ray cannot be had.
    """
    workers = execution.workers
    if execution.backend == "local":
        with Workers() as pool:
            yield partial(_run_locally, pool, workers)
        return
    from rimsim.scenarios.execution.ray import on_ray, run_on_ray  # noqa: PLC0415  # loads only for who asks

    with on_ray(execution.address, workers):
        yield partial(run_on_ray, workers)


def _run_locally(
    pool: Workers, workers: int | None, job: Job, arms: Sequence[Arm], report: Report
) -> dict[int, RimsimError]:
    most = min(workers or cores(), len(arms))
    return run_here(job, arms, report) if most == 1 else pool.run(partial(_alone, job), arms, most, report)


def _alone(job: Job, arm: Arm, report: Report) -> None:
    """Do a job of an arm on a worker, so that whoever resumes a killed run can wait for it."""
    with writing(arm.folder, arm.part):
        job(arm, report)
