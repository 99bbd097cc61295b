"""Policies that decide once per round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from gymnasium import spaces

from rimsim.agents.floors import ClassFloors
from rimsim.agents.play import play_round
from rimsim.arrays import Array, Floats
from rimsim.envs.rounds import ClassFigures, RoundEnv
from rimsim.errors import AgentError, ConfigError
from rimsim.market.records import NO_NEEDS

if TYPE_CHECKING:
    from rimsim.agents.contract import Agent
    from rimsim.envs.rounds import RoundObservation
    from rimsim.market import Arrivals, Market, RoundView
    from rimsim.market.providers import Roster
    from rimsim.market.records import SlateLike

HIGHEST_LEVEL = 5.0
"""Highest floor of a class, as a multiple of the uniform exposure."""
LARGEST_SHARE = 0.8
"""Largest share of positions that floors may add."""


class AgentAction(Protocol):
    """Action that chooses the agent of a round."""

    def agent(self, action: Array) -> Agent:
        """Agent that serves one round."""


@dataclass(frozen=True)
class LevelsAction:
    """Action that sets floors of classes.

    It has G + 1 numbers in [−1, 1]. The first G numbers are the floors of the classes, from 0 to 5 times the uniform
    exposure. The last number is the largest share of positions that the floors may add, from 0 to 0.8. The agent
    ``floors`` delivers them.
    """

    needs = NO_NEEDS

    def space(self, roster: Roster) -> spaces.Space[Array]:
        """Box of G + 1 numbers."""
        return spaces.Box(-1.0, 1.0, (int(roster.of_class.max(initial=0)) + 2,), np.float32)

    def agent(self, action: Array) -> ClassFloors:
        """Agent with the floors of an action."""
        levels, share = levels_of(action)
        return ClassFloors(levels=tuple(levels.tolist()), share=share)

    def play(self, market: Market, action: Array) -> None:
        """Serve the open round with the floors of an action."""
        play_round(market, self.agent(action))


def levels_of(action: Array) -> tuple[Floats, float]:
    """Levels of classes, and share, of an action of :class:`LevelsAction`.

    Raises:
        AgentError: If the action is not a vector of finite numbers.
    """
    numbers = np.asarray(action, np.float64)
    if numbers.ndim != 1 or len(numbers) < 2 or not np.isfinite(numbers).all():
        raise AgentError(
            f"an action has shape {numbers.shape} or numbers that are not finite. Expected a level per class, and a "
            "share"
        )
    clipped = np.clip(numbers, -1.0, 1.0)
    return HIGHEST_LEVEL / 2 * (clipped[:-1] + 1.0), float(LARGEST_SHARE / 2 * (clipped[-1] + 1.0))


class RoundPolicyAgent:
    """Agent whose policy decides once per round.

    It plays as the policy plays in :class:`rimsim.envs.RoundEnv`, to the last bit. rimsim does not read files of
    weights, so your own file makes the agent: ``rimsim compare sellers --agents mine.py:learnt``.

    Args:
        policy: Function from an observation to an action. A policy with a memory has a method ``reset``, called before
            round 0. It must be deterministic.
        observation: Part that observes the market between rounds.
        action: Part that chooses the agent of a round.
        name: Name in tables and pictures.
    """

    order_free = False
    barrier_every: int | None = None

    def __init__(
        self,
        policy: Callable[[Array], Array],
        *,
        observation: RoundObservation | None = None,
        action: AgentAction | None = None,
        name: str = "policy",
    ) -> None:
        self.name = name
        self._policy = policy
        self._observation = ClassFigures() if observation is None else observation
        self._action = LevelsAction() if action is None else action

    def begin_round(self, view: RoundView) -> None:
        """Ask the policy for the agent of the round."""
        reset = getattr(self._policy, "reset", None)
        if view.round == 0 and reset is not None:
            reset()
        self._agent = self._action.agent(self._policy(self._observation.observe(view)))
        self._agent.begin_round(view)

    def act(self, arrivals: Arrivals) -> SlateLike:
        """Slates of the agent of the round."""
        return self._agent.act(arrivals)


def sellers_env(**refused: Any) -> RoundEnv:
    """``RIMSellers-v0``: set floors for classes of sellers with hidden needs."""
    return _registered("RIMSellers-v0", "sellers", refused)


def sellers_hidden_env(**refused: Any) -> RoundEnv:
    """``RIMSellersHidden-v0``: the same, with other needs in each market."""
    return _registered("RIMSellersHidden-v0", "sellers-hidden", refused)


def _registered(name: str, scenario: str, refused: dict[str, Any]) -> RoundEnv:
    """Environment of a registered id, which has no settings."""
    if refused:
        raise ConfigError(
            f"{name}: {', '.join(refused)} cannot be set, because the id stands for one task. For another task, make "
            "rimsim.envs.RoundEnv with a scenario of your own"
        )
    return RoundEnv(scenario, action=LevelsAction())
