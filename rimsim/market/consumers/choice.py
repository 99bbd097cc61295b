"""Slate choice models: multinomial logit and cascade."""

from __future__ import annotations

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Ints
from rimsim.config import ScenarioConfig
from rimsim.market.consumers.contract import SlateVisits, examination, uniform_draws
from rimsim.market.consumers.one_item import one_of
from rimsim.market.consumers.preference import PreferenceConsumer
from rimsim.market.records import Response


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class LogitOptions:
    """Option: utility of taking nothing."""

    outside: float = Field(
        default=1.0, gt=0, description="u₀, the utility of taking nothing, in units of intensity."
    )


class Logit(PreferenceConsumer):
    """Consumers who take one item of a slate, or none.

    The item at position r has the utility u_r = λ*(x)·p*(y|x)·γ^(r−1)·a; see
    :func:`rimsim.market.consumers.one_item.one_of`.
    """

    def __init__(self, options: LogitOptions, scenario: ScenarioConfig) -> None:
        super().__init__(scenario)
        config = scenario.consumer
        self._outside = options.outside
        self._weight = config.slate_attraction * examination(config.position_decay, scenario.slate)

    def respond(self, visits: SlateVisits, slates: Ints) -> Response:
        """Responses of visits to their slates."""
        intensity = self.of_slates(visits, slates)
        probability, consumed = one_of(visits, slates, intensity * self._weight, self._outside)
        return Response(consumed, probability, intensity)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CascadeOptions:
    """Option: probability that a visitor stops after a consumption."""

    stop: float = Field(
        default=0.5, ge=0, le=1, description="Chance that a visitor stops looking after taking an item."
    )


class Cascade(PreferenceConsumer):
    """Consumers who examine positions in turn and may stop.

    An examined item at position r is taken with probability q_r = 1 − exp(−λ*(x)·p*(y|x)·a). The visitor examines the
    first position. After each position, the visitor continues with probability γ, or γ·(1 − stop) if it took the item
    (Craswell et al., WSDM 2008; Chapelle and Zhang, WWW 2009). So the item at position r is taken with probability
    e_r·q_r, where e_1 = 1 and e_{r+1} = e_r·γ·(1 − stop·q_r). Each pair of arrival and item has its own random numbers.
    """

    def __init__(self, options: CascadeOptions, scenario: ScenarioConfig) -> None:
        super().__init__(scenario)
        self._stop = options.stop
        self._decay = scenario.consumer.position_decay
        self._attraction = scenario.consumer.slate_attraction

    def respond(self, visits: SlateVisits, slates: Ints) -> Response:
        """Responses of visits to their slates."""
        intensity = self.of_slates(visits, slates)
        chance = -np.expm1(-intensity * self._attraction)
        taken = visits.uniform(slates) < chance
        # These numbers decide whether a visitor continues after each position. Their keys lie above the numbers of all
        # items, so they are independent of the numbers that decide consumption.
        continue_draw = uniform_draws(visits.keys[visits.row], visits.world.log.n_items + 1 + slates)
        examined_chance = np.ones(slates.shape)  # e_r
        is_examined = np.ones(slates.shape, bool)
        for position in range(1, slates.shape[1]):
            previous = position - 1
            # Chance that the visitor, who examined the previous position, does not stop because it took the item.
            no_stop_chance = 1 - self._stop * chance[:, previous]
            examined_chance[:, position] = examined_chance[:, previous] * self._decay * no_stop_chance
            continue_chance = self._decay * np.where(taken[:, previous], 1 - self._stop, 1.0)
            continues = continue_draw[:, previous] < continue_chance
            is_examined[:, position] = is_examined[:, previous] & continues
        return Response(taken & is_examined, examined_chance * chance, intensity)
