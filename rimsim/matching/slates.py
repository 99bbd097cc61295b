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

_TURNS = 20  # largest number of rounds of moves for a user within a pass
# First ρ, as a share of the worth of a position. ``_SHARPER`` is the factor by which ρ grows from pass to pass.
_RHO = 0.003
_SHARPER = 3.0
# Number of passes with a smoothed penalty. ``_SHARP`` is the largest number of passes with the exact penalty.
_ROUNDED = 8
_SHARP = 4
_REPAIRS = 30  # largest number of passes that repair broken bounds
_HARDER = 1.5
"""Factor by which the cost of a broken bound grows in each pass."""
_BEYOND = 0.1
"""Share of a last position that each pass asks for in addition to the deficit."""
_TINY = 1e-9  # smallest gain of a move, as a share of the worth of a position
_SPARE = 4  # number of candidates per user, besides two per position


class Penalty(NamedTuple):
    """Penalty H of all requirements."""

    # (R, 5) columns: price v, min_exposure, max_exposure, and the costs c and d of a missing and of a surplus exposure.
    # All are finite; the costs are 0 without a bound.
    rows: Floats
    rho: float  # ρ of the smoothed penalty; infinite: the exact penalty P


class IntegralSlates(NamedTuple):
    """Integral slates and their worth."""

    slates: Ints  # (n, k) items; −1 for an empty position
    exposure: Floats  # (R,) exposures E of each row
    value: float  # value V of the slates; −inf if they miss a hard floor


@compiled_part
def _rounded(over: float, slope: float, steepest: float, rho: float) -> float:
    """Integral of clip(slope + ρ·e, 0, steepest) from 0 to ``over``."""
    if rho == np.inf:
        return steepest * max(over, 0.0)
    # The integrand is 0 up to ``start``, and constant from ``stop`` on.
    start = -slope / rho
    stop = (steepest - slope) / rho
    inside = min(max(over, start), stop)
    return slope * inside + 0.5 * rho * inside * inside + steepest * max(over - stop, 0.0)


@compiled_part
def _gain(rows: Floats, rho: float, exposure: Floats, row: int, amount: float) -> float:
    """Change of a requirement's penalty H if its exposure grows."""
    # The function is short, so that the compiler inlines it.
    gained = 0.0
    before = exposure[row]
    low = rows[row, 3]
    high = rows[row, 4]
    if low > 0.0:
        min_exposure = rows[row, 1]
        bonus = min(max(-rows[row, 0], 0.0), low)
        gained += _rounded(min_exposure - before, bonus, low, rho)
        gained -= _rounded(min_exposure - before - amount, bonus, low, rho)
    if high > 0.0:
        max_exposure = rows[row, 2]
        charge = min(max(rows[row, 0], 0.0), high)
        gained += _rounded(before - max_exposure, charge, high, rho)
        gained -= _rounded(before + amount - max_exposure, charge, high, rho)
    return gained


@compiled_part
def _gain_of_groups(
    terms: WeightedProblem, penalty: Penalty, exposure: Floats, user: int, item: int, amount: float
) -> float:
    """Change of groups' penalties H if an item's exposure grows."""
    gained = 0.0
    for place in range(terms.of_first[item], terms.of_first[item + 1]):
        if is_active(terms, user, terms.of[place]):
            row = len(terms.of_first) - 1 + terms.of[place]
            gained += _gain(penalty.rows, penalty.rho, exposure, row, amount)
    return gained


@compiled
def recount(terms: WeightedProblem, slates: Ints, exposure: Floats) -> None:
    """Fill ``exposure`` with the exposures that slates give each requirement."""
    exposure[:] = 0.0
    for user in range(slates.shape[0]):
        for place in range(slates.shape[1]):
            if slates[user, place] >= 0:
                enter_exposure(terms, exposure, user, slates[user, place], terms.weights[place])


@compiled
def _dealt(terms: WeightedProblem, price: Floats, rows: NDArray[np.uint64], rho: float, keep: int) -> Ints:
    """(n, keep) items of largest s − v, at adapting prices.

    The first items of each user's row are the slate. Users are first served at given prices, and then again
    at changing prices. The price of a requirement changes by ρ per unit of exposure beyond its bound. Items
    are in descending order, followed by −1. ``rows`` has random bits of each user, which decide ties.
    """
    n, m = terms.scores.shape
    best_lists = np.full((n, keep), -1, np.int64)
    value = np.empty(m)
    best = np.empty(keep)
    exposure = np.zeros(len(price))
    now = price.copy()
    for turn in range(2):
        for user in range(n):
            slate = best_lists[user, : terms.capacity[user]]
            if turn > 0:
                _follow(terms, price, user, slate, -1.0, rho, exposure, now)
            values_of_row(terms, now, user, value)
            for item in range(m):
                value[item] = value[item] if value[item] >= 0.0 else -np.inf
            size = best_items(value, rows[user], best_lists[user], best, 0.0)
            best_lists[user, size:] = -1
            _follow(terms, price, user, slate, 1.0, rho if turn > 0 else 0.0, exposure, now)
        for row in range(len(price)):
            now[row] = _moved(terms, price, row, exposure[row], rho)
    return best_lists


@compiled_part
def _follow(
    terms: WeightedProblem,
    price: Floats,
    user: int,
    slate: Ints,
    sign: float,
    rho: float,
    exposure: Floats,
    now: Floats,
) -> None:
    """Add or remove a slate's exposures; update the prices ``now``."""
    m = len(terms.of_first) - 1
    for place in range(len(slate)):
        item = slate[place]
        if item < 0:
            break
        enter_exposure(terms, exposure, user, item, sign * terms.weights[place])
        now[item] = _moved(terms, price, item, exposure[item], rho)
        for index in range(terms.of_first[item], terms.of_first[item + 1]):
            row = m + terms.of[index]
            now[row] = _moved(terms, price, row, exposure[row], rho)


@compiled_part
def _moved(terms: WeightedProblem, price: Floats, row: int, exposure: float, rho: float) -> float:
    """Price −H' of a requirement, from its exposure beyond bounds."""
    below = min(price[row], 0.0)
    above = max(price[row], 0.0)
    if terms.min_exposure[row] > 0.0:
        below = min(max(below + rho * (exposure - terms.min_exposure[row]), -terms.cost[row]), 0.0)
    if terms.max_exposure[row] < np.inf:
        above = max(above + rho * (exposure - terms.max_exposure[row]), 0.0)
    return float(below + above)


@compiled_part
def _exchange(
    terms: WeightedProblem, penalty: Penalty, user: int, slate: Ints, exposure: Floats, enough: float
) -> int:
    """Exchange two items' positions if this raises Σ w·s + H."""
    scores = terms.scores[user]
    weights = terms.weights
    grouped = len(terms.of) > 0
    moves = 0
    rows = penalty.rows
    rho = penalty.rho
    for place in range(len(slate)):
        for later_place in range(place + 1, len(slate)):
            up = slate[later_place]
            down = slate[place]
            by = weights[place] - weights[later_place]
            if up < 0 or by == 0.0:
                continue
            gained = by * (np.float64(scores[up]) - scores[down])
            gained += _gain(rows, rho, exposure, up, by)
            gained += _gain(rows, rho, exposure, down, -by)
            if grouped:
                gained += _gain_of_groups(terms, penalty, exposure, user, up, by)
                enter_exposure(terms, exposure, user, up, by)
                gained += _gain_of_groups(terms, penalty, exposure, user, down, -by)
                enter_exposure(terms, exposure, user, up, -by)
            if gained > enough:
                enter_exposure(terms, exposure, user, up, by)
                enter_exposure(terms, exposure, user, down, -by)
                slate[place] = up
                slate[later_place] = down
                moves += 1
    return moves


@compiled_part
def _replace(  # noqa: C901, PLR0912  # one long function, because it is one compiled loop
    terms: WeightedProblem,
    penalty: Penalty,
    user: int,
    slate: Ints,
    candidates: Ints,
    shown: Bools,
    exposure: Floats,
    enough: float,
) -> int:
    """Replace slate items if this raises Σ w·s + H."""
    scores = terms.scores[user]
    weights = terms.weights
    grouped = len(terms.of) > 0
    moves = 0
    rows = penalty.rows
    rho = penalty.rho
    for place in range(len(slate)):
        weight = weights[place]
        old = slate[place]
        # The objective's change if the position becomes empty, and then if it gets each candidate.
        lost_value = 0.0
        if old >= 0:
            lost_value = -weight * np.float64(scores[old]) + _gain(rows, rho, exposure, old, -weight)
            if grouped:
                lost_value += _gain_of_groups(terms, penalty, exposure, user, old, -weight)
            enter_exposure(terms, exposure, user, old, -weight)
        new = old
        best = enough
        if old >= 0 and lost_value > best and (place + 1 == len(slate) or slate[place + 1] < 0):
            new = -1
            best = lost_value
        for item in candidates:
            if item < 0 or shown[item] or scores[item] == -np.inf:
                continue
            gained = lost_value + weight * scores[item]
            gained += _gain(rows, rho, exposure, item, weight)
            if grouped:
                gained += _gain_of_groups(terms, penalty, exposure, user, item, weight)
            if gained > best:
                new = item
                best = gained
        if new >= 0:
            enter_exposure(terms, exposure, user, new, weight)
        if new != old:
            slate[place] = new
            moves += 1
            if old >= 0:
                shown[old] = False
            if new >= 0:
                shown[new] = True
        if slate[place] < 0:
            break
    return moves


@compiled
def _improve(
    terms: WeightedProblem,
    penalty: Penalty,
    slates: Ints,
    lists: Ints,
    wanted: Ints,
    exposure: Floats,
    enough: float,
) -> int:
    """Number of moves that raise Σ w·s + H by ``enough``.

    ``lists`` has candidate items of each user, and ``wanted`` has candidate items of all users. Both ``slates`` and
    their ``exposure`` are changed in place.
    """
    recount(terms, slates, exposure)
    shown = np.zeros(terms.scores.shape[1], np.bool_)
    candidates = np.empty(lists.shape[1] + len(wanted), np.int64)
    moves = 0
    for user in range(slates.shape[0]):
        slate = slates[user, : terms.capacity[user]]
        for item in slate:
            if item >= 0:
                shown[item] = True
        candidates[: lists.shape[1]] = lists[user]
        candidates[lists.shape[1] :] = wanted
        for _ in range(_TURNS):
            made = _exchange(terms, penalty, user, slate, exposure, enough)
            made += _replace(terms, penalty, user, slate, candidates, shown, exposure, enough)
            moves += made
            if made == 0:
                break
        for item in slate:
            if item >= 0:
                shown[item] = False
    return moves


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
    lists = _dealt(terms, price, rows, _RHO * unit, keep)
    slates = np.empty((len(lists), width), np.int64)
    dear = 1.2 * np.abs(price) + 0.1 * unit
    dearer = 2.0 * (np.abs(price) + spread)
    # Each charge is the cost of a broken hard bound in the first pass; the second is tried if the first fails.
    for charge in (dear, dearer):
        slates[:] = lists[:, :width]
        slates[np.arange(width) >= terms.capacity[:, np.newaxis]] = -1
        if _fitted(terms, price, lists, slates, charge, unit):
            break
    exposure = np.zeros(len(price))
    _keep_caps(terms, slates)
    recount(terms, slates, exposure)
    users, places = np.nonzero(slates >= 0)
    scores = terms.scores[users, slates[users, places]].astype(np.float64)
    lacking = missing(terms, exposure)
    short = lacking > 0.0
    value = float((terms.weights[places] * scores).sum() - (terms.cost[short] * lacking[short]).sum())
    return IntegralSlates(slates, exposure, value)


def _fitted(
    terms: WeightedProblem, price: Floats, lists: Ints, slates: Ints, charge: Floats, unit: float
) -> bool:
    """Change slates until all bounds are met; true if successful."""
    low = np.where(np.isinf(terms.cost), charge, terms.cost)
    high = np.where(terms.max_exposure < np.inf, charge, 0.0)
    exposure = np.zeros(len(price))
    nothing = np.empty(0, np.int64)
    aim = terms.min_exposure.copy()

    def improve(rho: float, wanted: Ints) -> int:
        penalty = Penalty(np.stack([price, aim, terms.max_exposure, low, high], axis=1), rho)
        return _improve(terms, penalty, slates, lists, wanted, exposure, _TINY * unit)

    for turn in range(_ROUNDED):
        improve(_RHO * unit * _SHARPER**turn, nothing)
    for _ in range(_SHARP):
        recount(terms, slates, exposure)
        # Only requirements that lack about a position get further candidates. For smaller deficits, the lists suffice.
        short = (missing(terms, exposure) > 0.5 * terms.weights[-1]) & (price > -terms.cost)
        if not improve(np.inf, _items_of(terms, short)):
            break
    for _ in range(_REPAIRS):
        recount(terms, slates, exposure)
        short = np.isinf(terms.cost) & (missing(terms, exposure) > 0.0)
        broken = short | _over(terms, exposure)
        if not broken.any():
            return True
        low = np.where(broken, low * _HARDER, low)
        high = np.where(broken, high * _HARDER, high)
        # Without this surplus, passes could miss the same floor again and again.
        aim[short] += _BEYOND * terms.weights[-1]
        improve(np.inf, _items_of(terms, short))
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
        over = _over(terms, exposure)
        if not over.any():
            break
        if len(terms.active):
            over[m:] &= terms.active[user]
        places = np.flatnonzero(np.isin(slates[user], _items_of(terms, over)))
        if len(places):
            slates[user, places[0] :] = -1
