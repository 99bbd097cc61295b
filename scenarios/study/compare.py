"""Comparisons and sweeps: plan, run, resume and join.

A comparison is a sweep of one point, which lies in the run folder itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

from rich.console import Console

from rimsim.config import ScenarioConfig
from rimsim.config.guarantees import ShareArgument, require_single
from rimsim.errors import ConfigError
from rimsim.scenarios.run import Run, load_run
from rimsim.scenarios.runs import store
from rimsim.scenarios.runs.execution import Execution, executor
from rimsim.scenarios.runs.locks import folder_for, locked
from rimsim.scenarios.runs.points import BETA
from rimsim.scenarios.runs.progress import bar_console
from rimsim.scenarios.runs.status import require_parts
from rimsim.scenarios.runs.store import RunFolder
from rimsim.scenarios.study import checks
from rimsim.scenarios.study.arguments import (
    StudyArguments,
    arms_of,
    completed,
    execution_of,
    log_of,
    study_arguments,
)
from rimsim.scenarios.study.plan import planned, study_of
from rimsim.scenarios.study.repetition import require_unchanged
from rimsim.scenarios.study.runner import finish, resumable, run, unfinished
from rimsim.session import session_model

BETAS: dict[str, tuple[float, ...]] = {BETA: (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)}
"""Field that a sweep varies by default → its values."""


def default_grid(guarantee: Mapping[str, ShareArgument] | None) -> dict[str, tuple[float, ...]]:
    """Default grid of a sweep with given guarantees."""
    return {} if checks.grid_with({}, guarantee) else dict(BETAS)


@study_arguments(ledger=True)
def compare(
    scenario: str | Path | ScenarioConfig = "closed-loop",
    agents: object | None = None,
    rounds: int | None = None,
    seeds: int | Sequence[int] = 3,
    *,
    guarantee: Mapping[str, ShareArgument] | None = None,
    control: Sequence[str] = ("frozen",),
    **options: Unpack[StudyArguments],
) -> Run:
    """Compare agents in a scenario, with common random numbers.

    Args:
        scenario: Name of a built-in scenario, path of a YAML file, or a ``ScenarioConfig``.
        agents: Texts for :func:`rimsim.agents.make_agent`, such as ``relevance`` or ``my_agent.py:Mine``, or a single
            text. Agents and classes of this session are also possible, with one worker. None:
            :func:`rimsim.scenarios.study.checks.default_agents`.
        rounds: Number of rounds, in place of the scenario's number.
        seeds: Number of seeds, from 0, or a list.
        guarantee: Column of the log's items → guaranteed share of the uniform exposure of each of its groups, such as
            ``{"seller": 0.5}``. ``{"seller": {"beta": 0.3, "of": "groups"}}`` guarantees a part of an equal share of
            each group. Single items then have no guarantee, unless ``settings`` names ``exposure.beta``.
        control: Kinds of controls. ``frozen`` never retrains. ``organic`` and ``random`` retrain on as many events as
            the agent had: ``organic`` on events of the log, ``random`` on events of uniformly random slates.
        **options: Keys of :class:`rimsim.scenarios.study.arguments.StudyArguments`.

    Returns:
        The run, with its tables.

    Raises:
        ConfigError: If an argument is unknown, or scenario, agents, measures, seeds, workers or backend is invalid;
            then nothing is written.
        MeasureError: If a measure cannot be computed; nothing has been written then.
        DataError: If the log cannot be read.
        ArmsError: If arms failed; all other arms are complete.
        RunFolderError: If the folder is in use or holds another run.
    """
    arguments = completed(compare, options)
    arms = arms_of(arguments, agents, seeds, control)
    require_single(guarantee or {})
    config = checks.resolved(scenario, rounds, log_of(arguments), arguments["settings"], guarantee)
    execution = execution_of(arguments, [*(arms.agents or ()), *arms.measures, config.platform.model])
    study = planned(folder_for(arguments["out"], config.name), config, {}, arms, execution)
    return run(study, arguments["command"] or "rimsim.scenarios.compare", execution)


@study_arguments(ledger=False)
def sweep(
    scenario: str | Path | ScenarioConfig = "closed-loop",
    grid: Mapping[str, Sequence[object]] | None = None,
    agents: object | None = None,
    rounds: int | None = None,
    seeds: int | Sequence[int] = 3,
    *,
    beta: Sequence[float] | None = None,
    guarantee: Mapping[str, ShareArgument] | None = None,
    control: Sequence[str] | None = None,
    **options: Unpack[StudyArguments],
) -> Run:
    """Compare agents at every point of a grid of settings.

    Errors that are not listed here are those of :func:`rimsim.scenarios.compare`.

    Args:
        scenario: As for ``compare``.
        grid: Dotted field → its values; every combination is a point. The default grid has values of β from 0 to 1.
        agents: As for ``compare``; None: the default agents that all points share.
        rounds: As for ``compare``.
        seeds: As for ``compare``.
        beta: Values of ``exposure.beta``, as a field of the grid.
        guarantee: As for ``compare``; several shares of a column are varied, as in ``{"seller": (0.3, 0.5)}``.
        control: Kinds of controls. The default is ``frozen`` if agents are given in ``frozen``, else no controls.
        **options: Keys of :class:`rimsim.scenarios.study.arguments.StudyArguments`.

    Returns:
        The sweep, whose table ``sweep`` has a column for each swept field.

    Raises:
        ConfigError: If the grid or another argument is invalid; then nothing is written.
    """
    arguments = completed(sweep, options)
    settings = arguments["settings"]
    arms = arms_of(arguments, agents, seeds, control)
    base = checks.resolved(scenario, rounds, log_of(arguments), settings, guarantee)
    has_grid = grid is not None or beta is not None
    swept = _with_beta(grid, beta, settings) if has_grid else default_grid(guarantee)
    varied = checks.grid_with(swept, guarantee)
    points = {name: [session_model(value) for value in values] for name, values in varied.items()}
    point_values = [str(value) for values in points.values() for value in values]
    places = [*point_values, *(arms.agents or ()), *arms.measures, base.platform.model]
    execution = execution_of(arguments, places)
    study = planned(folder_for(arguments["out"], f"{base.name}-sweep"), base, points, arms, execution)
    return run(study, arguments["command"] or "rimsim.scenarios.sweep", execution)


def _with_beta(
    grid: Mapping[str, Sequence[object]] | None,
    beta: Sequence[float] | None,
    settings: Mapping[str, object] | None,
) -> Mapping[str, Sequence[object]]:
    """Grid of a sweep, with the values of ``beta``."""
    if beta is not None and BETA in (grid or {}):
        raise ConfigError(
            f"beta and grid[{BETA!r}] set the same field. Give all of its values in one of them"
        )
    fields = dict(grid or {}) if beta is None else {**(grid or {}), BETA: list(beta)}
    for name in fields.keys() & (settings or {}).keys():
        raise ConfigError(f"grid[{name!r}] and settings[{name!r}] set the same field. Give only one of them")
    return fields or BETAS


def resume(
    folder: str | Path,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    backend: str = "local",
    address: str | None = None,
    progress: bool | None = None,
    console: Console | None = None,
) -> Run:
    """Resume an interrupted comparison, sweep or payback map.

    Complete arms are kept, and all other arms continue after their last finished round. The tables equal those of an
    uninterrupted run.

    Args:
        folder: The run folder.
        batch_size: Largest number of arrivals per batch. Options from ``batch_size`` on may differ from those of the
            interrupted run.
        workers: Number of parallel arms; None: one per core.
        backend: ``local`` or ``ray``.
        address: Address of a Ray cluster; None: a local cluster is started.
        progress: Show progress bars; None: in an interactive terminal or a notebook.
        console: Console of the progress bars; None: the standard output.

    Raises:
        ConfigError: If workers or backend are not valid, or cannot be used together.
        RunFolderError: If the folder is in use or holds no such run, or if the run began with another version, config,
            log or agent.
        ArmsError: If arms failed.
    """
    execution = Execution(
        batch_size=batch_size,
        workers=workers,
        backend=backend,
        address=address,
        console=bar_console(console, show=progress),
    )
    begun = load_run(folder)
    if store.resume_command(begun) is None:
        # This refuses the run, and its message names the command that repeats it.
        load_run(folder, "comparison")
    if begun.kind == "payback":
        # No other run needs this module, which loads models.
        from rimsim.scenarios.kinds.payback import resume_payback  # noqa: PLC0415

        return resume_payback(begun, execution)
    return resume_study(begun, execution)


def resume_study(begun: Run, execution: Execution) -> Run:
    """Resume a comparison or sweep.

    Raises:
        RunFolderError: If the folder is in use, or an input has changed.
        ArmsError: If arms failed.
    """
    study = study_of(begun)
    remaining = unfinished(study)
    if not remaining and (not study.grid or (begun.folder / "sweep.parquet").is_file()):
        return begun
    for plan in remaining:
        require_unchanged(RunFolder.open(plan.point.folder))
        require_parts(RunFolder.open(plan.point.folder))
    with executor(execution) as run_jobs, locked(begun.folder), resumable(begun.folder):
        return finish(study, execution, run_jobs)
