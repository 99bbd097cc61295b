"""Options of a study: defaults, checks and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rimsim.agents import Agent, Capabilities, make_agent, undeliverable
from rimsim.arrays import ALWAYS, seconds
from rimsim.config import ScenarioConfig, find_scenario, override
from rimsim.errors import ConfigError, require_known
from rimsim.market import RoundView, build_world
from rimsim.market.arrivals import make_arrivals
from rimsim.market.world import first_round, own_places, plugs_of
from rimsim.plugs import own_code
from rimsim.requirements.rows import expected
from rimsim.scenarios.report.tables import REFERENCE
from rimsim.scenarios.runs.status import control_in, part_name
from rimsim.scenarios.runs.store import load_text

if TYPE_CHECKING:
    from rich.console import Console


REVEALED = ("truth",)
"""Knowledge of the market alone that can be written."""
_DEFAULT = ("relevance", "rim-dual", "rim-feedback", "random")


def default_agents(config: ScenarioConfig) -> tuple[str, ...]:
    """Agents that are compared by default.

    A broadcast, whose audience is known beforehand, brings ``offline-match``, and with promoted items ``user-rec``.
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
    """Scenario by name, file or record, with some fields replaced."""
    config = scenario if isinstance(scenario, ScenarioConfig) else find_scenario(str(scenario))
    if settings:
        config = override(config, dict(settings))
    if rounds is not None:
        config = override(config, {"rounds": rounds}, origin="rounds")
    if data is not None:
        source = str(data) if isinstance(data, Path) else data
        config = override(config, {"data.source": source}, origin="data")
    return config


def checked_agents(texts: Sequence[str]) -> dict[str, Agent]:
    """Text → agent, each made once."""
    if not texts:
        raise ConfigError("agents: none is given. Name at least one")
    agents = {text: make_agent(text) for text in texts}
    names = [agents[text].name for text in texts]
    for text, name in zip(texts, names, strict=True):
        if (control := control_in(name)) is not None:
            raise ConfigError(
                f"agent {text!r} is called {name!r}; allowed: a name that does not end in '-{control}', as a control's"
            )
        if names.count(name) > 1:
            raise ConfigError(f"agents: two are called {name!r}. Give them distinct names")
        alike = [other for other in names if other != name and part_name(other, 0) == part_name(name, 0)]
        if alike:
            raise ConfigError(
                f"agents: {name!r} and {alike[0]!r} would share their files, {part_name(name, 0)!r}; allowed: names "
                "that differ in letters and digits"
            )
    return agents


def checked_frozen(
    config: ScenarioConfig, agents: Mapping[str, Agent], frozen: Sequence[str] | None
) -> tuple[str, ...]:
    """Agents that also get controls."""
    if frozen is None:
        usual = [text for text, agent in agents.items() if agent.name == REFERENCE]
        frozen = (usual or list(agents)[:1]) if config.platform.retrain and config.rounds > 1 else ()
    require_known("frozen: {} is not among the agents", frozen, agents)
    if any(Capabilities.of(agents[text]).needs.truth for text in frozen):
        raise ConfigError("frozen: a bound does not use the model, so it has no controls. Name other agents")
    return tuple(frozen)


def check_audience(config: ScenarioConfig, agents: Mapping[str, Agent]) -> None:
    """Refuse planners where nobody knows who will arrive."""
    if make_arrivals(config).known_beforehand:
        return
    for text, agent in agents.items():
        if Capabilities.of(agent).needs_audience:
            raise ConfigError(
                f"agent {text!r} needs to know who arrives, but arrivals.kind is {config.arrivals.kind!r}; "
                "allowed: 'broadcast', as in the scenarios offline-match and user-rec"
            )


def print_notes(
    scenarios: Sequence[ScenarioConfig], console: Console | None, agents: Sequence[str] = ()
) -> None:
    """Print facts of logs and impossible guarantees, each once."""
    if console is None:
        return
    of_each_log = {config.data: config for config in scenarios}.values()
    texts = [load_text(build_world(config).log) for config in of_each_log]
    notes = [note for config in scenarios for note in undeliverable_notes(config)]
    notes += [note for config in scenarios if (note := _consumer_note(config)) is not None]
    notes += [note for config in scenarios if (note := ignored_requirements_note(config, agents)) is not None]
    for text in dict.fromkeys([*texts, *(f"note: {note}" for note in notes)]):
        if text is not None:
            console.print(text, highlight=False, soft_wrap=True, markup=False)


def _consumer_note(config: ScenarioConfig) -> str | None:
    """Remark of the consumers of a scenario about its log."""
    note = getattr(plugs_of(config)[1], "note", None)
    if note is None:
        return None
    with own_code(own_places(config)):
        return str(note(build_world(config).log))


def ignored_requirements_note(config: ScenarioConfig, agents: Sequence[str]) -> str | None:
    """Note about agents that ignore groups, campaigns and caps."""
    exposure = config.exposure
    there = (
        ("groups", bool(exposure.groups)),
        ("campaigns", bool(exposure.campaigns)),
        ("caps", exposure.most is not None),
    )
    promised = [name for name, some in there if some]
    blind = [name for name in agents if not Capabilities.of(make_agent(name)).keeps_promises]
    if not promised or not blind:
        return None
    return (
        f"{', '.join(blind)} {'looks' if len(blind) == 1 else 'look'} at floors of items alone, at most, not at "
        f"{' or '.join(promised)}; what is missed or exceeded is in promises_missed and excess"
    )


def undeliverable_notes(config: ScenarioConfig) -> list[str]:
    """Notes about first-round guarantees that no agent could deliver."""
    world, first = build_world(config), first_round(config, seed=0)
    promised, forecast = first.requirements, config.exposure.forecast * first.schedule.expected_over_actual
    m = len(promised.required)
    view = RoundView(
        round=0,
        arrivals=expected(len(first.schedule), forecast),
        slate=config.slate,
        required=promised.required,
        exposure=np.zeros(m),
        cost=1.0,
        popularity=np.zeros(m, np.int64),
        calibration=(),
        key=0,
        position_weights=promised.weights,
        opens=float(seconds(promised.start)),
        closes=float(seconds(promised.stop)),
        promises=promised.table,
    )
    per_slate = np.concatenate([[0.0], np.cumsum(promised.weights)])
    there = forecast * float(per_slate[first.positions].sum())
    released = np.where(world.release == ALWAYS, -np.inf, seconds(world.release))
    return [f"in the first round, {one}" for one in undeliverable(view, released, there)]
