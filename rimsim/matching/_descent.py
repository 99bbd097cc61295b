"""The smoothed dual (``_smoothed.py``) is minimised within the box that floors, caps and cost allow."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import minimize

from rimsim.arrays import Floats
from rimsim.matching._smoothed import Smoothed, smoothed

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

    from rimsim.matching._terms import Terms


_EVALUATIONS = 400  # of D_τ at most
_ROUNDED = 1e-9  # share by which a bound on a value is lowered, for sums are rounded
_REMEMBERED = 20  # pairs of steps and slopes that the second derivative is told from


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
    tau: float
    """τ."""


class Ending(NamedTuple):
    """A search ends where so many steps in a row gain less than a share of D together."""

    enough: float
    steps: int = 1


def _bounds(terms: Terms, price: Floats) -> float:
    """Σ v₋·least + v₊·most."""
    below, above = price < 0.0, price > 0.0
    return float(price[below] @ terms.least[below] + price[above] @ terms.most[above])


def at_prices(terms: Terms, price: Floats, tau: float, before: Point | None = None) -> Point:
    """The dual at some prices; what is known at others spares looking at what is far from the top there."""
    kth = np.full(len(terms.capacity), -np.inf) if before is None else _kth(terms, before, price)
    users, rest = smoothed(terms, price, tau, kth), _bounds(terms, price)
    return Point(price, users, users.top + rest, users.smooth + rest, tau)


def _kth(terms: Terms, before: Point, price: Floats) -> Floats:
    """(n,) what each user's k-th largest s − v is at least: no item has lost more than prices have risen."""
    m, rise = terms.scores.shape[1], np.maximum(price - before.price, 0.0)
    lost = rise[:m].max(initial=0.0) + rise[m:].sum()
    weight = terms.weights[np.maximum(terms.capacity, 1) - 1]
    kth = before.users.marginal / weight - lost
    return np.where(before.users.marginal > 0.0, kth - _ROUNDED * (abs(kth) + lost), -np.inf)


def minimised(
    terms: Terms, start: Point, tau: float, lowest: Floats, highest: Floats, unit: float, ending: Ending
) -> Point:
    """Prices of about the smallest D_τ.

    D_τ is differentiable but for a kink at price 0 of a row that has both a floor and a cap. As the sum of a part below
    0 and one above, each with its own bound, such a price has no kink, and at the smallest D_τ one of the two is 0. So
    it is a smooth convex function in a box, for L-BFGS-B (Byrd, Lu, Nocedal and Zhu, 1995). Second derivatives, though
    they are there, lead astray: a step that they promise much of brings in items that they know nothing of.

    Args:
        terms: The problem.
        start: Where to start from.
        tau: τ.
        lowest: (R,) smallest prices.
        highest: (R,) largest prices.
        unit: What a value is about, where D is near 0.
        ending: When to stop.
    """
    below, above = np.flatnonzero(lowest < 0.0), np.flatnonzero(highest > 0.0)
    asked = np.concatenate([terms.least[below], terms.most[above]])
    if not len(asked):
        return at_prices(terms, np.zeros(len(start.price)), tau)
    last = start if start.tau == tau else at_prices(terms, start.price, tau, start)
    scale, key = max(abs(last.smooth), unit), b""

    def point(parts: Floats) -> Point:
        nonlocal last, key
        if parts.tobytes() != key:
            price = np.zeros(len(start.price))
            price[below] = parts[: len(below)]
            price[above] += parts[len(below) :]
            price = np.clip(price * unit, lowest, highest)  # they are rounded twice
            last, key = at_prices(terms, price, tau, last), parts.tobytes()
        return last

    def dual(parts: Floats) -> tuple[float, Floats]:
        users = point(parts).users
        slope = asked - np.concatenate([users.exposure[below], users.exposure[above]])
        return (users.smooth + unit * float(parts @ asked)) / scale, slope * unit / scale

    gained: deque[float] = deque(maxlen=ending.steps + 1)

    def stop(intermediate_result: OptimizeResult) -> None:
        gained.append(float(intermediate_result.fun))
        if len(gained) > ending.steps and gained[0] - gained[-1] <= ending.enough * abs(gained[-1]):
            raise StopIteration

    found = minimize(
        dual,
        np.concatenate([np.minimum(start.price[below], 0.0), np.maximum(start.price[above], 0.0)]) / unit,
        jac=True,
        method="L-BFGS-B",
        bounds=[
            *((low / unit, 0.0) for low in lowest[below]),
            *((0.0, high / unit) for high in highest[above]),
        ],
        callback=stop if ending.steps > 1 else None,
        options={
            "maxfun": _EVALUATIONS,
            "maxcor": _REMEMBERED,
            "ftol": ending.enough if ending.steps == 1 else 0.0,
            "gtol": 0.0,
        },
    )
    return point(found.x)
