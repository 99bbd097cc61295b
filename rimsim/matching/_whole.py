"""Whole slates at given prices: dealt out, then improved by moves (``_moves.py``) until exposures fit their bounds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Floats, Ints
from rimsim.matching._moves import dealt, improve
from rimsim.matching._penalty import Penalty, recount
from rimsim.matching._terms import Terms, excess, missing

_RHO, _SHARPER = 0.003, 3.0  # the first ρ, in units of what a position is worth, and by how much it grows
_ROUNDED, _SHARP = 8, 4  # passes with a rounded penalty, and with the penalty itself at most
_REPAIRS = 30  # passes that mend broken bounds at most
_HARDER, _BEYOND = (
    1.5,
    0.1,
)  # ... each makes what is broken dearer, and asks for this share of a last position more
_TINY = 1e-9  # what a move must gain, in units of what a position is worth
_SPARE = 4  # candidates of a user beyond two for each position


class Whole(NamedTuple):
    """Whole slates and what they are worth."""

    slates: Ints
    """(n, k) items, −1 where a position is empty."""
    exposure: Floats
    """(R,) E."""
    value: float
    """V; −inf if a hard floor is missed."""


def whole_slates(terms: Terms, price: Floats, seeds: NDArray[np.uint64], unit: float, spread: float) -> Whole:
    """Slates at given prices that keep caps, and hard floors as far as they are found.

    Args:
        terms: The problem.
        price: (R,) v.
        seeds: (n,) random bits of the users, for ties.
        unit: What a position is about worth.
        spread: The range of the scores.
    """
    width = len(terms.weights)
    keep = max(width, min(2 * width + _SPARE, terms.scores.shape[1]))
    lists = dealt(terms, price, seeds, _RHO * unit, keep)
    slates = np.empty((len(lists), width), np.int64)
    for dear in (
        1.2 * np.abs(price) + 0.1 * unit,
        2.0 * (np.abs(price) + spread),
    ):  # what a broken bound costs at first
        slates[:] = lists[:, :width]
        slates[np.arange(width) >= terms.capacity[:, np.newaxis]] = -1
        exposure, kept = _fitted(terms, price, lists, slates, dear, unit)
        if kept:
            break
    _keep_caps(terms, slates)
    recount(terms, slates, exposure)
    return Whole(slates, exposure, _value(terms, slates, exposure))


def _fitted(
    terms: Terms,
    price: Floats,
    lists: Ints,
    slates: Ints,
    dear: Floats,
    unit: float,
) -> tuple[Floats, bool]:
    """Change slates in place until they fit; returns exposures, and whether caps and hard floors are kept."""
    low = np.where(np.isinf(terms.cost), dear, terms.cost)
    high = np.where(terms.most < np.inf, dear, 0.0)
    exposure, nothing = np.zeros(len(price)), np.empty(0, np.int64)
    for turn in range(_ROUNDED):
        penalty = Penalty(price, low, high, _RHO * unit * _SHARPER**turn)
        improve(terms, penalty, slates, lists, nothing, exposure, _TINY * unit)
    for _ in range(_SHARP):
        recount(terms, slates, exposure)
        short = (
            missing(terms, exposure) > 0.5 * terms.weights[-1]
        )  # about a position: finer moves are on the lists
        wanted = _wanted(terms, short & (price > -terms.cost))
        if not improve(
            terms, Penalty(price, low, high, np.inf), slates, lists, wanted, exposure, _TINY * unit
        ):
            break
    aimed = terms._replace(
        least=terms.least.copy()
    )  # beyond what is asked for, where it is missed time and again
    for _ in range(_REPAIRS):
        recount(terms, slates, exposure)
        short = np.isinf(terms.cost) & (missing(terms, exposure) > 0.0)
        broken = short | (excess(terms, exposure) > 0.0)
        if not broken.any():
            return exposure, True
        low, high = np.where(broken, low * _HARDER, low), np.where(broken, high * _HARDER, high)
        penalty = Penalty(price, low, high, np.inf)
        aimed.least[short] += _BEYOND * terms.weights[-1]
        improve(aimed, penalty, slates, lists, _wanted(terms, short), exposure, _TINY * unit)
    return exposure, False


def _wanted(terms: Terms, rows: Bools) -> Ints:
    """The items of some rows."""
    m = terms.scores.shape[1]
    items = rows[:m].copy()
    for group in np.flatnonzero(rows[m:]):
        items[terms.item[terms.first[group] : terms.first[group + 1]]] = True
    return np.flatnonzero(items)


def _keep_caps(terms: Terms, slates: Ints) -> None:
    """End slates before an item whose rows have more than their caps, until none has."""
    exposure, m = np.zeros(len(terms.least)), terms.scores.shape[1]
    for user in range(len(slates)):
        recount(terms, slates, exposure)
        over = excess(terms, exposure) > 0.0
        if not over.any():
            break
        if len(terms.active):
            over[m:] &= terms.active[user]
        places = np.flatnonzero(np.isin(slates[user], _wanted(terms, over)))
        if len(places):
            slates[user, places[0] :] = -1


def _value(terms: Terms, slates: Ints, exposure: Floats) -> float:
    users, places = np.nonzero(slates >= 0)
    scores = terms.scores[users, slates[users, places]].astype(np.float64)
    lacking = missing(terms, exposure)
    short = lacking > 0.0
    return float((terms.weights[places] * scores).sum() - (terms.cost[short] * lacking[short]).sum())
