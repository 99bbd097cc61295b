"""ε-scaling: phases of the auction, each with a smaller ε, until the gap is certified."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.arrays import Floats
from rimsim.matching._auction import forward
from rimsim.matching._greedy import dual_value, greedy
from rimsim.matching._kernels import row_states
from rimsim.matching._reverse import reverse

if TYPE_CHECKING:
    from rimsim.matching._pairs import Pairs, State


_STEP = 7.0  # ε shrinks at most by this factor from phase to phase
_NEAR = 4.0  # D is computed once ε comes this near to the value that should do
_BLIND = 6  # ... and from this phase on in any case
_PHASES = 40
_AIM = 0.7  # the gap shrinks about as ε does: the last phase aims at this share of the tolerance
_WARM = 2.0  # ... and given prices are taken this many first ε lower
_SAMPLE = 256
_EXACT = 2.0**-46  # ε is kept above this share of the prices, so that float64 can tell them apart
_SPENT = 0.2  # a guess is given up if its bonuses buy more than this share of V beyond all floors
_SHIFT = 3.0  # bonuses start a phase this many old ε lower: raising is cheaper than lowering


class End(NamedTuple):
    """Where the phases ended."""

    w: Floats
    """(M,) the bonuses with the smallest D that was seen."""
    user_price: Floats
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
        epsilon: ε of the first phase if the bonuses are a guess; 0 to start cold. A guess that is far too high is
            given up, since the small steps of so small an ε would take it down one by one.
    """
    w, user_price, best_price = state.w, np.zeros(pairs.n), np.zeros(pairs.n)
    rows = row_states(tie_seed, np.arange(pairs.n))
    best_w, best_dual = w.copy(), np.inf
    primal = gap = 0.0
    _lower(w, _WARM * epsilon)
    for phase in range(_PHASES):
        greedy(pairs, state, 0.5 * epsilon, rows)
        if phase == 0 and epsilon > 0.0 and _overspent(state) > _SPENT * abs(score_of(pairs, state)):
            w[:] = epsilon = 0.0
            greedy(pairs, state, 0.0, rows)
        if epsilon == 0.0:
            epsilon = _first_epsilon(pairs, state.theta)
        reverse(pairs, state, epsilon)
        forward(pairs, state, epsilon)
        primal = _primal(pairs, state)
        shrink = 1.0 / _STEP
        smallest = _EXACT * max(
            float(np.abs(w).max(initial=0.0)), float(np.abs(_finite(state.theta)).max(initial=0.0))
        )
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


def _finite(values: Floats) -> Floats:
    return np.asarray(values[np.isfinite(values)], np.float64)


def _first_epsilon(pairs: Pairs, theta: Floats) -> float:
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


def sampled_worth(pairs: Pairs, state: State) -> float:
    """About what slates without floors are worth, from a few users."""
    if pairs.sparse or pairs.m == 0 or pairs.n == 0:
        return 0.0
    users = np.unique(np.linspace(0, pairs.n - 1, _SAMPLE).astype(np.int64))
    width = max(state.slot.shape[1], 1)
    values = np.maximum(pairs.uval.reshape(pairs.n, pairs.m)[users], 0.0)
    top = np.partition(values, pairs.m - width, axis=1)[:, pairs.m - width :]
    return float(top.mean(dtype=np.float64)) * int(state.capacity.sum())


def _overspent(state: State) -> float:
    """What bonuses pay for exposures beyond the floors: 0 at the best prices, whose bonuses lie on floors alone."""
    return float(np.maximum(state.w, 0.0) @ np.maximum(state.exposure - state.floor, 0))


def _lower(w: Floats, by: float) -> None:
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
