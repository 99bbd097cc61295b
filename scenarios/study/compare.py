"""Comparisons and sweeps: plan, run, resume and join.

A comparison is a sweep of one point, which lies in the run folder itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import pandas as pd
from rich.console import Console

from rimsim.arrays import Floats
from rimsim.config import ScenarioConfig, at_seed, to_plain
from rimsim.config.fields import duration_seconds
from rimsim.data import EventLog
from rimsim.data.session_logs import LogSource
from rimsim.errors import ArmsError, ConfigError, RimsimError, many, one_line, require_known
from rimsim.market import build_world
from rimsim.market.fitness import READER, fitness
from rimsim.market.fitted import truth_bootstrap
from rimsim.market.world import check_plugs, check_promises, expected_arrivals, own_places, shared_log
from rimsim.measures import MEASURES, Measure, own_measures, records, try_measures
from rimsim.plugs import own_code
from rimsim.scenarios.report.charts import draw
from rimsim.scenarios.report.comparison import comparison_answer, comparison_plots
from rimsim.scenarios.report.loop import parts_by_seed
from rimsim.scenarios.report.sweep import sweep_matrix, sweep_table
from rimsim.scenarios.run import Run, load_run
from rimsim.scenarios.runs import process, store
from rimsim.scenarios.runs.arms import Arm, StudyOptions, chosen_seeds, control_name, is_done
from rimsim.scenarios.runs.checkpoint import open_round
from rimsim.scenarios.runs.execution import Execution, Executor, Stage, executor, run_stages
from rimsim.scenarios.runs.files import disk_errors, read_table, write_table, write_text, write_yaml
from rimsim.scenarios.runs.locks import folder_for, locked, require_free
from rimsim.scenarios.runs.process import errors_of_interrupts
from rimsim.scenarios.runs.progress import bar_console
from rimsim.scenarios.runs.records import catalogue_table, load_facts, user_table, versions
from rimsim.scenarios.runs.status import BETA, POINTS, StudyPoint, is_finished, points_of, require_parts
from rimsim.scenarios.runs.store import RunFolder
from rimsim.scenarios.runs.workers import LostWorkerError
from rimsim.scenarios.study import checks
from rimsim.scenarios.study.controls import checked_controls, waits
from rimsim.scenarios.study.play import prepare, run_arm
from rimsim.session import session_model, session_places
from rimsim.system import cache_folder, cores, give_back
from rimsim.tracking import RETRAINED, write_about, write_summary

BETAS: dict[str, tuple[float, ...]] = {BETA: (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)}
"""Default grid of a sweep."""


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
    texts = None if agents is None else session_places(agents)
    measure_places = session_places(measures, copied=False)
    log = checks.LogArguments(
        data, columns, separator, encoding, time_unit, skip_bad_rows, min_item_events, items
    )
    config = checks.resolved(scenario, rounds, log, settings, guarantee)
    workers = checks.session_workers(
        [*(texts or ()), *measure_places, config.platform.model], workers, backend
    )
    execution = Execution(batch_size, workers, backend, address, bar_console(console, show=progress))
    options = StudyOptions(
        texts, frozen, control, seeds, certify, ledger, reveal, measure_places, checks.listed(groups)
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
    texts = None if agents is None else session_places(agents)
    measure_places = session_places(measures, copied=False)
    log = checks.LogArguments(
        data, columns, separator, encoding, time_unit, skip_bad_rows, min_item_events, items
    )
    base = checks.resolved(scenario, rounds, log, settings, checks.first_shares(guarantee))
    has_grid = grid is not None or beta is not None
    swept = _with_beta(grid, beta, settings) if has_grid else default_grid(guarantee)
    varied = checks.grid_with(swept, guarantee)
    points = {name: [session_model(value) for value in values] for name, values in varied.items()}
    objects = [str(value) for values in points.values() for value in values]
    objects += [*(texts or ()), *measure_places, base.platform.model]
    execution = Execution(
        batch_size,
        checks.session_workers(objects, workers, backend),
        backend,
        address,
        bar_console(console, show=progress),
    )
    options = StudyOptions(
        texts, frozen, control, seeds, certify, ledger, reveal, measure_places, checks.listed(groups)
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
    """Resume an interrupted comparison or sweep.

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
    execution = Execution(batch_size, workers, backend, address, bar_console(console, show=progress))
    begun = load_run(folder)
    if store.resume_command(begun) is None:
        load_run(folder, "comparison")  # refuses, and names the command that repeats it
    study = study_of(begun)
    unfinished = _unfinished(study)
    if not unfinished and (not study.grid or (begun.folder / "sweep.parquet").is_file()):
        return begun
    for plan in unfinished:
        checks.require_unchanged(RunFolder.open(plan.point.folder))
        require_parts(RunFolder.open(plan.point.folder))
    with executor(execution) as run_jobs, locked(begun.folder), _resumable(begun.folder):
        return _finish(study, execution, run_jobs)


# -- plans ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class StudyPlan:
    """Arms of a run folder."""

    point: StudyPoint
    """Point of the sweep: its scenario and its run folder."""
    options: StudyOptions
    """Options without defaults to fill in: each is a tuple or a flag."""
    names: tuple[str, ...]
    """Names of arms in tables: of the agents, then of the controls of each agent."""
    measures: Mapping[str, Measure] = field(default_factory=dict)
    """Place of one of the user's own measures → the measure."""

    @property
    def arms(self) -> list[Arm]:
        """Arms at each seed: every agent, then the controls."""
        options = self.options
        point = self.point
        played: list[tuple[str, str | None]] = [(agent, None) for agent in options.agents or ()]
        played += [(agent, control) for agent in options.frozen or () for control in options.control or ()]
        arm = partial(Arm, folder=point.folder, options=options, labels=point.labels, shared=point.study)
        return [
            arm(config=at_seed(point.config, seed), agent=agent, name=name, seed=seed, control=control)
            for seed in chosen_seeds(options.seeds)
            for (agent, control), name in zip(played, self.names, strict=True)
        ]


@dataclass(frozen=True)
class Study:
    """A comparison or a sweep with plans of its points."""

    folder: Path
    """The run folder."""
    base: ScenarioConfig
    """The scenario; the points of a sweep replace some of its fields."""
    grid: Mapping[str, Sequence[object]]
    """Dotted field → values that are swept; empty: a comparison."""
    plans: tuple[StudyPlan, ...]
    """Plan of each point; a comparison has one."""


def planned(
    folder: Path,
    base: ScenarioConfig,
    grid: Mapping[str, Sequence[object]],
    options: StudyOptions,
    execution: Execution | None = None,
) -> Study:
    """Checked plans of a sweep, or of a comparison (no grid).

    With ``execution``, a run that exceeds the memory of this machine is refused.

    Raises:
        ConfigError: If grid, agents, model or seeds are not valid, the slate exceeds the catalogue, or the run exceeds
            the memory.
        MeasureError: If a measure cannot be computed.
        DataError: If the log cannot be read.
        RunFolderError: If the cache cannot be written to.
    """
    grid = {name: list(values) for name, values in grid.items()}
    points = points_of(folder, base, grid)
    controls = options.control
    if controls is None:
        controls = ("frozen",) if options.frozen or not grid else ()
    options = replace(options, control=controls, frozen=options.frozen if controls or not grid else [])
    texts = options.agents
    if texts is None:  # defaults contain one another: the shortest can play at every point
        texts = min((checks.default_agents(point.config) for point in points), key=len)
    seeds = chosen_seeds(options.seeds)
    measures = own_measures(options.measures)
    require_known("reveal: {}", options.reveal, checks.REVEALED)
    agents = checks.checked_agents(texts)
    of_points = [checks.checked_frozen(point.config, agents, options.frozen) for point in points]
    for point in points:
        checks.check_audience(point.config, agents)
        check_plugs(point.config)
    if execution is not None:
        n_arms = len(texts) + max(len(frozen) for frozen in of_points) * len(controls)
        if (need := _memory(points, n_arms * len(seeds), execution)) is not None:
            process.require_memory(*need, "arrivals.per_round or number of events (data)")
    plans = []
    for point, frozen in zip(points, of_points, strict=True):
        with disk_errors(cache_folder()):
            world = build_world(point.config)  # a bad log or slate is refused before anything is written
        checks.require_groups(point.config, options.groups)
        try_measures(measures, world.log.items, point.config.slate)
        checked = checked_controls(point.config if frozen else None, controls)
        names = [agents[text].name for text in texts]
        names += [control_name(agents[text].name, control) for text in frozen for control in checked]
        settled = replace(
            options,
            agents=tuple(texts),
            frozen=frozen,
            control=checked,
            seeds=seeds,
            reveal=tuple(options.reveal),
            groups=tuple(options.groups),
            measures=tuple(measures),
        )
        plans.append(StudyPlan(point, settled, tuple(names), measures))
    return Study(folder, base, grid, tuple(plans))


def study_of(run: RunFolder) -> Study:
    """Study that a run folder was begun with."""
    grid = run.config.get("sweep", {})
    plans = []
    for point in points_of(run.folder, run.scenario, grid):
        begun = RunFolder.open(point.folder)
        plans.append(
            StudyPlan(
                point,
                StudyOptions(**StudyOptions.of(begun.config)),
                tuple(begun.agents),
                begun.own_measures,
            )
        )
    return Study(run.folder, run.scenario, grid, tuple(plans))


def study_lines(study: Study, execution: Execution) -> list[tuple[str, str]]:
    """Arms, rounds, arrivals and memory of a study, as text."""
    first = study.plans[0]
    points = [plan.point for plan in study.plans]
    arms = [arm for plan in study.plans for arm in plan.arms]
    of_config = {config: expected_arrivals(config) for config in dict.fromkeys(arm.config for arm in arms)}
    each = of_config[arms[0].config] / study.base.rounds
    total = sum(of_config[arm.config] for arm in arms)
    need = _memory(points, len(arms) // len(points), execution)
    log = build_world(points[0].config).log
    lines = [
        ("log", f"{many(len(log), 'event')} of {many(log.n_users, 'user')} with {many(log.n_items, 'item')}"),
        ("arms", ", ".join(first.names)),
        (
            "rounds",
            f"{study.base.rounds}, with seeds {', '.join(map(str, chosen_seeds(first.options.seeds)))}",
        ),
        ("arrivals", f"about {each:,.0f} per round; {total:,} in {len(arms)} arms and seeds"),
        ("folder", f"{study.folder} (not written)"),
    ]
    if study.grid:
        lines.insert(3, ("points", ", ".join(point.folder.name for point in points)))
    if need is not None:
        main, worker, workers = need
        memory_gb = (max(main, worker) if workers == 1 else main + workers * worker) / 1e9
        lines.append(("memory", f"about {memory_gb:.1f} GB with {workers} worker{'s' * (workers > 1)}"))
    return lines


def _memory(points: Sequence[StudyPoint], arms: int, execution: Execution) -> tuple[float, float, int] | None:
    """Memory of first process and per worker; number of workers."""
    if execution.backend != "local":
        return None  # the memory of other machines is not known
    each = 0.0
    for data in dict.fromkeys(point.config.data for point in points):
        configs = [point.config for point in points if point.config.data == data]
        log = shared_log(configs[0])
        n_arrivals = max(_arrivals(config, log) for config in configs)
        each = max(each, process.log_bytes(log) + process.state_bytes(n_arrivals, log.n_items))
    return each + process.MAIN, each, min(execution.workers or cores(), arms * len(points))


def _arrivals(config: ScenarioConfig, log: EventLog) -> int:
    """Number of arrivals per round, configured or from the log."""
    if config.arrivals.per_round is not None:
        return config.arrivals.per_round
    first = float(log.time[0])
    last = float(log.time[-1])
    opening = first + config.arrivals.warmup_share * (last - first)
    later = int((log.sessions(config.data.session_gap).start >= opening).sum())
    return max(1, round(later / config.rounds))


# -- a run ------------------------------------------------------------------------------------------------------------
def run(study: Study, command: str, execution: Execution) -> Run:
    """Carry out a comparison or sweep that has been checked."""
    if not (study.folder / store.CONFIG).exists():  # else it may be in use, which the lock reports
        require_free(study.folder)
    for plan in study.plans:
        with own_code(own_places(plan.point.config)):
            check_promises(plan.point.config, plan.arms[0].seed)
    checks.print_notes(
        [plan.point.config for plan in study.plans], execution.console, study.plans[0].options.agents or ()
    )
    with executor(execution) as run_jobs, locked(study.folder), _resumable(study.folder):
        require_free(study.folder)
        for plan in study.plans:
            place = plan.point.folder
            if study.grid and (place / store.CONFIG).is_file() and not (place / "rounds").exists():
                shutil.rmtree(place)  # a sweep was interrupted while its points were begun
            begin(plan, command)
        if study.grid:
            described = _described(study.plans[0], command, study.base) | {"sweep": dict(study.grid)}
            write_yaml(study.folder / store.CONFIG, described)
        return _finish(study, execution, run_jobs)


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Context manager in which interruptions name the command that resumes."""
    try:
        with errors_of_interrupts():
            yield
    except KeyboardInterrupt:
        if not (folder / store.CONFIG).is_file():
            raise
        command = store.resume_command(RunFolder.open(folder))
        raise KeyboardInterrupt(f"finished rounds are saved in {folder}. To continue:\n  {command}") from None


def _unfinished(study: Study) -> list[StudyPlan]:
    return [plan for plan in study.plans if not is_finished(RunFolder(plan.point.folder))]


def _finish(study: Study, execution: Execution, run_jobs: Executor) -> Run:
    """Run the unfinished arms of all points; join their tables."""
    unfinished = _unfinished(study)
    arms = [arm for plan in unfinished for arm in plan.arms]
    failures = _run_arms(arms, run_jobs, execution)
    notes = [
        gather(plan, [(arm, error) for arm, error in failures if arm.folder == plan.point.folder])
        for plan in unfinished
    ]
    if failures:
        text = "".join(f"\n  {note}" for note in notes if note is not None)
        traceback_folder = (
            study.folder / POINTS / "*" / store.FAILURES if study.grid else study.folder / store.FAILURES
        )
        raise ArmsError(
            f"{_failures_text(failures, len(arms))}{text}\ntracebacks: {traceback_folder}/", str(study.folder)
        )
    finished_run = load_run(study.folder)
    if study.grid:
        shutil.rmtree(study.folder / store.STATES, ignore_errors=True)
        table = sweep_table(finished_run)
        write_table(study.folder / "sweep.parquet", table)
        matrix = sweep_matrix(table, finished_run.scenario.exposure.unit)
        if not matrix.empty:
            write_table(study.folder / "matrix.parquet", matrix)
        finished_run.draw()
    return finished_run


def begin(plan: StudyPlan, command: str) -> None:
    """Write the config of a plan into its folder."""
    folder = plan.point.folder
    config = plan.point.config
    require_free(folder)
    world = build_world(config)
    described = _described(plan, command, config) | {
        "truth": None if world.truth is None else asdict(world.truth.report),
        "fitness": None if world.truth is None else _fitness_entry(world.log, config, world.truth.item_bias),
        "log": load_facts(world.log),
        "notes": checks.notes_of(config, plan.options.agents or ()),
        "digests": checks.digests(config, (*(plan.options.agents or ()), *plan.measures)),
    }
    write_table(folder / store.CATALOGUE, catalogue_table(world.log.items, world.past.item))
    write_table(folder / store.USERS, user_table(world.log.users))
    for name in (store.BEGUN, store.CONFIG):
        write_yaml(folder / name, described)


def _fitness_entry(log: EventLog, config: ScenarioConfig, item_bias: Floats) -> dict[str, object]:
    """Entry of a config on the fitness of its truth."""
    consumer = config.consumer
    verdict = fitness(
        log,
        gap=duration_seconds(config.data.session_gap),
        kind=consumer.truth,
        rank=consumer.rank,
        bootstrap=truth_bootstrap(consumer),
        item_bias=item_bias,
    )
    entry: dict[str, object] = READER.dump_python(verdict, mode="json")
    return entry


def _described(plan: StudyPlan, command: str, config: ScenarioConfig) -> dict[str, object]:
    """Entries of a config, without entries about the log."""
    return {
        "command": command,
        "arms": list(plan.names),
        **plan.options.entries(),
        "measures": records(plan.measures),
        "scenario": to_plain(config),
        "versions": versions(),
    }


def _run_arms(arms: Sequence[Arm], run: Executor, execution: Execution) -> list[tuple[Arm, RimsimError]]:
    """Failed arms with their errors, after all arms ran."""
    if not arms:
        return []
    unfinished = [arm for arm in arms if not is_done(arm.folder, arm.part)]
    fits = list({(arm.config, arm.seed): arm for arm in unfinished}.values())
    arrivals = {config: expected_arrivals(config) for config in dict.fromkeys(arm.config for arm in arms)}
    job = partial(run_arm, batch_size=execution.batch_size)
    stages = [Stage("fitting the platform's model", prepare, fits, len(fits))]
    for stage_arms in _stages(arms):
        # A complete arm reports nothing, but controls may wait for it.
        total = sum(arrivals[arm.config] for arm in stage_arms if not is_done(arm.folder, arm.part))
        stages.append(Stage("arrivals served", job, stage_arms, total, vital=False))
    return [(arm, _with_round(arm, error)) for arm, error in run_stages(stages, run, execution.console)]


def _stages(arms: Sequence[Arm]) -> list[list[Arm]]:
    """Arms that can run side by side, stage by stage.

    A sweep runs all points at the first seed before the next seed, so that an interrupted sweep is already readable.
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
    """Error that names the round if a worker died."""
    if not isinstance(error, LostWorkerError):
        return error
    return LostWorkerError(f"agent {arm.name!r} in round {open_round(arm)}: {error}")


def gather(plan: StudyPlan, failures: Sequence[tuple[Arm, RimsimError]]) -> str | None:
    """Join complete arms' tables, draw pictures; return a failure's reason.

    If arms failed, the parts of tables are kept, so that the run can be resumed.
    """
    folder = plan.point.folder
    names = plan.names
    give_back()
    if not failures:
        _join(folder, names, keep_parts=False)
        return None
    for arm, error in failures:
        traceback_file = arm.folder / store.FAILURES / f"{arm.part}.txt"
        with suppress(OSError):  # on a full disk nothing more can be left
            if not traceback_file.is_file():  # its process died before it could write
                write_text(traceback_file, f"{error}\n")
    if len(failures) < len(plan.arms):
        try:
            _join(folder, names, keep_parts=True)
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not hide why the arms failed
            return f"the other arms are complete, but not drawn: {type(error).__name__}: {one_line(error)}"
    return None


def _failures_text(failures: Sequence[tuple[Arm, RimsimError]], arms: int) -> str:
    """Failed arms and their errors, a line per arm."""
    lines = sorted(
        (
            ", ".join([arm.name, *(f"{field}={value}" for field, value in arm.labels)]),
            arm.seed,
            one_line(error),
        )
        for arm, error in failures
    )
    text = "".join(f"\n  {arm_text}, seed {seed}: {error}" for arm_text, seed, error in lines)
    return f"{len(failures)} of {arms} arms failed:{text}"


def _join(folder: Path, names: Sequence[str], *, keep_parts: bool) -> None:
    """Join the arms' tables in a fixed order; draw pictures."""
    tables = [read_table(path) for path in sorted((folder / "rounds").glob("*.parquet"))]
    rounds = pd.concat(tables, ignore_index=True)
    rank = rounds["agent"].map({name: n for n, name in enumerate(names)})
    rounds = rounds.assign(_rank=rank).sort_values(["_rank", "seed", "round", "metric"], kind="stable")
    rounds = rounds.drop(columns="_rank").reset_index(drop=True)
    run = RunFolder(folder)
    retrained = (*RETRAINED, *(name for name in run.measures if name not in MEASURES))
    parts = parts_by_seed(rounds, list(rounds["agent"].unique()), retrained)
    write_summary(folder, rounds, measures=run.measures, parts=parts)
    drawn = draw(comparison_plots(run), folder / "pictures")
    write_about(folder, _texts(run, rounds), drawn, run.measures)
    if not keep_parts:  # with arms missing, the run can still be resumed
        write_table(folder / "rounds.parquet", rounds)
        shutil.rmtree(folder / "rounds")
        shutil.rmtree(folder / store.STATES)


def _texts(run: RunFolder, rounds: pd.DataFrame) -> dict[str, str]:
    """Texts of a run for TensorBoard."""
    present = set(rounds["agent"])
    answer = comparison_answer(run, rounds, [name for name in run.agents if name in present])
    settings = (run.folder / store.CONFIG).read_text(encoding="utf-8")
    return {
        "answer": "\n\n".join(answer),
        "command": f"```\n{store.repeat_command(run)}\n```",
        "settings": f"```\n{settings}```",
    }
