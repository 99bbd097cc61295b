"""Built-in agents by name, and agents from your own files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from rimsim.errors import ConfigError
from rimsim.plugs import make_plug, named_options

if TYPE_CHECKING:
    from rimsim.agents.contract import Agent

Role: TypeAlias = Literal["reference", "bound", "baseline", "guarantor", "contestant"]


class AgentEntry(NamedTuple):
    """Class and role of a built-in agent."""

    module: str
    """Name of the module in rimsim.agents."""
    cls: str
    """Name of the class in the module."""
    role: Role = "contestant"
    """Role of the agent in reports. Other agents are compared with a reference. Reports do not discuss a bound or a
    baseline if there are other agents. A guarantor may represent agents that keep guarantees."""
    precedence: int = 0
    """Rank among guarantors; the agent with the lowest precedence is the subject of titles."""
    style: tuple[str, str] | None = None
    """Colour and marker in pictures; None: a checksum of the name chooses both."""
    layer: int = 0
    """Place in the order of drawing, for agents with a style."""


# Each two colours can be told apart by readers with normal sight, deuteranopia or protanopia: CIEDE2000 is at least 13,
# and at least 22 among relevance, rim-dual, rim-feedback, random and oracle.
ENTRIES: Mapping[str, AgentEntry] = {
    "random": AgentEntry("exploration", "Random", "bound", 0, ("#949494", "<"), 8),
    "popularity": AgentEntry("ranking", "PopularityAgent", "bound", 0, ("#62b578", "X"), 7),
    "relevance": AgentEntry("ranking", "Relevance", "reference", 0, ("#1a75b1", "o"), 1),
    "rim-dual": AgentEntry("rim_dual", "RimDual", "guarantor", 3, ("#efa71b", "s"), 2),
    "rim-feedback": AgentEntry("rim_feedback", "RimFeedback", "guarantor", 1, ("#be4105", "D"), 3),
    "rim-resolve": AgentEntry("rim_resolve", "RimResolve", "guarantor", 2, ("#8e7563", "v"), 4),
    "flat-budget": AgentEntry("budget", "FlatBudget", "guarantor", 5, ("#5f248d", "h"), 11),
    "rim-ucb": AgentEntry("rim_ucb", "RimUCB"),
    "entropic-dual": AgentEntry("entropic_dual", "EntropicDual", "guarantor", 4, ("#5d0840", "P"), 5),
    "p-mmf": AgentEntry("p_mmf", "PMMF"),
    "fair-rec": AgentEntry("fair_rec", "FairRec"),
    "epsilon-greedy": AgentEntry("exploration", "EpsilonGreedy", "baseline", 0, ("#58ade4", "^"), 6),
    "lin-ucb": AgentEntry("lin_ucb", "LinUCB"),
    "offline-match": AgentEntry("plans", "OfflineMatch"),
    "user-rec": AgentEntry("plans", "UserRec"),
    "oracle": AgentEntry("ranking", "Oracle", "bound", 0, ("#000000", "*"), 9),
    "state-oracle": AgentEntry("ranking", "StateOracle", "bound"),
    "informed": AgentEntry("ranking", "Informed", "bound"),
    "hindsight": AgentEntry("plans", "Hindsight", "bound", 0, ("#585858", "p"), 10),
}
"""Name of an agent → its entry. No class is imported here, so that reports of finished runs load no torch."""


class _Classes(Mapping[str, type[Any]]):
    """Classes by name; each is imported on first use."""

    def __getitem__(self, name: str) -> type[Any]:
        entry = ENTRIES[name]
        made: type[Any] = getattr(import_module(f"rimsim.agents.{entry.module}"), entry.cls)
        return made

    def __contains__(self, name: object) -> bool:  # this does not import the class
        return name in ENTRIES

    def __iter__(self) -> Iterator[str]:
        return iter(ENTRIES)

    def __len__(self) -> int:
        return len(ENTRIES)


BUILT_IN: Mapping[str, type[Any]] = _Classes()
"""Name of an agent → its class."""


def named(*roles: Role) -> tuple[str, ...]:
    """Names of built-in agents of given roles, by precedence."""
    names = [name for name, entry in ENTRIES.items() if entry.role in roles]
    return tuple(sorted(names, key=lambda name: ENTRIES[name].precedence))


def agent_styles() -> dict[str, tuple[str, str]]:
    """Colour and marker of built-in agents, in drawing order."""
    styled = sorted(ENTRIES.items(), key=lambda pair: pair[1].layer)
    return {name: entry.style for name, entry in styled if entry.style is not None}


def make_agent(text: str) -> Agent:
    """Make an agent from its name and options in text.

    Args:
        text: A built-in or installed name, ``module:Class`` or ``path/to/file.py:Class``, with options in brackets if
            wanted: ``epsilon-greedy(epsilon=0.2)``. Options become part of the agent's name.

    Raises:
        ConfigError: If there is no such agent, module, class or option.
    """
    base_name, options = named_options(text, "agent")
    agent = make_plug(base_name, "agent", BUILT_IN, ("begin_round", "act"), options)
    from rimsim.agents.contract import Agent  # noqa: PLC0415  # a wrong name is refused before the slow import of torch

    if not isinstance(agent, Agent):
        lacks = [name for name in ("name", "order_free", "barrier_every") if not hasattr(agent, name)]
        raise ConfigError(
            f"agent {base_name!r} has no {', '.join(lacks)}. Define all attributes of rimsim.agents.Agent"
        )
    if agent.barrier_every is not None and agent.barrier_every < 1:
        raise ConfigError(
            f"agent {base_name!r}: barrier_every is {agent.barrier_every}. Expected None or a number of at least 1"
        )
    if options:
        name = f"{agent.name}({text.partition('(')[2].replace(' ', '')}"
        try:
            agent.name = name
        except AttributeError:
            raise ConfigError(
                f"agent {base_name!r}: rimsim must add the options to the agent's name, but the attribute name "
                "cannot be changed. Make name a plain attribute"
            ) from None
    return agent
