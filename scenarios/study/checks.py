"""Checks of a study before it runs, and notes."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from rich.console import Console

from rimsim.agents import BUILT_IN as AGENTS
from rimsim.agents import Agent, Capabilities, make_agent, undeliverable
from rimsim.arrays import ALWAYS, seconds
from rimsim.config import ScenarioConfig, find_scenario, override, to_plain
from rimsim.config.documents import read_yaml
from rimsim.config.fields import duration_seconds
from rimsim.config.guarantees import BETA, group_field, with_guarantees
from rimsim.config.reading import flat
from rimsim.data.log import ITEM_COLUMNS, own_attributes
from rimsim.data.session_logs import LogSource, source_name
from rimsim.errors import ConfigError, RunFolderError, nearest, nearest_file, require_known
from rimsim.intensity.cache import log_digest
from rimsim.intensity.model_names import BUILT_IN as MODELS
from rimsim.market import RoundView, build_world
from rimsim.market.arrivals import BUILT_IN as ARRIVALS
from rimsim.market.arrivals import make_arrivals
from rimsim.market.consumers import BUILT_IN as CONSUMERS
from rimsim.market.providers import BUILT_IN as PROVIDERS
from rimsim.market.round import RoundTerms
from rimsim.market.world import first_round, own_places, plugs_of
from rimsim.plugs import files_of, ignored_plug, own_code
from rimsim.requirements.rows import expected
from rimsim.scenarios.report.tables import REFERENCE
from rimsim.scenarios.runs.arms import control_in, part_name
from rimsim.scenarios.runs.records import load_text, versions
from rimsim.scenarios.runs.store import BEGUN, RunFolder
from rimsim.session import SESSION
from rimsim.tracking import event_folder

REVEALED = ("truth",)
"""Facts hidden from agents that can be written."""
_DEFAULT = ("relevance", "rim-dual", "rim-feedback", "random")


def default_agents(config: ScenarioConfig) -> tuple[str, ...]:
    """Agents that are compared by default.

    A broadcast adds ``offline-match``, because its audience is known. With promoted items, it also adds ``user-rec``.
    """
    if not make_arrivals(config).known_beforehand:
        return _DEFAULT
    planners = ("offline-match",) if config.exposure.items is None else ("user-rec", "offline-match")
    return (*_DEFAULT[:-1], *planners, _DEFAULT[-1])


@dataclass(frozen=True)
class LogArguments:
    """Log of a run, and how to read it.

    None leaves a field to the scenario.
    """

    data: LogSource | None = None
    """Name or path of a log, a data frame (pandas, Polars, Arrow), or an :class:`rimsim.data.EventLog`."""
    columns: str | None = None
    """Columns to read, such as ``user=uid,item=sku,time=at``."""
    separator: str | None = None
    """Separator of a text file."""
    encoding: str | None = None
    """Encoding of a text file."""
    time_unit: str | None = None
    """Unit of times that are numbers, such as ``ms`` or ``min``."""
    skip_bad_rows: bool | None = None
    """True: leave bad rows out, and count them."""
    min_item_events: int | None = None
    """Minimum number of events per item."""
    items: str | Path | None = None
    """Table of items."""

    def fields(self) -> dict[str, tuple[str, object]]:
        """Dotted field → argument that sets it, and its value."""
        names = ("columns", "separator", "encoding", "time_unit", "skip_bad_rows", "min_item_events")
        arguments = {f"data.{name}": (name, getattr(self, name)) for name in names}
        arguments["data.items"] = ("items", None if self.items is None else str(self.items))
        source = None if self.data is None else source_name(self.data)
        return {
            field: pair
            for field, pair in ({"data.source": ("data", source)} | arguments).items()
            if pair[1] is not None
        }


def resolved(
    scenario: str | Path | ScenarioConfig,
    rounds: int | None = None,
    log: LogArguments | None = None,
    settings: Mapping[str, object] | None = None,
    guarantee: Mapping[str, float] | None = None,
) -> ScenarioConfig:
    """Scenario by name, file or record, with some fields replaced.

    A data frame or log is stored in the cache, because workers and later repetitions read it there.
    """
    config = scenario if isinstance(scenario, ScenarioConfig) else find_scenario(str(scenario))
    if settings:
        config = override(config, dict(settings))
    arguments = (log or LogArguments()).fields()
    if rounds is not None:
        arguments["rounds"] = ("rounds", rounds)
    for field, (name, value) in arguments.items():
        if field in (settings or {}):
            raise ConfigError(f"{name} and settings[{field!r}] set the same field. Give only one of them")
        config = override(config, {field: value}, origin=name)
    return with_guarantees(config, guarantee or {}, keeps_items=BETA in (settings or {}))


def listed(names: str | Sequence[str]) -> tuple[str, ...]:
    """Names as a tuple; a single text is one name."""
    return (names,) if isinstance(names, str) else tuple(names)


def first_shares(guarantee: Mapping[str, float | Sequence[float]] | None) -> dict[str, float]:
    """First share of each column; a sweep varies others."""
    return {
        column: next(iter(shares), 0.0) if isinstance(shares, Sequence) else shares
        for column, shares in (guarantee or {}).items()
    }


def grid_with(
    grid: Mapping[str, Sequence[object]], guarantee: Mapping[str, float | Sequence[float]] | None
) -> dict[str, Sequence[object]]:
    """Grid of a sweep, with guarantees that have several shares."""
    varied = {
        group_field(column): list(shares)
        for column, shares in (guarantee or {}).items()
        if isinstance(shares, Sequence) and len(shares) > 1
    }
    return {**grid, **varied}


def require_groups(config: ScenarioConfig, columns: Sequence[str]) -> None:
    """Refuse groups of columns that are no attributes of items.

    ``columns`` are those whose groups are only reported.

    Raises:
        ConfigError: If the item table lacks a column; the message gives the reason, if the log has such a column.
    """
    log = build_world(config).log
    uses = {} if log.report is None else {use.column: use for use in log.report.others}
    for column in dict.fromkeys([*(group.column for group in config.exposure.groups), *columns]):
        if column in log.items:
            continue
        attributes = [*own_attributes(log.items), *ITEM_COLUMNS]
        use = uses.get(column)
        problem = "the items have no such attribute" if use is None else f"the column is {use.text()}"
        if use is not None and use.attribute is not None:
            problem = f"the column is read as {use.attribute}"
        name = config.data.source if log.report is None else log.report.source
        raise ConfigError(f"groups of {column!r}: in {name} {problem}.{nearest(column, attributes)}")


def session_workers(texts: Sequence[str], workers: int | None, backend: str) -> int | None:
    """Workers of a study; 1 for objects of this session.

    Raises:
        ConfigError: If another process would need an object of this session.
    """
    objects = [text for text in texts if text.startswith((SESSION, "__main__:"))]
    if not objects:
        return workers
    if backend != "local" or workers not in (None, 1):
        raise ConfigError(
            f"workers: {objects[0]!r} is an object of this session, which other processes cannot use. "
            "Set workers=1, or give a file and a class, as in my_agent.py:Mine"
        )
    return 1


def checked_agents(texts: Sequence[str]) -> dict[str, Agent]:
    """Text → agent, each made once."""
    if not texts:
        raise ConfigError("agents: the list is empty. Name at least one agent")
    agents = {text: make_agent(text) for text in texts}
    names = [agents[text].name for text in texts]
    for text, name in zip(texts, names, strict=True):
        event_folder(Path(), name, 0)  # refuses a name that cannot be the name of a folder
        if (control := control_in(name)) is not None:
            raise ConfigError(
                f"agent {text!r} is called {name!r}, but the ending '-{control}' is reserved for controls. "
                "Give the agent another name"
            )
        if names.count(name) > 1:
            raise ConfigError(f"agents: two agents are called {name!r}. Give them different names")
        alike = [
            namesake
            for namesake in names
            if namesake != name and part_name(namesake, 0) == part_name(name, 0)
        ]
        if alike:
            raise ConfigError(
                f"agents: {name!r} and {alike[0]!r} would write to the same files, "
                f"{part_name(name, 0)!r}. Choose names that differ in letters or digits"
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
        raise ConfigError(
            "frozen: an agent of this list uses the truth instead of the model, so it has no controls. "
            "Name other agents"
        )
    return tuple(frozen)


def check_audience(config: ScenarioConfig, agents: Mapping[str, Agent]) -> None:
    """Refuse agents that need known arrivals, if arrivals are unknown."""
    if make_arrivals(config).known_beforehand:
        return
    for text, agent in agents.items():
        if Capabilities.of(agent).needs_audience:
            raise ConfigError(
                f"agent {text!r} needs to know who arrives, but arrivals.kind is {config.arrivals.kind!r}. "
                "Set arrivals.kind to 'broadcast', as the scenarios offline-match and user-rec do"
            )


# -- comparisons with an earlier run -----------------------------------------------------------------------------------
def require_same(run: RunFolder, scenario: ScenarioConfig, entries: Mapping[str, object]) -> None:
    """Refuse options that differ from those of a run.

    ``entries`` maps names in the folder's config to given values; None means that no value was given.

    Raises:
        ConfigError: If options differ; the message lists the differences.
    """
    recorded = flat(to_plain(run.scenario)) | run.config | {"measures": list(run.own_measures)}
    wanted = flat(to_plain(scenario)) | {name: value for name, value in entries.items() if value is not None}
    differences = [
        f"{name} {value!r} instead of {recorded.get(name)!r}"
        for name, value in wanted.items()
        if value != recorded.get(name)
    ]
    if differences:
        raise ConfigError(
            f"{run.folder}: some options differ from those that the run began with: {'; '.join(differences)}. "
            "Give the same options, or none"
        )


def require_unchanged(run: RunFolder) -> None:
    """Refuse to resume a run whose inputs have changed.

    With changed inputs, tables would mix two experiments.

    Raises:
        RunFolderError: If an input has changed; the message names the changes.
    """
    begun = run.folder / BEGUN
    if not begun.is_file():
        raise RunFolderError(
            f"{run.folder}: the file {BEGUN} is missing, so the run cannot be resumed. Name an "
            "interrupted run, or begin a new run"
        )
    before = flat(read_yaml(begun.read_text(encoding="utf-8")))
    now = flat(run.config)
    edited = [
        f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in before | now
        if not _same(before.get(name), now.get(name))
    ]
    reasons = [f"its config was edited: {'; '.join(edited)}"] if edited else changes(run)
    if reasons:
        raise RunFolderError(f"{run.folder}: {'; '.join(reasons)}. Undo these changes, or begin a new run")


def changes(run: RunFolder) -> list[str]:
    """Descriptions of versions, log or files changed since a run."""
    here = versions()
    differences = [
        f"{name} {made} there, {here.get(name)} here"
        for name, made in run.config["versions"].items()
        if here.get(name) != made
    ]
    now = digests(run.scenario, [*run.config["agents"], *run.own_measures])
    changed = [name for name, value in run.config["digests"].items() if now.get(name) != value]
    reasons = [f"made with other versions: {'; '.join(differences)}"] if differences else []
    return reasons + ([f"changed since the run began: {', '.join(changed)}"] if changed else [])


def digests(config: ScenarioConfig, places: Sequence[str]) -> dict[str, str]:
    """Digests of the log and of the user's own files.

    ``places`` name files of agents and measures; the scenario may name more files.
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


def _same(before: object, after: object) -> bool:
    """True for equal values and for two NaN."""
    return before == after or (before != before and after != after)  # noqa: PLR0124


# -- notes before a run -----------------------------------------------------------------------------------------------
_ALL = 0.999
"""If a larger share of the positions is guaranteed, a note says that all positions are guaranteed."""


def print_notes(
    scenarios: Sequence[ScenarioConfig], console: Console | None, agents: Sequence[str] = ()
) -> None:
    """Print facts of logs and notes on scenarios, each once."""
    if console is None:
        return
    of_each_log = {config.data: config for config in scenarios}.values()
    texts = [load_text(build_world(config).log) for config in of_each_log]
    notes = [f"note: {note}" for config in scenarios for note in notes_of(config, agents)]
    for text in dict.fromkeys([*texts, *notes]):
        if text is not None:
            console.print(text, highlight=False, soft_wrap=not console.is_terminal, markup=False)


def notes_of(config: ScenarioConfig, agents: Sequence[str] = ()) -> list[str]:
    """Notes on a scenario and its agents, with remedies."""
    with own_code([*own_places(config), *agents]):
        first = first_round(config, seed=0)
        notes = [*undeliverable_notes(config, first), *_guarantee_notes(config, first)]
        notes += _clock_notes(config, first)
        remark = getattr(plugs_of(config)[1], "note", None)  # of a consumer about the log
        further_notes = (
            remark and str(remark(build_world(config).log)),
            ignored_requirements_note(config, agents),
        )
        return [*notes, *(note for note in further_notes if note), *_ignored_plugs(config, agents)]


def _ignored_plugs(config: ScenarioConfig, agents: Sequence[str]) -> list[str]:
    """Notes on installed plugs that built-in names hide."""
    used: list[tuple[str, str, Container[str]]] = [
        ("arrivals", config.arrivals.kind, ARRIVALS),
        ("consumers", config.consumer.kind, CONSUMERS),
        ("providers", config.providers.kind, PROVIDERS),
        ("models", config.platform.model.partition("(")[0], MODELS),
    ]
    used += [("agents", text.partition("(")[0], AGENTS) for text in agents]
    notes = (ignored_plug(name, kind, built_in) for kind, name, built_in in used)
    return list(dict.fromkeys(note for note in notes if note))


def _guarantee_notes(config: ScenarioConfig, first: RoundTerms) -> Iterator[str]:
    """Notes on guarantees of no exposure or of all positions."""
    required = float(first.requirements.required.sum())
    if not required and not len(first.requirements.table):
        yield (
            f"nothing is guaranteed in the first round (exposure.beta={config.exposure.beta:g}, exposure.forecast="
            f"{config.exposure.forecast:g}), so that a shortfall of 0 says nothing of an agent"
        )
    if required >= _ALL * _positions(config, first):
        yield (
            "the guarantees take up all positions of the first round, so that no visitor can be shown what he likes "
            "best beyond them. Lower exposure.beta to leave agents a choice"
        )


def _clock_notes(config: ScenarioConfig, first: RoundTerms) -> Iterator[str]:
    """Notes on times that do not fit the rounds."""
    if make_arrivals(config).known_beforehand or config.arrivals.kind == "replay":
        return  # a broadcast has no clock, and a replay that of the log
    start = first.schedule.start
    stop = first.schedule.stop
    rounds = config.rounds
    exposure = config.exposure
    length = float(seconds(stop) - seconds(start))
    days = f"{length / 86_400:g} days"
    delay = config.consumer.delay
    if delay is not None and duration_seconds(delay) >= (rounds - 1) * length > 0:
        yield (
            f"consumer.delay={delay} is no shorter than all rounds of {days} before the last, so that the platform "
            "learns nothing from this run. Shorten it, or take more rounds"
        )
    if late := int((build_world(config).release >= start + rounds * (stop - start)).sum()):
        yield (
            f"{late:,} items are released after the last round and never shown. Take more rounds, or set "
            f"releases.last_round below {rounds}"
        )
    if exposure.per == "round" or not length:
        return
    if duration_seconds(exposure.per) < length:
        yield f"exposure.per={exposure.per} is shorter than a round of {days}: each round has its own guarantees"
    elif duration_seconds(exposure.per) % length:
        yield f"exposure.per={exposure.per} is no multiple of a round of {days}: its periods differ in their rounds"


def ignored_requirements_note(config: ScenarioConfig, agents: Sequence[str]) -> str | None:
    """Note about agents that ignore groups, campaigns and caps."""
    exposure = config.exposure
    requirements = {
        "groups": exposure.groups,
        "campaigns": exposure.campaigns,
        "caps": exposure.most is not None,
    }
    kinds = [name for name, requirement in requirements.items() if requirement]
    blind = [name for name in agents if not Capabilities.of(make_agent(name)).keeps_promises]
    if not kinds or not blind:
        return None
    return (
        f"{', '.join(blind)} {'looks' if len(blind) == 1 else 'look'} at floors of items alone, at most, not at "
        f"{' or '.join(kinds)}; what is missed or exceeded is in promises_missed and excess"
    )


def undeliverable_notes(config: ScenarioConfig, first: RoundTerms | None = None) -> list[str]:
    """Notes about first-round guarantees that no agent could deliver."""
    world = build_world(config)
    first = first or first_round(config, seed=0)
    requirements = first.requirements
    forecast = config.exposure.forecast * first.schedule.expected_over_actual
    m = len(requirements.required)
    view = RoundView(
        round=0,
        arrivals=expected(len(first.schedule), forecast),
        slate=config.slate,
        required=requirements.required,
        exposure=np.zeros(m),
        cost=1.0,
        popularity=np.zeros(m, np.int64),
        calibration=(),
        key=0,
        position_weights=requirements.position_weights,
        opens=float(seconds(requirements.start)),
        closes=float(seconds(requirements.stop)),
        promises=requirements.table,
    )
    released = np.where(world.release == ALWAYS, -np.inf, seconds(world.release))
    return [
        f"in the first round, {problem}"
        for problem in undeliverable(view, released, _positions(config, first))
    ]


def _positions(config: ScenarioConfig, first: RoundTerms) -> float:
    """Forecast capacity of the first round, in the guarantee's unit."""
    per_slate = np.concatenate([[0.0], np.cumsum(first.requirements.position_weights)])
    forecast = config.exposure.forecast * first.schedule.expected_over_actual
    return forecast * float(per_slate[first.positions].sum())
