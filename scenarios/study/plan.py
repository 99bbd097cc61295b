"""What a comparison or sweep is to do, checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rimsim.agents import make_agent
from rimsim.config import ScenarioConfig, at_seed, find_scenario, override
from rimsim.errors import ConfigError, nearest
from rimsim.intensity.cache import cache_folder
from rimsim.market import build_world
from rimsim.market.arrivals import make_arrivals
from rimsim.market.world import check_plugs
from rimsim.measures import own_measures, try_measures
from rimsim.scenarios.execution.arm import Arm
from rimsim.scenarios.execution.forecast import announce
from rimsim.scenarios.execution.seeds import chosen_seeds
from rimsim.scenarios.report.summary import REFERENCE
from rimsim.scenarios.store.arm_names import control_in, control_name
from rimsim.scenarios.store.folders import part_name
from rimsim.scenarios.store.points import Point, points_of
from rimsim.scenarios.store.run_folder import Run, load_run
from rimsim.scenarios.store.write import disk_errors
from rimsim.scenarios.study.controls import checked_controls
from rimsim.scenarios.study.forecast import foreseen

if TYPE_CHECKING:
    from rimsim.agents import Agent
    from rimsim.measures import Measure
    from rimsim.scenarios.execution.executor import Execution


REVEALED = ("truth",)
"""What may be written of what only the market knows."""

_DEFAULT = ("relevance", "rim-dual", "rim-feedback", "random")


def default_agents(config: ScenarioConfig) -> tuple[str, ...]:
    """The agents that are compared by default; where the audience is known beforehand, also those that need to know it.

    Args:
        config: The scenario; a broadcast brings ``offline-match``, and with promoted items ``user-rec``.
    """
    if not make_arrivals(config).known_beforehand:
        return _DEFAULT
    planners = ("offline-match",) if config.exposure.items is None else ("user-rec", "offline-match")
    return (*_DEFAULT[:-1], *planners, _DEFAULT[-1])


def resolved(
    scenario: str | Path | ScenarioConfig,
    rounds: int | None = None,
    data: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> ScenarioConfig:
    """A scenario by name, file or record, with some fields replaced.

    Raises:
        ConfigError: If there is no such scenario or field.
    """
    config = scenario if isinstance(scenario, ScenarioConfig) else find_scenario(str(scenario))
    if settings:
        config = override(config, dict(settings))
    if rounds is not None:
        config = override(config, {"rounds": rounds}, origin="rounds")
    if data is not None:
        source = str(data) if isinstance(data, Path) else data
        config = override(config, {"data.source": source}, origin="data")
    return config


@dataclass(frozen=True)
class Request:
    """What is asked for beside the scenario."""

    agents: Sequence[str] | None
    """Texts for :func:`rimsim.agents.make_agent`; None: :func:`default_agents`."""
    seeds: int | Sequence[int]
    """How many seeds, from 0, or which."""
    frozen: Sequence[str] | None
    """Agents that also get controls. None: ``relevance``, or the first agent, where the scenario retrains."""
    certify: bool
    """Compute certificates of every round."""
    ledger: bool
    """Write the ledger."""
    measures: Sequence[str] = ()
    """Places of measures of a user's own."""
    controls: Sequence[str] = ("frozen",)
    """Which controls they get, of :data:`rimsim.scenarios.store.arm_names.CONTROLS`."""
    reveal: Sequence[str] = ()
    """What is written of what only the market knows, of :data:`REVEALED`."""


@dataclass(frozen=True)
class Plan:
    """What a run folder is to hold: agents in a scenario at some seeds."""

    point: Point
    """The scenario, and where the folder lies."""
    agents: tuple[str, ...]
    """Texts for :func:`rimsim.agents.make_agent`."""
    frozen: tuple[str, ...]
    """Those agents that also get controls."""
    controls: tuple[str, ...]
    """Which controls."""
    names: tuple[str, ...]
    """Names of the arms in tables: of the agents, then of the controls of each."""
    seeds: tuple[int, ...]
    """The seeds."""
    certify: bool
    """Compute certificates of every round."""
    ledger: bool
    """Write the ledger."""
    measures: Mapping[str, Measure] = field(default_factory=dict)
    """Place → measure of a user's own."""
    reveal: tuple[str, ...] = ()
    """What is written of what only the market knows."""

    @property
    def arms(self) -> list[Arm]:
        """Every agent, then the controls, at each seed."""
        played: list[tuple[str, str | None]] = [(agent, None) for agent in self.agents]
        played += [(agent, control) for agent in self.frozen for control in self.controls]
        return [
            Arm(
                config=at_seed(self.point.config, seed),
                agent=agent,
                name=name,
                control=control,
                seed=seed,
                folder=self.point.folder,
                certify=self.certify,
                ledger=self.ledger,
                truth="truth" in self.reveal,
                measures=tuple(self.measures),
                labels=self.point.labels,
                shared=self.point.study,
            )
            for seed in self.seeds
            for (agent, control), name in zip(played, self.names, strict=True)
        ]


@dataclass(frozen=True)
class Study:
    """A comparison or a sweep: a plan for each of its points."""

    folder: Path
    """The run folder."""
    base: ScenarioConfig
    """The scenario; the points of a sweep replace some of its fields."""
    grid: Mapping[str, Sequence[object]]
    """Dotted field → its values; empty: a comparison."""
    plans: tuple[Plan, ...]
    """What is to be done at each point."""


def planned(
    folder: Path,
    base: ScenarioConfig,
    grid: Mapping[str, Sequence[object]],
    request: Request,
    execution: Execution | None = None,
) -> Study:
    """Check what is to be run, before anything is written.

    Args:
        folder: The run folder.
        base: The scenario.
        grid: Dotted field → its values; empty: a comparison.
        request: Agents, seeds and what is kept.
        execution: How it is to be run, to say what a long run is expected to take; None: nothing is foreseen.

    Raises:
        ConfigError: If grid, agents, model or seeds do not fit, or the slate the catalogue, or the run into memory.
        MeasureError: If a measure cannot be computed.
        DataError: If the log cannot be read.
        RunFolderError: If the cache cannot be written to.
    """
    points = points_of(folder, base, grid)
    agents = request.agents
    if agents is None:  # defaults contain one another: the shortest can play at every point
        agents = min((default_agents(point.config) for point in points), key=len)
    seeds, measures = chosen_seeds(request.seeds), own_measures(request.measures)
    for what in request.reveal:
        if what not in REVEALED:
            raise ConfigError(f"reveal: {what!r}.{nearest(what, REVEALED)}")
    made = _checked_agents(agents)
    of_points = [_checked_frozen(point.config, made, request.frozen) for point in points]
    for point in points:
        _check_audience(point.config, made)
        check_plugs(point.config)
    if execution is not None:
        controls_most = max(len(frozen) for frozen in of_points) * len(request.controls)
        _foresee(points, len(agents) + controls_most, len(seeds), request, execution)
    plans = []
    for point, frozen in zip(points, of_points, strict=True):
        with disk_errors(cache_folder()):
            world = build_world(point.config)  # a bad log or slate is refused before anything is written
        try_measures(measures, world.log.items, point.config.slate)
        controls = checked_controls(point.config if frozen else None, request.controls)
        names = [made[text].name for text in agents]
        names += [control_name(made[text].name, control) for text in frozen for control in controls]
        plans.append(
            Plan(
                point,
                tuple(agents),
                frozen,
                controls,
                tuple(names),
                seeds,
                request.certify,
                request.ledger,
                measures,
                tuple(request.reveal),
            )
        )
    return Study(folder, base, grid, tuple(plans))


def _foresee(points: Sequence[Point], arms: int, seeds: int, request: Request, execution: Execution) -> None:
    """Say what a long run is expected to take before truths are fitted; refuse what does not fit into memory."""
    console = execution.console
    configs = [point.config for point in points]
    foreseen_run = foreseen(configs, arms, seeds, certify=request.certify, workers=execution.workers)

    def say(line: str) -> None:
        if console is not None:
            console.print(line, highlight=False, soft_wrap=True, markup=False)

    announce(
        foreseen_run, say, "arrivals.per_round or number of events (data)", here=execution.backend == "local"
    )


def study_of(run: Run) -> Study:
    """The comparison or sweep that a run folder was begun with."""
    grid = run.config.get("sweep", {})
    plans = []
    for point in points_of(run.folder, run.scenario, grid):
        begun = load_run(point.folder)
        about = begun.config
        agents, frozen, controls, names, seeds = (
            tuple(about[key]) for key in ("agents", "frozen", "control", "arms", "seeds")
        )
        certify, ledger = about["certify"], about["ledger"]
        reveal = tuple(about.get("reveal", ()))  # folders of earlier versions lack it
        plans.append(
            Plan(point, agents, frozen, controls, names, seeds, certify, ledger, begun.own_measures, reveal)
        )
    return Study(run.folder, run.scenario, grid, tuple(plans))


def _check_audience(config: ScenarioConfig, agents: Mapping[str, Agent]) -> None:
    if make_arrivals(config).known_beforehand:
        return
    for text, agent in agents.items():
        if getattr(agent, "needs_audience", False):
            raise ConfigError(
                f"agent {text!r} needs to know who arrives, but arrivals.kind is {config.arrivals.kind!r}; "
                "allowed: 'broadcast', as in the scenarios offline-match and user-rec"
            )


def _checked_agents(texts: Sequence[str]) -> dict[str, Agent]:
    """Text → agent, each made once; checked before anything runs."""
    if not texts:
        raise ConfigError("agents: none given; allowed: at least one")
    agents = {text: make_agent(text) for text in texts}
    names = [agents[text].name for text in texts]
    for text, name in zip(texts, names, strict=True):
        if (control := control_in(name)) is not None:
            raise ConfigError(
                f"agent {text!r} is called {name!r}; allowed: a name that does not end in '-{control}', as a control's"
            )
        if names.count(name) > 1:
            raise ConfigError(f"agents: two are called {name!r}; allowed: distinct names")
        alike = [other for other in names if other != name and part_name(other, 0) == part_name(name, 0)]
        if alike:
            raise ConfigError(
                f"agents: {name!r} and {alike[0]!r} would share their files, {part_name(name, 0)!r}; allowed: names "
                "that differ in letters and digits"
            )
    return agents


def _checked_frozen(
    config: ScenarioConfig, agents: Mapping[str, Agent], frozen: Sequence[str] | None
) -> tuple[str, ...]:
    """The agents that also get controls."""
    if frozen is None:
        usual = [text for text, agent in agents.items() if agent.name == REFERENCE]
        frozen = (usual or list(agents)[:1]) if config.platform.retrain and config.rounds > 1 else ()
    for text in frozen:
        if text not in agents:
            raise ConfigError(f"frozen: {text!r} is not among the agents.{nearest(text, agents)}")
    if any(getattr(agents[text], "needs_truth", False) for text in frozen):
        raise ConfigError("frozen: a bound does not use the model; allowed: agents that do")
    return tuple(frozen)
