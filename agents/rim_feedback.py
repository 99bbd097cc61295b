"""``rim-feedback``: prices that follow delivery, the agent that keeps the guarantee."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.agents._feedback import Pacing, serve_with_feedback, tie_base
from rimsim.agents.prices import solved_prices
from rimsim.errors import ConfigError
from rimsim.market import Slates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.market import Arrivals, RoundView

__all__ = ["RimFeedback"]


class RimFeedback:
    """Ranks by λ(x,y) − v_y with prices that move on the delivery error, arrival by arrival.

    Before arrival t of N, the bonus w = −v of an item with E exposures so far is

        w = clip(w₀ + g·c/√b · (b·t/N − E) / (1 − t/N + δ), 0, c),

    feedback on the error of delivery, with the price box [0, c] of the penalised objective (Balseiro, Lu and
    Mirrokni, arXiv 2007.00514) and a step for each item: relative to its floor, not to its scores, which are tiny
    where floors bind. w₀ is the bonus at the optimum of last round's states. What an item got too much of counts
    against its bonus later. Prices depend on exposures, which the agent knows, and never on consumption.

    (b·t/N − E)/(1 − t/N) is N times the difference between the rate at which the rest of the requirement must be
    delivered and the rate that w₀ was solved for. So early errors, which later arrivals can still make up for, hardly
    move prices, and late ones do: a small gain then suffices, and prices swing less. With ``closing=0`` the error is
    not divided: integral feedback at a constant gain (dual mirror descent with the Euclidean map, seen over a round:
    Balseiro, Lu and Mirrokni 2020), which needs a gain of about 1 to deliver.

    Args:
        gain: g, relative step.
        tol: Relative gap at which the price solver stops.
        closing: δ: how much of the round a correction is spread over at its end; 0 for a constant gain.
        guard: Serve an item whatever its value once what is left of its requirement can only be met by serving it
            now: when it lacks as many exposures as arrivals are left, or when all items together lack more than fits
            into the slates after this one.

    Raises:
        ConfigError: If the gain is not positive, ``closing`` is negative, or the guard is neither true nor false.
    """

    name = "rim-feedback"
    order_free = False
    barrier_every = None

    def __init__(
        self, gain: float = 0.1, tol: float = 1e-3, *, closing: float = 0.02, guard: bool = False
    ) -> None:
        if not gain > 0:
            raise ConfigError(f"rim-feedback: gain is {gain}; allowed: a positive number")
        if not closing >= 0:
            raise ConfigError(f"rim-feedback: closing is {closing}; allowed: a number of at least 0")
        if guard not in (True, False):
            raise ConfigError(f"rim-feedback: guard is {guard!r}; allowed: True or False")
        self.gain = gain
        self.tol = tol
        self.closing = float(closing)
        self.guard = guard

    def begin_round(self, view: RoundView) -> None:
        """Solve the prices of last round's states and set the pace of delivery."""
        price, _ = solved_prices(view, self.tol)
        required = view.required.astype(np.float64)
        self._pacing = Pacing(
            start=np.where(required > 0, -price, 0.0),
            pace=required / view.arrivals,
            step=np.where(required > 0, self.gain * view.cost / np.sqrt(np.maximum(required, 1.0)), 0.0),
            cost=view.cost,
            closing=self.closing,
            required=required if self.guard else np.empty(0),
            arrivals=view.arrivals,
        )
        self._slate, self._ties = view.slate, tie_base(view.key)
        self._exposure = view.exposure.astype(np.float64)
        self._time = 0

    @property
    def item_price(self) -> NDArray[np.float64]:
        """(M,) present item prices v."""
        return -self._pacing.bonus(self._time, self._exposure)

    def act(self, arrivals: Arrivals) -> Slates:
        """Serve the rows in order, moving prices after each."""
        items, price = serve_with_feedback(
            arrivals, self._ties, self._time, self._pacing, self._exposure, self._slate
        )
        self._time += len(items)
        return Slates(items, price=price)
