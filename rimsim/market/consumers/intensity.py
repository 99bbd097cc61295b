"""Consumers who follow the fitted truth: the Poisson-intensity response."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Floats, Ints
from rimsim.market.consumers.contract import drawn
from rimsim.market.consumers.kernels import poisson_probabilities
from rimsim.market.consumers.truths.contract import Law
from rimsim.market.consumers.wanting import Wanting

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.market.consumers.contract import Response, Visits


@lru_cache(maxsize=64)
def examination(decay: float, positions: int) -> Floats:
    """(k,) γ^(r−1): the share of visitors who look at each position r = 1 … k."""
    return np.asarray(decay ** np.arange(positions), np.float64)


class Intensity(Wanting):
    """An item shown at position r is consumed with probability 1 − exp(−λ*(x)·p*(y|x)·γ^(r−1)·a).

    A latent draw belongs to (arrival, item), whatever else is shown.

    Args:
        scenario: Says γ, a, the length of a slate and what is wanted.
    """

    def __init__(self, scenario: ScenarioConfig) -> None:
        super().__init__(scenario)
        config = scenario.consumer
        self._law = Law(examination(config.position_decay, scenario.slate), config.attraction)

    def respond(self, visits: Visits, slates: Ints) -> Response:
        """What visits make of their slates."""
        if not self.dynamics.moves:  # in one compiled pass
            return self.answer(visits, slates, self._law)
        intensity = self.of_slates(visits, slates)
        probability = poisson_probabilities(intensity, self._law.examination, self._law.attraction)
        return drawn(visits, slates, probability, intensity)
