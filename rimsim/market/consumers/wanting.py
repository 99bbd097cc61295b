"""What consumers who follow the fitted truth have in common, whatever turns intensities into probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from rimsim.market.consumers.contract import NOTHING, Organic
from rimsim.market.consumers.wants import Wants

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.config import ScenarioConfig
    from rimsim.market.consumers.contract import Visits

__all__ = ["Wanting"]


class Wanting:
    """Consumers of the fitted truth, who consume only what they are shown.

    Args:
        scenario: Says what they want.
    """

    needs_truth = True
    takes_dynamics = True

    def __init__(self, scenario: ScenarioConfig) -> None:
        self.wants = Wants(scenario)

    def organic(self, visits: Visits) -> Organic:  # noqa: ARG002  # the protocol's
        """They consume only what they are shown."""
        return NOTHING

    def true_intensity(self, visits: Visits) -> torch.Tensor:
        """(n, M) λ*(x)·p*(y|x), moved as the scenario says."""
        return torch.from_numpy(self.wants.of_catalogue(visits).astype(np.float32))

    def relevant(self, visits: Visits) -> NDArray[np.float64]:
        """(n,) λ*(x) of the truth: what is consumed of a catalogue shown whole if nothing moved."""
        return self.wants.sizes(visits)
