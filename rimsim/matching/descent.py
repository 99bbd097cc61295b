"""Minimisation of the smoothed dual, for positions of different weights.

In random slates of a user, an item's position weight has the mean z. The possible means form the polymatroid

    P = {z ≥ 0: z(A) ≤ w_1 + … + w_min(|A|, capacity) for every set A of items}

In the dual D, a user's part is the maximum of a·z over z in P, where a = s − v. At the maximum, the items
with the largest a have the largest weights w. The smoothed dual subtracts a quadratic term:

    D_τ(v) = Σ_users max over P of (a·z − τ/2·|z|²) + v·(bounds),

The maximum is at the projection z of a/τ on P. With items in descending order of a, z is a/τ minus the
non-increasing least-squares fit of a/τ − w. Pooling adjacent violators finds this fit (Blondel et al., "Fast
differentiable sorting and ranking", 2020). Items whose a differ by more than τ times the difference of their
weights keep z = w. Other items form *pools*, which share the weights of their positions. So D_τ is
differentiable, and its gradient is the bounds minus the exposures Σ z.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from rimsim.arrays import Bools, Floats, Ints
from rimsim.compiled import compiled, compiled_part
from rimsim.matching.kernels import NO_ROW, enter

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

_EVALUATIONS = 400  # of D_τ at most
_ROUNDED = 1e-9  # share by which a bound on a value is lowered, for sums are rounded
_REMEMBERED = 20  # pairs of steps and slopes that the second derivative is told from


class WeightedProblem(NamedTuple):
    """Offline problem with weighted positions and groups of items.

    There are n users, M items, k positions and R = M + G requirements. Requirement y < M is on item y, and
    requirement M + g on group g. An item at position r adds w_r to its own requirement, and to requirements
    of its groups that are active for the user.
    """

    scores: NDArray[np.floating]  # (n, M) value of one unit of exposure; −inf for what is not admissible
    capacity: Ints  # (n,) positions in use, at most k
    weights: Floats  # (k,) w, non-increasing and positive
    least: Floats  # (R,) required exposure
    most: Floats  # (R,) largest exposure; infinite where there is no cap
    cost: Floats  # (R,) price of one missing unit of exposure; infinite where the floor is hard
    first: Ints  # (G+1,) where the items of each group begin
    item: Ints  # (nnz,) items of the groups
    of_first: Ints  # (M+1,) where the groups of each item begin
    of: Ints  # (nnz,) groups of the items
    active: Bools  # (n, G) whether a group counts what a user is shown; (0, G): it always does


class UserDual(NamedTuple):
    """Users' part of the dual at given prices."""

    top: float  # Σ_users Σ_r w_r·(r-th largest (s − v)₊), of D
    smooth: float  # the same of D_τ
    exposure: Floats  # (R,) Σ z of each row
    marginal: Floats  # (n,) w_k·(k-th largest (s − v)₊): worth of each user's last position


class DualPoint(NamedTuple):
    """Prices, and the value of the dual at these prices."""

    price: Floats  # (R,) v
    users: UserDual
    bound: float  # D(v)
    smooth: float  # D_τ(v)
    tau: float


class Ending(NamedTuple):
    """Stopping rule of a descent: ``steps`` steps gain too little."""

    enough: float
    steps: int = 1


@compiled_part
def is_active(terms: WeightedProblem, user: int, group: int) -> bool:
    """True if a group counts the exposures to a user."""
    return bool(len(terms.active) == 0 or terms.active[user, group])


@compiled_part
def values_of_row(terms: WeightedProblem, price: Floats, user: int, value: Floats) -> None:
    """Fill ``value`` with a user's s − v; −inf where negative."""
    m = len(value)
    scores = terms.scores[user]
    for item in range(m):
        value[item] = scores[item] - price[item]
    for group in range(len(terms.first) - 1):
        if price[m + group] != 0.0 and is_active(terms, user, group):
            for place in range(terms.first[group], terms.first[group + 1]):
                value[terms.item[place]] -= price[m + group]
    for item in range(m):
        value[item] = value[item] if value[item] >= 0.0 else -np.inf


@compiled_part
def enter_exposure(terms: WeightedProblem, exposure: Floats, user: int, item: int, amount: float) -> None:
    """Add an item's exposure to all requirements of the item."""
    exposure[item] += amount
    for place in range(terms.of_first[item], terms.of_first[item + 1]):
        if is_active(terms, user, terms.of[place]):
            exposure[len(terms.of_first) - 1 + terms.of[place]] += amount


@compiled_part
def _pool(value: Floats, weights: Floats, mean: Floats, count: Ints) -> int:
    """Fit pools of non-increasing value − weight; return their number."""
    pools = 0
    for place in range(len(value)):
        mean[pools], count[pools] = value[place] - weights[place], 1
        while pools > 0 and mean[pools - 1] <= mean[pools]:
            both = count[pools - 1] + count[pools]
            mean[pools - 1] += (mean[pools] - mean[pools - 1]) * count[pools] / both
            count[pools - 1] = both
            pools -= 1
        pools += 1
    return pools


@compiled_part
def _join(extra: Floats, mean: Floats, count: Ints, pools: int, inside: Floats) -> tuple[int, float]:
    """Let items beyond the last position join the last pool.

    The last pool may then join earlier pools. ``extra`` has the E values that exceed the mean of the last
    pool, in any order. ``inside`` is a work array of length E. The function returns how many pools are
    left, and the mean of the last pool. Extra values above this mean belong to the last pool.
    """
    while True:
        size, total, level = count[pools - 1], mean[pools - 1] * count[pools - 1], mean[pools - 1]
        for place in range(len(extra)):
            inside[place] = extra[place]
        joined, before = _above(inside, level), -1
        while joined != before:  # items that do not reach the level leave, which raises it, until none leaves
            sum_above = 0.0
            for value in inside[:joined]:
                sum_above += value
            level = (total + sum_above) / (size + joined)
            joined, before = _above(inside[:joined], level), joined
        if pools == 1 or mean[pools - 2] > level:
            return pools, level
        mean[pools - 2] = (mean[pools - 2] * count[pools - 2] + total) / (count[pools - 2] + size)
        count[pools - 2] += size
        pools -= 1


@compiled_part
def _above(values: Floats, level: float) -> int:
    """Move positive values above a level forward; return their number."""
    above = 0
    for value in values:
        values[above] = value
        above += value > level and value > 0.0  # without a branch, which would often be predicted wrongly
    return above


@compiled
def _user_dual(  # noqa: C901, PLR0912
    terms: WeightedProblem, price: Floats, tau: float, kth: Floats, exposure: Floats, marginal: Floats
) -> tuple[float, float]:
    """First fields of :class:`UserDual`; the others are filled in.

    ``exposure`` and ``marginal`` come as zeros. ``kth`` has a lower bound of each user's k-th largest s − v, −inf if
    unknown. Items far below this bound are skipped, because they cannot enter a pool.
    """
    (n, m), grouped = terms.scores.shape, len(terms.of) > 0
    width = len(terms.weights)
    value, extra, inside = np.empty(m, np.float64), np.empty(m, np.float64), np.empty(m, np.float64)
    best, scaled, mean = np.empty(width, np.float64), np.empty(width, np.float64), np.empty(width, np.float64)
    items, count = np.empty(width, np.int64), np.empty(width, np.int64)
    near, who = np.empty(m, np.int64), np.empty(m, np.int64)
    top = smooth = 0.0
    for user in range(n):
        k = terms.capacity[user]
        if k == 0:
            continue
        values_of_row(terms, price, user, value)
        lowest, found = kth[user] - tau * terms.weights[0], 0
        size = 0 * k  # no literal: see ``best_items``
        for item in range(m):  # without a branch, as above
            near[found] = item
            found += value[item] > lowest
        for item in near[:found]:
            if size < k or value[item] >= best[k - 1]:
                size = enter(item, value[item], NO_ROW, items[:k], best[:k], size)
        if size == 0:
            continue
        for place in range(size):
            top += terms.weights[place] * best[place]
            scaled[place] = best[place] / tau
            value[items[place]] = -np.inf
        pools = _pool(scaled[:size], terms.weights[:size], mean, count)
        extras, level = 0, mean[pools - 1]
        if size == k:
            marginal[user] = terms.weights[k - 1] * best[k - 1]
            reached = max(level, 0.0) * tau
            for item in near[:found]:
                who[extras] = item
                extras += value[item] > reached
            for index in range(extras):
                extra[index] = value[who[index]] / tau
            pools, level = _join(extra[:extras], mean, count, pools, inside[:extras])
        place = 0
        for pool in range(pools):
            fit = level if pool == pools - 1 else mean[pool]
            for _ in range(count[pool]):
                z = scaled[place] - max(fit, 0.0)
                smooth += tau * z * (scaled[place] - 0.5 * z)
                if grouped:
                    enter_exposure(terms, exposure, user, items[place], z)
                else:
                    exposure[items[place]] += z
                place += 1
            if pool == pools - 1:
                for index in range(extras):
                    z = extra[index] - max(fit, 0.0)
                    if z > 0.0:
                        smooth += tau * z * (extra[index] - 0.5 * z)
                        if grouped:
                            enter_exposure(terms, exposure, user, who[index], z)
                        else:
                            exposure[who[index]] += z
    return top, smooth


def at_prices(
    terms: WeightedProblem, price: Floats, tau: float, before: DualPoint | None = None
) -> DualPoint:
    """Dual at given prices; an earlier result ``before`` saves time."""
    kth = np.full(len(terms.capacity), -np.inf) if before is None else _kth(terms, before, price)
    exposure, marginal = np.zeros(len(price)), np.zeros(len(terms.capacity))
    top, smooth = _user_dual(terms, price, tau, kth, exposure, marginal)
    users = UserDual(top, smooth, exposure, marginal)
    below, above = price < 0.0, price > 0.0
    rest = float(price[below] @ terms.least[below] + price[above] @ terms.most[above])
    return DualPoint(price, users, users.top + rest, users.smooth + rest, tau)


def _kth(terms: WeightedProblem, before: DualPoint, price: Floats) -> Floats:
    """(n,) lower bound of each user's k-th largest s − v."""
    # no item has lost more than prices have risen
    m, rise = terms.scores.shape[1], np.maximum(price - before.price, 0.0)
    lost = rise[:m].max(initial=0.0) + rise[m:].sum()
    weight = terms.weights[np.maximum(terms.capacity, 1) - 1]
    kth = before.users.marginal / weight - lost
    return np.where(before.users.marginal > 0.0, kth - _ROUNDED * (abs(kth) + lost), -np.inf)


def minimised(
    terms: WeightedProblem,
    start: DualPoint,
    tau: float,
    box: tuple[Floats, Floats],
    unit: float,
    ending: Ending,
) -> DualPoint:
    """Prices that nearly minimise D_τ within bounds.

    D_τ is differentiable, except at price 0 of a requirement with both a floor and a cap. The price of a
    requirement with both bounds is split into parts below and above 0; at the minimum one part is 0. Then D_τ
    is smooth and convex, and L-BFGS-B minimises it within the bounds of prices (Byrd et al., 1995). Second
    derivatives do not help, because they ignore the items that enter slates in a long step. ``unit`` is the
    scale of prices and a lower bound of the scale of D.
    """
    lowest, highest = box
    below, above = np.flatnonzero(lowest < 0.0), np.flatnonzero(highest > 0.0)
    asked = np.concatenate([terms.least[below], terms.most[above]])
    if not len(asked):
        return at_prices(terms, np.zeros(len(start.price)), tau)
    last = start if start.tau == tau else at_prices(terms, start.price, tau, start)
    scale, key = max(abs(last.smooth), unit), b""

    def point(parts: Floats) -> DualPoint:
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
