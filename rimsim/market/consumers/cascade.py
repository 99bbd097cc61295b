"""Consumers who look at one position after the other, and may stop once they have taken something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Ints
from rimsim.market.consumers.contract import Response
from rimsim.market.consumers.kernels import uniform_draws
from rimsim.market.consumers.wanting import Wanting

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.market.consumers.contract import Visits


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CascadeOptions:
    """When a visitor stops looking."""

    stop: float = Field(
        default=0.5, ge=0, le=1, description="Chance that a visitor who took an item looks no further."
    )


class Cascade(Wanting):
    """A visitor who looks at position r takes its item with probability q_r = 1 − exp(−λ*(x)·p*(y|x)·a).

    The visitor looks at the first position, and goes on from one to the next with probability γ, times 1 − stop where
    the item was taken (Craswell et al., WSDM 2008; Chapelle and Zhang, WWW 2009). So P(take at r) = e_r·q_r, with
    e_1 = 1 and e_{r+1} = e_r·γ·(1 − stop·q_r). Draws of taking and of going on belong to (arrival, item).

    Args:
        options: When a visitor stops.
        scenario: Says γ, a and what is wanted.
    """

    def __init__(self, options: CascadeOptions, scenario: ScenarioConfig) -> None:
        super().__init__(scenario)
        self._stop = options.stop
        self._decay, self._attraction = scenario.consumer.position_decay, scenario.consumer.attraction

    def respond(self, visits: Visits, slates: Ints) -> Response:
        """What visits make of their slates."""
        intensity = self.of_slates(visits, slates)
        chance = -np.expm1(-intensity * self._attraction)
        taken = visits.uniform(slates) < chance
        further = uniform_draws(visits.keys[visits.row], visits.world.log.n_items + 1 + slates)
        looked = np.ones(slates.shape)
        looks = np.ones(slates.shape, bool)
        for position in range(1, slates.shape[1]):
            before = position - 1
            looked[:, position] = looked[:, before] * self._decay * (1 - self._stop * chance[:, before])
            goes_on = self._decay * np.where(taken[:, before], 1 - self._stop, 1.0)
            looks[:, position] = looks[:, before] & (further[:, before] < goes_on)
        return Response(taken & looks, looked * chance, intensity)
