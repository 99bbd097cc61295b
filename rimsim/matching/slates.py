"""Integral slates at given prices, improved move by move.

At the best prices, many values s − v are nearly tied. So slates of the k largest values give some items too little
exposure, and other items too much. A pass goes through the users and makes moves that raise Σ w·s + H(E),
score plus penalty. In a move, two items of a slate change positions, or an item replaces another, fills an
empty position, or leaves the last position. A pass ends, because every move raises the sum.

H is the penalty for exposure below floors and above caps. The penalty of a requirement is P(E) = −c·(min − E)₊ −
d·(E − max)₊, with costs c and d. If every move had to raise the value V, the search would soon stop.
For example, taking a unit of exposure from an item at its floor costs c, although a later move could restore
this unit for the price v. So the search begins with a smoothed P,

    H'(E) = clip(w − ρ·(E − min), 0, c) − clip(z + ρ·(E − max), 0, d),    w = (−v)₊, z = v₊,

The smoothed P charges the prices v near the bounds, and approaches P as ρ grows. Each pass has a larger ρ
than the pass before. The last passes use P, so that V grows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Floats, Ints
from rimsim.compiled import compiled, compiled_part
from rimsim.matching.descent import WeightedProblem, enter_exposure, is_active, values_of_row
from rimsim.matching.kernels import best_items
from rimsim.matching.problem import beyond

_TURNS = 20  # largest number of times that a pass tries all moves of a user
_RHO = 0.003  # first ρ, as a share of the worth of a position
_RHO_GROWTH = 3.0  # factor by which ρ grows from pass to pass
_SMOOTH_PASSES = 8  # number of passes with a smoothed penalty
_EXACT_PASSES = 4  # largest number of passes with the exact penalty
_REPAIRS = 30  # largest number of passes that repair broken bounds
_COST_GROWTH = 1.5  # factor by which the cost of a broken bound grows in each repair
# Share of the last position's weight by which each repair raises the target of a floor that is not met.
_TARGET_STEP = 0.1
_TINY = 1e-9  # smallest gain of a move, as a share of the worth of a position
_SPARE = 4  # number of candidates per user, in addition to two per position


class Penalty(NamedTuple):
    """Penalty H of all requirements."""

    # (R, 5) columns: price v, min_exposure, max_exposure, and the costs c and d of a missing and of a surplus exposure.
    # The costs are finite, and 0 for a requirement without the bound.
    rows: Floats
    rho: float  # ρ of the smoothed penalty; infinite: the exact penalty P


class IntegralSlates(NamedTuple):
    """Integral slates and their worth."""

    slates: Ints  # (n, k) items; −1 for an empty position
    exposure: Floats  # (R,) exposures E of each row
    value: float  # value V of the slates; −inf if they miss a hard floor


@compiled_part
def _smoothed(over: float, slope: float, largest_slope: float, rho: float) -> float:
    """Penalty of an exposure that is ``over`` beyond its bound.

    It is the integral of clip(slope + ρ·e, 0, ``largest_slope``) over e from 0 to ``over``.
    """
    if rho == np.inf:
        return largest_slope * max(over, 0.0)
    # The integrand is 0 up to ``start``, and constant from ``stop`` on.
    start = -slope / rho
    stop = (largest_slope - slope) / rho
    clipped = min(max(over, start), stop)
    return slope * clipped + 0.5 * rho * clipped * clipped + largest_slope * max(over - stop, 0.0)


@compiled_part
def _gain(rows: Floats, rho: float, exposure: Floats, row: int, amount: float) -> float:
    """Change of H if a requirement's exposure grows by ``amount``."""
    # The function is short, so that the compiler inlines it.
    gained = 0.0
    before = exposure[row]
    floor_cost = rows[row, 3]
    cap_cost = rows[row, 4]
    if floor_cost > 0.0:
        min_exposure = rows[row, 1]
        bonus = min(max(-rows[row, 0], 0.0), floor_cost)
        gained += _smoothed(min_exposure - before, bonus, floor_cost, rho)
        gained -= _smoothed(min_exposure - before - amount, bonus, floor_cost, rho)
    if cap_cost > 0.0:
        max_exposure = rows[row, 2]
        charge = min(max(rows[row, 0], 0.0), cap_cost)
        gained += _smoothed(before - max_exposure, charge, cap_cost, rho)
        gained -= _smoothed(before + amount - max_exposure, charge, cap_cost, rho)
    return gained


@compiled_part
def _gain_of_groups(
    terms: WeightedProblem, penalty: Penalty, exposure: Floats, user: int, item: int, amount: float
) -> float:
    """Change of H by groups if an item's exposure grows."""
    gained = 0.0
    for index in range(terms.of_first[item], terms.of_first[item + 1]):
        if is_active(terms, user, terms.of[index]):
            row = len(terms.of_first) - 1 + terms.of[index]
            gained += _gain(penalty.rows, penalty.rho, exposure, row, amount)
    return gained


@compiled
def recount(terms: WeightedProblem, slates: Ints, exposure: Floats) -> None:
    """Fill ``exposure`` with the exposures that slates give each requirement."""
    exposure[:] = 0.0
    for user in range(slates.shape[0]):
        for position in range(slates.shape[1]):
            if slates[user, position] >= 0:
                enter_exposure(terms, exposure, user, slates[user, position], terms.weights[position])


@compiled
def _best_lists(
    terms: WeightedProblem, price: Floats, rows: NDArray[np.uint64], rho: float, keep: int
) -> Ints:
    """(n, keep) items of largest s − v, at adapting prices.

    The first items of each user's row are the slate. Users are first served at given prices. Then they are served
    again one after another, at prices that change with the exposures: by ρ per unit beyond the bound of a requirement.
    Items are in descending order, followed by −1. ``rows`` has random bits of each user, which decide ties.
    """
    n, m = terms.scores.shape
    best_lists = np.full((n, keep), -1, np.int64)
    value = np.empty(m)
    best = np.empty(keep)
    exposure = np.zeros(len(price))
    current_price = price.copy()
    for attempt in range(2):
        for user in range(n):
            slate = best_lists[user, : terms.capacity[user]]
            if attempt > 0:  # the slate of the first attempt is taken back
                _count_slate(terms, price, user, slate, -1.0, rho, exposure, current_price)
            values_of_row(terms, current_price, user, value)
            for item in range(m):
                value[item] = value[item] if value[item] >= 0.0 else -np.inf
            size = best_items(value, rows[user], best_lists[user], best, 0.0)
            best_lists[user, size:] = -1
            _count_slate(terms, price, user, slate, 1.0, rho if attempt > 0 else 0.0, exposure, current_price)
        for row in range(len(price)):
            current_price[row] = _price_at(terms, price, row, exposure[row], rho)
    return best_lists


@compiled_part
def _count_slate(
    terms: WeightedProblem,
    price: Floats,
    user: int,
    slate: Ints,
    sign: float,
    rho: float,
    exposure: Floats,
    current_price: Floats,
) -> None:
    """Add a slate's exposures (``sign`` 1) or remove them (−1).

    The prices ``current_price`` of its requirements are updated.
    """
    m = len(terms.of_first) - 1
    for position in range(len(slate)):
        item = slate[position]
        if item < 0:
            break
        enter_exposure(terms, exposure, user, item, sign * terms.weights[position])
        current_price[item] = _price_at(terms, price, item, exposure[item], rho)
        for index in range(terms.of_first[item], terms.of_first[item + 1]):
            row = m + terms.of[index]
            current_price[row] = _price_at(terms, price, row, exposure[row], rho)


@compiled_part
def _price_at(terms: WeightedProblem, price: Floats, row: int, exposure: float, rho: float) -> float:
    """Price −H' of a requirement at an exposure."""
    floor_price = min(price[row], 0.0)
    cap_price = max(price[row], 0.0)
    if terms.min_exposure[row] > 0.0:
        floor_price = min(
            max(floor_price + rho * (exposure - terms.min_exposure[row]), -terms.cost[row]), 0.0
        )
    if terms.max_exposure[row] < np.inf:
        cap_price = max(cap_price + rho * (exposure - terms.max_exposure[row]), 0.0)
    return float(floor_price + cap_price)


@compiled_part
def _exchange(
    terms: WeightedProblem, penalty: Penalty, user: int, slate: Ints, exposure: Floats, min_gain: float
) -> int:
    """Exchange items' positions where this raises Σ w·s + H.

    The function returns the number of exchanges.
    """
    scores = terms.scores[user]
    weights = terms.weights
    has_groups = len(terms.of) > 0
    n_moves = 0
    rows = penalty.rows
    rho = penalty.rho
    for position in range(len(slate)):
        for later_position in range(position + 1, len(slate)):
            upper_item = slate[later_position]
            lower_item = slate[position]
            weight_change = weights[position] - weights[later_position]
            if upper_item < 0 or weight_change == 0.0:
                continue
            gained = weight_change * (np.float64(scores[upper_item]) - scores[lower_item])
            gained += _gain(rows, rho, exposure, upper_item, weight_change)
            gained += _gain(rows, rho, exposure, lower_item, -weight_change)
            if has_groups:
                # Both items may be in one group, so the second gain is computed with the exposure of the first.
                gained += _gain_of_groups(terms, penalty, exposure, user, upper_item, weight_change)
                enter_exposure(terms, exposure, user, upper_item, weight_change)
                gained += _gain_of_groups(terms, penalty, exposure, user, lower_item, -weight_change)
                enter_exposure(terms, exposure, user, upper_item, -weight_change)
            if gained > min_gain:
                enter_exposure(terms, exposure, user, upper_item, weight_change)
                enter_exposure(terms, exposure, user, lower_item, -weight_change)
                slate[position] = upper_item
                slate[later_position] = lower_item
                n_moves += 1
    return n_moves


@compiled_part
def _replace(  # noqa: C901, PLR0912  # one long function, because it is one compiled loop
    terms: WeightedProblem,
    penalty: Penalty,
    user: int,
    slate: Ints,
    candidates: Ints,
    shown: Bools,
    exposure: Floats,
    min_gain: float,
) -> int:
    """Replace slate items where this raises Σ w·s + H.

    The function returns the number of replacements. An empty position can be filled, and the last item can leave.
    """
    scores = terms.scores[user]
    weights = terms.weights
    has_groups = len(terms.of) > 0
    n_moves = 0
    rows = penalty.rows
    rho = penalty.rho
    for position in range(len(slate)):
        weight = weights[position]
        old = slate[position]
        # Change of the sum if the position becomes empty. The old item's exposure is taken back until the new item is
        # known.
        gain_if_empty = 0.0
        if old >= 0:
            gain_if_empty = -weight * np.float64(scores[old]) + _gain(rows, rho, exposure, old, -weight)
            if has_groups:
                gain_if_empty += _gain_of_groups(terms, penalty, exposure, user, old, -weight)
            enter_exposure(terms, exposure, user, old, -weight)
        new = old
        best_gain = min_gain
        # Only the last item can leave, because slates have no gaps.
        if old >= 0 and gain_if_empty > best_gain and (position + 1 == len(slate) or slate[position + 1] < 0):
            new = -1
            best_gain = gain_if_empty
        for item in candidates:
            if item < 0 or shown[item] or scores[item] == -np.inf:
                continue
            gained = gain_if_empty + weight * scores[item]
            gained += _gain(rows, rho, exposure, item, weight)
            if has_groups:
                gained += _gain_of_groups(terms, penalty, exposure, user, item, weight)
            if gained > best_gain:
                new = item
                best_gain = gained
        if new >= 0:
            enter_exposure(terms, exposure, user, new, weight)
        if new != old:
            slate[position] = new
            n_moves += 1
            if old >= 0:
                shown[old] = False
            if new >= 0:
                shown[new] = True
        if slate[position] < 0:
            break
    return n_moves


@compiled
def _improve(
    terms: WeightedProblem,
    penalty: Penalty,
    slates: Ints,
    lists: Ints,
    wanted: Ints,
    exposure: Floats,
    min_gain: float,
) -> int:
    """Make moves that raise Σ w·s + H; return their number.

    Each move raises the sum by more than ``min_gain``. ``lists`` has candidate items of each user, and ``wanted`` has
    candidate items of all users. Both ``slates`` and their ``exposure`` are changed in place.
    """
    recount(terms, slates, exposure)
    shown = np.zeros(terms.scores.shape[1], np.bool_)
    candidates = np.empty(lists.shape[1] + len(wanted), np.int64)
    n_moves = 0
    for user in range(slates.shape[0]):
        slate = slates[user, : terms.capacity[user]]
        for item in slate:
            if item >= 0:
                shown[item] = True
        candidates[: lists.shape[1]] = lists[user]
        candidates[lists.shape[1] :] = wanted
        for _ in range(_TURNS):
            n_made = _exchange(terms, penalty, user, slate, exposure, min_gain)
            n_made += _replace(terms, penalty, user, slate, candidates, shown, exposure, min_gain)
            n_moves += n_made
            if n_made == 0:
                break
        for item in slate:
            if item >= 0:
                shown[item] = False
    return n_moves


def missing(terms: WeightedProblem, exposure: Floats) -> Floats:
    """(R,) missing exposure of each requirement."""
    return beyond(terms.min_exposure - exposure, terms.min_exposure)


def integral_slates(
    terms: WeightedProblem, price: Floats, rows: NDArray[np.uint64], unit: float, spread: float
) -> IntegralSlates:
    """Slates that meet all caps and, if possible, hard floors.

    ``rows`` has random bits of each user. ``unit`` is the usual worth of a position, and ``spread`` the score
    range.
    """
    width = len(terms.weights)
    keep = max(width, min(2 * width + _SPARE, terms.scores.shape[1]))
    lists = _best_lists(terms, price, rows, _RHO * unit, keep)
    slates = np.empty((len(lists), width), np.int64)
    # First costs of a broken hard bound. A low cost changes slates less; if it fails, a high cost is tried.
    low_cost = 1.2 * np.abs(price) + 0.1 * unit
    high_cost = 2.0 * (np.abs(price) + spread)
    for hard_cost in (low_cost, high_cost):
        slates[:] = lists[:, :width]
        slates[np.arange(width) >= terms.capacity[:, np.newaxis]] = -1
        if _meet_bounds(terms, price, lists, slates, hard_cost, unit):
            break
    exposure = np.zeros(len(price))
    _keep_caps(terms, slates)
    recount(terms, slates, exposure)
    users, positions = np.nonzero(slates >= 0)
    scores = terms.scores[users, slates[users, positions]].astype(np.float64)
    missing_exposure = missing(terms, exposure)
    is_missing = missing_exposure > 0.0
    value = float(
        (terms.weights[positions] * scores).sum()
        - (terms.cost[is_missing] * missing_exposure[is_missing]).sum()
    )
    return IntegralSlates(slates, exposure, value)


def _meet_bounds(
    terms: WeightedProblem, price: Floats, lists: Ints, slates: Ints, hard_cost: Floats, unit: float
) -> bool:
    """Change slates until hard bounds are met; true if successful.

    ``hard_cost`` (R,) is the first cost of a unit of exposure beyond a hard bound.
    """
    floor_cost = np.where(np.isinf(terms.cost), hard_cost, terms.cost)
    cap_cost = np.where(terms.max_exposure < np.inf, hard_cost, 0.0)
    exposure = np.zeros(len(price))
    no_items = np.empty(0, np.int64)
    target = terms.min_exposure.copy()

    def improve(rho: float, wanted: Ints) -> int:
        penalty = Penalty(np.stack([price, target, terms.max_exposure, floor_cost, cap_cost], axis=1), rho)
        return _improve(terms, penalty, slates, lists, wanted, exposure, _TINY * unit)

    for turn in range(_SMOOTH_PASSES):
        improve(_RHO * unit * _RHO_GROWTH**turn, no_items)
    for _ in range(_EXACT_PASSES):
        recount(terms, slates, exposure)
        # Only requirements that lack about a position get further candidates. For smaller deficits, the lists suffice.
        is_short = (missing(terms, exposure) > 0.5 * terms.weights[-1]) & (price > -terms.cost)
        if not improve(np.inf, _items_of(terms, is_short)):
            break
    for _ in range(_REPAIRS):
        recount(terms, slates, exposure)
        is_short = np.isinf(terms.cost) & (missing(terms, exposure) > 0.0)
        is_broken = is_short | _over(terms, exposure)
        if not is_broken.any():
            return True
        floor_cost = np.where(is_broken, floor_cost * _COST_GROWTH, floor_cost)
        cap_cost = np.where(is_broken, cap_cost * _COST_GROWTH, cap_cost)
        # Without this surplus, passes could miss the same floor again and again.
        target[is_short] += _TARGET_STEP * terms.weights[-1]
        improve(np.inf, _items_of(terms, is_short))
    return False


def _over(terms: WeightedProblem, exposure: Floats) -> Bools:
    """(R,) true for requirements whose exposure exceeds their cap."""
    return beyond(exposure - terms.max_exposure, terms.max_exposure) > 0.0


def _items_of(terms: WeightedProblem, rows: Bools) -> Ints:
    """Items of the requirements where ``rows`` is true."""
    m = terms.scores.shape[1]
    items = rows[:m].copy()
    for group in np.flatnonzero(rows[m:]):
        items[terms.item[terms.first[group] : terms.first[group + 1]]] = True
    return np.flatnonzero(items)


def _keep_caps(terms: WeightedProblem, slates: Ints) -> None:
    """Cut each slate before its first item above a cap."""
    exposure = np.zeros(len(terms.min_exposure))
    m = terms.scores.shape[1]
    for user in range(len(slates)):
        recount(terms, slates, exposure)
        is_over = _over(terms, exposure)
        if not is_over.any():
            break
        if len(terms.active):
            is_over[m:] &= terms.active[user]
        positions = np.flatnonzero(np.isin(slates[user], _items_of(terms, is_over)))
        if len(positions):
            slates[user, positions[0] :] = -1
