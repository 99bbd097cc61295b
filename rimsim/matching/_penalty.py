"""What exposures of rows are worth beside scores: the penalty for missing floors and caps, sharp or rounded off.

The penalty of a row is P(E) = −c·(least − E)₊ − d·(E − most)₊. Slates that each improve V alone soon get stuck, since a
unit that an item at its floor gives up costs c at once, although another could give it back for v. So the search
begins with a P that is rounded off about the bounds,

    H'(E) = clip(w − ρ·(E − least), 0, c) − clip(z + ρ·(E − most), 0, d),    w = (−v)₊, z = v₊,

which is what exposures cost at the prices v, within 1/ρ of the bounds, and goes to P as ρ grows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rimsim.arrays import Floats, Ints
from rimsim.compiled import compiled
from rimsim.matching._terms import Terms, is_active


class Penalty(NamedTuple):
    """H of all rows."""

    price: Floats
    """(R,) v."""
    low: Floats
    """(R,) c, finite; 0 where there is no floor."""
    high: Floats
    """(R,) d, finite; 0 where there is no cap."""
    rho: float
    """ρ; infinite for P itself."""


@compiled
def _rounded(over: float, slope: float, steepest: float, rho: float) -> float:
    """The integral, from 0 to ``over``, of clip(slope + ρ·e, 0, steepest)."""
    if rho == np.inf:
        return steepest * max(over, 0.0)
    start, stop = -slope / rho, (steepest - slope) / rho  # where the slope leaves 0, and where it is steepest
    inside = min(max(over, start), stop)
    return slope * inside + 0.5 * rho * inside * inside + steepest * max(over - stop, 0.0)


@compiled
def gain(  # scalars alone, so that it is compiled into the loops that call it
    exposure: float,
    amount: float,
    price: float,
    least: float,
    most: float,
    low: float,
    high: float,
    rho: float,
) -> float:
    """By how much H of a row grows if its exposure grows by an amount, which may be negative."""
    gained = 0.0
    if low > 0.0:
        bonus = min(max(-price, 0.0), low)
        gained += _rounded(least - exposure, bonus, low, rho)
        gained -= _rounded(least - exposure - amount, bonus, low, rho)
    if high > 0.0:
        charge = min(max(price, 0.0), high)
        gained += _rounded(exposure - most, charge, high, rho)
        gained -= _rounded(exposure + amount - most, charge, high, rho)
    return gained


@compiled
def gain_of_groups(
    terms: Terms, penalty: Penalty, exposure: Floats, user: int, item: int, amount: float
) -> float:
    """By how much H of the groups of an item grows if a user's exposure of it grows by an amount."""
    gained = 0.0
    for place in range(terms.of_first[item], terms.of_first[item + 1]):
        if is_active(terms, user, terms.of[place]):
            row = len(terms.of_first) - 1 + terms.of[place]
            gained += gain(
                exposure[row],
                amount,
                penalty.price[row],
                terms.least[row],
                terms.most[row],
                penalty.low[row],
                penalty.high[row],
                penalty.rho,
            )
    return gained


@compiled
def enter_exposure(terms: Terms, exposure: Floats, user: int, item: int, amount: float) -> None:
    """Count an exposure in all rows of an item; ``exposure`` (R,) is changed in place."""
    exposure[item] += amount
    for place in range(terms.of_first[item], terms.of_first[item + 1]):
        if is_active(terms, user, terms.of[place]):
            exposure[len(terms.of_first) - 1 + terms.of[place]] += amount


@compiled
def recount(terms: Terms, slates: Ints, exposure: Floats) -> None:
    """Fill ``exposure`` (R,) with that of the slates (n, k)."""
    exposure[:] = 0.0
    for user in range(slates.shape[0]):
        for place in range(slates.shape[1]):
            if slates[user, place] >= 0:
                enter_exposure(terms, exposure, user, slates[user, place], terms.weights[place])
