"""What a position counts for a guarantee, and in which order a slate stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from rimsim.compiled import compiled
from rimsim.measures import mean_weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.market import RoundView

__all__ = ["Positions", "by_intensity", "put_by_intensity"]


class Positions(NamedTuple):
    """The unit of a guarantee, as compiled loops take it."""

    weight: NDArray[np.float64]
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


@compiled
def put_by_intensity(
    items: NDArray[np.int64], size: int, relevance: NDArray[np.float32], ground: np.float32
) -> None:
    """Put the first ``size`` of some items (k,) in descending order of λ, in place; equal ones keep their order.

    Args:
        items: (k,) items.
        size: How many there are.
        relevance: (M,) p(y|x).
        ground: λ(x).
    """
    for end in range(1, size):
        item, place = items[end], end
        worth = relevance[item] * ground
        while place > 0 and relevance[items[place - 1]] * ground < worth:
            items[place] = items[place - 1]
            place -= 1
        items[place] = item


def by_intensity(items: NDArray[np.int64], intensity: NDArray[np.float32]) -> NDArray[np.int64]:
    """Slates (n, k) in descending order of λ, −1 last; equal ones keep their order.

    Args:
        items: (n, k) slates; −1 for an empty position.
        intensity: (n, k) λ of their items.
    """
    worth = np.where(items >= 0, intensity, -np.inf)
    return np.take_along_axis(items, np.argsort(-worth, axis=1, kind="stable"), 1)
