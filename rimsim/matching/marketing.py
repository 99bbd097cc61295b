"""The three marketing scenarios of Ma, Liu and Deoras (ICLR 2022) as functions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rimsim.arrays import Ints
from rimsim.errors import ConfigError
from rimsim.matching.dual import DualSolution, solve_dual
from rimsim.matching.problem import as_array
from rimsim.matching.serving import price_slates


def user_rec(
    scores: object,
    c: int,
    *,
    admissible: object | None = None,
    tie_seed: int = 0,
    row_keys: ArrayLike | None = None,
) -> Ints:
    """User recommendation: for every item, the c users with the largest intensity.

    Args:
        scores: (n, M) intensities λ(x,y), or (n,) for a single item; array or torch tensor.
        c: Users to find for each item.
        admissible: Pairs that may be shown, of the shape of the scores; None for all.
        tie_seed: Seed of the order among users of equal score.
        row_keys: (M,) whole numbers that identify the items in tie-breaking; None: 0 to M − 1.

    Returns:
        (M, c) users in descending order of score, −1 where fewer are admissible; (c,) for a single item.
    """
    matrix = as_array(scores)
    if matrix.ndim not in (1, 2):
        raise ConfigError(
            f"user_rec: scores have shape {matrix.shape}; allowed: (n, M), or (n,) for one item"
        )
    columns = matrix[:, None] if matrix.ndim == 1 else matrix
    mask = None
    if admissible is not None:
        allowed = as_array(admissible).astype(bool)
        mask = np.ascontiguousarray((allowed[:, None] if allowed.ndim == 1 else allowed).T)
    rows = np.ascontiguousarray(columns.T)
    users = price_slates(
        rows, np.zeros(rows.shape[1]), c, admissible=mask, tie_seed=tie_seed, row_keys=row_keys
    )
    return users[0] if matrix.ndim == 1 else users


def offline_match(
    scores: object,
    k: ArrayLike,
    b: ArrayLike,
    *,
    max_exposure: ArrayLike | None = None,
    admissible: object | None = None,
    cost: ArrayLike | None = None,
    tol: float = 1e-3,
) -> DualSolution:
    """Offline matching: a broadcast to all present users at once, with floors (and caps) and capacities.

    Args:
        scores: (n, M) intensities of the users to be served.
        k: Positions of a user, scalar or (n,).
        b: Required exposures of an item, scalar or (M,), whole numbers.
        max_exposure: Caps, scalar or (M,); None for none.
        admissible: (n, M) pairs that may be shown; None for all.
        cost: Price of one exposure of shortfall; None for hard floors.
        tol: Certified relative gap at which to stop.

    Returns:
        What :func:`solve_dual` returns.
    """
    return solve_dual(scores, k, b, max_exposure, admissible=admissible, cost=cost, tol=tol)


def online_match(
    past: object,
    scores: object,
    k: int,
    b: ArrayLike,
    *,
    cost: ArrayLike | None = None,
    past_admissible: object | None = None,
    admissible: object | None = None,
    tol: float = 1e-3,
    tie_seed: int = 0,
    row_keys: ArrayLike | None = None,
) -> Ints:
    """Online matching as in the paper: prices learned on past states, frozen, answer present arrivals one by one.

    Args:
        past: (n′, M) intensities of past states.
        scores: (n, M) intensities of the arrivals.
        k: Positions of a slate.
        b: Required exposures for the *past* states, scalar or (M,), whole numbers.
        cost: Price of one exposure of shortfall; None for hard floors.
        past_admissible: (n′, M) pairs that may be shown to past states; None for all.
        admissible: (n, M) pairs that may be shown; None for all.
        tol: Certified relative gap of the prices on the past states.
        tie_seed: Seed of the order among ties.
        row_keys: (n,) whole numbers that identify the arrivals.

    Returns:
        (n, k) slates, −1 for an empty position. They need not meet the floors: that is the price of frozen
        prices.
    """
    prices = solve_dual(past, k, b, admissible=past_admissible, cost=cost, tol=tol).item_price
    return price_slates(scores, prices, k, admissible=admissible, tie_seed=tie_seed, row_keys=row_keys)
