"""A problem of weighted positions as the kernels see it: scores, positions, and rows that bound exposures."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Bools, Floats, Ints
from rimsim.compiled import compiled

_SAME = 1e-9  # exposures that lack less than this share of a bound reach it: sums of weights are rounded


class Terms(NamedTuple):
    """n users, M items, k positions and R = M + G rows: row y < M bounds item y, row M + g bounds group g.

    An item at position r counts w_r in its own row, and in those of its groups that are active for the user.
    """

    scores: NDArray[np.floating]
    """(n, M) value of one unit of exposure; −inf for what is not admissible."""
    capacity: Ints
    """(n,) positions in use, at most k."""
    weights: Floats
    """(k,) w, non-increasing and positive."""
    least: Floats
    """(R,) exposure that is asked for."""
    most: Floats
    """(R,) largest exposure; infinite where there is no cap."""
    cost: Floats
    """(R,) price of one missing unit of exposure; infinite where the floor is hard."""
    first: Ints
    """(G+1,) where the items of each group begin."""
    item: Ints
    """(nnz,) items of the groups."""
    of_first: Ints
    """(M+1,) where the groups of each item begin."""
    of: Ints
    """(nnz,) groups of the items."""
    active: Bools
    """(n, G) whether a group counts what a user is shown; (0, G): it always does."""


@compiled
def is_active(terms: Terms, user: int, group: int) -> bool:
    """True if a group counts what a user is shown."""
    return bool(len(terms.active) == 0 or terms.active[user, group])


@compiled
def values_of_row(terms: Terms, price: Floats, user: int, value: Floats) -> None:
    """Fill ``value`` (M,) with s − v of a user, groups' prices included; −inf where that is below 0."""
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


def missing(terms: Terms, exposure: Floats) -> Floats:
    """(R,) what exposures lack of their floors."""
    lacking = np.maximum(terms.least - exposure, 0.0)
    return np.where(lacking > _SAME * np.maximum(terms.least, 1.0), lacking, 0.0)


def excess(terms: Terms, exposure: Floats) -> Floats:
    """(R,) what exposures have beyond their caps."""
    over = np.where(terms.most < np.inf, exposure - np.minimum(terms.most, np.finfo(np.float64).max), 0.0)
    return np.where(over > _SAME * np.maximum(terms.most, 1.0), over, 0.0)
