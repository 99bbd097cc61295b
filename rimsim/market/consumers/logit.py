"""Consumers who take one item of a slate, or none: multinomial logit with an outside option."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Floats, Ints
from rimsim.market.consumers.contract import Response
from rimsim.market.consumers.intensity import examination
from rimsim.market.consumers.kernels import uniform_draws
from rimsim.market.consumers.wanting import Wanting

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.market.consumers.contract import Visits


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class LogitOptions:
    """How attractive it is to take nothing."""

    outside: float = Field(default=1.0, gt=0, description="u₀, in units of intensity.")


class Logit(Wanting):
    """Of a slate, the item at position r is taken with probability u_r / (u₀ + Σ u), u_r = λ*(x)·p*(y|x)·γ^(r−1)·a.

    The draw is that of utilities log u + Gumbel (McFadden, 1974): what is largest is taken. A Gumbel belongs to
    (arrival, item), and one to (arrival, nothing), whatever else is shown.

    Args:
        options: How attractive nothing is.
        scenario: Says γ, a and what is wanted.
    """

    def __init__(self, options: LogitOptions, scenario: ScenarioConfig) -> None:
        super().__init__(scenario)
        config = scenario.consumer
        self._outside = options.outside
        self._weight = config.attraction * examination(config.position_decay, scenario.slate)

    def respond(self, visits: Visits, slates: Ints) -> Response:
        """What visits make of their slates."""
        intensity = self.of_slates(visits, slates)
        worth = intensity * self._weight
        probability = worth / (self._outside + worth.sum(1))[:, None]
        keys = visits.keys[visits.row]
        nothing = np.full((len(slates), 1), visits.world.log.n_items)
        with np.errstate(divide="ignore"):
            utility = np.log(worth) + _gumbel(visits.uniform(slates))
            alternative = np.log(self._outside) + _gumbel(uniform_draws(keys, nothing))
        best = utility.argmax(1)
        consumed = np.zeros(slates.shape, bool)
        rows = np.arange(len(slates))
        consumed[rows, best] = utility[rows, best] > alternative[:, 0]
        return Response(consumed & (probability > 0), probability, intensity)


def _gumbel(draw: Floats) -> Floats:
    """Gumbel variables at uniform draws."""
    return np.asarray(-np.log(-np.log(draw)), np.float64)
