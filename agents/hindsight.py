"""``hindsight``: the optimum of the whole round, a bound and no contestant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.agents.audience import planned
from rimsim.market import Slates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.market import Arrivals, RoundView

__all__ = ["Hindsight"]


class Hindsight:
    """Knows who will arrive, and serves the optimum of the round's transportation problem.

    The states are those at the round's beginning; in a replay, what the log says by each arrival. A clone that
    consumes on an earlier visit changes a later state: such a row is ranked by λ − v at the optimal prices. So the
    agent is exact in a replay or broadcast, and close to the optimum among clones. The (N, M) scores of the round are
    held at once.

    Args:
        tol: Relative gap at which the solver stops.
    """

    name = "hindsight"
    order_free = True
    barrier_every = None
    needs_future = True
    item_price: NDArray[np.float64]

    def __init__(self, tol: float = 1e-4) -> None:
        self.tol = tol

    def begin_round(self, view: RoundView) -> None:
        """Solve the round."""
        self._plan = planned(view, self.name, self.tol)
        self.item_price = self._plan.price

    def act(self, arrivals: Arrivals) -> Slates:
        """What was planned for these arrivals."""
        items = self._plan.answer(arrivals)
        return Slates(items, price=np.where(items >= 0, self.item_price[items], np.nan).astype(np.float32))
