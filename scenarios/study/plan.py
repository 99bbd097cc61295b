"""Plans of a study, checked and compared with run folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from rimsim.config import ScenarioConfig, at_seed, to_plain
from rimsim.config.reading import flat
from rimsim.errors import ConfigError, RunFolderError, nearest_file, require_known
from rimsim.intensity.cache import cache_folder, log_digest
from rimsim.market import build_world
from rimsim.market.world import check_plugs, own_places, plugs_of, shared_log
from rimsim.measures import own_measures, try_measures
from rimsim.plugs import files_of, own_code
from rimsim.scenarios.runs import job
from rimsim.scenarios.runs.schema import parsed_yaml
from rimsim.scenarios.runs.status import Arm, StudyOptions, StudyPoint, control_name, points_of
from rimsim.scenarios.runs.store import BEGUN, Run, disk_errors, load_run, versions
from rimsim.scenarios.study.controls import checked_controls
from rimsim.scenarios.study.options import (
    REVEALED,
    check_audience,
    checked_agents,
    checked_frozen,
    default_agents,
)
from rimsim.system import cores

if TYPE_CHECKING:
    from rimsim.data import EventLog
    from rimsim.measures import Measure


@dataclass(frozen=True)
class StudyPlan:
    """Arms of a run folder."""

    point: StudyPoint
    """The scenario, and the place of the folder."""
    options: StudyOptions
    """Resolved options: each is a tuple or a flag."""
    names: tuple[str, ...]
    """Names of the arms in tables: of the agents, then of the controls of each."""
    measures: Mapping[str, Measure] = field(default_factory=dict)
    """Place → measure of the user's own."""

    @property
    def arms(self) -> list[Arm]:
        """Every agent, then the controls, at each seed."""
        options, point = self.options, self.point
        played: list[tuple[str, str | None]] = [(agent, None) for agent in options.agents or ()]
        played += [(agent, control) for agent in options.frozen or () for control in options.control]
        arm = partial(Arm, folder=point.folder, options=options, labels=point.labels, shared=point.study)
        return [
            arm(config=at_seed(point.config, seed), agent=agent, name=name, seed=seed, control=control)
            for seed in job.chosen_seeds(options.seeds)
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
    """Dotted field → its values; empty: a comparison."""
    plans: tuple[StudyPlan, ...]
    """Plans of its points."""


def planned(
    folder: Path,
    base: ScenarioConfig,
    grid: Mapping[str, Sequence[object]],
    options: StudyOptions,
    execution: job.Execution | None = None,
) -> Study:
    """Checked plans of a sweep, or of a comparison (no grid).

    A run that exceeds the memory of this machine under ``execution`` is refused; None: no run is.

    Raises:
        ConfigError: If grid, agents, model or seeds do not fit, or the slate the catalogue, or the run into memory.
        MeasureError: If a measure cannot be computed.
        DataError: If the log cannot be read.
        RunFolderError: If the cache cannot be written to.
    """
    points = points_of(folder, base, grid)
    texts = options.agents
    if texts is None:  # defaults contain one another: the shortest can play at every point
        texts = min((default_agents(point.config) for point in points), key=len)
    seeds, measures = job.chosen_seeds(options.seeds), own_measures(options.measures)
    require_known("reveal: {}", options.reveal, REVEALED)
    agents = checked_agents(texts)
    of_points = [checked_frozen(point.config, agents, options.frozen) for point in points]
    for point in points:
        check_audience(point.config, agents)
        check_plugs(point.config)
    if execution is not None:
        most = len(texts) + max(len(frozen) for frozen in of_points) * len(options.control)
        _require_memory(points, most * len(seeds), execution)
    plans = []
    for point, frozen in zip(points, of_points, strict=True):
        with disk_errors(cache_folder()):
            world = build_world(point.config)  # a bad log or slate is refused before anything is written
        try_measures(measures, world.log.items, point.config.slate)
        controls = checked_controls(point.config if frozen else None, options.control)
        names = [agents[text].name for text in texts]
        names += [control_name(agents[text].name, control) for text in frozen for control in controls]
        settled = replace(
            options,
            agents=tuple(texts),
            frozen=frozen,
            control=controls,
            seeds=seeds,
            reveal=tuple(options.reveal),
            measures=tuple(measures),
        )
        plans.append(StudyPlan(point, settled, tuple(names), measures))
    return Study(folder, base, grid, tuple(plans))


def study_of(run: Run) -> Study:
    """Study that a run folder was begun with."""
    grid = run.config.get("sweep", {})
    plans = []
    for point in points_of(run.folder, run.scenario, grid):
        begun = load_run(point.folder)
        plans.append(
            StudyPlan(
                point, StudyOptions(**StudyOptions.of(begun.config)), tuple(begun.agents), begun.own_measures
            )
        )
    return Study(run.folder, run.scenario, grid, tuple(plans))


def _require_memory(points: Sequence[StudyPoint], arms: int, execution: job.Execution) -> None:
    """Refuse a run that does not fit into memory."""
    if execution.backend != "local":
        return  # the memory of other machines is not known
    each = 0.0
    for data in dict.fromkeys(point.config.data for point in points):
        configs = [point.config for point in points if point.config.data == data]
        log = shared_log(configs[0])
        most = max(_arrivals(config, log) for config in configs)
        each = max(each, job.log_bytes(log) + job.state_bytes(most, log.n_items))
    workers = min(execution.workers or cores(), arms * len(points))
    job.require_memory(each + job.MAIN, each, workers, "arrivals.per_round or number of events (data)")


def _arrivals(config: ScenarioConfig, log: EventLog) -> int:
    """Arrivals of a round, configured or by the log's sessions."""
    if config.arrivals.per_round is not None:
        return config.arrivals.per_round
    first, last = float(log.time[0]), float(log.time[-1])
    opening = first + config.arrivals.warmup_share * (last - first)
    later = int((log.sessions(config.data.session_gap).start >= opening).sum())
    return max(1, round(later / config.rounds))


def require_same(run: Run, scenario: ScenarioConfig, entries: Mapping[str, object]) -> None:
    """Refuse options that differ from those of a run.

    ``entries`` are given values by their entry of the folder's config; None: not given.

    Raises:
        ConfigError: If they do; it names each difference.
    """
    kept = flat(to_plain(run.scenario)) | run.config | {"measures": list(run.own_measures)}
    wanted = flat(to_plain(scenario)) | {name: value for name, value in entries.items() if value is not None}
    other = [
        f"{name} {value!r}, where it has {kept.get(name)!r}"
        for name, value in wanted.items()
        if value != kept.get(name)
    ]
    if other:
        raise ConfigError(
            f"{run.folder}: found other options than it began with: {'; '.join(other)}; allowed: the same, or none"
        )


def require_unchanged(run: Run) -> None:
    """Refuse to resume a run whose basis has changed.

    Tables would mix two experiments.

    Raises:
        RunFolderError: If something has changed; it names the changes.
    """
    begun = run.folder / BEGUN
    if not begun.is_file():
        raise RunFolderError(
            f"{run.folder}: {BEGUN} is missing; allowed: a run that was interrupted, or a new one"
        )
    before, now = flat(parsed_yaml(begun.read_text(encoding="utf-8"))), flat(run.config)
    edited = [
        f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in before | now
        if not _same(before.get(name), now.get(name))
    ]
    reasons = [f"its config was edited: {'; '.join(edited)}"] if edited else changes(run)
    if reasons:
        raise RunFolderError(
            f"{run.folder}: {'; '.join(reasons)}. Restore it as it began, or begin a new run"
        )


def changes(run: Run) -> list[str]:
    """Changed versions, log and files of a run."""
    here = versions()
    other = [
        f"{name} {made} there, {here.get(name)} here"
        for name, made in run.config["versions"].items()
        if here.get(name) != made
    ]
    now = digests(run.scenario, [*run.config["agents"], *run.own_measures])
    changed = [name for name, value in run.config["digests"].items() if now.get(name) != value]
    reasons = [f"made with other versions: {'; '.join(other)}"] if other else []
    return reasons + ([f"changed since the run began: {', '.join(changed)}"] if changed else [])


def digests(config: ScenarioConfig, places: Sequence[str]) -> dict[str, str]:
    """Digests of the log and of the user's own files.

    Places of agents and measures are given; the scenario may name others.
    """
    files = files_of([*places, *own_places(config)])
    for file in files:
        if not file.is_file():
            raise ConfigError(f"{file}: no such file.{nearest_file(file)}")
    consumer = plugs_of(config)[1]
    with own_code(own_places(config)):
        answers = {"consumer": str(consumer.digest())} if hasattr(consumer, "digest") else {}
    return (
        {"log": log_digest(build_world(config).log)}
        | answers
        | {str(file): sha256(file.read_bytes()).hexdigest() for file in files}
    )


def _same(one: object, other: object) -> bool:
    """True for equal values and for two NaN."""
    return one == other or (one != one and other != other)  # noqa: PLR0124
