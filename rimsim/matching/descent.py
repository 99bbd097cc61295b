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

The *level* of a pool is the mean of a/τ − w over its items, with w = 0 for items beyond the last position. The
items of a pool have z = a/τ − level, or z = a/τ if the level is negative. Levels fall from the first pool to the
last pool, which alone has items beyond the last position.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from rimsim.arrays import Bools, Floats, Ints, Ints32
from rimsim.compiled import compiled, compiled_part
from rimsim.matching.kernels import NO_ROW, enter

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

_EVALUATIONS = 400  # largest number of evaluations of D_τ
_ROUNDED = 1e-9  # bounds are widened by this share, because sums are rounded
_LISTED = 8  # the list of a user has at most M/8 items
# Lists reach this multiple of τ below the pool, so that they remain valid when prices move a little.
_DEPTH = 2.0
_GUESS = 0.05  # the first guess of a level is this multiple of τ below the level at the evaluation before
_REMEMBERED = 20  # number of steps from which L-BFGS-B estimates second derivatives


class WeightedProblem(NamedTuple):
    """Offline problem with weighted positions and groups of items.

    There are n users, M items, k positions and R = M + G requirements. Requirement y < M is on item y, and
    requirement M + g on group g. An item at position r adds w_r to its own requirement, and to requirements
    of its groups that are active for the user.
    """

    scores: NDArray[np.floating]  # (n, M) worth of one unit of exposure; −inf: inadmissible
    capacity: Ints  # (n,) number of positions that are in use, at most k
    weights: Floats  # (k,) position weights w, positive and never rising
    min_exposure: Floats  # (R,) required exposures
    max_exposure: Floats  # (R,) largest exposures; infinite without a cap
    cost: Floats  # (R,) cost of one missing unit of exposure; infinite if the floor is hard
    first: Ints  # (G+1,) beginning of each group in ``item``
    item: Ints  # (nnz,) items, group after group
    of_first: Ints  # (M+1,) beginning of each item's groups in ``of``
    of: Ints  # (nnz,) groups, item after item
    # (n, G) True if a group counts exposures to the user; shape (0, G): exposures to all users count.
    active: Bools


class UserDual(NamedTuple):
    """Users' part of the dual at given prices."""

    top: float  # part of D that users contribute: Σ_users Σ_r w_r·(r-th largest (s − v)₊)
    smooth: float  # part of D_τ that users contribute
    exposure: Floats  # (R,) Σ z, the smoothed exposure of each row
    marginal: Floats  # (n,) w_k·(k-th largest (s − v)₊), the worth of each user's last position


class Contenders(NamedTuple):
    """Lists of the items that can be in a pool.

    Few items have a value s − v that puts them in a pool, and prices move little between evaluations. So most
    evaluations look only at a user's list of such items, and make a new list where the old list is too short.

    An evaluation guesses the level of the user's last pool, and fits pools to the items whose s − v reaches τ times
    the guess. More items cannot lower the level of the last pool. So if the level of this fit reaches the guess, no
    other item is in a pool, and the fit is exact. Otherwise, the level of this fit is the next, lower guess. If the
    slate is not full, there is no such level, and the next guess is 0.
    """

    price: Floats  # (R,) prices of the latest evaluation
    # (1,) sum over evaluations of the largest fall of a price. No s − v has risen by more than the growth of this sum.
    fallen: Floats
    # (n,) ``rest`` + ``fallen`` is an upper bound of s − v of items that are not listed; infinite without a valid list.
    rest: Floats
    # (n,) τ·level of each user's last pool at the latest evaluation; 0 if the user's slate was not full.
    last_level: Floats
    items: Ints32  # (n, W) listed items
    scores: NDArray[np.floating]  # (n, W) scores of the listed items
    lengths: Ints  # (n,) number of listed items
    # (n,) True for users with the most frequent scores, such as users without a past. They are evaluated once,
    # together.
    alike: Bools

    @classmethod
    def of(cls, terms: WeightedProblem) -> Contenders:
        """Empty lists."""
        n, m = terms.scores.shape
        width = 0 if len(terms.of) else -(-m // _LISTED)
        alike = np.zeros(n, np.bool_)
        items = np.empty((n, width), np.int32)
        scores = np.empty((n, width), terms.scores.dtype)
        price = np.zeros(len(terms.min_exposure))
        lengths = np.zeros(n, np.int64)
        if n and width:
            sampled_scores = terms.scores[:, :: max(m // 16, 1)]
            # Users with equal sampled scores form a run of rows; the longest run has the most frequent scores.
            # np.unique with an axis is not used here, because it turns a KeyboardInterrupt into a TypeError.
            order = np.lexsort(sampled_scores.T[::-1])
            sorted_scores = sampled_scores[order]
            is_new = np.r_[True, (sorted_scores[1:] != sorted_scores[:-1]).any(1)]
            first_of_run = np.flatnonzero(is_new)
            typical_user = order[first_of_run[np.diff(first_of_run, append=n).argmax()]]
            alike = (terms.scores == terms.scores[typical_user]).all(1)
            alike &= terms.capacity == terms.capacity[typical_user]
        return cls(
            price=price,
            fallen=np.zeros(1),
            rest=np.full(n, np.inf),
            last_level=np.zeros(n),
            items=items,
            scores=scores,
            lengths=lengths,
            alike=alike,
        )


class DualPoint(NamedTuple):
    """Prices, and the value of the dual at these prices."""

    price: Floats  # (R,) prices v
    users: UserDual
    bound: float  # D at the prices
    smooth: float  # D_τ at the prices
    tau: float
    contenders: Contenders  # lists after the latest evaluation, which all points of a search share


class Ending(NamedTuple):
    """Stopping rule of a descent: steps gain too little."""

    min_gain: float  # share of D_τ by which the latest ``steps`` steps together must lower it
    steps: int = 1  # number of steps whose gain is added


@compiled_part
def is_active(terms: WeightedProblem, user: int, group: int) -> bool:
    """True if a group counts the exposures to a user."""
    return bool(len(terms.active) == 0 or terms.active[user, group])


@compiled_part
def values_of_row(terms: WeightedProblem, price: Floats, user: int, value: Floats) -> None:
    """Fill ``value`` with a user's s − v."""
    m = len(value)
    scores = terms.scores[user]
    for item in range(m):
        value[item] = scores[item] - price[item]
    for group in range(len(terms.first) - 1):
        if price[m + group] != 0.0 and is_active(terms, user, group):
            for index in range(terms.first[group], terms.first[group + 1]):
                value[terms.item[index]] -= price[m + group]


@compiled_part
def enter_exposure(terms: WeightedProblem, exposure: Floats, user: int, item: int, amount: float) -> None:
    """Add an item's exposure to all requirements of the item."""
    exposure[item] += amount
    for index in range(terms.of_first[item], terms.of_first[item + 1]):
        if is_active(terms, user, terms.of[index]):
            exposure[len(terms.of_first) - 1 + terms.of[index]] += amount


@compiled_part
def _pool(value: Floats, weights: Floats, mean: Floats, count: Ints) -> int:
    """Fit pools to values − weights; return their number.

    This is pooling of adjacent violators: neighbours are pooled until the means fall from pool to pool. ``value`` is
    in descending order. ``mean`` and ``count`` get the mean and the size of each pool.
    """
    n_pools = 0
    for position in range(len(value)):
        mean[n_pools] = value[position] - weights[position]
        count[n_pools] = 1
        while n_pools > 0 and mean[n_pools - 1] <= mean[n_pools]:
            n_pooled = count[n_pools - 1] + count[n_pools]
            mean[n_pools - 1] += (mean[n_pools] - mean[n_pools - 1]) * count[n_pools] / n_pooled
            count[n_pools - 1] = n_pooled
            n_pools -= 1
        n_pools += 1
    return n_pools


@compiled_part
def _join(extra: Floats, mean: Floats, count: Ints, n_pools: int, inside: Floats) -> tuple[int, float]:
    """Let items beyond the last position join the last pool.

    These items have no weight. Their values ``extra`` exceed the mean of the last pool, and are in any order. They
    raise this mean, so the last pool may have to join earlier pools. ``inside`` is an array as long as ``extra``, for
    intermediate results. The function returns how many pools are left, and the mean of the last pool. Only extra
    values above this mean belong to the last pool.
    """
    while True:
        n_fitted = count[n_pools - 1]
        total = mean[n_pools - 1] * count[n_pools - 1]
        level = mean[n_pools - 1]
        for index in range(len(extra)):
            inside[index] = extra[index]
        n_inside = _above(inside, level)
        n_before = -1
        # The level becomes the mean with all extra items above it. Items below the new level leave. This raises the
        # level, so that more items can leave.
        while n_inside != n_before:
            sum_above = 0.0
            for value in inside[:n_inside]:
                sum_above += value
            level = (total + sum_above) / (n_fitted + n_inside)
            n_before = n_inside
            n_inside = _above(inside[:n_inside], level)
        if n_pools == 1 or mean[n_pools - 2] > level:
            return n_pools, level
        mean[n_pools - 2] = (mean[n_pools - 2] * count[n_pools - 2] + total) / (count[n_pools - 2] + n_fitted)
        count[n_pools - 2] += n_fitted
        n_pools -= 1


@compiled_part
def _above(values: Floats, level: float) -> int:
    """Move positive values above a level forward; return their number."""
    n_above = 0
    for value in values:
        # Each value is written, and the next value replaces it if it does not count. A branch would be slower, because
        # the processor would often predict it wrongly.
        values[n_above] = value
        n_above += value > level and value > 0.0
    return n_above


@compiled_part
def _fit(
    near: Ints, value: Floats, weights: Floats, tau: float, k: int, best: Floats, work: tuple[Any, ...]
) -> tuple[int, int, float]:
    """Fit of a user's slates to the items ``near`` alone.

    ``value`` has s − v of these items, of which the k best fill the positions. Other items can share positions in
    the last pool. The function fills ``best`` with s − v of the best items, and the first arrays of ``work`` with the
    items with z > 0 (the best items first), their values in units of τ, and z. It returns the number of best items, the
    number of items with z > 0, and the level of the last pool.
    """
    best_items, scaled, z, mean, count, inside, is_best = work
    # An int64 like the later sizes: with a literal 0, Numba would compile ``enter`` twice.
    size = 0 * k
    for index in range(len(near)):
        if size < k or value[index] >= best[k - 1]:
            size = enter(near[index], value[index], NO_ROW, best_items[:k], best[:k], size)
    for index in range(size):
        scaled[index] = best[index] / tau
    n_pools = _pool(scaled[:size], weights[:size], mean, count)
    # Without items, ``n_pools`` is 0, and ``mean[-1]`` is read. The level is then not used.
    level = mean[n_pools - 1]
    n_candidates = size  # the best items, followed by items that may share the last position
    if size == k:
        lowest = max(level, 0.0) * tau
        is_best[best_items[:size]] = True
        for index in range(len(near)):  # there is no branch, as in ``_above``
            best_items[n_candidates] = near[index]
            scaled[n_candidates] = value[index] / tau
            n_candidates += (value[index] > lowest) & (not is_best[near[index]])
        is_best[best_items[:size]] = False
        extra = scaled[size:n_candidates]
        n_pools, level = _join(extra, mean, count, n_pools, inside[: n_candidates - size])
    n_shown = 0
    for pool in range(n_pools):
        # A negative level counts as 0, because positions may stay empty.
        fit = max(level if pool == n_pools - 1 else mean[pool], 0.0)
        for _ in range(count[pool]):
            z[n_shown] = scaled[n_shown] - fit
            n_shown += 1
    # Of the other candidates, those with z > 0 move forward, next to the best items.
    for index in range(size, n_candidates):
        best_items[n_shown] = best_items[index]
        scaled[n_shown] = scaled[index]
        z[n_shown] = scaled[index] - max(level, 0.0)
        n_shown += z[n_shown] > 0.0
    return size, n_shown, level


@compiled_part
def _listed_near(
    items: Ints32, scores: NDArray[np.floating], price: Floats, lowest: float, near: Ints, value: Floats
) -> int:
    """Find listed items that reach ``lowest``; return their number."""
    n_near = 0
    for index in range(len(items)):
        near[n_near] = items[index]  # there is no branch, as in ``_above``
        value[n_near] = scores[index] - price[items[index]]
        n_near += value[n_near] >= lowest
    return n_near


@compiled_part
def _all_near(all_values: Floats, lowest: float, near: Ints, value: Floats) -> int:
    """Find items that reach ``lowest``; return their number."""
    n_near = 0
    for item in range(len(all_values)):
        near[n_near] = item
        value[n_near] = all_values[item]
        n_near += value[n_near] >= lowest
    return n_near


@compiled_part
def _list_items(
    all_values: Floats, scores: NDArray[np.floating], bound: float, user: int, contenders: tuple[Any, ...]
) -> None:
    """List a user's items whose s − v reaches a bound.

    If there are more items than a list can hold, the user has no valid list.
    """
    _, fallen, rest, _, items, listed_scores, lengths, _ = contenders
    size = 0
    for item in range(len(all_values)):
        if all_values[item] >= bound:
            if size == items.shape[1]:
                rest[user] = np.inf
                return
            items[user, size] = item
            listed_scores[user, size] = scores[item]
            size += 1
    lengths[user] = size
    rest[user] = bound - fallen[0]


@compiled_part
def _scratch_of(terms: WeightedProblem) -> tuple[Ints, Floats, Floats, tuple[Any, ...]]:
    """Arrays for intermediate results of one user.

    The arrays are items whose s − v reaches a guess, s − v of these items, s − v of all items, and, for :func:`_fit`,
    means and sizes of pools, values inside the last pool, and a mask of the best items.
    """
    m = terms.scores.shape[1]
    width = len(terms.weights)
    pools = (np.empty(width), np.empty(width, np.int64), np.empty(m), np.zeros(m, np.bool_))
    return np.empty(m, np.int64), np.empty(m), np.empty(m), pools


@compiled_part
def _fits_of(terms: WeightedProblem) -> tuple[Ints, Floats, Floats, Floats, Ints]:
    """Arrays for a user's best items and their mean weights.

    Row 0 is for the current user, and row 1 for all users with equal scores, of which one is evaluated. The arrays are
    the best items, followed by other items of the last pool; the k largest s − v; (s − v)/τ and z of the items; and the
    numbers of best items and of items with a mean weight z > 0, −1 until they are known.
    """
    m = terms.scores.shape[1]
    width = len(terms.weights)
    best_items = np.empty((2, m + width + 1), np.int64)
    shape = (2, m + 1)
    sizes = np.full((2, 2), -1, np.int64)
    return best_items, np.empty((2, width)), np.empty(shape), np.empty(shape), sizes


@compiled_part
def _with_top(top: float, weights: Floats, best: Floats, size: int) -> float:
    """Users' part of D, with one more user."""
    for position in range(size):
        top += weights[position] * best[position]
    return top


@compiled_part
def _with_smooth(smooth: float, scaled: Floats, z: Floats, tau: float, n_shown: int) -> float:
    """Users' part of D_τ, with one more user."""
    for index in range(n_shown):
        smooth += tau * z[index] * (scaled[index] - 0.5 * z[index])
    return smooth


@compiled
def _user_dual(  # noqa: C901  # a function for one user would take a sixth longer, because it needs all arrays
    terms: WeightedProblem,
    price: Floats,
    tau: float,
    contenders: tuple[Any, ...],
    exposure: Floats,
    marginal: Floats,
) -> tuple[float, float]:
    """First two fields of :class:`UserDual`; fills in the others.

    ``exposure`` and ``marginal`` come as zeros, and ``contenders`` are updated.
    """
    has_groups = len(terms.of) > 0
    near, value, all_values, pools = _scratch_of(terms)
    all_best_items, all_best, all_scaled, all_z, sizes = _fits_of(terms)
    _, fallen, rest, last_level, listed, listed_scores, lengths, alike = contenders
    slack = _ROUNDED * (np.abs(price).sum() + fallen[0])  # largest rounding error of ``rest`` + ``fallen``
    max_weight = tau * terms.weights[0]  # most by which τ·level is below the mean s − v of its pool
    top = smooth = 0.0
    for user in range(len(terms.capacity)):
        k = terms.capacity[user]
        if k == 0:
            continue
        row = 1 if alike[user] else 0  # row 1 keeps the fit that users with equal scores share
        best = all_best[row]
        best_items = all_best_items[row]
        scaled = all_scaled[row]
        z = all_z[row]
        lowest = max(last_level[user] - _GUESS * tau, 0.0)  # guess: no item below this value is in a pool
        is_filled = False
        while row == 0 or sizes[1, 0] < 0:  # until the level reaches the guess; the shared fit is made once
            if rest[user] + fallen[0] < lowest * (1.0 - _ROUNDED) - slack:  # the list has all that reach it
                items = listed[user, : lengths[user]]
                n_near = _listed_near(items, listed_scores[user], price, lowest, near, value)
            else:
                if not is_filled:
                    values_of_row(terms, price, user, all_values)
                    is_filled = True
                n_near = _all_near(all_values, lowest, near, value)
            work = (best_items, scaled, z, *pools)
            size, n_shown, level = _fit(near[:n_near], value, terms.weights, tau, k, best, work)
            if lowest == 0.0 or (size == k and level * tau * (1.0 - _ROUNDED) >= lowest):
                last_level[user] = level * tau if size == k else 0.0
                sizes[row, 0] = size
                sizes[row, 1] = n_shown
                if is_filled and not has_groups:
                    _list_items(all_values, terms.scores[user], lowest - _DEPTH * tau, user, contenders)
                break
            lowest = max(level * tau - _ROUNDED * (best[0] + max_weight), 0.0) if size == k else 0.0
        size, n_shown = sizes[row]
        top = _with_top(top, terms.weights, best, size)
        smooth = _with_smooth(smooth, scaled, z, tau, n_shown)
        if size == k:
            marginal[user] = terms.weights[k - 1] * best[k - 1]
        for index in range(n_shown):
            if has_groups:
                enter_exposure(terms, exposure, user, best_items[index], z[index])
            else:
                exposure[best_items[index]] += z[index]
    return top, smooth


def at_prices(
    terms: WeightedProblem, price: Floats, tau: float, before: DualPoint | None = None
) -> DualPoint:
    """D and D_τ at given prices.

    An earlier result ``before`` saves time: its lists of contenders are used, and updated in place.
    """
    contenders = Contenders.of(terms) if before is None else before.contenders
    contenders.fallen[0] += np.maximum(contenders.price - price, 0.0).max(initial=0.0)
    contenders.price[:] = price
    exposure = np.zeros(len(price))
    marginal = np.zeros(len(terms.capacity))
    # This also fills ``exposure`` and ``marginal``.
    top, smooth = _user_dual(terms, price, tau, tuple(contenders), exposure, marginal)
    users = UserDual(top=top, smooth=smooth, exposure=exposure, marginal=marginal)
    # A negative price, a bonus, belongs to the floor of its requirement; a positive price belongs to the cap.
    is_below = price < 0.0
    is_above = price > 0.0
    price_term = float(
        price[is_below] @ terms.min_exposure[is_below] + price[is_above] @ terms.max_exposure[is_above]
    )
    return DualPoint(
        price=price,
        users=users,
        bound=users.top + price_term,
        smooth=users.smooth + price_term,
        tau=tau,
        contenders=contenders,
    )


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
    search = _PriceParts(terms, start, tau, box, unit)
    if not len(search.bounds):
        return at_prices(terms, np.zeros(len(start.price)), tau)
    optimum = minimize(
        search.dual,
        search.start,
        jac=True,
        method="L-BFGS-B",
        bounds=search.limits,
        callback=_GainLimit(ending) if ending.steps > 1 else None,
        options={
            "maxfun": _EVALUATIONS,
            "maxcor": _REMEMBERED,
            "ftol": ending.min_gain if ending.steps == 1 else 0.0,
            "gtol": 0.0,
        },
    )
    return search.point(optimum.x)


class _PriceParts:
    """Parts of prices below and above 0, for L-BFGS-B.

    Parts are prices divided by ``unit``, and D_τ is divided by its scale, because L-BFGS-B expects numbers near 1.
    """

    def __init__(
        self,
        terms: WeightedProblem,
        start: DualPoint,
        tau: float,
        box: tuple[Floats, Floats],
        unit: float,
    ) -> None:
        self._terms = terms
        self._tau = tau
        self._box = box
        self._unit = unit
        lowest, highest = box
        below = np.flatnonzero(lowest < 0.0)
        above = np.flatnonzero(highest > 0.0)
        self._below = below
        self._above = above
        self.bounds = np.concatenate([terms.min_exposure[below], terms.max_exposure[above]])
        """Bound of the requirement of each part."""
        self.limits = [
            *((low / unit, 0.0) for low in lowest[below]),
            *((0.0, high / unit) for high in highest[above]),
        ]
        """Smallest and largest value of each part."""
        price = start.price
        self.start = np.concatenate([np.minimum(price[below], 0.0), np.maximum(price[above], 0.0)]) / unit
        """Parts of the prices to start from."""
        self._latest = start
        self._key = b""
        if len(self.bounds) and start.tau != tau:
            self._latest = at_prices(terms, price, tau, start)
        self._scale = max(abs(self._latest.smooth), unit)

    def point(self, parts: Floats) -> DualPoint:
        """Dual at the prices of given parts."""
        # L-BFGS-B often asks last for a point that it has already evaluated, so the latest point is cached.
        if parts.tobytes() != self._key:
            price = np.zeros(len(self._latest.price))
            price[self._below] = parts[: len(self._below)]
            price[self._above] += parts[len(self._below) :]  # a requirement with both bounds has both parts
            price = np.clip(price * self._unit, *self._box)  # rounding could move a price beyond its limits
            self._latest = at_prices(self._terms, price, self._tau, self._latest)
            self._key = parts.tobytes()
        return self._latest

    def dual(self, parts: Floats) -> tuple[float, Floats]:
        """Scaled D_τ at given parts, and its gradient."""
        users = self.point(parts).users
        gradient = self.bounds - np.concatenate([users.exposure[self._below], users.exposure[self._above]])
        value = (users.smooth + self._unit * float(parts @ self.bounds)) / self._scale
        return value, gradient * self._unit / self._scale


class _GainLimit:
    """Callback that ends a descent when steps gain too little."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending
        self._values: deque[float] = deque(maxlen=ending.steps + 1)

    def __call__(self, intermediate_result: OptimizeResult) -> None:
        """Note the value after a step."""
        # SciPy passes its record of the step only to an argument with this name.
        values = self._values
        values.append(float(intermediate_result.fun))
        gain = values[0] - values[-1]
        if len(values) > self._ending.steps and gain <= self._ending.min_gain * abs(values[-1]):
            raise StopIteration
