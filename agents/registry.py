"""Agents by name, and by the place of a user's own class."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from rimsim.agents.contract import Agent
from rimsim.agents.entropic_dual import EntropicDual
from rimsim.agents.epsilon_greedy import EpsilonGreedy
from rimsim.agents.fair_rec import FairRec
from rimsim.agents.hindsight import Hindsight
from rimsim.agents.lin_ucb import LinUCB
from rimsim.agents.offline_match import OfflineMatch
from rimsim.agents.oracle import Oracle
from rimsim.agents.p_mmf import PMMF
from rimsim.agents.popularity import Popularity
from rimsim.agents.random import Random
from rimsim.agents.relevance import Relevance
from rimsim.agents.rim_dual import RimDual
from rimsim.agents.rim_feedback import RimFeedback
from rimsim.agents.rim_resolve import RimResolve
from rimsim.agents.user_rec import UserRec
from rimsim.errors import ConfigError
from rimsim.plugs import make_plug

BUILT_IN: dict[str, Callable[..., Any]] = {
    "random": Random,
    "popularity": Popularity,
    "relevance": Relevance,
    "rim-dual": RimDual,
    "rim-feedback": RimFeedback,
    "rim-resolve": RimResolve,
    "entropic-dual": EntropicDual,
    "p-mmf": PMMF,
    "fair-rec": FairRec,
    "epsilon-greedy": EpsilonGreedy,
    "lin-ucb": LinUCB,
    "offline-match": OfflineMatch,
    "user-rec": UserRec,
    "oracle": Oracle,
    "hindsight": Hindsight,
}
"""Name to class."""


def make_agent(text: str) -> Agent:
    """Make an agent from what stands on a command line.

    Args:
        text: A built-in name, ``module:Class`` or ``path/to/file.py:Class``, with options in brackets if wanted:
            ``epsilon-greedy(epsilon=0.2)``. With options, they become part of the agent's name.

    Raises:
        ConfigError: If there is no such agent, module, class or option.
    """
    where, bracket, inside = text.partition("(")
    options = _options(text, inside) if bracket else {}
    agent = make_plug(where, "agent", BUILT_IN, ("begin_round", "act"), options)
    if not isinstance(agent, Agent):
        lacks = [name for name in ("name", "order_free", "barrier_every") if not hasattr(agent, name)]
        raise ConfigError(f"agent {where!r} lacks {', '.join(lacks)}; allowed: see rimsim.agents.Agent")
    if agent.barrier_every is not None and agent.barrier_every < 1:
        raise ConfigError(
            f"agent {where!r}: barrier_every is {agent.barrier_every}; allowed: None, or at least 1"
        )
    if options:
        agent.name = f"{agent.name}({inside.replace(' ', '')}"
    return agent


def _options(text: str, inside: str) -> dict[str, object]:
    """Keyword options of ``name(option=value, …)``; values are Python literals."""
    try:
        call = ast.parse(f"f({inside}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError  # noqa: TRY301  # told with the others below
        return {str(part.arg): ast.literal_eval(part.value) for part in call.keywords}
    except (SyntaxError, ValueError):
        raise ConfigError(
            f"agent {text!r}: cannot read the options; allowed: name(option=value, …) with plain values"
        ) from None
