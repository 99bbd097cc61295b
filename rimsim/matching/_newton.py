"""Newton's method on the smoothed dual (``_smoothed.py``), within the box that floors, caps and cost allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.compiled import compiled
from rimsim.matching._smoothed import Pools, Smoothed, curvature, smoothed
from rimsim.matching._terms import Terms, is_active

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Point", "at_prices", "minimised"]

_STEPS = 40  # Newton steps at most
_INNER = 60  # conjugate gradient steps at most
_EXACT = 0.05  # ... or until the residual has shrunk to this share
_FIRM, _FIRMEST = 1e-9, 1e6  # how strongly steps are damped


class Point(NamedTuple):
    """Prices, and the dual there."""

    price: Floats
    """(R,) v."""
    users: Smoothed
    """The users' part."""
    bound: float
    """D(v)."""
    smooth: float
    """D_τ(v)."""


def _bounds(terms: Terms, price: Floats) -> float:
    """Σ v₋·least + v₊·most."""
    below, above = price < 0.0, price > 0.0
    return float(price[below] @ terms.least[below] + price[above] @ terms.most[above])


def at_prices(terms: Terms, price: Floats, tau: float) -> Point:
    """The dual at some prices."""
    users, rest = Smoothed(*smoothed(terms, price, tau)), _bounds(terms, price)
    return Point(price, users, users.top + rest, users.smooth + rest)


def _slope(terms: Terms, point: Point, lowest: Floats, highest: Floats) -> Floats:
    """(R,) derivative of D_τ in the direction in which it falls; 0 where a bound, or the kink at 0, holds a price."""
    price, exposure = point.price, point.users.exposure
    left, right = terms.least - exposure, terms.most - exposure  # derivatives below and above 0
    slope = np.where(price < 0.0, left, np.where(price > 0.0, right, np.where(left > 0.0, left, 0.0)))
    slope = np.where((price == 0.0) & (right < 0.0), right, slope)
    held = ((price <= lowest) & (slope > 0.0)) | ((price >= highest) & (slope < 0.0))
    return np.where(held, 0.0, slope)


@compiled
def _diagonal(terms: Terms, pools: Pools, tau: float, out: Floats) -> None:
    """About the diagonal of the second derivative: members of a group that share a pool count one by one."""
    out[:] = 0.0
    m = len(terms.of_first) - 1
    for pool in range(len(pools.user)):
        first, last = pools.first[pool], pools.first[pool + 1]
        share = (1.0 - 1.0 / (last - first) if pools.full[pool] else 1.0) / tau
        for index in range(first, last):
            item = pools.item[index]
            out[item] += share
            for place in range(terms.of_first[item], terms.of_first[item + 1]):
                if is_active(terms, pools.user[pool], terms.of[place]):
                    out[m + terms.of[place]] += share


@compiled
def _step(terms: Terms, pools: Pools, tau: float, slope: Floats, damping: float) -> Floats:
    """Solve (second derivative + damping)·step = −slope for the prices that are free, by conjugate gradients."""
    rows = len(slope)
    diagonal, product, step = np.empty(rows), np.empty(rows), np.zeros(rows)
    _diagonal(terms, pools, tau, diagonal)
    diagonal += damping / tau
    rest = -slope
    scaled = rest / diagonal
    direction = scaled.copy()
    size = float((rest * scaled).sum())
    enough = size * _EXACT**2
    for _ in range(_INNER):
        if size <= enough:
            break
        curvature(terms, pools, tau, direction, product)
        for row in range(rows):
            product[row] = product[row] + damping / tau * direction[row] if slope[row] != 0.0 else 0.0
        length = size / float((direction * product).sum())
        step += length * direction
        rest -= length * product
        scaled = rest / diagonal
        new = float((rest * scaled).sum())
        direction = scaled + new / size * direction
        size = new
    return step


def minimised(
    terms: Terms, start: Floats, tau: float, lowest: Floats, highest: Floats, enough: float
) -> tuple[Point, bool]:
    """Prices of about the smallest D_τ, and whether they are: after so many steps they are taken as they are.

    Args:
        terms: The problem.
        start: (R,) prices to start from.
        tau: τ.
        lowest: (R,) smallest prices.
        highest: (R,) largest prices.
        enough: Stop where a step promises less than this.
    """
    point, damping = at_prices(terms, start, tau), 0.1
    for _ in range(_STEPS):
        slope = _slope(terms, point, lowest, highest)
        step = _step(terms, point.users.pools, tau, slope, damping)
        if -float(slope @ step) <= 2.0 * enough:
            return point, True
        price = np.clip(point.price + step, lowest, highest)
        orthant = np.where(point.price == 0.0, -np.sign(slope), np.sign(point.price))
        price = np.where(price * orthant < 0.0, 0.0, price)
        trial = at_prices(terms, price, tau)
        promised = float(slope @ (price - point.price))
        gained = trial.smooth - point.smooth
        if gained <= 1e-4 * promised:
            point = trial
        damping = min(max(damping * (0.1 if gained <= 0.3 * promised else 4.0), _FIRM), _FIRMEST)
        if damping >= _FIRMEST:
            break
    return point, False
