"""Arrivals, values and slates as compiled loops see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled_part
from rimsim.measures import mean_weight

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView


class ExposureUnit(NamedTuple):
    """Unit of guarantees, for use in compiled loops."""

    position_weights: Floats
    """(k,) weight of an exposure at each position, never rising."""
    mean: float
    """Mean of the weights, which is the weight of a required exposure."""
    by_intensity: bool
    """True if slates are sorted by λ, False if by λ − v. For examined exposures, λ − v is best, because intensity and
    delivery are both weighted by the position. If every position counts the same, the order does not affect the
    guarantee, and the order of λ gives visitors most."""

    @classmethod
    def of(cls, view: RoundView) -> Self:
        """Unit of the guarantees of a round."""
        weights = np.ascontiguousarray(view.position_weights, np.float64)
        return cls(position_weights=weights, mean=mean_weight(weights), by_intensity=view.unit == "shown")


class ArrivalArrays(NamedTuple):
    """Arrivals in the form that compiled loops need."""

    relevance: Float32s
    """(n, M) relevance p(y|x)."""
    ground: Float32s
    """(n,) ground intensity λ(x)."""
    admissible: Bools
    """(n, M) True for items that may be shown."""
    id: Ints
    """(n,) ids of arrivals."""
    capacity: Ints
    """(n,) number of positions that each arrival may fill."""


def arrays_of(arrivals: Arrivals, slate: int) -> tuple[Any, ...]:
    """Fields of :class:`ArrivalArrays`, for slates of k positions.

    The fields are a plain tuple, because passing a record to a compiled loop takes longer than ranking hundreds of
    items. The loop builds the record itself: ``ArrivalArrays(*fields)``.
    """
    return (
        arrivals.relevance.cpu().numpy(),
        arrivals.ground_intensity.cpu().numpy(),
        arrivals.admissible.cpu().numpy(),
        arrivals.id,
        np.full(len(arrivals), slate) if arrivals.capacity is None else arrivals.capacity,
    )


@compiled_part
def fill_values(arrivals: ArrivalArrays, arrival: int, price: Floats, value: Floats) -> None:
    """Fill ``value`` with each item's λ(x)·p(y|x) − v, −∞ if inadmissible.

    The product is in single precision, as :attr:`rimsim.market.Arrivals.intensity` is.
    """
    for item in range(len(price)):
        worth = np.float64(arrivals.relevance[arrival, item] * arrivals.ground[arrival]) - price[item]
        value[item] = worth if arrivals.admissible[arrival, item] else -np.inf


@compiled_part
def fill_slate(
    items: Ints, size: int, price: Floats, unit: ExposureUnit, exposure: Floats, prices: Float32s
) -> None:
    """Count exposures, record prices, and clear positions from ``size`` on.

    ``price`` has the price of each item of the catalogue. ``prices`` gets those of the items at the slate's positions.
    """
    for position in range(len(items)):
        if position < size:
            exposure[items[position]] += unit.position_weights[position]
            prices[position] = price[items[position]]
        else:
            items[position] = -1
            prices[position] = np.nan
