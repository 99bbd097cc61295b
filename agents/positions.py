"""What a position counts for a guarantee, and in which order slates stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from rimsim.arrays import Floats
from rimsim.measures import mean_weight

if TYPE_CHECKING:
    from rimsim.market import RoundView


class Positions(NamedTuple):
    """The unit of a guarantee, as compiled loops take it."""

    weight: Floats
    """(k,) what an exposure at each position counts, from the first position on; it never rises."""
    mean: float
    """The mean of the weights: a required exposure is this much of the unit."""
    by_intensity: bool
    """Whether slates stand in order of λ. They stand in order of λ − v otherwise.

    Where the unit is the examined exposure, the order of λ − v is best, since intensity and delivery both carry the
    weight of the position. Where every position counts alike, order makes no difference to the guarantee, and the order
    of λ gives the visitors most.
    """

    @classmethod
    def of(cls, view: RoundView) -> Self:
        """The unit of a round."""
        weight = np.ascontiguousarray(view.position_weights, np.float64)
        return cls(weight, mean_weight(weight), view.unit == "shown")
