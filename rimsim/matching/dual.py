"""Prices and slates of the offline problem: an ε-scaling auction with a certified gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.errors import ConfigError, InfeasibleError
from rimsim.matching._auction import forward
from rimsim.matching._flow import violated_items, violated_items_of_all
from rimsim.matching._greedy import dual_value, greedy
from rimsim.matching._pairs import Pairs, State, dense_pairs, fresh_state
from rimsim.matching._reverse import reverse
from rimsim.matching._ties import row_states
from rimsim.matching.problem import Problem, as_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["DualSolution", "solve_dual"]

_STEP = 7.0  # ε shrinks at most by this factor from phase to phase
_NEAR = 4.0  # D is computed once ε comes this near to the value that should do
_BLIND = 6  # ... and from this phase on in any case
_PHASES = 40
_AIM = 0.7  # the gap shrinks about as ε does: the last phase aims at this share of the tolerance
_WARM = 2.0  # ... and given prices are taken this many first ε lower
_SAMPLE = 256
_EXACT = 2.0**-46  # ε is kept above this share of the prices, so that float64 can tell them apart
_SHIFT = 3.0  # bonuses start a phase this many old ε lower: raising is cheaper than lowering


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
    if problem.admissible is None:
        items, lacking = violated_items_of_all(pairs.m, pairs.n, problem.floor, problem.capacity)
    else:
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


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values[np.isfinite(values)], np.float64)


def _first_epsilon(pairs: Pairs, theta: NDArray[np.float64]) -> float:
    """Where ε-scaling starts cold: the mean value of the cheapest position, or what the scores differ by."""
    finite = _finite(theta)
    typical = float(finite.mean()) if len(finite) else 0.0
    if typical > 0.0:
        return typical
    values = pairs.uval[pairs.uval > -np.inf]
    return float(np.ptp(values)) / 10.0 or 1.0 if len(values) else 1.0


def last_epsilon(state: State, worth: float, tol: float) -> float:
    """The ε that about reaches the tolerance: gaps are .02 to .4 of ε per position (measured)."""
    return 10.0 * tol * abs(worth) / max(int(state.capacity.sum()), 1)


def _sampled_worth(pairs: Pairs, state: State) -> float:
    """About what slates without floors are worth, from a few users."""
    if pairs.sparse or pairs.m == 0 or pairs.n == 0:
        return 0.0
    users = np.unique(np.linspace(0, pairs.n - 1, _SAMPLE).astype(np.int64))
    width = max(state.slot.shape[1], 1)
    values = np.maximum(pairs.uval.reshape(pairs.n, pairs.m)[users], 0.0)
    top = np.partition(values, pairs.m - width, axis=1)[:, pairs.m - width :]
    return float(top.mean(dtype=np.float64)) * int(state.capacity.sum())


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

    Maximises Σ s·x over x in {0, 1} with Σ_y x ≤ capacity of each user and floor ≤ Σ_x x ≤ cap of each item,
    or, with ``cost``, Σ s·x − cost · Σ (floor − E)₊. The polytope is a transportation polytope, so whole
    slates lose nothing against fractions. An ε-scaling forward and reverse auction (see ``_auction.py``)
    keeps slates that meet every floor and cap exactly, and stops as soon as D(v) certifies them to ``tol``.

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
        InfeasibleError: If floors cannot be met and no ``cost`` is given; it names a set of items and the
            shortfall.
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
    state = fresh_state(pairs, problem.capacity, problem.floor, problem.cap, problem.cost, bonus)
    epsilon = last_epsilon(state, _sampled_worth(pairs, state), tol) if prices is not None else 0.0
    end = run_phases(pairs, state, tol, tie_seed, epsilon)
    return packed(pairs, state, end)


class End(NamedTuple):
    """Where the phases ended."""

    w: NDArray[np.float64]
    """(M,) the bonuses with the smallest D that was seen."""
    user_price: NDArray[np.float64]
    """(n,) prices of positions at these bonuses."""
    primal: float
    """V of the slates held."""
    dual: float
    """D(w)."""
    gap: float
    """(D − V) / |D|."""
    epsilon: float
    """The last ε."""


def run_phases(pairs: Pairs, state: State, tol: float, tie_seed: int, epsilon: float) -> End:
    """Let ε shrink from phase to phase until the gap is certified.

    Args:
        pairs: The pairs.
        state: Who holds what; changed in place.
        tol: Relative gap at which to stop.
        tie_seed: Seed of the order among equal scores.
        epsilon: ε of the first phase if the bonuses are a guess; 0 to start cold.
    """
    w, user_price, best_price = state.w, np.zeros(pairs.n), np.zeros(pairs.n)
    rows = row_states(tie_seed, np.arange(pairs.n))
    best_w, best_dual = w.copy(), np.inf
    primal = gap = 0.0
    _lower(w, _WARM * epsilon)
    for phase in range(_PHASES):
        greedy(pairs, state, 0.5 * epsilon, rows)
        if epsilon == 0.0:
            epsilon = _first_epsilon(pairs, state.theta)
        reverse(pairs, state, epsilon)
        forward(pairs, state, epsilon)
        primal = _primal(pairs, state)
        shrink = 1.0 / _STEP
        smallest = _EXACT * max(float(np.abs(w).max(initial=0.0)), float(np.abs(_finite(state.theta)).max(initial=0.0)))
        if epsilon <= _NEAR * last_epsilon(state, score_of(pairs, state), tol) or phase > _BLIND:
            dual = dual_value(pairs, state, w, user_price)
            if dual < best_dual:
                best_w, best_dual = w.copy(), dual
                user_price, best_price = best_price, user_price
            gap = (best_dual - primal) / abs(best_dual) if best_dual != 0.0 else abs(primal)
            if gap <= tol or epsilon * shrink <= smallest:
                break
            shrink = max(shrink, min(_AIM * tol / gap, 0.5))
        _lower(w, _SHIFT * epsilon)
        epsilon *= shrink
    return End(best_w, best_price, primal, best_dual, gap, epsilon)


def packed(pairs: Pairs, state: State, end: End) -> DualSolution:
    """Slates and prices as users get them."""
    shown = state.slot >= 0
    pair = np.maximum(state.slot, 0)
    items = (pairs.uitem[pair] if pairs.sparse else pair % pairs.m).astype(np.int64)
    slates = np.where(shown, items, -1)
    values = np.where(shown, pairs.uval[pair] + end.w[items], -np.inf)
    order = np.lexsort((slates, -values), axis=1)
    return DualSolution(
        item_price=-end.w + 0.0,
        user_price=end.user_price,
        slates=np.take_along_axis(slates, order, axis=1),
        primal=end.primal,
        dual=end.dual,
        gap=end.gap,
        shortfall=int(np.maximum(state.floor - state.exposure, 0).sum()),
        exposure=state.exposure,
        resolution=end.epsilon,
    )


def _lower(w: NDArray[np.float64], by: float) -> None:
    """Lower the bonuses that are in use, none across 0."""
    lower = w - by
    w[:] = np.where(w > 0.0, np.maximum(lower, 0.0), np.where(w < 0.0, lower, 0.0))


def score_of(pairs: Pairs, state: State) -> float:
    """Σ s of the slates held."""
    return float(pairs.uval[state.slot[state.slot >= 0]].sum(dtype=np.float64))


def _primal(pairs: Pairs, state: State) -> float:
    """V of the slates held."""
    missing = np.maximum(state.floor - state.exposure, 0)
    short = missing > 0
    return score_of(pairs, state) - float((state.ceiling[short] * missing[short]).sum())
