"""The protocol of agents: three attributes and two methods; no base class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pydantic import ConfigDict

from rimsim.arrays import Floats, Ints
from rimsim.errors import AgentError

if TYPE_CHECKING:
    from rimsim.evaluation.off_policy import Chances
    from rimsim.market import Arrivals, Feedback, RoundView, SlateLike


OPTIONS = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
"""How the shipped agents take their options, as fields of a pydantic dataclass: by type and range, when one is made."""


@runtime_checkable
class Agent(Protocol):
    """Answers arrivals with slates.

    An agent may also have:

    * ``learn(feedback)`` (:class:`LearningAgent`), called at its barriers with all feedback since the last,
    * ``state`` and ``load_state`` (:class:`RememberingAgent`), if it remembers something over rounds,
    * ``diagnostics``, figures of its own by name, read when a round is over, for tables and TensorBoard,
    * ``item_price`` (:class:`PricingAgent`), with which the certificate bounds its value,
    * ``chance_of(slates, arrivals)`` (:class:`StatingAgent`), with which its slates can be valued on another's log,
    * ``note_delivery(exposure, arrivals)``, if it paces its delivery: exposures (M,), in its unit, that came without it
      (negative: that did not come), and the arrivals that they answered, or None,
    * ``needs_items = True``: ``view.items`` then holds the catalogue, with titles and genres,
    * ``needs_history = True``: ``arrivals.history`` then says what each visitor has consumed, and when,
    * ``needs_truth = True``, for bounds: ``arrivals.true_intensity`` is then filled,
    * ``needs_future = True``, for bounds: ``view.audience`` then holds the round's own states,
    * ``keeps_promises = True``, if it looks at groups, campaigns and caps (``view.promises``); before a run, those that
      do not are named,
    * ``needs_audience = True``, for what only a broadcast can be asked: who arrives is known before the round.
    """

    name: str
    """In tables, pictures and folders."""
    order_free: bool
    """A row's slate depends on that row and the round's view alone, so rows may come in any order."""
    barrier_every: int | None
    """No batch crosses a multiple of so many arrivals; None: only the round's end is a barrier."""

    def begin_round(self, view: RoundView) -> None:
        """Get ready for a round: last round's states and scores, required exposures."""
        ...

    def act(self, arrivals: Arrivals) -> SlateLike:
        """Answer n arrivals with (n, k) item indices; rows are handled in order.

        Returns:
            Whole numbers, distinct and admissible in each row, −1 for an empty position; or
            :class:`rimsim.market.Slates` with prices and propensities beside them.
        """
        ...


@runtime_checkable
class LearningAgent(Agent, Protocol):
    """An agent that learns within a round."""

    def learn(self, feedback: Feedback) -> None:
        """Learn from what was shown and consumed since the last barrier, in clock order."""
        ...


@runtime_checkable
class RememberingAgent(Agent, Protocol):
    """An agent that remembers something over rounds, so that an interrupted run can go on with it."""

    @property
    def state(self) -> Mapping[str, Floats]:
        """What it remembers, as arrays by name."""
        ...

    def load_state(self, state: Mapping[str, Floats]) -> None:
        """Go on with what another remembered."""
        ...


@runtime_checkable
class StatingAgent(Agent, Protocol):
    """An agent that says with which chance it shows any slate."""

    def chance_of(self, slates: Ints, arrivals: Arrivals) -> Chances:
        """Chances of slates (n, k), −1 for an empty position, in the states of n arrivals; the agent stays as it is."""
        ...


@runtime_checkable
class PricingAgent(Agent, Protocol):
    """An agent that ranks by λ − v."""

    item_price: Floats
    """(M,) present item prices v; at most 0 for a bonus."""


def diagnostics_of(agent: Agent) -> dict[str, float]:
    """An agent's own figures as ``agent/<name>``; none if it has none.

    Raises:
        AgentError: If they are no mapping of names to numbers.
    """
    found = getattr(agent, "diagnostics", {})
    try:
        return {f"agent/{name}": float(value) for name, value in found.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise AgentError(
            f"agent {agent.name!r}: diagnostics are {found!r}; allowed: a mapping of names to numbers"
        ) from error
