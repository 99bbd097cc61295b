"""Comparisons and sweeps: plan, run, resume and join.

A comparison is a sweep of one point, which lies in the run folder itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from rimsim.config import ScenarioConfig
from rimsim.data.session_logs import LogSource
from rimsim.errors import ConfigError
from rimsim.scenarios.kinds.registry import KINDS, loaded
from rimsim.scenarios.run import Run, load_run
from rimsim.scenarios.runs import store
from rimsim.scenarios.runs.arms import StudyOptions
from rimsim.scenarios.runs.execution import Execution, executor
from rimsim.scenarios.runs.locks import folder_for, locked
from rimsim.scenarios.runs.points import BETA
from rimsim.scenarios.runs.progress import bar_console
from rimsim.scenarios.runs.status import require_parts
from rimsim.scenarios.runs.store import RunFolder
from rimsim.scenarios.study import checks
from rimsim.scenarios.study.plan import planned, study_of
from rimsim.scenarios.study.repetition import require_unchanged
from rimsim.scenarios.study.runner import finish, resumable, run, unfinished
from rimsim.session import session_model, session_places

BETAS: dict[str, tuple[float, ...]] = {BETA: (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)}
"""Field that a sweep varies by default → its values."""


def default_grid(guarantee: Mapping[str, float | Sequence[float]] | None) -> dict[str, tuple[float, ...]]:
    """Default grid of a sweep with given guarantees."""
    return {} if checks.grid_with({}, guarantee) else dict(BETAS)


def compare(
    scenario: str | Path | ScenarioConfig = "closed-loop",
    agents: object | None = None,
    rounds: int | None = None,
    seeds: int | Sequence[int] = 2,
    *,
    data: LogSource | None = None,
    columns: str | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    time_unit: str | None = None,
    skip_bad_rows: bool | None = None,
    min_item_events: int | None = None,
    items: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
    guarantee: Mapping[str, float] | None = None,
    groups: str | Sequence[str] = (),
    measures: object = (),
    frozen: Sequence[str] | None = None,
    control: Sequence[str] = ("frozen",),
    out: str | Path | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    backend: str = "local",
    address: str | None = None,
    certify: bool = True,
    ledger: bool = True,
    reveal: Sequence[str] = (),
    command: str | None = None,
    progress: bool | None = None,
    console: Console | None = None,
) -> Run:
    """Compare agents in a scenario, with common random numbers.

    Args:
        scenario: Name of a built-in scenario, path of a YAML file, or a ``ScenarioConfig``.
        agents: Texts for :func:`rimsim.agents.make_agent`, such as ``relevance`` or ``my_agent.py:Mine``, or a single
            text. Agents and classes of this session are also possible, with one worker. None:
            :func:`rimsim.scenarios.study.checks.default_agents`.
        rounds: Number of rounds, in place of the scenario's number.
        seeds: Number of seeds, from 0, or a list.
        data: Replaces ``data.source``: a name, a path, a data frame (pandas, Polars, Arrow) with columns user, item and
            time, or an ``EventLog``.
        columns: Columns of the log, such as ``user=uid,item=sku,time=at``; None: the scenario's, or the usual names.
        separator: Separator of a text log; None: the scenario's, or detected.
        encoding: Encoding of a text log; None: the scenario's, or UTF-8.
        time_unit: Unit of times that are numbers, such as ``ms`` or ``min``; None: the scenario's, or found.
        skip_bad_rows: Leave bad rows of the log out, and count them; None: as the scenario says.
        min_item_events: Minimum number of events per item; None: the scenario's.
        items: Table of items, a CSV or Parquet file; None: the scenario's, or the log's own.
        settings: Other fields to replace, by dotted name; a model may be an object of this session, with one worker.
        guarantee: Column of the log's items → guaranteed share of the uniform exposure of each of its groups, such as
            ``{"seller": 0.5}``. Single items then have no guarantee, unless ``settings`` names ``exposure.beta``.
        groups: Columns whose groups are reported without a guarantee, or a single column.
        measures: Your own measures in addition to the built-in ones, such as ``my_measure.py:freshness``. Objects of
            this session are also possible, with one worker.
        frozen: Agents that also get controls. Scenarios that retrain default to ``relevance`` or the first agent.
        control: Kinds of controls. ``frozen`` never retrains. ``organic`` and ``random`` retrain on as many events as
            the agent had: ``organic`` on events of the log, ``random`` on events of uniformly random slates.
        out: The run folder; None: ``runs/<scenario>-<time>``.
        batch_size: Largest number of arrivals per batch; results do not depend on it.
        workers: Number of parallel arms; None: one per core. Results do not depend on the number of workers.
        backend: ``local`` uses processes of this machine; ``ray`` (an extra) uses tasks on Ray, with equal results.
        address: Address of a Ray cluster, ``auto`` or ``host:port``; None: a local cluster is started for the run.
        certify: Compute certificates (value V, bound D(w), gap) of every round.
        ledger: Write the ledger.
        reveal: ``truth`` writes the true worth of each exposure, which agents never see.
        command: The command line, to be recorded.
        progress: Show progress bars; None: in an interactive terminal or a notebook.
        console: Console of the progress bars; None: the standard output.

    Returns:
        The run, with its tables.

    Raises:
        ConfigError: If scenario, agents, measures, seeds, workers or backend is invalid; then nothing is written.
        MeasureError: If a measure cannot be computed; nothing has been written then.
        DataError: If the log cannot be read.
        ArmsError: If arms failed; all other arms are complete.
        RunFolderError: If the folder is in use or holds another run.
    """
    agent_places = None if agents is None else session_places(agents)
    measure_places = session_places(measures, copied=False)
    log = checks.LogArguments(
        data=data,
        columns=columns,
        separator=separator,
        encoding=encoding,
        time_unit=time_unit,
        skip_bad_rows=skip_bad_rows,
        min_item_events=min_item_events,
        items=items,
    )
    config = checks.resolved(scenario, rounds, log, settings, guarantee)
    workers = checks.session_workers(
        [*(agent_places or ()), *measure_places, config.platform.model], workers, backend
    )
    execution = Execution(
        batch_size=batch_size,
        workers=workers,
        backend=backend,
        address=address,
        console=bar_console(console, show=progress),
    )
    options = StudyOptions(
        agents=agent_places,
        frozen=frozen,
        control=control,
        seeds=seeds,
        certify=certify,
        ledger=ledger,
        reveal=reveal,
        measures=measure_places,
        groups=checks.listed(groups),
    )
    study = planned(folder_for(out, config.name), config, {}, options, execution)
    return run(study, command or "rimsim.scenarios.compare", execution)


def sweep(
    scenario: str | Path | ScenarioConfig = "closed-loop",
    grid: Mapping[str, Sequence[object]] | None = None,
    agents: object | None = None,
    rounds: int | None = None,
    seeds: int | Sequence[int] = 2,
    *,
    beta: Sequence[float] | None = None,
    data: LogSource | None = None,
    columns: str | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    time_unit: str | None = None,
    skip_bad_rows: bool | None = None,
    min_item_events: int | None = None,
    items: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
    guarantee: Mapping[str, float | Sequence[float]] | None = None,
    groups: str | Sequence[str] = (),
    measures: object = (),
    frozen: Sequence[str] | None = None,
    control: Sequence[str] | None = None,
    out: str | Path | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    backend: str = "local",
    address: str | None = None,
    certify: bool = True,
    ledger: bool = False,
    reveal: Sequence[str] = (),
    command: str | None = None,
    progress: bool | None = None,
    console: Console | None = None,
) -> Run:
    """Compare agents at every point of a grid of settings.

    Parameters and errors that are not listed here are those of :func:`rimsim.scenarios.compare`.

    Args:
        scenario: Name of a built-in scenario, path of a YAML file, or a ``ScenarioConfig``.
        grid: Dotted field → its values; every combination is a point. The default grid has values of β from 0 to 1.
        agents: Texts for :func:`rimsim.agents.make_agent`; None: the default agents that all points share.
        beta: Values of ``exposure.beta``, as a field of the grid.
        settings: Other fields to replace at every point, by dotted name.
        guarantee: As for ``compare``; several shares of a column are varied, as in ``{"seller": (0.3, 0.5)}``.
        control: Kinds of controls. The default is ``frozen`` if agents are given in ``frozen``, else no controls.
        out: The folder; None: ``runs/<scenario>-sweep-<time>``. Each point has a run folder of its own below
            ``points/``.
        ledger: Write the ledgers of all points.

    Returns:
        The sweep, whose table ``sweep`` has a column for each swept field.

    Raises:
        ConfigError: If the grid or another option is invalid; then nothing is written.
    """
    agent_places = None if agents is None else session_places(agents)
    measure_places = session_places(measures, copied=False)
    log = checks.LogArguments(
        data=data,
        columns=columns,
        separator=separator,
        encoding=encoding,
        time_unit=time_unit,
        skip_bad_rows=skip_bad_rows,
        min_item_events=min_item_events,
        items=items,
    )
    base = checks.resolved(scenario, rounds, log, settings, checks.first_shares(guarantee))
    has_grid = grid is not None or beta is not None
    swept = _with_beta(grid, beta, settings) if has_grid else default_grid(guarantee)
    varied = checks.grid_with(swept, guarantee)
    points = {name: [session_model(value) for value in values] for name, values in varied.items()}
    objects = [str(value) for values in points.values() for value in values]
    objects += [*(agent_places or ()), *measure_places, base.platform.model]
    execution = Execution(
        batch_size=batch_size,
        workers=checks.session_workers(objects, workers, backend),
        backend=backend,
        address=address,
        console=bar_console(console, show=progress),
    )
    options = StudyOptions(
        agents=agent_places,
        frozen=frozen,
        control=control,
        seeds=seeds,
        certify=certify,
        ledger=ledger,
        reveal=reveal,
        measures=measure_places,
        groups=checks.listed(groups),
    )
    study = planned(folder_for(out, f"{base.name}-sweep"), base, points, options, execution)
    return run(study, command or "rimsim.scenarios.sweep", execution)


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
    resumed: Run = loaded(KINDS[begun.kind].resume)(begun, execution)
    return resumed


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
