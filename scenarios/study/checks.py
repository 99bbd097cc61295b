"""Checks of a study before it runs, and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rimsim.agents import Agent, Capabilities, make_agent
from rimsim.config import ScenarioConfig, find_scenario, override
from rimsim.config.guarantees import BETA, ShareArgument, group_field, group_share, with_guarantees
from rimsim.data.log import ITEM_COLUMNS, own_attributes
from rimsim.data.session_logs import LogSource, source_name
from rimsim.errors import ConfigError, has_type, nearest, require_known
from rimsim.market import build_world
from rimsim.market.arrivals import make_arrivals
from rimsim.scenarios.report.tables import REFERENCE
from rimsim.scenarios.runs.arms import control_in, part_name
from rimsim.session import SESSION
from rimsim.tracking import event_folder

REVEALED = ("truth",)
"""Names of facts that are hidden from agents, but can be written."""
_DEFAULT = ("relevance", "flat-budget", "rim-dual", "rim-feedback", "random")


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
    """Log: its name or path, a data frame (pandas, Polars, Arrow), or an :class:`rimsim.data.EventLog`."""
    columns: str | None = None
    """Columns to read, such as ``user=uid,item=sku,time=at``."""
    separator: str | None = None
    """Separator of a text file."""
    encoding: str | None = None
    """Encoding of a text file."""
    time_unit: str | None = None
    """Unit of times that are numbers, such as ``ms`` or ``min``."""
    skip_bad_rows: bool | None = None
    """True if bad rows are skipped and counted."""
    drop_returns: bool | None = None
    """True if rows with a negative quantity are left out and counted."""
    min_item_events: int | None = None
    """Minimum number of events per item."""
    items: str | Path | None = None
    """Path of the table of items."""

    def fields(self) -> dict[str, tuple[str, object]]:
        """Dotted field → argument that sets it, and its value."""
        names = (
            "columns",
            "separator",
            "encoding",
            "time_unit",
            "skip_bad_rows",
            "drop_returns",
            "min_item_events",
        )
        arguments = {f"data.{name}": (name, getattr(self, name)) for name in names}
        arguments["data.items"] = ("items", None if self.items is None else str(self.items))
        source = None if self.data is None else source_name(self.data)
        return {
            field: (name, value)
            for field, (name, value) in ({"data.source": ("data", source)} | arguments).items()
            if value is not None
        }


def resolved(
    scenario: str | Path | ScenarioConfig,
    rounds: int | None = None,
    log: LogArguments | None = None,
    settings: Mapping[str, object] | None = None,
    guarantee: Mapping[str, ShareArgument] | None = None,
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


def grid_with(
    grid: Mapping[str, Sequence[object]], guarantee: Mapping[str, ShareArgument] | None
) -> dict[str, Sequence[object]]:
    """Grid of a sweep, with guarantees that have several shares."""
    shares = {column: group_share(column, argument).betas for column, argument in (guarantee or {}).items()}
    return {
        **grid,
        **{group_field(column): list(betas) for column, betas in shares.items() if len(betas) > 1},
    }


def require_groups(config: ScenarioConfig, columns: Sequence[str]) -> None:
    """Refuse groups of columns that are no attributes of items.

    ``columns`` are those whose groups are only reported.

    Raises:
        ConfigError: If the item table lacks a column; the message gives the reason, if the log has such a column.
    """
    log = build_world(config).log
    # Other columns of the log, whose use explains why they are no attributes of items.
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
        # This refuses a name that cannot be the name of a folder.
        event_folder(Path(), name, 0)
        if (control := control_in(name)) is not None:
            raise ConfigError(
                f"agent {text!r} is called {name!r}, but the ending '-{control}' is reserved for controls. "
                "Give the agent another name"
            )
        if names.count(name) > 1:
            raise ConfigError(f"agents: two agents are called {name!r}. Give them different names")
        # A letter that file names do not allow is replaced, so different names may have the same files.
        clashing_names = [
            other_name
            for other_name in names
            if other_name != name and part_name(other_name, 0) == part_name(name, 0)
        ]
        if clashing_names:
            raise ConfigError(
                f"agents: {name!r} and {clashing_names[0]!r} would write to the same files, "
                f"{part_name(name, 0)!r}. Choose names that differ in letters or digits"
            )
    return agents


def checked_frozen(
    config: ScenarioConfig, agents: Mapping[str, Agent], frozen: Sequence[str] | None
) -> tuple[str, ...]:
    """Agents that also get controls."""
    if frozen is None:
        reference = [text for text, agent in agents.items() if agent.name == REFERENCE]
        default = reference or list(agents)[:1]
        # A platform that never retrains is its own control.
        frozen = default if config.platform.retrain and config.rounds > 1 else ()
    if has_type(frozen, str):
        raise ConfigError(
            f"frozen is the text {str(frozen)!r}. Expected a list of agents, such as ['relevance'], or [] for no "
            "controls"
        )
    require_known("frozen: {} is not among the agents", frozen, agents)
    needs = [Capabilities.of(agents[text]).needs for text in frozen]
    if any(need.truth or need.item_factor for need in needs):
        raise ConfigError(
            "frozen: an agent of this list uses the truth instead of the platform's model, so it has no controls. "
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
