"""``flat-budget``: the same bonus for every item below its floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.agents.contract import OPTIONS
from rimsim.agents.delivery import Delivery, PacedAgent
from rimsim.agents.row_table import RowTable
from rimsim.arrays import Floats
from rimsim.market import Slates

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView


@dataclass(config=OPTIONS, eq=False)
class FlatBudget(PacedAgent):
    """Ranks by λ(x,y) plus a bonus below the floor.

    This is the simplest agent with a guarantee: it solves no prices, and it does not model the time of the round. An
    item has the bonus ``bonus``·c until it has its required exposure. Each group or campaign below its floor adds the
    same bonus to its items. An item is not shown if its next exposure could exceed a cap. If requirements are hard, a
    guard shows items whose exposures later arrivals could not deliver.

    Args:
        bonus: Bonus as a multiple of c. If requirements are soft, a bonus above c counts as c.
    """

    name = "flat-budget"
    order_free = False
    barrier_every = None
    keeps_promises = True

    bonus: float = Field(default=0.3, ge=0)

    def begin_round(self, view: RoundView) -> None:
        """Give each requirement below its floor the bonus."""
        is_required = RowTable.of(view).min_exposure > 0
        # Without a bonus, the price is −0.0 as in Pacing, so that tables have one kind of zero.
        self._delivery = Delivery.budgeted(view, np.where(is_required, -self.bonus * view.cost, -0.0))

    def note_delivery(self, exposure: Floats, arrivals: Arrivals | None) -> None:
        """Count exposures that another agent delivered to arrivals."""
        self._delivery.note(exposure, arrivals)

    def act(self, arrivals: Arrivals) -> Slates:
        """Serve arrivals in order, and end bonuses at the floors."""
        return self._delivery.serve(arrivals)
