"""Arrivals as compiled loops take them, their values at given prices, and what is shown of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rimsim.agents.prices import capacities
from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled

if TYPE_CHECKING:
    from rimsim.agents.positions import Positions
    from rimsim.market import Arrivals


class Rows(NamedTuple):
    """Arrivals as compiled loops take them."""

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


def rows_of(arrivals: Arrivals, slate: int) -> tuple[Any, ...]:
    """The fields of :class:`Rows` for some arrivals and slates of so many positions.

    They are a plain tuple, since handing a record over to a compiled loop takes longer than ranking hundreds of items;
    the loop makes the record: ``rows = Rows(*arrivals)``.
    """
    return (
        arrivals.relevance.cpu().numpy(),
        arrivals.ground_intensity.cpu().numpy(),
        arrivals.admissible.cpu().numpy(),
        arrivals.id,
        capacities([arrivals], slate),
    )


@compiled
def value_row(rows: Rows, row: int, price: Floats, value: Floats) -> None:
    """Fill ``value`` (M,) with λ(x)·p(y|x) − v of a row, −inf for what may not be shown.

    The product is taken in single precision, as :attr:`rimsim.market.Arrivals.intensity` has it.
    """
    for item in range(len(price)):
        worth = np.float64(rows.relevance[row, item] * rows.ground[row]) - price[item]
        value[item] = worth if rows.admissible[row, item] else -np.inf


@compiled
def fill_row(
    items: Ints,
    size: int,
    price: Floats,
    positions: Positions,
    exposure: Floats,
    prices: Float32s,
) -> None:
    """Empty the positions behind the first ``size``, count their exposures and note their prices.

    Args:
        items: (k,) shown items, changed in place.
        size: How many were shown.
        price: (M,) prices v at the decision.
        positions: What each position counts.
        exposure: (M,) exposures in the unit of the guarantee, changed in place.
        prices: (k,) filled with the shown items' prices, NaN where none is shown.
    """
    for place in range(len(items)):
        if place < size:
            exposure[items[place]] += positions.weight[place]
            prices[place] = price[items[place]]
        else:
            items[place] = -1
            prices[place] = np.nan
