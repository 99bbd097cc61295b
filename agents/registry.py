"""Built-in agents by name, and agents from your own files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from rimsim.errors import ConfigError
from rimsim.plugs import make_plug, named_options
from rimsim.user_code import code_named

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
    baseline if there are other agents. A guarantor keeps guarantees, and titles of pictures can be about it."""
    precedence: int = 0
    """Rank among guarantors; the agent with the lowest precedence is the subject of titles."""
    style: tuple[str, str] | None = None
    """Colour and marker in pictures; None: a checksum of the name chooses both."""
    layer: int = 0
    """Rank in the order of drawing, for agents with a style; the agent with rank 1 is drawn first."""


# Readers with normal sight, deuteranopia or protanopia can distinguish any two of the colours: their CIEDE2000 distance
# is at least 13, and at least 22 among relevance, rim-dual, rim-feedback, random and oracle.
ENTRIES: Mapping[str, AgentEntry] = {
    "random": AgentEntry("exploration", "Random", role="bound", style=("#949494", "<"), layer=8),
    "popularity": AgentEntry("ranking", "PopularityAgent", role="bound", style=("#62b578", "X"), layer=7),
    "own": AgentEntry("habits", "Own", role="bound"),
    "recent": AgentEntry("habits", "Recent", role="bound"),
    "relevance": AgentEntry("ranking", "Relevance", role="reference", style=("#1a75b1", "o"), layer=1),
    "rim-dual": AgentEntry(
        "rim_dual", "RimDual", role="guarantor", precedence=3, style=("#efa71b", "s"), layer=2
    ),
    "rim-feedback": AgentEntry(
        "rim_feedback", "RimFeedback", role="guarantor", precedence=1, style=("#be4105", "D"), layer=3
    ),
    "rim-resolve": AgentEntry(
        "rim_resolve", "RimResolve", role="guarantor", precedence=2, style=("#8e7563", "v"), layer=4
    ),
    "flat-budget": AgentEntry(
        "budget", "FlatBudget", role="guarantor", precedence=5, style=("#5f248d", "h"), layer=11
    ),
    "rim-ucb": AgentEntry("rim_ucb", "RimUCB"),
    "entropic-dual": AgentEntry(
        "entropic_dual", "EntropicDual", role="guarantor", precedence=4, style=("#5d0840", "P"), layer=5
    ),
    "p-mmf": AgentEntry("p_mmf", "PMMF"),
    "fair-rec": AgentEntry("fair_rec", "FairRec"),
    "epsilon-greedy": AgentEntry(
        "exploration", "EpsilonGreedy", role="baseline", style=("#58ade4", "^"), layer=6
    ),
    "lin-ucb": AgentEntry("lin_ucb", "LinUCB"),
    "floors": AgentEntry("floors", "ClassFloors"),
    "adaptive-floors": AgentEntry("adaptive_floors", "AdaptiveFloors"),
    "offline-match": AgentEntry("plans", "OfflineMatch"),
    "user-rec": AgentEntry("plans", "UserRec"),
    "oracle": AgentEntry("ranking", "Oracle", role="bound", style=("#000000", "*"), layer=9),
    "state-oracle": AgentEntry("ranking", "StateOracle", role="bound"),
    "informed": AgentEntry("ranking", "Informed", role="bound"),
    "triage": AgentEntry("floors", "Triage", role="bound"),
    "hindsight": AgentEntry("plans", "Hindsight", role="bound", style=("#585858", "p"), layer=10),
}
"""Name of an agent → its entry. No class is imported here, so that reports of finished runs load no torch."""


class _Classes(Mapping[str, type[Any]]):
    """Classes by name; each is imported on first use."""

    def __getitem__(self, name: str) -> type[Any]:
        entry = ENTRIES[name]
        agent_class: type[Any] = getattr(import_module(f"rimsim.agents.{entry.module}"), entry.cls)
        return agent_class

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
        options_text = text.partition("(")[2].replace(" ", "")  # includes the closing bracket
        for place in code_named([options_text]):  # the name is also that of a folder
            options_text = re.sub(rf"(['\"]?){re.escape(place)}\1", place.rpartition(":")[2], options_text)
        name = f"{agent.name}({options_text}"
        try:
            agent.name = name
        except AttributeError:
            raise ConfigError(
                f"agent {base_name!r}: rimsim must add the options to the agent's name, but the attribute name "
                "cannot be changed. Make name a plain attribute"
            ) from None
    return agent
