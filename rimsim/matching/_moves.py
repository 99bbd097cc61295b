"""Whole slates at given prices: the best of s − v, improved move by move until exposures fit their bounds.

Many values s − v are nearly tied at the best prices, so the top k alone misses floors and overshoots. A pass goes
through the users; each makes the moves that raise Σ w·s + H(E) (``_penalty.py``), until none does: two items of a slate
change positions, an item takes the place of another, fills an empty one, or leaves the last one. Every move raises that
sum, so a pass ends. Passes follow with a growing ρ, and end with the penalty itself, so that V itself grows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Floats, Ints
from rimsim.compiled import compiled
from rimsim.matching._best import best_items
from rimsim.matching._penalty import Penalty, enter_exposure, gain, gain_of_groups, recount
from rimsim.matching._terms import Terms, values_of_row

_TURNS = 20  # of one user within a pass


@compiled
def dealt(terms: Terms, price: Floats, rows: NDArray[np.uint64], rho: float, keep: int) -> Ints:
    """Serve the users at given prices, then one after the other again, while prices follow what rows have got.

    Args:
        terms: The problem.
        price: (R,) v.
        rows: (n,) random bits of the users, for ties.
        rho: What one unit above or below its bound adds to the price of a row.
        keep: How many items to return for a user, at least k.

    Returns:
        (n, keep) the items of largest s − v at the prices that the user found, in descending order, the first of them
        its slate; −1 where there are no more.
    """
    n, m = terms.scores.shape
    found = np.full((n, keep), -1, np.int64)
    value, best, exposure, now = np.empty(m), np.empty(keep), np.zeros(len(price)), price.copy()
    for turn in range(2):
        for user in range(n):
            slate = found[user, : terms.capacity[user]]
            if turn > 0:
                _follow(terms, price, user, slate, -1.0, rho, exposure, now)
            values_of_row(terms, now, user, value)
            size = best_items(value, rows[user], found[user], best)
            found[user, size:] = -1
            _follow(terms, price, user, slate, 1.0, rho if turn > 0 else 0.0, exposure, now)
        for row in range(len(price)):
            now[row] = _moved(terms, price, row, exposure[row], rho)
    return found


@compiled
def _follow(
    terms: Terms,
    price: Floats,
    user: int,
    slate: Ints,
    sign: float,
    rho: float,
    exposure: Floats,
    now: Floats,
) -> None:
    """Count a slate, or take it back, and let the prices ``now`` of its rows follow."""
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


@compiled
def _moved(terms: Terms, price: Floats, row: int, exposure: float, rho: float) -> float:
    """−H' of a row: its price v, moved by what it has got beyond its bounds."""
    below, above = min(price[row], 0.0), max(price[row], 0.0)
    if terms.least[row] > 0.0:
        below = min(max(below + rho * (exposure - terms.least[row]), -terms.cost[row]), 0.0)
    if terms.most[row] < np.inf:
        above = max(above + rho * (exposure - terms.most[row]), 0.0)
    return float(below + above)


@compiled
def _exchange(terms: Terms, penalty: Penalty, user: int, slate: Ints, exposure: Floats, enough: float) -> int:
    """Let two items of a slate change positions where that gains; returns the number of moves."""
    scores, weights, grouped = terms.scores[user], terms.weights, len(terms.of) > 0
    price, least, most, low, high = penalty.price, terms.least, terms.most, penalty.low, penalty.high
    rho, moves = penalty.rho, 0
    for place in range(len(slate)):
        for other in range(place + 1, len(slate)):
            up, down = slate[other], slate[place]
            by = weights[place] - weights[other]
            if up < 0 or by == 0.0:
                continue
            gained = by * (np.float64(scores[up]) - scores[down])
            gained += gain(exposure[up], by, price[up], least[up], most[up], low[up], high[up], rho)
            gained += gain(
                exposure[down], -by, price[down], least[down], most[down], low[down], high[down], rho
            )
            if grouped:
                gained += gain_of_groups(terms, penalty, exposure, user, up, by)
                enter_exposure(terms, exposure, user, up, by)
                gained += gain_of_groups(terms, penalty, exposure, user, down, -by)
                enter_exposure(terms, exposure, user, up, -by)
            if gained > enough:
                enter_exposure(terms, exposure, user, up, by)
                enter_exposure(terms, exposure, user, down, -by)
                slate[place], slate[other] = up, down
                moves += 1
    return moves


@compiled
def _replace(  # noqa: C901, PLR0912  # one compiled loop, read as a whole
    terms: Terms,
    penalty: Penalty,
    user: int,
    slate: Ints,
    others: Ints,
    shown: Bools,
    exposure: Floats,
    enough: float,
) -> int:
    """Let the best of other items take each place of a slate where that gains; returns the number of moves."""
    scores, weights, grouped = terms.scores[user], terms.weights, len(terms.of) > 0
    price, least, most, low, high = penalty.price, terms.least, terms.most, penalty.low, penalty.high
    rho, moves = penalty.rho, 0
    for place in range(len(slate)):
        weight, old, given = weights[place], slate[place], 0.0
        if old >= 0:
            given = -weight * np.float64(scores[old]) + gain(
                exposure[old], -weight, price[old], least[old], most[old], low[old], high[old], rho
            )
            if grouped:
                given += gain_of_groups(terms, penalty, exposure, user, old, -weight)
            enter_exposure(terms, exposure, user, old, -weight)
        new, best = old, enough
        if old >= 0 and given > best and (place + 1 == len(slate) or slate[place + 1] < 0):
            new, best = -1, given
        for item in others:
            if item < 0 or shown[item] or scores[item] == -np.inf:
                continue
            gained = given + weight * scores[item]
            gained += gain(
                exposure[item], weight, price[item], least[item], most[item], low[item], high[item], rho
            )
            if grouped:
                gained += gain_of_groups(terms, penalty, exposure, user, item, weight)
            if gained > best:
                new, best = item, gained
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
def improve(
    terms: Terms,
    penalty: Penalty,
    slates: Ints,
    lists: Ints,
    wanted: Ints,
    exposure: Floats,
    enough: float,
) -> int:
    """One pass through the users.

    Args:
        terms: The problem.
        penalty: H.
        slates: (n, k) changed in place.
        lists: (n, C) items that a user may be given.
        wanted: (W,) items that any user may be given.
        exposure: (R,) set anew, then changed in place.
        enough: What a move must gain.

    Returns:
        The number of moves.
    """
    recount(terms, slates, exposure)
    shown = np.zeros(terms.scores.shape[1], np.bool_)
    others = np.empty(lists.shape[1] + len(wanted), np.int64)
    moves = 0
    for user in range(slates.shape[0]):
        slate = slates[user, : terms.capacity[user]]
        for item in slate:
            if item >= 0:
                shown[item] = True
        others[: lists.shape[1]] = lists[user]
        others[lists.shape[1] :] = wanted
        for _ in range(_TURNS):
            made = _exchange(terms, penalty, user, slate, exposure, enough)
            made += _replace(terms, penalty, user, slate, others, shown, exposure, enough)
            moves += made
            if made == 0:
                break
        for item in slate:
            if item >= 0:
                shown[item] = False
    return moves
