"""Plans of comparisons and sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from rimsim.config import ScenarioConfig, at_seed
from rimsim.data import EventLog
from rimsim.errors import many, require_known
from rimsim.market import build_world
from rimsim.market.world import check_plugs, expected_arrivals, shared_log
from rimsim.measures import Measure, own_measures, try_measures
from rimsim.scenarios.runs import memory
from rimsim.scenarios.runs.arms import Arm, StudyOptions, chosen_seeds, control_name
from rimsim.scenarios.runs.execution import Execution
from rimsim.scenarios.runs.files import disk_errors
from rimsim.scenarios.runs.points import StudyPoint, points_of
from rimsim.scenarios.runs.store import RunFolder
from rimsim.scenarios.study import checks
from rimsim.scenarios.study.controls import checked_controls
from rimsim.system import cache_folder, cores


@dataclass(frozen=True)
class StudyPlan:
    """Arms of a run folder."""

    point: StudyPoint
    """Scenario and run folder of one point of the sweep."""
    options: StudyOptions
    """Options with their defaults filled in: each is a tuple or a flag."""
    names: tuple[str, ...]
    """Names of arms in tables: first of the agents, then of each agent's controls."""
    measures: Mapping[str, Measure] = field(default_factory=dict)
    """Address of one of the user's own measures, such as ``file.py:name`` → the measure."""

    @property
    def arms(self) -> list[Arm]:
        """Arms at each seed: every agent, then the controls."""
        options = self.options
        point = self.point
        agents_and_controls: list[tuple[str, str | None]] = [(agent, None) for agent in options.agents or ()]
        agents_and_controls += [
            (agent, control) for agent in options.frozen or () for control in options.control or ()
        ]
        arm = partial(Arm, folder=point.folder, options=options, labels=point.labels, shared=point.study)
        return [
            arm(config=at_seed(point.config, seed), agent=agent, name=name, seed=seed, control=control)
            for seed in chosen_seeds(options.seeds)
            for (agent, control), name in zip(agents_and_controls, self.names, strict=True)
        ]


@dataclass(frozen=True)
class Study:
    """A comparison or a sweep with plans of its points."""

    folder: Path
    """The run folder."""
    base: ScenarioConfig
    """Scenario of the study. The points of a sweep replace some of its fields."""
    grid: Mapping[str, Sequence[object]]
    """Dotted name of a field → its values in the sweep; empty: the study is a comparison."""
    plans: tuple[StudyPlan, ...]
    """Plan of each point; a comparison has one point."""


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
    controls = _controls(options, is_sweep=bool(grid))
    options = replace(options, control=controls, frozen=options.frozen if controls or not grid else [])
    agent_texts = options.agents
    # Each list of default agents contains the shorter ones. So the agents of the shortest list can play at every point.
    if agent_texts is None:
        agent_texts = min((checks.default_agents(point.config) for point in points), key=len)
    seeds = chosen_seeds(options.seeds)
    measures = own_measures(options.measures)
    require_known("reveal: {}", options.reveal, checks.REVEALED)
    agents = checks.checked_agents(agent_texts)
    frozen_of_points = [checks.checked_frozen(point.config, agents, options.frozen) for point in points]
    for point in points:
        checks.check_audience(point.config, agents)
        check_plugs(point.config)
    if execution is not None:
        n_arms = len(agent_texts) + max(len(frozen) for frozen in frozen_of_points) * len(controls)
        _require_memory(points, n_arms * len(seeds), execution)
    plans = []
    for point, frozen in zip(points, frozen_of_points, strict=True):
        with disk_errors(cache_folder()):
            # This refuses a bad log or slate before anything is written.
            world = build_world(point.config)
        checks.require_groups(point.config, options.groups)
        try_measures(measures, world.log.items, point.config.slate)
        point_controls = checked_controls(point.config if frozen else None, controls)
        names = [agents[text].name for text in agent_texts]
        names += [control_name(agents[text].name, control) for text in frozen for control in point_controls]
        point_options = replace(
            options,
            agents=tuple(agent_texts),
            frozen=frozen,
            control=point_controls,
            seeds=seeds,
            reveal=tuple(options.reveal),
            groups=tuple(options.groups),
            measures=tuple(measures),
        )
        plans.append(StudyPlan(point=point, options=point_options, names=tuple(names), measures=measures))
    return Study(folder=folder, base=base, grid=grid, plans=tuple(plans))


def _controls(options: StudyOptions, *, is_sweep: bool) -> Sequence[str]:
    """Kinds of controls, with the default filled in."""
    if options.control is not None:
        return options.control
    # A sweep has many points, so it gets controls only if the user asks for them.
    return ("frozen",) if options.frozen or not is_sweep else ()


def study_of(run: RunFolder) -> Study:
    """Study that a run folder was begun with."""
    grid = run.config.get("sweep", {})
    plans = []
    for point in points_of(run.folder, run.scenario, grid):
        begun = RunFolder.open(point.folder)
        plans.append(
            StudyPlan(
                point=point,
                options=StudyOptions(**StudyOptions.of(begun.config)),
                names=tuple(begun.agents),
                measures=begun.own_measures,
            )
        )
    return Study(folder=run.folder, base=run.scenario, grid=grid, plans=tuple(plans))


def study_lines(study: Study, execution: Execution) -> list[tuple[str, str]]:
    """Arms, rounds, arrivals and memory of a study, as text."""
    first = study.plans[0]
    points = [plan.point for plan in study.plans]
    arms = [arm for plan in study.plans for arm in plan.arms]
    n_arrivals = {config: expected_arrivals(config) for config in dict.fromkeys(arm.config for arm in arms)}
    per_round = n_arrivals[arms[0].config] / study.base.rounds
    total = sum(n_arrivals[arm.config] for arm in arms)
    need = _memory(points, len(arms) // len(points), execution)
    log = build_world(points[0].config).log
    lines = [
        ("log", f"{many(len(log), 'event')} of {many(log.n_users, 'user')} with {many(log.n_items, 'item')}"),
        ("arms", ", ".join(first.names)),
        (
            "rounds",
            f"{study.base.rounds}, with seeds {', '.join(map(str, chosen_seeds(first.options.seeds)))}",
        ),
        ("arrivals", f"about {per_round:,.0f} per round; {total:,} in {len(arms)} arms and seeds"),
        ("folder", f"{study.folder} (not written)"),
    ]
    if study.grid:
        lines.insert(3, ("points", ", ".join(point.folder.name for point in points)))
    if need is not None:
        main, worker, workers = need
        memory_gb = (max(main, worker) if workers == 1 else main + workers * worker) / 1e9
        lines.append(("memory", f"about {memory_gb:.1f} GB with {workers} worker{'s' * (workers > 1)}"))
    return lines


def _require_memory(points: Sequence[StudyPoint], arms: int, execution: Execution) -> None:
    """Refuse a study that exceeds this machine's memory."""
    need = _memory(points, arms, execution)
    if need is not None:
        main, worker, workers = need
        memory.require_memory(main, worker, workers, "arrivals.per_round or number of events (data)")


def _memory(points: Sequence[StudyPoint], arms: int, execution: Execution) -> tuple[float, float, int] | None:
    """Bytes of main process and worker; number of workers."""
    if execution.backend != "local":
        return None  # the memory of other machines is unknown
    worker_bytes = 0.0
    for data in dict.fromkeys(point.config.data for point in points):
        configs = [point.config for point in points if point.config.data == data]
        log = shared_log(configs[0])
        n_arrivals = max(_arrivals(config, log) for config in configs)
        data_bytes = memory.log_bytes(log) + memory.state_bytes(n_arrivals, log.n_items)
        worker_bytes = max(worker_bytes, data_bytes)
    workers = min(execution.workers or cores(), arms * len(points))
    return worker_bytes + memory.MAIN, worker_bytes, workers


def _arrivals(config: ScenarioConfig, log: EventLog) -> int:
    """Number of arrivals per round, configured or from the log."""
    if config.arrivals.per_round is not None:
        return config.arrivals.per_round
    # Without a configured number, the sessions of the log after the opening are divided among the rounds.
    first = float(log.time[0])
    last = float(log.time[-1])
    opening = first + config.arrivals.warmup_share * (last - first)
    n_sessions = int((log.sessions(config.data.session_gap).start >= opening).sum())
    return max(1, round(n_sessions / config.rounds))
