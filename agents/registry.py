"""Agents by name, and by the place of a user's own class."""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from rimsim.agents.contract import Agent
from rimsim.agents.entropic_dual import EntropicDual
from rimsim.agents.epsilon_greedy import EpsilonGreedy
from rimsim.agents.fair_rec import FairRec
from rimsim.agents.hindsight import Hindsight
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
from rimsim.config_errors import refusal
from rimsim.errors import ConfigError, RimsimError, nearest
from rimsim.loading import imported, without_name

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BUILT_IN", "make_agent"]

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
    factory = _factory(where)
    known = [name for name in inspect.signature(factory).parameters if name != "self"]
    for name in options:
        if name not in known:
            raise ConfigError(f"agent {where!r} has no option {name!r}.{nearest(name, known)}")
    try:
        agent = factory(**options)
    except RimsimError:
        raise
    except ValidationError as error:
        names = {name: f"agent {where!r}: {name}" for name in known}
        raise refusal(error, cast("type", factory), origin=f"agent {where!r}", options=names) from error
    except Exception as error:  # whatever a user's constructor does
        raise ConfigError(
            f"agent {where!r} cannot be made from {options or 'no options'}: {error}"
        ) from error
    if not isinstance(agent, Agent):
        missing = [
            part
            for part in ("name", "order_free", "barrier_every", "begin_round", "act")
            if not hasattr(agent, part)
        ]
        raise ConfigError(f"agent {where!r} lacks {', '.join(missing)}; allowed: see rimsim.agents.Agent")
    if agent.barrier_every is not None and agent.barrier_every < 1:
        raise ConfigError(
            f"agent {where!r}: barrier_every is {agent.barrier_every}; allowed: None, or at least 1"
        )
    if options:
        agent.name = f"{agent.name}({inside.replace(' ', '')}"
    return agent


def _factory(where: str) -> Callable[..., Agent]:
    """The class or function that makes the agent of a name or of a place."""
    if where in BUILT_IN:
        return BUILT_IN[where]
    if where.endswith(".py"):
        raise without_name(where, "agent")
    if ":" not in where:
        raise ConfigError(f"agent {where!r} is unknown.{nearest(where, BUILT_IN)} Your own: file.py:Class.")
    return cast("Callable[..., Agent]", imported(where, "agent"))


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
