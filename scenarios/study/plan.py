"""What a comparison or sweep is to do, checked before anything is written, and begun."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import yaml

from rimsim.agents import make_agent
from rimsim.config import ScenarioConfig, find_scenario, override, to_plain
from rimsim.errors import ConfigError, RunFolderError, nearest
from rimsim.intensity.cache import cache_folder
from rimsim.market import build_world
from rimsim.market.arrivals import make_arrivals
from rimsim.market.build import check_plugs
from rimsim.measures import records, try_measures
from rimsim.scenarios.store.load_report import load_facts
from rimsim.scenarios.store.run_folder import BEGUN, CATALOGUE, CONFIG, FROZEN, Run, versions
from rimsim.scenarios.store.write import disk_errors, write_table, write_text
from rimsim.scenarios.study.arm import Arm
from rimsim.scenarios.study.changes import digests

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rimsim.measures import Measure
    from rimsim.scenarios.store.points import Point

__all__ = ["Plan", "begin", "checked_plan", "default_agents", "plan_of", "resolved"]

_DEFAULT = ("relevance", "rim-dual", "rim-feedback", "random")


def default_agents(config: ScenarioConfig) -> tuple[str, ...]:
    """Who is compared where nobody is named: also those that plan for all at once, where all are known at once.

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


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run folder is to hold: agents in a scenario at some seeds."""

    point: Point
    """The scenario, and where the folder lies."""
    agents: tuple[str, ...]
    """Texts for :func:`rimsim.agents.make_agent`."""
    frozen: tuple[str, ...]
    """Those agents that also get an arm whose model is never retrained."""
    seeds: tuple[int, ...]
    """The seeds."""
    certify: bool
    """Compute certificates of every round."""
    ledger: bool
    """Write the ledger."""
    measures: Mapping[str, Measure] = dataclasses.field(default_factory=dict)
    """Place → measure of a user's own."""

    @property
    def names(self) -> list[str]:
        """Names of the arms in tables, frozen ones last."""
        return [make_agent(text).name for text in self.agents] + [
            make_agent(text).name + FROZEN for text in self.frozen
        ]

    @property
    def arms(self) -> list[Arm]:
        """Every agent, then the frozen ones, at each seed."""
        names = self.names
        return [
            Arm(
                config=self.point.config,
                agent=agent,
                name=name,
                frozen=number >= len(self.agents),
                seed=seed,
                folder=self.point.folder,
                certify=self.certify,
                ledger=self.ledger,
                measures=tuple(self.measures),
                labels=self.point.labels,
            )
            for seed in self.seeds
            for number, (agent, name) in enumerate(zip(self.agents + self.frozen, names, strict=True))
        ]


def checked_plan(
    point: Point,
    agents: Sequence[str],
    seeds: int | Sequence[int],
    frozen: Sequence[str] | None,
    *,
    certify: bool,
    ledger: bool,
    measures: Mapping[str, Measure],
) -> Plan:
    """Check what is to be run, before anything is written.

    Args:
        point: The scenario, and where its run folder will lie.
        agents: As they stand on a command line.
        seeds: How many seeds, from 0, or which.
        frozen: Agents that also get an arm whose model is never retrained. None: ``relevance``, or the first agent,
            where the scenario retrains.
        certify: Compute certificates of every round.
        ledger: Write the ledger.
        measures: Place → measure of a user's own.

    Raises:
        ConfigError: If agents, model or seeds do not fit, or the slate the catalogue.
        MeasureError: If a measure cannot be computed.
        DataError: If the log cannot be read.
        RunFolderError: If the cache cannot be written to.
    """
    chosen = _checked_frozen(point.config, agents, frozen)
    numbers = tuple(_seeds(seeds))
    check_plugs(point.config)
    with disk_errors(cache_folder()):
        world = build_world(point.config)  # a bad log or slate is told before anything is written
    try_measures(measures, world.log.items, point.config.slate)
    return Plan(point, tuple(agents), chosen, numbers, certify, ledger, measures)


def plan_of(point: Point, run: Run) -> Plan:
    """The plan that a run folder was begun with.

    Args:
        point: Scenario and place of the run.
        run: The run.
    """
    about = run.config
    return Plan(
        point,
        tuple(about["agents"]),
        tuple(about["frozen"]),
        tuple(run.seeds),
        about["certify"],
        about["ledger"],
        run.own_measures,
    )


def begin(plan: Plan, command: str) -> None:
    """Write the config of a plan into its folder.

    Raises:
        RunFolderError: If the folder holds a run.
    """
    folder, config = plan.point.folder, plan.point.config
    if (folder / CONFIG).exists():
        raise RunFolderError(f"{folder}: already holds a run; allowed: a new folder, or to resume it")
    world = build_world(config)
    described = {
        "command": command,
        "arms": plan.names,
        "agents": list(plan.agents),
        "frozen": list(plan.frozen),
        "seeds": list(plan.seeds),
        "certify": plan.certify,
        "ledger": plan.ledger,
        "measures": records(plan.measures),
        "scenario": to_plain(config),
        "truth": None if world.truth is None else dataclasses.asdict(world.truth.report),
        "log": load_facts(world.log),
        "digests": digests(config, (*plan.agents, *plan.measures)),
        "versions": versions(),
    }
    events = np.bincount(world.past.item, minlength=world.log.n_items)
    write_table(folder / CATALOGUE, pd.DataFrame({"item": np.arange(len(events)), "events": events}))
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    write_text(folder / BEGUN, text)
    write_text(folder / CONFIG, text)


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    numbers = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise ConfigError(
            f"seeds: {seeds!r}; allowed: a positive number of seeds, or distinct seeds from 0 up"
        )
    return numbers


def _check_audience(config: ScenarioConfig, agents: Sequence[str]) -> None:
    if make_arrivals(config).known_beforehand:
        return
    for text in agents:
        if getattr(make_agent(text), "needs_audience", False):
            raise ConfigError(
                f"agent {text!r} needs to know who arrives, but arrivals.kind is {config.arrivals.kind!r}; "
                "allowed: 'broadcast', as in the scenarios offline-match and user-rec"
            )


def _checked_frozen(
    config: ScenarioConfig, agents: Sequence[str], frozen: Sequence[str] | None
) -> tuple[str, ...]:
    """The agents that also get a frozen arm; checks each agent before anything runs."""
    if not agents:
        raise ConfigError("agents: none given; allowed: at least one")
    _check_audience(config, agents)
    names = [make_agent(text).name for text in agents]
    for text, name in zip(agents, names, strict=True):
        if name.endswith(FROZEN):
            raise ConfigError(
                f"agent {text!r} is called {name!r}; allowed: a name that does not end in {FROZEN!r}"
            )
        if names.count(name) > 1:
            raise ConfigError(f"agents: two are called {name!r}; allowed: distinct names")
    if frozen is None:
        usual = [text for text, name in zip(agents, names, strict=True) if name == "relevance"]
        frozen = (usual or agents[:1]) if config.platform.retrain and config.rounds > 1 else ()
    for text in frozen:
        if text not in agents:
            raise ConfigError(f"frozen: {text!r} is not among the agents.{nearest(text, agents)}")
    if any(getattr(make_agent(text), "needs_truth", False) for text in frozen):
        raise ConfigError("frozen: a bound does not use the model; allowed: agents that do")
    return tuple(frozen)
