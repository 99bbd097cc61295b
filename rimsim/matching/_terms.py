"""A problem of weighted positions as the kernels see it: scores, positions, and rows that bound exposures."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Terms", "excess", "is_active", "missing", "values_of_row"]

_SAME = 1e-9  # exposures that lack less than this share of a bound reach it: sums of weights are rounded


class Terms(NamedTuple):
    """n users, M items, k positions and R = M + G rows: row y < M bounds item y, row M + g bounds group g.

    An item at position r counts w_r in its own row, and in those of its groups that are active for the user.
    """

    scores: NDArray[np.floating]
    """(n, M) value of one unit of exposure; −inf for what is not admissible."""
    capacity: NDArray[np.int64]
    """(n,) positions in use, at most k."""
    weights: NDArray[np.float64]
    """(k,) w, non-increasing and positive."""
    least: NDArray[np.float64]
    """(R,) exposure that is asked for."""
    most: NDArray[np.float64]
    """(R,) largest exposure; infinite where there is no cap."""
    cost: NDArray[np.float64]
    """(R,) price of one missing unit of exposure; infinite where the floor is hard."""
    first: NDArray[np.int64]
    """(G+1,) where the items of each group begin."""
    item: NDArray[np.int64]
    """(nnz,) items of the groups."""
    of_first: NDArray[np.int64]
    """(M+1,) where the groups of each item begin."""
    of: NDArray[np.int64]
    """(nnz,) groups of the items."""
    active: NDArray[np.bool_]
    """(n, G) whether a group counts what a user is shown; (0, G): it always does."""


@compiled
def is_active(terms: Terms, user: int, group: int) -> bool:
    """True if a group counts what a user is shown."""
    return bool(len(terms.active) == 0 or terms.active[user, group])


@compiled
def values_of_row(terms: Terms, price: NDArray[np.float64], user: int, value: NDArray[np.float64]) -> None:
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


def missing(terms: Terms, exposure: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R,) what exposures lack of their floors."""
    lacking = np.maximum(terms.least - exposure, 0.0)
    return np.where(lacking > _SAME * np.maximum(terms.least, 1.0), lacking, 0.0)


def excess(terms: Terms, exposure: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R,) what exposures have beyond their caps."""
    over = np.where(terms.most < np.inf, exposure - np.minimum(terms.most, np.finfo(np.float64).max), 0.0)
    return np.where(over > _SAME * np.maximum(terms.most, 1.0), over, 0.0)
