"""What visitors want: intensities of the truth, moved by what they consumed before and by what others do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.durations import duration_seconds
from rimsim.market.clock import ticks
from rimsim.market.consumers.contract import Response
from rimsim.market.consumers.dynamics import Dynamics
from rimsim.market.consumers.truths.contract import Law

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.config import ScenarioConfig
    from rimsim.market.consumers.contract import Visits
    from rimsim.market.consumers.truths.contract import Truth

__all__ = ["Wants"]


class Wants:
    """True intensities λ*(x)·p*(y|x), times what moves them; responses turn them into probabilities.

    Args:
        scenario: Says the length of a slate, the delay, and what moves.
    """

    def __init__(self, scenario: ScenarioConfig) -> None:
        self.dynamics = Dynamics(scenario)
        delay = scenario.consumer.delay
        self._delay = 0 if delay is None else int(ticks(duration_seconds(delay)))
        self._law = Law(np.ones(scenario.slate), 1.0)

    def answer(self, visits: Visits, slates: NDArray[np.int64], law: Law) -> Response:
        """The Poisson-intensity response of the truth alone, in one compiled pass."""
        shape = slates.shape
        response = Response(np.empty(shape, bool), np.empty(shape), np.empty(shape))
        _truth(visits).answer(visits, slates, self.sizes(visits), law, response)
        return response

    def of_slates(self, visits: Visits, slates: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n, k) intensities of what is shown; 0 at empty positions, and of what was consumed in the market before."""
        wanted = self.answer(visits, slates, self._law).intensity
        return wanted * self.dynamics.of_slates(visits, slates) if self.dynamics.moves else wanted

    def of_catalogue(self, visits: Visits) -> NDArray[np.float64]:
        """(n, M) intensities of all that is admissible."""
        wanted = _truth(visits).shares(visits) * self.sizes(visits)[:, None]
        return wanted * self.dynamics.of_catalogue(visits) if self.dynamics.moves else wanted

    def sizes(self, visits: Visits) -> NDArray[np.float64]:
        """(n,) λ*(x) of the truth: what would be consumed of a catalogue shown whole if nothing moved."""
        return _truth(visits).sizes.of_visits(visits, self._delay)


def _truth(visits: Visits) -> Truth:
    truth = visits.world.truth
    assert truth is not None  # noqa: S101  # needs_truth
    return truth
