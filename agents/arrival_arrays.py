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
    """(k,) value of an exposure at each position; it never rises."""
    mean: float
    """Mean of the weights: value of a required exposure."""
    by_intensity: bool
    """Slates stand in order of λ, otherwise of λ − v.

    If the unit is the examined exposure, the order of λ − v is best, since intensity and delivery both carry the
    weight of the position. If every position counts the same, order makes no difference to the guarantee, and the order
    of λ gives the visitors most.
    """

    @classmethod
    def of(cls, view: RoundView) -> Self:
        """Unit of the guarantees of a round."""
        weights = np.ascontiguousarray(view.position_weights, np.float64)
        return cls(weights, mean_weight(weights), view.unit == "shown")


class ArrivalArrays(NamedTuple):
    """Arrivals in the form that compiled loops need."""

    relevance: Float32s
    """(n, M) p(y|x)."""
    ground: Float32s
    """(n,) λ(x)."""
    admissible: Bools
    """(n, M) items that may be shown."""
    id: Ints
    """(n,) arrival ids."""
    capacity: Ints
    """(n,) positions that may be filled."""


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
    """Count exposures, record prices, and clear positions from ``size`` on."""
    for position in range(len(items)):
        if position < size:
            exposure[items[position]] += unit.position_weights[position]
            prices[position] = price[items[position]]
        else:
            items[position] = -1
            prices[position] = np.nan
