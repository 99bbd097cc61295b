"""Consumers who follow the fitted truth, whatever turns its intensities into probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from rimsim.arrays import Floats, Ints
from rimsim.market.clock import delay_ticks
from rimsim.market.consumers.contract import NOTHING, Organic, Response
from rimsim.market.consumers.dynamics import Dynamics
from rimsim.market.consumers.truths.contract import Law

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.market.consumers.contract import Visits
    from rimsim.market.consumers.truths.contract import Truth


class Wanting:
    """Consumers of true intensities λ*(x)·p*(y|x), times what moves them, who consume only what they are shown.

    Args:
        scenario: Says the length of a slate, the delay, and what moves.
    """

    needs_truth = True
    takes_dynamics = True

    def __init__(self, scenario: ScenarioConfig) -> None:
        self.dynamics = Dynamics(scenario)
        self._delay = delay_ticks(scenario.consumer.delay)
        self._plain = Law(np.ones(scenario.slate), 1.0)

    def organic(self, visits: Visits) -> Organic:  # noqa: ARG002  # the protocol's
        """They consume only what they are shown."""
        return NOTHING

    def true_intensity(self, visits: Visits) -> torch.Tensor:
        """(n, M) λ*(x)·p*(y|x), moved as the scenario says."""
        return torch.from_numpy(self.of_catalogue(visits).astype(np.float32))

    def relevant(self, visits: Visits) -> Floats:
        """(n,) λ*(x) of the truth: what is consumed of a catalogue shown whole if nothing moved."""
        return self._sizes(visits)

    def _sizes(self, visits: Visits) -> Floats:
        """(n,) λ*(x) of the truth, whatever a subclass says is relevant."""
        return _truth(visits).sizes.of_visits(visits, self._delay)

    def answer(self, visits: Visits, slates: Ints, law: Law) -> Response:
        """The Poisson-intensity response of the truth alone, in one compiled pass."""
        shape = slates.shape
        response = Response(np.empty(shape, bool), np.empty(shape), np.empty(shape))
        _truth(visits).answer(visits, slates, self._sizes(visits), law, response)
        return response

    def of_slates(self, visits: Visits, slates: Ints) -> Floats:
        """(n, k) intensities of what is shown; 0 at empty positions, and of what was consumed in the market before."""
        wanted = self.answer(visits, slates, self._plain).intensity
        return wanted * self.dynamics.of_slates(visits, slates) if self.dynamics.moves else wanted

    def of_catalogue(self, visits: Visits) -> Floats:
        """(n, M) intensities of all that is admissible."""
        wanted = _truth(visits).shares(visits) * self._sizes(visits)[:, None]
        return wanted * self.dynamics.of_catalogue(visits) if self.dynamics.moves else wanted


def _truth(visits: Visits) -> Truth:
    truth = visits.world.truth
    assert truth is not None  # noqa: S101  # needs_truth
    return truth
