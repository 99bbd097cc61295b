"""Prices and slates of the offline problem: an ε-scaling auction with a certified gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim.errors import ConfigError, InfeasibleError
from rimsim.matching._auction import forward, reverse
from rimsim.matching._flow import violated_items
from rimsim.matching._greedy import dual_value, greedy
from rimsim.matching._pairs import Pairs, State, dense_pairs, fresh_state
from rimsim.matching._ties import row_states
from rimsim.matching.problem import Problem, as_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["DualSolution", "solve_dual"]

_STEP = 5.0  # ε shrinks by this factor from phase to phase
_PHASES = 40
_SHIFT = 4.0  # bonuses start a phase this many old ε lower: raising is cheaper than lowering


@dataclass(frozen=True, eq=False)
class DualSolution:
    """Slates and prices of n users and M items."""

    item_price: NDArray[np.float64]
    """(M,) v: at most 0 where a floor binds (a bonus), at least 0 where a cap does. Rank by s − v."""
    user_price: NDArray[np.float64]
    """(n,) u: what one more position of the user would be worth, at least 0."""
    slates: NDArray[np.int64]
    """(n, k) items in descending order of s − v; −1 for an empty position."""
    primal: float
    """V = Σ scores − cost · shortfall of these slates."""
    dual: float
    """D at these prices: no slates are worth more."""
    gap: float
    """(dual − primal) / |dual|."""
    shortfall: int
    """Σ (b − E)₊ in exposures; 0 unless ``cost`` was given."""
    exposure: NDArray[np.int64]
    """(M,) exposures, E."""
    resolution: float
    """ε of the last phase: values s − v closer than this were tied to the solver."""


def _refuse_infeasible(pairs: Pairs, problem: Problem) -> None:
    items, lacking = violated_items(pairs, problem.floor, problem.capacity)
    if not lacking:
        return
    names = ", ".join(str(item) for item in items[:10]) + (", …" if len(items) > 10 else "")
    raise InfeasibleError(
        f"solve_dual: the floors of {len(items)} items ({names}) ask for {int(problem.floor[items].sum())} exposures, "
        f"{lacking} more than can reach them within capacity and `admissible`; lower min_exposure or give `cost`",
        tuple(int(item) for item in items),
        lacking,
    )


def _first_epsilon(theta: NDArray[np.float64], spread: float) -> float:
    """Where ε-scaling starts: of the size of a typical difference between scores."""
    finite = theta[np.isfinite(theta)]
    typical = float(finite.mean()) if len(finite) else 0.0
    return max(typical, 1e-3 * spread) or 1.0


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
    tie_seed: int = 0,
) -> DualSolution:
    """Choose slates of largest total score under floors and caps of items and capacities of users.

    Maximises Σ s·x over x in {0, 1} with Σ_y x ≤ capacity of each user and floor ≤ Σ_x x ≤ cap of each item, or,
    with ``cost``, Σ s·x − cost · Σ (floor − E)₊. The polytope is a transportation polytope, so whole slates lose
    nothing against fractions. An ε-scaling forward and reverse auction (see ``_auction.py``) keeps slates that meet
    every floor and cap exactly, and stops as soon as D(v) certifies them to ``tol``.

    Args:
        scores: (n, M) array or torch tensor, what showing item y to user x is worth.
        capacity: Scalar or (n,) positions of a user, "at most". A position is empty only where no admissible item
            has s − v ≥ 0.
        min_exposure: Scalar or (M,) required exposures, whole numbers.
        max_exposure: Scalar or (M,) caps, whole numbers; None for none.
        admissible: (n, M) pairs that may be shown; None for all.
        cost: Price of one exposure of shortfall, scalar or (M,); None for hard floors.
        prices: (M,) prices v to start from, such as those of the last round.
        tol: Relative gap at which to stop.
        tie_seed: Seed of the order among equal scores.

    Returns:
        Slates, prices and the certified gap. The gap exceeds ``tol`` only where float64 cannot resolve it.

    Raises:
        ConfigError: If an argument does not fit.
        InfeasibleError: If floors cannot be met and no ``cost`` is given; it names a set of items and the shortfall.
    """
    problem = Problem.of(
        scores, capacity, min_exposure, max_exposure, admissible=admissible, cost=cost, where="solve_dual"
    )
    if not tol > 0:
        raise ConfigError(f"solve_dual: tol is {tol!r}; allowed: a number above 0")
    n, m = problem.scores.shape
    pairs = dense_pairs(problem.scores, problem.admissible)
    if np.isinf(problem.cost[problem.floor > 0]).any():
        _refuse_infeasible(pairs, problem)
    bonus = np.zeros(m)
    if prices is not None:
        start = as_array(prices).astype(np.float64)
        if start.shape != (m,) or not np.isfinite(start).all():
            raise ConfigError(f"solve_dual: prices have shape {start.shape}; allowed: ({m},) finite numbers")
        highest = np.where(problem.floor > 0, problem.cost, 0.0)
        lowest = np.where(problem.cap < n, -np.inf, 0.0)
        bonus = np.clip(-start, lowest, highest)
    return _solve(pairs, problem, bonus, tol, tie_seed)


def _solve(pairs: Pairs, problem: Problem, bonus: NDArray[np.float64], tol: float, tie_seed: int) -> DualSolution:
    state = fresh_state(pairs, problem.capacity, problem.floor, problem.cap, problem.cost, bonus)
    user_price = np.zeros(pairs.n)
    rows = row_states(tie_seed, np.arange(pairs.n))
    w = state.w
    epsilon = 0.0
    best_w, best_dual = w.copy(), np.inf
    primal = gap = 0.0
    for phase in range(_PHASES):
        greedy(pairs, state, 0.5 * epsilon, rows)
        if phase == 0:
            spread = float(np.ptp(problem.scores)) if problem.admissible is None else float(
                np.ptp(problem.scores[problem.admissible])) if problem.admissible.any() else 0.0
            epsilon = _first_epsilon(state.theta, spread)
        reverse(pairs, state, epsilon)
        forward(pairs, state, epsilon)
        dual = dual_value(pairs, state, w, user_price)
        if dual < best_dual:
            best_w, best_dual = w.copy(), dual
        primal = _primal(pairs, state)
        gap = (best_dual - primal) / abs(best_dual) if best_dual != 0.0 else abs(primal)
        if gap <= tol:
            break
        lower = w - _SHIFT * epsilon
        w[:] = np.where(w > 0.0, np.maximum(lower, 0.0), np.where(w < 0.0, lower, 0.0))
        epsilon /= _STEP
    dual = dual_value(pairs, state, best_w, user_price)
    shown = state.slot >= 0
    pair = np.maximum(state.slot, 0)
    items = (pairs.uitem[pair] if pairs.sparse else pair % pairs.m).astype(np.int64)
    slates = np.where(shown, items, -1)
    values = np.where(shown, pairs.uval[pair] + best_w[items], -np.inf)
    order = np.lexsort((slates, -values), axis=1)
    return DualSolution(
        item_price=-best_w + 0.0,
        user_price=user_price,
        slates=np.take_along_axis(slates, order, axis=1),
        primal=primal,
        dual=dual,
        gap=gap,
        shortfall=int(np.maximum(state.floor - state.exposure, 0).sum()),
        exposure=state.exposure,
        resolution=epsilon,
    )


def _primal(pairs: Pairs, state: State) -> float:
    """V of the slates held."""
    scores = pairs.uval[state.slot[state.slot >= 0]].sum(dtype=np.float64)
    missing = np.maximum(state.floor - state.exposure, 0)
    short = missing > 0
    return float(scores - (state.ceiling[short] * missing[short]).sum())
