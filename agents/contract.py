"""Methods and attributes that an agent must or may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pydantic import ConfigDict

from rimsim.arrays import Floats, Ints
from rimsim.errors import AgentError
from rimsim.market.records import Needs

if TYPE_CHECKING:
    from rimsim.evaluation.off_policy import Chances
    from rimsim.market import Arrivals, Feedback, RoundView, SlateLike

OPTIONS = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
"""Configuration of built-in agents' options, which are fields of a pydantic dataclass with checked types and ranges."""


@runtime_checkable
class Agent(Protocol):
    """Policy that answers arrivals with slates.

    An agent may also have:

    * ``learn(feedback)`` (:class:`LearningAgent`), called at each barrier with all feedback since the last barrier,
    * ``state`` and ``load_state`` (:class:`RememberingAgent`), if it keeps information from round to round,
    * ``diagnostics``, a mapping of names to numbers for tables and TensorBoard, read after each round,
    * ``item_price`` (:class:`PricingAgent`), which the certificate uses for its bound,
    * ``chance_of(slates, arrivals)`` (:class:`StatingAgent`), for off-policy evaluation on the ledger of another
      agent,
    * ``note_delivery(exposure, arrivals)`` (:class:`PacingAgent`), if it paces its delivery,
    * ``reprice(view)`` (:class:`RepricingAgent`), called when a model goes live within a round,
    * ``needs_items = True``: ``view.items`` then holds the catalogue, with titles and genres,
    * ``needs_history = True``: ``arrivals.history`` then has each visitor's consumptions and their times,
    * ``needs_log = True``: ``view.log`` then has the items and times of the platform's log,
    * ``needs_truth = True``, for agents that give bounds: ``arrivals.true_intensity`` is then filled in,
    * ``needs_item_factor = True``, for agents that give bounds: ``view.item_factor`` and
      ``arrivals.opening_intensity`` are then filled in,
    * ``needs_future = True``, for agents that give bounds: ``view.audience`` then holds the states of the coming round,
    * ``keeps_promises = True``, if it keeps guarantees of groups, campaigns and caps (``view.promises``); a run lists
      the agents that do not keep them,
    * ``needs_audience = True``, if it acts only in a broadcast, where the visitors are known before the round.
    """

    name: str
    """Name of the agent in tables, pictures and folders."""
    order_free: bool
    """True if rows may come in any order, because a slate depends only on its own row and the view of the round."""
    barrier_every: int | None
    """Number of arrivals between barriers, which no batch may cross; None: the only barrier is the end of the round."""

    def begin_round(self, view: RoundView) -> None:
        """Prepare for a round, given its requirements and past states."""

    def act(self, arrivals: Arrivals) -> SlateLike:
        """Return one slate of k positions for each arrival.

        Each slate has the indices of distinct admissible items, as integers; −1 marks an empty position. The answer may
        also be :class:`rimsim.market.Slates` with prices and propensities.
        """


@runtime_checkable
class LearningAgent(Agent, Protocol):
    """Agent that learns within a round."""

    def learn(self, feedback: Feedback) -> None:
        """Learn, in clock order, from feedback since the last barrier."""


@runtime_checkable
class RememberingAgent(Agent, Protocol):
    """Agent whose memory is saved, so that runs can resume."""

    @property
    def state(self) -> Mapping[str, Floats]:
        """The agent's memory, as arrays by name."""

    def load_state(self, state: Mapping[str, Floats]) -> None:
        """Resume from the memory of another agent."""


@runtime_checkable
class StatingAgent(Agent, Protocol):
    """Agent that states the probability of any slate."""

    def chance_of(self, slates: Ints, arrivals: Arrivals) -> Chances:
        """Probabilities of given slates, computed without changing the agent."""


@runtime_checkable
class PricingAgent(Agent, Protocol):
    """Agent that ranks by intensity minus price, λ − v."""

    item_price: Floats
    """(M,) current item prices v; a bonus is a negative price."""


@runtime_checkable
class PacingAgent(Agent, Protocol):
    """Agent that adapts prices to exposures by any agent."""

    def note_delivery(self, exposure: Floats, arrivals: Arrivals | None) -> None:
        """Count the exposures that another agent delivered to arrivals.

        ``exposure`` (M,) is in the unit of the guarantee. A negative number takes back counted exposures that did not
        occur. ``arrivals`` is None if this agent has counted these arrivals already, because it was asked for slates.
        """


@runtime_checkable
class RepricingAgent(Agent, Protocol):
    """Agent that solves its prices again within a round."""

    def reprice(self, view: RoundView) -> None:
        """Solve prices again for another model.

        The model has gone live within the round. It has scored ``view.past``, and scores the arrivals from now on.
        ``view.exposure`` and ``view.delivered`` have the exposures of the round so far.
        """


@dataclass(frozen=True)
class Capabilities:
    """Record of the capabilities that an agent declares."""

    needs: Needs
    """Optional fields of views and arrivals that the market must fill in for the agent."""
    needs_audience: bool
    """True if the agent can only act in a broadcast."""
    keeps_promises: bool
    """True if the agent takes groups, campaigns and caps into account."""
    moves_prices: bool
    """True if item prices depend on what the agent has delivered."""

    @classmethod
    def of(cls, agent: Agent) -> Capabilities:
        """Capabilities that an agent declares by attributes."""
        return cls(
            needs=Needs.of(agent),
            needs_audience=bool(getattr(agent, "needs_audience", False)),
            keeps_promises=bool(getattr(agent, "keeps_promises", False)),
            moves_prices=hasattr(type(agent), "item_price"),
        )


def diagnostics_of(agent: Agent) -> dict[str, float]:
    """Diagnostics of an agent, under the names ``agent/<name>``.

    Raises:
        AgentError: If the diagnostics are not a mapping of names to numbers.
    """
    diagnostics = getattr(agent, "diagnostics", {})
    try:
        return {f"agent/{name}": float(value) for name, value in diagnostics.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise AgentError(
            f"agent {agent.name!r}: diagnostics are {diagnostics!r}. Expected a mapping of names to numbers"
        ) from error
