"""``rim-feedback``: prices that follow delivery, the agent that keeps the guarantee."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim import rng
from rimsim.agents._feedback import rank_with_feedback
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

        w = clip(w₀ + g·c/√b · (b·t/N − E), 0, c),

    integral feedback on delivery (equal to mirror descent on the dual with the Euclidean map, seen over a round:
    Balseiro, Lu and Mirrokni 2020), with the price box [0, c] of the penalised objective (Balseiro, Lu and Mirrokni,
    arXiv 2007.00514) and a step for each item: relative to its floor, not to its scores, which are tiny where floors
    bind. w₀ is the bonus at the optimum of last round's states. What an item got too much of counts against its
    bonus later. Prices depend on exposures, which the agent knows, and never on consumption.

    Args:
        gain: g, relative step.
        tol: Relative gap at which the price solver stops.

    Raises:
        ConfigError: If the gain is not positive.
    """

    name = "rim-feedback"
    order_free = False
    barrier_every = None

    def __init__(self, gain: float = 1.0, tol: float = 1e-3) -> None:
        if not gain > 0:
            raise ConfigError(f"rim-feedback: gain is {gain}; allowed: a positive number")
        self.gain = gain
        self.tol = tol

    def begin_round(self, view: RoundView) -> None:
        """Solve the prices of last round's states and set the pace of delivery."""
        self._slate, self._key, self._cost = view.slate, view.key, view.cost
        price, _ = solved_prices(view, self.tol)
        required = view.required.astype(np.float64)
        self._start = np.where(required > 0, -price, 0.0)
        self._pace = required / view.arrivals
        self._step = np.where(required > 0, self.gain * view.cost / np.sqrt(np.maximum(required, 1.0)), 0.0)
        self._exposure = view.exposure.copy()
        self._time = 0

    @property
    def item_price(self) -> NDArray[np.float64]:
        """(M,) present item prices v."""
        error = self._pace * self._time - self._exposure
        return np.asarray(-np.clip(self._start + self._step * error, 0.0, self._cost), np.float64)

    def act(self, arrivals: Arrivals) -> Slates:
        """Serve the rows in order, moving prices after each."""
        items = np.empty((len(arrivals), self._slate), np.int64)
        price = np.empty((len(arrivals), self._slate), np.float32)
        rank_with_feedback(
            arrivals.intensity.cpu().numpy(),
            arrivals.admissible.cpu().numpy(),
            rng.bits(self._key, rng.Purpose.TIES, arrivals.id),
            self._time,
            self._start,
            self._pace,
            self._step,
            self._cost,
            self._exposure,
            items,
            price,
        )
        self._time += len(arrivals)
        return Slates(items, price=price)
