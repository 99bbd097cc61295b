"""``offline-match``: a broadcast to everyone at once, floors and capacities together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.agents.audience import planned
from rimsim.agents.contract import OPTIONS

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView, Slates


@dataclass(config=OPTIONS, eq=False)
class OfflineMatch:
    """The paper's offline matching: everyone is known, and the optimum is solved for all of them jointly.

    Ma, Liu and Deoras (ICLR 2022), offline matching; the problem is a transportation polytope, so its optimum has
    whole exposures. For broadcasts; the (N, M) scores of the round are held at once.

    Args:
        tol: Relative gap at which the solver stops.
    """

    name = "offline-match"
    order_free = True
    barrier_every = None
    needs_audience = True
    keeps_promises = True

    tol: float = Field(default=1e-4, gt=0)

    def begin_round(self, view: RoundView) -> None:
        """Solve the broadcast.

        Raises:
            AgentError: If who arrives is not known before the round.
        """
        self._plan = planned(view, self.name, self.tol)
        self.item_price = self._plan.price

    def act(self, arrivals: Arrivals) -> Slates:
        """The planned slates of these users."""
        return self._plan.priced(self._plan.answer(arrivals))
