"""Prices of the entropic problem: the minimum of a smoothed dual over a box."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy

from rimsim.agents._gibbs import inclusion_sums
from rimsim.arrays import Floats

if TYPE_CHECKING:
    from rimsim.agents.prices import States


_WARMING = 5  # scaling updates at a high temperature, and at the right one, before L-BFGS
_HOT = 10.0  # the high temperature is a tenth of the cost
_STEPS = 60  # L-BFGS iterations at most
_PLACES = 4  # times that floors are told anew how high their items stand, where positions count unlike


def entropic_prices(
    states: States,
    required: Floats,
    cost: float,
    epsilon: float,
    tol: float,
    weight: Floats | None = None,
) -> Floats:
    """Prices at which the Gibbs policy meets floors in expectation, as far as the box [−cost, 0] allows.

    Args:
        states: n states.
        required: (M,) expected exposures asked for over the n states; they need not be whole.
        cost: c, width of the box.
        epsilon: ε.
        tol: Share of Σ required that may be missing at the end.
        weight: (k,) what an exposure at each position counts, slates standing in descending order of λ − v; None: 1.

    Returns:
        (M,) prices v; 0 where nothing is required.
    """
    if not (required > 0).any() or not cost > 0:
        return -np.zeros(len(required))
    if weight is None or weight[0] == weight[-1]:
        floors = required if weight is None else required / weight[0]
        return _minimum(states, floors, cost, epsilon, tol, None)
    mean, spread, counted = np.zeros((3, len(required)))
    floors, start = required / float(weight.mean()), None
    for _ in range(_PLACES):
        price = start = _minimum(states, floors, cost, epsilon, tol, start)
        inclusion_sums(*states, price, epsilon, mean, spread, weight, counted)
        missing = np.where(price > -cost, required - counted, 0.0).clip(0.0).sum()
        wasted = np.where(price < 0, counted - required, 0.0).clip(0.0).sum()
        if max(missing, wasted) <= tol * required.sum():
            break
        floors = np.minimum(floors * required / np.maximum(counted, 1e-9), float(len(states.scores)))
    return price


def _minimum(
    states: States,
    required: Floats,
    cost: float,
    epsilon: float,
    tol: float,
    start: Floats | None,
) -> Floats:
    """(M,) prices at the minimum of the smoothed dual over the box [−cost, 0], for floors in whole exposures."""
    due = required > 0
    mean, spread, nothing = np.zeros(len(required)), np.zeros(len(required)), np.empty(0)
    price = -np.zeros(len(required)) if start is None else start.copy()
    hot = max(epsilon, cost / _HOT)  # at a high temperature a few updates do
    warming = [epsilon] if start is not None else [hot] * _WARMING + [epsilon] * _WARMING
    for temperature in warming:
        inclusion_sums(*states, price, temperature, mean, spread, nothing, nothing)
        moved = price - temperature * _scaling(required, mean, spread)
        price = np.where(due, np.clip(moved, -cost, -0.0), -0.0)
    items = np.flatnonzero(due & (mean > 0))
    # One unit of each variable is what changes expected exposures by about their own spread.
    unit = epsilon / np.sqrt(np.maximum(spread[items], 1e-3 * required[items]))

    def dual(x: Floats) -> tuple[float, Floats]:
        """The smoothed dual and its gradient at the prices −x·unit."""
        price[items] = -np.minimum(x * unit, cost)
        total = inclusion_sums(*states, price, epsilon, mean, spread, nothing, nothing)
        return (total + float(price @ required)) / epsilon, (mean - required)[items] * unit / epsilon

    def enough(xk: Floats) -> None:
        """Stop where what is missing, or bought in excess, is within the tolerance."""
        price[items] = -np.minimum(xk * unit, cost)  # where the search stands, and was last evaluated
        missing = np.where(due & (price > -cost), required - mean, 0.0).clip(0).sum()
        wasted = np.where(due & (price < 0), mean - required, 0.0).clip(0).sum()
        if max(missing, wasted) <= tol * required.sum():
            raise StopIteration

    end = scipy.optimize.minimize(
        dual,
        -price[items] / unit,
        jac=True,
        method="L-BFGS-B",
        bounds=scipy.optimize.Bounds(np.zeros(len(items)), cost / unit),
        callback=enough,
        options={"maxiter": _STEPS, "maxcor": 20, "ftol": 0.0, "gtol": 0.0},
    )
    solved = -np.zeros(len(required))
    solved[items] = -np.clip(end.x * unit, 0.0, cost)
    return solved


def _scaling(required: Floats, mean: Floats, spread: Floats) -> Floats:
    """Newton steps on the logarithm of each item's expected exposures, in units of ε."""
    step = np.zeros(len(required))
    can = (required > 0) & (mean > 0) & (spread > 0)  # what is inadmissible everywhere cannot be moved
    step[can] = np.clip(np.log(required[can] / mean[can]) * mean[can] / spread[can], -20.0, 20.0)
    return step
