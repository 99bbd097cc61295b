"""Comparisons and sweeps carried out: one engine begins, runs, resumes and gathers both.

A comparison is a sweep of one point, which lies in the run folder itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rimsim.config import to_plain
from rimsim.durations import duration_seconds
from rimsim.errors import ArmsError
from rimsim.loading import own_code
from rimsim.market import build_world
from rimsim.market.world import check_promises, own_places, truth_bootstrap
from rimsim.measures import records
from rimsim.scenarios.execution.executor import Execution, executor
from rimsim.scenarios.execution.signals import errors_of_interrupts
from rimsim.scenarios.pictures.front import draw_sweep
from rimsim.scenarios.report.sweep import sweep_matrix, sweep_table
from rimsim.scenarios.store.catalogue import catalogue_table, user_table
from rimsim.scenarios.store.folders import (
    BEGUN,
    CATALOGUE,
    FAILURES,
    STATES,
    USERS,
    locked,
    require_free,
    versions,
)
from rimsim.scenarios.store.load_report import load_facts
from rimsim.scenarios.store.points import POINTS
from rimsim.scenarios.store.run_folder import CONFIG, Run, load_run, resume_command
from rimsim.scenarios.store.status import is_finished
from rimsim.scenarios.store.write import write_table, write_yaml
from rimsim.scenarios.study.arms import run_arms
from rimsim.scenarios.study.changes import digests, require_unchanged
from rimsim.scenarios.study.gather import failures_text, gather
from rimsim.scenarios.study.notes import print_notes
from rimsim.scenarios.study.plan import Plan, Study, study_of
from rimsim.scenarios.validating.kept import agreement_of

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.config import ScenarioConfig
    from rimsim.scenarios.execution.executor import Executor


def run(study: Study, command: str, execution: Execution) -> Run:
    """Carry out a comparison or sweep that has been checked.

    Args:
        study: What to do.
        command: The command line, to be recorded.
        execution: How.

    Raises:
        ConfigError: If Ray cannot be had, or a campaign cannot be; nothing has been written then.
        ArmsError: If arms failed; the others are complete.
        RunFolderError: If the folder is in use or holds another run.
    """
    if not (study.folder / CONFIG).exists():  # else it may be in use, which the lock tells
        require_free(study.folder)
    for plan in study.plans:
        with own_code(own_places(plan.point.config)):
            check_promises(plan.point.config, plan.seeds[0])
    print_notes([plan.point.config for plan in study.plans], execution.console, agents=study.plans[0].agents)
    with executor(execution) as run_jobs, locked(study.folder), _resumable(study.folder):
        require_free(study.folder)
        for plan in study.plans:
            if study.grid:
                _clear_begun(plan.point.folder)
            begin(plan, command)
        if study.grid:
            described = _described(study.plans[0], command, study.base) | {"sweep": dict(study.grid)}
            write_yaml(study.folder / CONFIG, described)
        return _finish(study, execution, run_jobs)


def resume(
    folder: str | Path,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    backend: str = "local",
    address: str | None = None,
    console: Console | None = None,
) -> Run:
    """Go on with an interrupted comparison or sweep; it ends with the same tables as one that was never interrupted.

    Arms that are complete stay; the others go on from the last round that they finished.

    Args:
        folder: The run folder.
        batch_size: Arrivals a batch at most; this and what follows may differ from the interrupted run's.
        workers: Arms at once; None: one a core.
        backend: ``local`` or ``ray``.
        address: Of a Ray cluster; None: one is started here.
        console: Where progress is shown; None: nowhere.

    Raises:
        ConfigError: If workers or backend do not fit.
        RunFolderError: If it is no such folder, in use, or began with another version, config, log or agent.
        ArmsError: If arms failed.
    """
    execution = Execution(batch_size, workers, backend, address, console)
    begun = load_run(folder)
    if resume_command(begun) is None:
        load_run(folder, "comparison")  # refuses, and names the command that repeats it
    study = study_of(begun)
    left = [plan for plan in study.plans if not is_finished(Run(plan.point.folder))]
    if not left and (not study.grid or (begun.folder / "sweep.parquet").is_file()):
        return begun
    for plan in left:
        require_unchanged(load_run(plan.point.folder))
    with executor(execution) as run_jobs, locked(begun.folder), _resumable(begun.folder):
        return _finish(study, execution, run_jobs)


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Let an interruption say where the finished rounds are, and how they are gone on with.

    Raises:
        KeyboardInterrupt: If one came.
    """
    try:
        with errors_of_interrupts():
            yield
    except KeyboardInterrupt:
        if not (folder / CONFIG).is_file():
            raise
        command = resume_command(load_run(folder))
        raise KeyboardInterrupt(f"finished rounds are in {folder}; to go on: {command}") from None


def _clear_begun(folder: Path) -> None:
    """Remove a point of a sweep that was interrupted while its points were begun: nothing has been played there."""
    if (folder / CONFIG).is_file() and not (folder / "rounds").exists():
        shutil.rmtree(folder)


def begin(plan: Plan, command: str) -> None:
    """Write the config of a plan into its folder.

    Raises:
        RunFolderError: If the folder holds a run.
    """
    folder, config = plan.point.folder, plan.point.config
    require_free(folder)
    world = build_world(config)
    described = _described(plan, command, config) | {
        "truth": None if world.truth is None else asdict(world.truth.report),
        "agreement": None if world.truth is None else _agreement(config),
        "log": load_facts(world.log),
        "digests": digests(config, (*plan.agents, *plan.measures)),
    }
    write_table(folder / CATALOGUE, catalogue_table(world.log.items, world.past.item))
    write_table(folder / USERS, user_table(world.log.users))
    for name in (BEGUN, CONFIG):
        write_yaml(folder / name, described)


def _agreement(config: ScenarioConfig) -> dict[str, Any] | None:
    """How the truth of a scenario agrees with the held-out later sessions of its log."""
    consumer, log = config.consumer, build_world(config).log
    return agreement_of(
        log,
        gap=duration_seconds(config.data.session_gap),
        kind=consumer.truth,
        rank=consumer.rank,
        bootstrap=truth_bootstrap(consumer),
        slate=config.slate,
        position_decay=consumer.position_decay,
    )


def _described(plan: Plan, command: str, config: ScenarioConfig) -> dict[str, object]:
    """For ``config.yaml``: what all points of a study share, and a scenario."""
    return {
        "command": command,
        "arms": list(plan.names),
        "agents": list(plan.agents),
        "frozen": list(plan.frozen),
        "control": list(plan.controls),
        "seeds": list(plan.seeds),
        "certify": plan.certify,
        "ledger": plan.ledger,
        "reveal": list(plan.reveal),
        "measures": records(plan.measures),
        "scenario": to_plain(config),
        "versions": versions(),
    }


def _finish(study: Study, execution: Execution, run_jobs: Executor) -> Run:
    """Run what is left of all points, in one pool, then gather them."""
    left = [plan for plan in study.plans if not is_finished(Run(plan.point.folder))]
    arms = [arm for plan in left for arm in plan.arms]
    failures = run_arms(arms, run_jobs, execution)
    notes = [
        gather(plan, [(arm, error) for arm, error in failures if arm.folder == plan.point.folder])
        for plan in left
    ]
    if failures:
        text = "".join(f"\n  {note}" for note in notes if note is not None)
        where = study.folder / POINTS / "*" / FAILURES if study.grid else study.folder / FAILURES
        raise ArmsError(
            f"{failures_text(failures, len(arms))}{text}\ntracebacks: {where}/", str(study.folder)
        )
    done = load_run(study.folder)
    if study.grid:
        shutil.rmtree(study.folder / STATES, ignore_errors=True)
        table = sweep_table(done)
        write_table(study.folder / "sweep.parquet", table)
        found = sweep_matrix(table, done.scenario.exposure.unit)
        if not found.empty:
            write_table(study.folder / "matrix.parquet", found)
        draw_sweep(done)
    return done
