"""Consumers who follow the fitted truth: the Poisson-intensity response."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from rimsim.durations import duration_seconds
from rimsim.market.clock import ticks
from rimsim.market.consumers.contract import NOTHING, Organic, Response, Visits
from rimsim.market.consumers.truths.contract import Law

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.config import ScenarioConfig
    from rimsim.market.consumers.truths.contract import Truth

__all__ = ["Intensity", "examination"]


@lru_cache(maxsize=64)
def examination(decay: float, positions: int) -> NDArray[np.float64]:
    """(k,) γ^(r−1): the share of visitors who look at each position r = 1 … k."""
    return np.asarray(decay ** np.arange(positions), np.float64)


class Intensity:
    """An item shown at position r is consumed with probability 1 − exp(−λ*(x)·p*(y|x)·γ^(r−1)·a).

    A latent draw belongs to (arrival, item), whatever else is shown.

    Args:
        scenario: Says γ, a and the length of a slate.
    """

    needs_truth = True

    def __init__(self, scenario: ScenarioConfig) -> None:
        config = scenario.consumer
        self._law = Law(examination(config.position_decay, scenario.slate), config.attraction)
        self._delay = 0 if config.delay is None else int(ticks(duration_seconds(config.delay)))

    def respond(self, visits: Visits, slates: NDArray[np.int64]) -> Response:
        """What visits make of their slates."""
        shape = slates.shape
        response = Response(np.empty(shape, bool), np.empty(shape), np.empty(shape))
        _truth(visits).answer(visits, slates, self.relevant(visits), self._law, response)
        return response

    def organic(self, visits: Visits) -> Organic:  # noqa: ARG002  # the protocol's
        """They consume only what they are shown."""
        return NOTHING

    def true_intensity(self, visits: Visits) -> torch.Tensor:
        """(n, M) λ*(x)·p*(y|x)."""
        true = _truth(visits).shares(visits) * self.relevant(visits)[:, None]
        return torch.from_numpy(true.astype(np.float32))

    def relevant(self, visits: Visits) -> NDArray[np.float64]:
        """(n,) λ*(x): what is consumed of a catalogue shown whole."""
        return _truth(visits).sizes.of_visits(visits, self._delay)


def _truth(visits: Visits) -> Truth:
    truth = visits.world.truth
    assert truth is not None  # noqa: S101  # needs_truth
    return truth
