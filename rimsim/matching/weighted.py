"""Prices and slates where positions count differently, or where rows bound more than one item."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.arrays import Floats
from rimsim.errors import ConfigError
from rimsim.matching._descent import Ending, Point, at_prices, minimised
from rimsim.matching._kernels import row_states
from rimsim.matching._refusals import refuse_unmet, refuse_violated
from rimsim.matching._terms import Terms, missing
from rimsim.matching._whole import whole_slates
from rimsim.matching.solution import DualSolution

if TYPE_CHECKING:
    from rimsim.matching._whole import Whole
    from rimsim.matching.problem import Problem


_TAU = 0.03  # the first τ, in units of what a position is worth
_FINER = 3.0  # ... and by how much it shrinks from level to level
_LEVELS = 8
_STUCK, _NEARER = (
    3,
    0.1,
)  # from this level on, a gap that shrinks by less than this share of the tolerance is the end
_ENOUGH = 0.0003  # share of the tolerance that a step must gain
# Where D alone is wanted, which is flat where prices and exposures still move: the levels ...
_FOR_BOUND = (0, *range(3, _LEVELS))
_FOR_BOUND_ENOUGH, _FOR_BOUND_STEPS = (
    0.2,
    10,
)  # ... and the share of the tolerance that so many steps must gain
_FARTHEST = 64.0  # prices of hard rows stay below this many times the range of scores
_SAMPLE = 256


class Best(NamedTuple):
    """The best of what the levels found."""

    point: Point
    whole: Whole


def terms_of(problem: Problem) -> Terms:
    """The problem as the kernels see it."""
    n, m = problem.shape
    weights, rows = problem.weights, problem.rows
    if weights is None:
        raise ConfigError(f"{problem.where}: a problem without weights is one for the auction")
    scores = np.ascontiguousarray(problem.scores)
    if problem.admissible is not None:
        scores = np.where(problem.admissible, scores, -np.inf).astype(scores.dtype, copy=False)
    most = np.where(problem.cap < n * weights[0], problem.cap, np.inf)
    least, cost = problem.floor, problem.cost
    first, item = np.zeros(1, np.int64), np.empty(0, np.int64)
    active = np.empty((0, 0), np.bool_)
    if rows is not None:
        first, item = rows.first.astype(np.int64), rows.item.astype(np.int64)
        least, most = np.concatenate([least, rows.least]), np.concatenate([most, rows.most])
        cost = np.concatenate([cost, rows.cost])
        active = np.empty((0, len(first) - 1), np.bool_) if rows.active is None else rows.active
    order = np.argsort(item, kind="stable")
    return Terms(
        scores=scores,
        capacity=problem.capacity,
        weights=weights,
        least=least.astype(np.float64),
        most=most.astype(np.float64),
        cost=np.where(least > 0, cost, 0.0),
        first=first,
        item=item,
        of_first=np.concatenate([[0], np.cumsum(np.bincount(item, minlength=m))]).astype(np.int64),
        of=np.repeat(np.arange(len(first) - 1), np.diff(first))[order].astype(np.int64),
        active=np.ascontiguousarray(active, np.bool_),
    )


def _scale(terms: Terms) -> tuple[float, float]:
    """What a position is about worth, from a few users, and the range of all scores, 0 included."""
    n, m = terms.scores.shape
    finite = terms.scores[terms.scores > -np.inf]
    spread = float(finite.max(initial=0.0) - finite.min(initial=0.0)) or 1.0
    users = np.unique(np.linspace(0, max(n - 1, 0), _SAMPLE).astype(np.int64)) if n else np.empty(0, np.int64)
    width = min(len(terms.weights), m)
    top = np.partition(terms.scores[users], m - width, axis=1)[:, m - width :] if width else np.empty((0, 0))
    top = np.abs(top[top > -np.inf])
    return (float(top.mean(dtype=np.float64)) if len(top) else 0.0) or spread, spread


class _Search(NamedTuple):
    """Where the search for prices begins, and within which box."""

    terms: Terms
    unit: float
    """What a position is about worth."""
    spread: float
    """Range of the scores."""
    lowest: Floats
    highest: Floats
    point: Point
    """The prices that were given, or 0."""


def _search(problem: Problem, prices: Floats | None) -> _Search:
    """Set out from given prices, and refuse floors of items that are proven to be too high.

    Raises:
        ConfigError: If scores come in chunks.
        InfeasibleError: If hard floors of items are too high.
    """
    if problem.chunks is not None:
        raise ConfigError(
            f"{problem.where}: position_weights and rows need scores as a matrix; found scores in chunks"
        )
    terms = terms_of(problem)
    m = problem.shape[1]
    unit, spread = _scale(terms)
    floors, hard = terms.least > 0.0, np.isinf(terms.cost)
    lowest = np.where(floors, -np.minimum(terms.cost, _FARTHEST * spread), 0.0)
    highest = np.where(terms.most < np.inf, _FARTHEST * spread, 0.0)
    if hard[:m].any():
        order = np.argsort(-np.where(hard[:m], terms.least[:m], 0.0), kind="stable")
        refuse_violated(terms, order, problem.where)
    start = np.zeros(len(terms.least))
    if prices is not None:
        start[: len(prices)] = prices
    point = at_prices(terms, np.clip(start, lowest, highest), _TAU * unit)
    return _Search(terms, unit, spread, lowest, highest, point)


def least_bound(
    problem: Problem, prices: Floats | None, tol: float, *, for_bound: bool = False
) -> tuple[Point, float]:
    """Prices at which D is within a share ``tol`` of its least value, and the τ at which they were found.

    D_τ is below D everywhere, so the least D_τ is below the least D: their difference at a minimiser of D_τ bounds how
    far D there is from its least value.

    Args:
        problem: With weights.
        prices: (M,) or (M+G,) prices to start from.
        tol: The share.
        for_bound: See :func:`~rimsim.matching.solve_prices`.

    Raises:
        InfeasibleError: If hard floors of items are too high.
    """
    ending = Ending(_FOR_BOUND_ENOUGH * tol, _FOR_BOUND_STEPS) if for_bound else Ending(_ENOUGH * tol)
    terms, unit, _, lowest, highest, point = _search(problem, prices)
    best, tau = point, _TAU * unit
    for level in _FOR_BOUND if for_bound else range(_LEVELS):
        tau = _TAU * unit / _FINER**level
        point = minimised(terms, point, tau, lowest, highest, unit, ending)
        best = point if point.bound < best.bound else best
        if best.bound - point.smooth <= tol * abs(best.bound):
            break
    return best, tau


def solve_weighted(problem: Problem, prices: Floats | None, tol: float, tie_seed: int) -> DualSolution:
    """Solve a problem with weights or rows.

    The dual is smoothed with a τ that shrinks from level to level (``_smoothed.py``, ``_descent.py``); at the prices of
    each, whole slates are sought (``_whole.py``). It ends where the best D and the best slates are within the
    tolerance, or where finer prices bring them no nearer: whole slates may not reach what fractions of slates can.

    Args:
        problem: With weights.
        prices: (M,) or (M+G,) prices to start from.
        tol: Relative gap at which to stop.
        tie_seed: Seed of the order among equal scores.
    """
    terms, unit, spread, lowest, highest, point = _search(problem, prices)
    n, m = problem.shape
    hard = np.isinf(terms.cost)
    seeds = row_states(tie_seed, np.arange(n))
    best: Best | None = None
    gap, tau = np.inf, _TAU * unit
    for level in range(_LEVELS):
        tau = _TAU * unit / _FINER**level
        if best is not None or prices is None:  # at prices that are given, slates are sought first
            point = minimised(terms, point, tau, lowest, highest, unit, Ending(_ENOUGH * tol))
        if level == 0:
            continue
        whole = whole_slates(terms, point.price, seeds, unit, spread)
        if whole.value == -np.inf and hard[:m].any():
            order = np.argsort(np.where(hard[:m], point.price[:m], 1.0), kind="stable")
            refuse_violated(terms, order, problem.where)
        before = best
        best = Best(
            point if best is None or point.bound < best.point.bound else best.point,
            whole if best is None or whole.value > best.whole.value else best.whole,
        )
        gap = _gap(best)
        if gap <= tol or (level >= _STUCK and before is not None and _nearer(before, best) < _NEARER * tol):
            break
    if best is None:  # pragma: no cover  # there is always a level
        raise AssertionError
    if best.whole.value == -np.inf:
        refuse_unmet(terms, best.whole, problem.where)
    return _packed(terms, best, gap, tau)


def _gap(best: Best) -> float:
    difference = best.point.bound - best.whole.value
    return difference / abs(best.point.bound) if best.point.bound != 0.0 else abs(difference)


def _nearer(before: Best, best: Best) -> float:
    """How much nearer D and V have come, as a share of D."""
    nearer = (before.point.bound - before.whole.value) - (best.point.bound - best.whole.value)
    return nearer / abs(best.point.bound) if best.point.bound != 0.0 else nearer


def _packed(terms: Terms, best: Best, gap: float, tau: float) -> DualSolution:
    m, price = terms.scores.shape[1], best.point.price + 0.0
    return DualSolution(
        item_price=price[:m],
        user_price=best.point.users.marginal,
        slates=best.whole.slates,
        primal=best.whole.value,
        dual=best.point.bound,
        gap=gap,
        shortfall=float(missing(terms, best.whole.exposure).sum()),
        exposure=best.whole.exposure[:m],
        resolution=tau,
        row_price=price[m:],
    )
