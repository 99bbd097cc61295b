"""Upper bound of consumptions plus fees of providers who stay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from rimsim.arrays import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class ProviderTask:
    """Market of T rounds, with one provider per item.

    Providers stay by exposure alone.
    """

    intensity: Floats
    """(n, M) true intensity of each arrival of all rounds for each item."""
    admissible: Bools
    """(n, M) True for items that an arrival may be shown while their providers are in the market."""
    examination: Floats
    """(k,) factor of the intensity at each position."""
    fee: float
    """Fee of each provider for each round at whose end it stays."""
    keeping: Floats
    """(T + 1, M) fewest exposures with which each provider stays for 0 to T rounds."""


@dataclass(frozen=True, eq=False)
class ProviderBound:
    """Upper bound of the expected objective, with its certificate."""

    value: float
    """Bound of expected consumptions plus fees."""
    price: Floats
    """(M,) prices of exposures at which the bound holds."""


def bound_at(task: ProviderTask, price: Floats) -> tuple[float, Floats]:
    """Bound of the objective at given prices, and subgradient.

    Each exposure is paid the price of its item, and providers pay it. Then arrivals and providers are independent: each
    arrival gets the best slate (an assignment), and each provider stays as long as it is worth it. Whole exposures and
    the departure of providers are relaxed, so every non-negative price gives a bound.
    """
    n_items = len(price)
    probability = -np.expm1(-task.intensity[:, None, :] * task.examination[:, None])
    shown = np.zeros(n_items)
    value = 0.0
    for row, worth in enumerate(probability):
        total = np.where(task.admissible[row], worth + price, 0.0)
        positions, items = linear_sum_assignment(total, maximize=True)
        value += float(total[positions, items].sum())
        shown[items[task.admissible[row][items]]] += 1.0
    staying = task.fee * np.arange(len(task.keeping))[:, None] - price * task.keeping
    length: Ints = staying.argmax(0)
    items = np.arange(n_items)
    return value + float(staying[length, items].sum()), shown - task.keeping[length, items]


def provider_bound(
    task: ProviderTask, *, steps: int = 90, step: float = 0.02, price: Floats | None = None
) -> ProviderBound:
    """Lowest bound found by subgradient steps on the prices.

    Args:
        steps: Number of steps; more steps bring the bound closer to its minimum.
        step: First change of a price, for a gap of one uniform exposure.
        price: (M,) prices to begin with; None: zeros.
    """
    n_arrivals, n_items = task.intensity.shape
    uniform = n_arrivals * len(task.examination) / n_items
    current = np.zeros(n_items) if price is None else price.copy()
    best = ProviderBound(np.inf, current)
    for number in range(steps):
        value, gradient = bound_at(task, current)
        if value < best.value:
            best = ProviderBound(value, current)
        current = np.maximum(current - step / (1.0 + number / 15.0) * gradient / uniform, 0.0)
    return best
