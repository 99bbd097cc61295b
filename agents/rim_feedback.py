"""``rim-feedback``: prices that follow delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.agents.contract import OPTIONS
from rimsim.agents.pacing import Delivery, PacedAgent
from rimsim.arrays import Floats

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView, Slates


@dataclass(config=OPTIONS, eq=False)
class RimFeedback(PacedAgent):
    """Ranks by λ(x,y) − v_y with prices that follow delivery.

    Before arrival t of N, the price of an item with E exposures so far is

        v = clip(v₀ − g·c/√b · (b·t/N − E) / (1 − t/N + δ), −c, 0),

    feedback on the error of delivery, with the price box [−c, 0] of the penalised objective (Balseiro, Lu and
    Mirrokni, arXiv 2007.00514) and a step for each item: relative to its floor, not to its scores, which are tiny
    where floors bind. v₀ is the price at the optimum of last round's states. Excess delivery of an item counts
    against it later. Prices depend on exposures, which the agent knows, and never on consumption.

    (b·t/N − E)/(1 − t/N) is N times the difference between the rate at which the rest of the requirement must be
    delivered and the rate that v₀ was solved for. So early errors, which later arrivals can still make up for, hardly
    move prices, and late ones do: a small gain then suffices, and prices swing less. With ``closing=0`` the error is
    not divided: integral feedback at a constant gain (dual mirror descent with the Euclidean map, seen over a round:
    Balseiro, Lu and Mirrokni 2020), which needs a gain of about 1 to deliver.

    Args:
        gain: g, relative step.
        tol: Relative gap at which the price solver stops.
        closing: δ: how much of the round a correction is spread over at its end; 0 for a constant gain.
    """

    name = "rim-feedback"
    order_free = False
    keeps_promises = True
    barrier_every = None

    gain: float = Field(default=0.1, gt=0)
    tol: float = Field(default=1e-3, gt=0)
    closing: float = Field(default=0.02, ge=0)

    def begin_round(self, view: RoundView) -> None:
        """Solve prices on last round's states and start pacing."""
        self._delivery = Delivery.solved(view, self.tol, self.gain, self.closing)

    def note_delivery(self, exposure: Floats, arrivals: Arrivals | None) -> None:
        """Count others' deliveries, and the arrivals that they answered."""
        self._delivery.note(exposure, arrivals)

    def act(self, arrivals: Arrivals) -> Slates:
        """Serve the rows in order, moving prices after each."""
        return self._delivery.serve(arrivals)
