"""Prices and slates of the offline problem: an ε-scaling auction with a certified gap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from rimsim.arrays import Floats, Ints
from rimsim.errors import ConfigError, InfeasibleError
from rimsim.matching._flow import violated_items, violated_items_of_all
from rimsim.matching._large import solve_in_chunks
from rimsim.matching._pairs import dense_pairs, fresh_state
from rimsim.matching._phases import last_epsilon, run_phases, sampled_worth
from rimsim.matching._refusals import names_of
from rimsim.matching._sparse import SparseScores, solve_sparse
from rimsim.matching.problem import Problem, as_array
from rimsim.matching.solution import DualPrices, DualSolution, packed
from rimsim.matching.weighted import least_bound, solve_weighted

if TYPE_CHECKING:
    from rimsim.matching.rows import Rows

__all__ = ["DualPrices", "DualSolution", "solve_dual", "solve_prices"]


def _given(prices: ArrayLike | None, problem: Problem) -> Floats | None:
    """Prices to start from, of items or of items and rows."""
    if prices is None:
        return None
    m, groups = problem.shape[1], 0 if problem.rows is None else len(problem.rows.least)
    start = as_array(prices).astype(np.float64)
    if start.shape not in ((m,), (m + groups,)) or not np.isfinite(start).all():
        raise ConfigError(f"{problem.where}: prices have shape {start.shape}; allowed: ({m},) finite numbers")
    return start


def _start(prices: ArrayLike | None, problem: Problem) -> Floats | None:
    """The bonuses that given prices mean, clipped to what floors, caps and cost allow."""
    start = _given(prices, problem)
    if start is None:
        return None
    highest = np.where(problem.floor > 0, problem.cost, 0.0)
    lowest = np.where(problem.cap < problem.shape[0], -np.inf, 0.0)
    return np.asarray(np.clip(-start, lowest, highest), np.float64)


def _refuse(violated: tuple[Ints, int], problem: Problem) -> None:
    """Raise if floors cannot be met."""
    items, lacking = violated
    if not lacking:
        return
    asked = int(problem.floor[items].sum())
    raise InfeasibleError(
        f"{problem.where}: the floors of {len(items)} items ({names_of(items)}) ask for {asked} exposures, "
        f"{lacking} more than can reach them within capacity and `admissible`; lower min_exposure or give `cost`",
        tuple(int(item) for item in items),
        lacking,
    )


def solve_dual(
    scores: object,
    capacity: ArrayLike,
    min_exposure: ArrayLike = 0,
    max_exposure: ArrayLike | None = None,
    *,
    admissible: object | None = None,
    cost: ArrayLike | None = None,
    prices: ArrayLike | None = None,
    position_weights: ArrayLike | None = None,
    rows: Rows | None = None,
    tol: float = 1e-3,
    tie_seed: int = 0,
) -> DualSolution:
    """Choose slates of largest total score under floors and caps of items and capacities of users.

    Maximises Σ s·x over x in {0, 1} with Σ_y x ≤ capacity of each user and floor ≤ Σ_x x ≤ cap of each item,
    or, with ``cost``, Σ s·x − cost · Σ (floor − E)₊. The polytope is a transportation polytope, so whole
    slates lose nothing against fractions. An ε-scaling forward and reverse auction (see ``_auction.py``)
    keeps slates that meet every floor and cap exactly, and stops as soon as D(v) certifies them to ``tol``.

    With ``position_weights`` w that differ, an item at position r counts w_r in value and exposure: V = Σ w·s −
    cost·Σ (floor − E)₊ with E = Σ w. Then floors and caps are real numbers in units of w, and whole slates may fall
    short of what fractions of slates reach, so the gap of the best that were found may exceed ``tol``
    (:mod:`~rimsim.matching.weighted`). Slates keep caps, and hard floors; that floors are too high is proven and named
    where fractions cannot meet them either (always if every pair is admissible); otherwise whole slates that meet them
    may exist and yet not be found. Equal weights are the problem without, counted in that unit.

    Args:
        scores: (n, M) array, torch tensor or, where the matrix does not fit, a
            :class:`~rimsim.matching.scorer.ChunkedScores` such as factors: what showing item y to user x is worth. Of a
            sparse matrix of SciPy, pairs that are not there cannot be served, and time and memory grow with the others.
        capacity: Scalar or (n,) positions of a user, "at most". A position is empty only where no admissible item
            has s − v ≥ 0.
        min_exposure: Scalar or (M,) required exposures, whole numbers if all positions weigh the same.
        max_exposure: Scalar or (M,) caps, likewise; None for none.
        admissible: (n, M) pairs that may be shown; None for all.
        cost: Price of one exposure of shortfall, scalar or (M,); None for hard floors.
        prices: (M,) prices v to start from, such as those of the last round; (M+G,) with those of G ``rows``.
        position_weights: (k,) what an exposure at each position counts, positive and non-increasing; None: 1.
        rows: Requirements on several items, and on some users.
        tol: Relative gap at which to stop.
        tie_seed: Seed of the order among equal scores.

    Returns:
        Slates, prices and the certified gap. Without weights and rows it exceeds ``tol`` only where float64 cannot
        resolve it.

    Raises:
        ConfigError: If an argument does not fit.
        InfeasibleError: If floors cannot be met (with weights: are not) and no ``cost`` is given; it names a set of
            items and the shortfall.
    """
    problem = Problem.of(
        scores,
        capacity,
        min_exposure,
        max_exposure,
        admissible=admissible,
        cost=cost,
        position_weights=position_weights,
        rows=rows,
        where="solve_dual",
    )
    _require_tolerance(tol, "solve_dual")
    if problem.weights is not None:
        return solve_weighted(problem, _given(prices, problem), tol, tie_seed)
    return _auctioned(problem, prices, tol, tie_seed)


def solve_prices(
    scores: object,
    capacity: ArrayLike,
    min_exposure: ArrayLike = 0,
    max_exposure: ArrayLike | None = None,
    *,
    admissible: object | None = None,
    cost: ArrayLike | None = None,
    prices: ArrayLike | None = None,
    position_weights: ArrayLike | None = None,
    rows: Rows | None = None,
    tol: float = 1e-3,
    tie_seed: int = 0,
    for_bound: bool = False,
) -> DualPrices:
    """The prices of :func:`solve_dual` alone, at which D is within ``tol`` of its least value.

    Where positions weigh differently or rows are given, whole slates would take most of the time, and are not sought: D
    is compared with the smoothed D_τ, whose least value is below that of D. Otherwise the auction makes slates on the
    way. Where D alone is wanted (``for_bound``), as for a certificate, the search ends as soon as D is within ``tol``,
    in half the time: prices then still move along where D is flat, and exposures with them. All other arguments are
    those of :func:`solve_dual`.

    Raises:
        ConfigError: If an argument does not fit.
        InfeasibleError: As :func:`solve_dual`; with weights or rows only where it is proven.
    """
    problem = Problem.of(
        scores,
        capacity,
        min_exposure,
        max_exposure,
        admissible=admissible,
        cost=cost,
        position_weights=position_weights,
        rows=rows,
        where="solve_prices",
    )
    _require_tolerance(tol, "solve_prices")
    if problem.weights is not None:
        point, tau = least_bound(problem, _given(prices, problem), tol, for_bound=for_bound)
        m = problem.shape[1]
        return DualPrices(point.price[:m] + 0.0, point.price[m:] + 0.0, point.bound, tau)
    found = _auctioned(problem, prices, tol, tie_seed)
    return DualPrices(found.item_price, found.row_price, found.dual, found.resolution)


def _require_tolerance(tol: float, where: str) -> None:
    if not tol > 0:
        raise ConfigError(f"{where}: tol is {tol!r}; allowed: a number above 0")


def _auctioned(problem: Problem, prices: ArrayLike | None, tol: float, tie_seed: int) -> DualSolution:
    """Solve a problem whose positions count alike by the auction, and count in the problem's unit."""
    n, m = problem.shape
    hard = bool(np.isinf(problem.cost[problem.floor > 0]).any())
    bonus = _start(prices, problem)
    if isinstance(problem.chunks, SparseScores):
        return solve_sparse(problem, problem.chunks, bonus, tol, tie_seed).in_units(problem.unit)
    if problem.chunks is not None:
        if hard:
            _refuse(violated_items_of_all(m, n, problem.floor, problem.capacity), problem)
        return solve_in_chunks(problem, problem.chunks, bonus, tol, tie_seed).in_units(problem.unit)
    if hard and problem.admissible is None:
        _refuse(violated_items_of_all(m, n, problem.floor, problem.capacity), problem)
    elif hard and problem.admissible is not None:
        _refuse(violated_items(problem.admissible, problem.floor, problem.capacity), problem)
    pairs = dense_pairs(problem.scores, problem.admissible)
    start = np.zeros(m) if bonus is None else bonus
    state = fresh_state(pairs, problem.capacity, problem.floor, problem.cap, problem.cost, start)
    epsilon = 0.0 if bonus is None else last_epsilon(state, sampled_worth(pairs, state), tol)
    end = run_phases(pairs, state, tol, tie_seed, epsilon)
    return packed(pairs, state, end).in_units(problem.unit)
