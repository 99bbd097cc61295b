"""Prices and slates of the offline problem.

If all positions count the same, the auction solves the problem; otherwise the smoothed dual is minimised.
"""

from __future__ import annotations

from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike

from rimsim.arrays import Floats
from rimsim.errors import ConfigError, refuse
from rimsim.matching.auction import solve_pairs
from rimsim.matching.columns import solve_in_chunks
from rimsim.matching.descent import DualPoint, Ending, WeightedProblem, at_prices, minimised
from rimsim.matching.kernels import row_states
from rimsim.matching.pairs import dense_pairs, sparse_pairs
from rimsim.matching.problem import Problem, SparseScores, Weighting, as_array, refuse_unknown
from rimsim.matching.slates import IntegralSlates, integral_slates, missing
from rimsim.matching.solution import (
    DualPrices,
    DualSolution,
    infeasible,
    names_of,
    refuse_excessive,
    refuse_short,
    violated_items_weighted,
)

_TAU = 0.03  # first τ, as a share of the worth of a position
_FINER = 3.0  # factor by which τ shrinks from one level to the next
_LEVELS = 8  # largest number of levels
_STUCK = 3
"""Number of the level from which on the search ends if the gap shrinks too little."""
_NEARER = 0.1
"""Share of the tolerance by which the gap must shrink per level, from level ``_STUCK`` on."""
_ENOUGH = 0.0003  # a level ends when a step gains less than this share of the tolerance
# If only the bound D is needed, the search can stop earlier: near the minimum, D is flat while prices still move. Then
# two levels are skipped. A level ends when ``_FOR_BOUND_STEPS`` steps together gain less than ``_FOR_BOUND_ENOUGH`` of
# the tolerance.
_FOR_BOUND = (0, *range(3, _LEVELS))
_FOR_BOUND_ENOUGH = 0.2
_FOR_BOUND_STEPS = 10
_FARTHEST = 64.0  # largest price of a hard requirement or of a cap, as a multiple of the range of scores
_SAMPLE = 256  # number of users from whose scores the worth of a position is estimated


class SolverOptions(Weighting, total=False):
    """Further keyword arguments of :func:`solve_dual`."""

    tie_seed: int  # seed that decides the order of equal scores; 0 by default


class PriceOptions(SolverOptions, total=False):
    """Further keyword arguments of :func:`solve_prices`."""

    for_bound: bool  # True: end the search as soon as D is within ``tol``, in half the time; False by default


def solve_dual(
    scores: object,
    capacity: ArrayLike,
    min_exposure: ArrayLike = 0,
    max_exposure: ArrayLike | None = None,
    *,
    admissible: object | None = None,
    cost: ArrayLike | None = None,
    prices: ArrayLike | None = None,
    tol: float = 1e-3,
    **options: Unpack[SolverOptions],
) -> DualSolution:
    """Choose slates of largest score under floors, caps and capacities.

    The solver maximises the sum of the scores s of all slates. Each slate has at most ``capacity`` items, and
    the exposures E of each item are between floor and cap. With ``cost``, floors are soft, and the solver
    maximises Σ s − cost·Σ (floor − E)₊. The feasible set is a transportation polytope, so integral slates are
    as good as fractional slates. The auction of ``auction.py`` stops as soon as the dual value D(v) certifies
    its slates to ``tol``.

    With different ``position_weights`` w, an item at position r counts w_r in the value V = Σ w·s − cost·Σ
    (floor − E)₊ and in the exposure E = Σ w. Floors and caps are then real numbers in units of w. Fractional
    slates may be better than integral slates, so the gap may exceed ``tol``. Slates always respect caps and
    hard floors. If even fractional slates cannot meet the floors, an error may name the items; it does for
    certain if every pair is admissible. The solver may miss integral slates that meet the floors.

    Args:
        scores: Worth of showing item y to user x, as an (n, M) array or torch tensor; −inf for a pair that may not be
            shown. If the matrix exceeds memory, use a :class:`~rimsim.matching.ChunkedScores` such as factors. In a
            sparse matrix of SciPy, pairs that are not stored are not admissible, and time and memory grow with the
            number of stored pairs.
        capacity: Largest number of items in the slate of a user, scalar or (n,). A position stays empty only
            if no admissible item has s − v ≥ 0.
        min_exposure: Required exposures, scalar or (M,); whole numbers if all positions weigh the same.
        max_exposure: Caps, scalar or (M,), in the unit of ``min_exposure``; None: no caps.
        admissible: (n, M) mask of pairs that may be shown; None: all pairs.
        cost: Cost of a missing exposure, scalar or (M,); None for hard floors.
        prices: (M,) start prices v, such as prices of the last round; (M+G,) with G ``rows``.
        tol: Relative gap at which to stop.
        options: ``position_weights`` (k,): positive, non-increasing. ``rows``: requirements of several items or
            for some users. ``tie_seed``: seed of the order among equal scores.

    Returns:
        Slates, prices and the certified gap. Without ``position_weights`` and ``rows``, the gap exceeds ``tol`` only
        because of rounding.

    Raises:
        ConfigError: If an argument has a wrong type, shape or value.
        InfeasibleError: If hard floors are not met; the error names items and the shortfall.
    """
    refuse_unknown("solve_dual", options, SolverOptions)
    problem = Problem.of(
        "solve_dual", scores, capacity, min_exposure, max_exposure, admissible, cost, options
    )
    start = _start(problem, prices, tol)
    tie_seed = options.get("tie_seed", 0)
    if problem.weights is not None:
        return _solve_weighted(problem, start, tol, tie_seed)
    return _solve_counted(problem, start, tol, tie_seed)


def solve_prices(
    scores: object,
    capacity: ArrayLike,
    min_exposure: ArrayLike = 0,
    max_exposure: ArrayLike | None = None,
    *,
    admissible: object | None = None,
    cost: ArrayLike | None = None,
    prices: ArrayLike | None = None,
    tol: float = 1e-3,
    **options: Unpack[PriceOptions],
) -> DualPrices:
    """Prices of :func:`solve_dual` alone, without integral slates.

    At the returned prices, the dual value D is within ``tol`` of its minimum. With weights or ``rows``,
    integral slates would take most of the time, so the function skips them. Instead the function compares D
    with the minimum of the smoothed dual D_τ, a lower bound of D. With ``for_bound``, the search takes half
    the time, but prices and exposures are less exact. All other arguments are those of :func:`solve_dual`.

    Raises:
        ConfigError: If an argument has a wrong type, shape or value.
        InfeasibleError: If hard floors cannot be met; with weights or ``rows``, only if the solver proves it.
    """
    refuse_unknown("solve_prices", options, PriceOptions)
    problem = Problem.of(
        "solve_prices", scores, capacity, min_exposure, max_exposure, admissible, cost, options
    )
    start = _start(problem, prices, tol)
    if problem.weights is not None:
        return _least_bound(problem, start, tol, for_bound=options.get("for_bound", False))
    solution = _solve_counted(problem, start, tol, options.get("tie_seed", 0))
    return DualPrices(
        item_price=solution.item_price,
        row_price=solution.row_price,
        dual=solution.dual,
        resolution=solution.resolution,
    )


def offline_match(scores: object, k: ArrayLike, b: ArrayLike, *, tol: float = 1e-3) -> DualSolution:
    """Slates of a broadcast to all users.

    The function is the offline matching of Ma, Liu and Deoras (ICLR 2022): :func:`solve_dual` with (n, M)
    intensities, k positions per user and b required exposures per item.
    """
    return solve_dual(scores, k, b, tol=tol)


def _start(problem: Problem, prices: ArrayLike | None, tol: float) -> Floats | None:
    """Prices to start from: (M,), or (M+G,) with ``rows``."""
    caller = problem.caller
    if not tol > 0:
        refuse(ConfigError, caller, f"tol is {tol!r}", "a number above 0")
    if prices is None:
        return None
    m = problem.shape[1]
    n_groups = 0 if problem.rows is None else len(problem.rows.min_exposure)
    start = as_array(prices).astype(np.float64)
    if start.shape not in ((m,), (m + n_groups,)) or not np.isfinite(start).all():
        refuse(ConfigError, caller, f"prices have shape {start.shape}", f"({m},) finite numbers")
    return start


def _solve_counted(problem: Problem, start: Floats | None, tol: float, tie_seed: int) -> DualSolution:
    """Solution by the auction, in the problem's unit of exposure."""
    n, m = problem.shape
    bonus = None
    chunks = problem.chunks
    # Start prices are clipped: an item without a floor has no bonus, an item without a cap has no price above 0, and a
    # bonus is at most the cost.
    if start is not None:
        highest = np.where(problem.min_exposure > 0, problem.cost, 0.0)
        bonus = np.clip(-start, np.where(problem.max_exposure < n, -np.inf, 0.0), highest)
    if isinstance(chunks, SparseScores):
        pairs = sparse_pairs(n, m, chunks.keys(), chunks.values)
        ceiling = problem.bonus_ceiling(float(np.abs(chunks.values).max(initial=0.0)))
        solution = solve_pairs(problem, pairs, ceiling, bonus, tol, tie_seed)
        return refuse_short(problem, solution, "with the pairs that are there").in_units(problem.unit)
    if np.isinf(problem.cost[problem.min_exposure > 0]).any():
        refuse_excessive(problem)
    if chunks is not None:
        return solve_in_chunks(problem, chunks, bonus, tol, tie_seed).in_units(problem.unit)
    pairs = dense_pairs(problem.scores)
    return solve_pairs(problem, pairs, problem.cost, bonus, tol, tie_seed).in_units(problem.unit)


def _weighted(problem: Problem, weights: Floats) -> WeightedProblem:
    """Problem as arrays, for compiled functions of weighted positions."""
    (n, m) = problem.shape
    rows = problem.rows
    # No item can have more exposures than the first position of every user, so such a cap is none.
    max_exposure = np.where(problem.max_exposure < n * weights[0], problem.max_exposure, np.inf)
    min_exposure = problem.min_exposure
    cost = problem.cost
    first = np.zeros(1, np.int64)
    item = np.empty(0, np.int64)
    active = np.empty((0, 0), np.bool_)
    if rows is not None:
        first = rows.first.astype(np.int64)
        item = rows.item.astype(np.int64)
        min_exposure = np.concatenate([min_exposure, rows.min_exposure])
        max_exposure = np.concatenate([max_exposure, rows.max_exposure])
        cost = np.concatenate([cost, rows.cost])
        active = np.empty((0, len(first) - 1), np.bool_) if rows.active is None else rows.active
    order = np.argsort(item, kind="stable")
    return WeightedProblem(
        scores=np.ascontiguousarray(problem.scores),
        capacity=problem.capacity,
        weights=weights,
        min_exposure=min_exposure.astype(np.float64),
        max_exposure=max_exposure.astype(np.float64),
        cost=np.where(min_exposure > 0, cost, 0.0),
        first=first,
        item=item,
        of_first=np.concatenate([[0], np.cumsum(np.bincount(item, minlength=m))]).astype(np.int64),
        of=np.repeat(np.arange(len(first) - 1), np.diff(first))[order].astype(np.int64),
        active=np.ascontiguousarray(active, np.bool_),
    )


def _scale(terms: WeightedProblem) -> tuple[float, float]:
    """Approximate worth of a position, and the range of scores.

    The worth is the mean score of the best slates of a sample of users.
    """
    n, m = terms.scores.shape
    lowest_score = terms.scores.min(initial=0.0, where=terms.scores > -np.inf)
    spread = float(terms.scores.max(initial=0.0) - lowest_score) or 1.0
    users = np.unique(np.linspace(0, max(n - 1, 0), _SAMPLE).astype(np.int64)) if n else np.empty(0, np.int64)
    n_top = min(len(terms.weights), m)
    top_scores = (
        np.partition(terms.scores[users], m - n_top, axis=1)[:, m - n_top :] if n_top else np.empty((0, 0))
    )
    top_scores = np.abs(top_scores[top_scores > -np.inf])
    return (float(top_scores.mean(dtype=np.float64)) if len(top_scores) else 0.0) or spread, spread


class _Search:
    """Search for prices with position weights or requirements.

    The dual is smoothed with a τ that shrinks at each level (``descent.py``). The search refuses floors if it
    proves that they cannot be met.
    """

    def __init__(self, problem: Problem, start: Floats | None) -> None:
        if problem.chunks is not None or problem.weights is None:
            raise ConfigError(
                f"{problem.caller}: found scores in chunks. Give the scores as a matrix if you use "
                "position_weights or rows"
            )
        self.problem = problem
        self.terms = _weighted(problem, problem.weights)
        self.unit, self.spread = _scale(self.terms)
        has_floor = self.terms.min_exposure > 0.0
        has_cap = self.terms.max_exposure < np.inf
        # Smallest and largest price of each requirement. A hard floor and a cap have no cost that limits their price.
        self.box = (
            np.where(has_floor, -np.minimum(self.terms.cost, _FARTHEST * self.spread), 0.0),
            np.where(has_cap, _FARTHEST * self.spread, 0.0),
        )
        self.hard = np.isinf(self.terms.cost[: problem.shape[1]])
        self.refuse_violated(-self.terms.min_exposure, 0.0)  # in descending order of hard floors
        price = np.zeros(len(self.terms.min_exposure))
        if start is not None:
            price[: len(start)] = start
        self.tau = _TAU * self.unit
        self.point = at_prices(self.terms, np.clip(price, *self.box), self.tau)

    def descend(self, level: int, ending: Ending | None) -> None:
        """Set τ of a level; with an ``ending``, minimise D_τ."""
        self.tau = _TAU * self.unit / _FINER**level
        if ending is not None:
            self.point = minimised(self.terms, self.point, self.tau, self.box, self.unit, ending)

    def refuse_violated(self, key: Floats, soft: float) -> None:
        """Refuse jointly infeasible floors, searched in ascending order of ``key``.

        All items without a hard floor have the key ``soft``.
        """
        if not self.hard.any():
            return
        terms = self.terms
        caller = self.problem.caller
        order = np.argsort(np.where(self.hard, key[: len(self.hard)], soft), kind="stable")
        items, deficit = violated_items_weighted(
            terms.scores, terms.capacity, terms.weights, terms.min_exposure, order
        )
        if deficit > 0.0:
            raise infeasible(
                f"{caller}: the floors of {len(items)} items ({names_of(items)}) need {deficit:.6g} more exposure "
                "than capacity and `admissible` leave for these items. Lower min_exposure or give `cost`",
                items,
                deficit,
            )

    def refuse_unmet(self, slates: IntegralSlates) -> None:
        """Refuse slates that miss hard floors."""
        if slates.value > -np.inf:
            return
        m = len(self.hard)
        caller = self.problem.caller
        deficits = np.where(np.isinf(self.terms.cost), missing(self.terms, slates.exposure), 0.0)
        items = np.flatnonzero(deficits[:m])
        groups = np.flatnonzero(deficits[m:])
        names = [
            f"{name} {names_of(numbers)}"
            for name, numbers in (("items", items), ("rows", groups))
            if len(numbers)
        ]
        raise infeasible(
            f"{caller}: the solver found no slates that meet the floors of {' and '.join(names)}; {deficits.sum():.6g} "
            "exposures are missing. Lower the floors or give `cost`",
            items,
            float(deficits.sum()),
        )


def _least_bound(problem: Problem, start: Floats | None, tol: float, *, for_bound: bool) -> DualPrices:
    """Prices at which D is near its minimum.

    D_τ is at most D. So at the minimum of D_τ, D − D_τ bounds the distance of D from its minimum.
    """
    ending = Ending(_FOR_BOUND_ENOUGH * tol, _FOR_BOUND_STEPS) if for_bound else Ending(_ENOUGH * tol)
    search = _Search(problem, start)
    best = search.point
    for level in _FOR_BOUND if for_bound else range(_LEVELS):
        search.descend(level, ending)
        best = search.point if search.point.bound < best.bound else best
        if best.bound - search.point.smooth <= tol * abs(best.bound):
            break
    m = problem.shape[1]
    price = best.price + 0.0
    return DualPrices(item_price=price[:m], row_price=price[m:], dual=best.bound, resolution=search.tau)


def _solve_weighted(problem: Problem, start: Floats | None, tol: float, tie_seed: int) -> DualSolution:
    """Solution of a problem with position weights or requirements.

    The function builds integral slates at the prices of each level (``slates.py``). The search ends when the
    gap between the best D and the best slates is within the tolerance, or when finer prices no longer help.
    """
    search = _Search(problem, start)
    rows = row_states(tie_seed, np.arange(problem.shape[0]))
    best: tuple[DualPoint, IntegralSlates] | None = None
    for level in range(_LEVELS):
        # Start prices may already be good enough, so slates are built before the first descent.
        at_start = best is None and start is not None
        search.descend(level, None if at_start else Ending(_ENOUGH * tol))
        if level == 0:
            continue
        point = search.point
        slates = integral_slates(search.terms, point.price, rows, search.unit, search.spread)
        if slates.value == -np.inf:
            search.refuse_violated(point.price, 1.0)
        gap_reduction = np.inf
        if best is not None:
            gap_before = best[0].bound - best[1].value
            point = point if point.bound < best[0].bound else best[0]
            slates = slates if slates.value > best[1].value else best[1]
            gap_reduction = _share(gap_before - (point.bound - slates.value), point.bound)
        best = point, slates
        gap = _share(point.bound - slates.value, point.bound)
        if gap <= tol or (level >= _STUCK and gap_reduction < _NEARER * tol):
            break
    search.refuse_unmet(slates)
    m = problem.shape[1]
    price = point.price + 0.0
    return DualSolution(
        item_price=price[:m],
        user_price=point.users.marginal,
        slates=slates.slates,
        primal=slates.value,
        dual=point.bound,
        gap=gap,
        shortfall=float(missing(search.terms, slates.exposure).sum()),
        exposure=slates.exposure[:m],
        resolution=search.tau,
        row_price=price[m:],
    )


def _share(difference: float, total: float) -> float:
    """Difference as a share of ``total``, or itself without total."""
    return difference / abs(total) if total != 0.0 else abs(difference)
