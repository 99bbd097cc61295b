"""The dual of weighted positions, smoothed so that it has a slope everywhere.

What a user may be given, Σ_r w_r·(item at r), averaged over slates, is the polymatroid

    P = {z ≥ 0: z(A) ≤ w_1 + … + w_min(|A|, capacity) for every set A of items}

and its part of D is max over P of a·z with a = s − v: the largest a get the largest w. With a quadratic term,

    D_τ(v) = Σ_users max over P of (a·z − τ/2·|z|²) + v·(bounds),

the maximiser is the projection of a/τ on P. With the values in descending order it is a/τ less the non-increasing
least-squares fit of a/τ − w (Blondel et al., "Fast differentiable sorting and ranking", 2020), found by pooling
adjacent violators. Items further apart than τ times the difference of their weights stay in order, with z = w; the
others share what their positions give, in *pools*. So D_τ is differentiable, and its gradient is the bounds less Σ z.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rimsim.arrays import Floats, Ints
from rimsim.compiled import compiled
from rimsim.matching._best import NO_ROW, enter
from rimsim.matching._penalty import enter_exposure
from rimsim.matching._terms import Terms, values_of_row


class Smoothed(NamedTuple):
    """The users' part of the dual at some prices."""

    top: float
    """Σ_users Σ_r w_r·(r-th largest (s − v)₊), of D."""
    smooth: float
    """The same of D_τ."""
    exposure: Floats
    """(R,) Σ z of each row."""
    marginal: Floats
    """(n,) w_k·(k-th largest (s − v)₊): what the last position of each user is worth."""


@compiled
def _pool(value: Floats, weights: Floats, mean: Floats, count: Ints) -> int:
    """Pool adjacent violators: means of the non-increasing fit of value − weight, and the number of pools."""
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


@compiled
def _join(extra: Floats, mean: Floats, count: Ints, pools: int, inside: Floats) -> tuple[int, float]:
    """Let items beyond the last position join the last pool, which may then join those before.

    Args:
        extra: (E,) their values, in any order, above the mean of the last pool.
        mean: Means of the pools, changed in place.
        count: Their sizes, of items with a position, changed in place.
        pools: Number of pools, at least 1.
        inside: (E,) room for those that have not left.

    Returns:
        The number of pools, and the level of the last one: extra items above it are in.
    """
    while True:
        size, total, level = count[pools - 1], mean[pools - 1] * count[pools - 1], mean[pools - 1]
        for place in range(len(extra)):
            inside[place] = extra[place]
        joined, before = _above(inside, level), -1
        while joined != before:  # those that do not reach the level leave, which raises it, until none leaves
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


@compiled
def _above(values: Floats, level: float) -> int:
    """Move those above a level and 0 to the front, in their order; returns how many they are."""
    above = 0
    for value in values:
        values[above] = value
        above += value > level and value > 0.0  # without a branch, which would often be foretold wrongly
    return above


def smoothed(terms: Terms, price: Floats, tau: float, kth: Floats) -> Smoothed:
    """The users' part of D and of D_τ at prices.

    Args:
        terms: The problem.
        price: (R,) v.
        tau: τ.
        kth: (n,) what the k-th largest s − v of each user is at least; −inf where nothing is known. What is further
            below it than a pool can reach is passed over, to the same bits.
    """
    return Smoothed(*_summed(terms, price, tau, kth))


@compiled
def _summed(  # noqa: C901, PLR0912
    terms: Terms, price: Floats, tau: float, kth: Floats
) -> tuple[float, float, Floats, Floats]:
    """What :func:`smoothed` tells, in its order."""
    (n, m), grouped = terms.scores.shape, len(terms.of) > 0
    width = len(terms.weights)
    value, exposure, marginal = np.empty(m), np.zeros(len(price)), np.zeros(n)
    items, best = np.empty(width, np.int64), np.empty(width)
    scaled, mean, count = np.empty(width), np.empty(width), np.empty(width, np.int64)
    near, extra, inside, who = np.empty(m, np.int64), np.empty(m), np.empty(m), np.empty(m, np.int64)
    top = smooth = 0.0
    for user in range(n):
        k = terms.capacity[user]
        if k == 0:
            continue
        values_of_row(terms, price, user, value)
        lowest, found, size = kth[user] - tau * terms.weights[0], 0, 0
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
    return top, smooth, exposure, marginal
