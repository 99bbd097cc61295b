"""The price solver where the matrix does not fit: an auction on few pairs, checked and fed by looks at all scores.

A look at all scores at given bonuses yields D(w), which is valid whatever pairs the auction knew, and the pairs that
may matter: the best of every user, and the users that every item would have to pay least for. The auction runs on
these; its slates are slates of the whole problem, so V and D certify each other. Pairs are added until they do.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Floats
from rimsim.errors import ModelError
from rimsim.matching._pairs import bonus_ceiling, dense_pairs, fresh_state
from rimsim.matching._phases import End, last_epsilon, run_phases, score_of
from rimsim.matching._refusals import refuse_short
from rimsim.matching._sweep import sparse_pairs, sweep
from rimsim.matching.solution import DualSolution, packed

if TYPE_CHECKING:
    from rimsim.matching.problem import Problem
    from rimsim.matching.scorer import ChunkedScores


_LOOKS = 12
_SAMPLE = 4096  # users of the first guess
_BLOCKS = 16  # ... in so many runs of consecutive ones
_ROWS = 256  # users that are looked at at once for the largest score
_PER_USER = 2.0  # pairs kept a user, in positions (and 8 more)
_PER_ITEM = 2.0  # pairs kept an item, in floors (and 16 more)


def _guess(scores: ChunkedScores, problem: Problem, ceiling: Floats) -> Floats:
    """Bonuses of a sample of users, with floors and caps scaled down."""
    n, m = scores.shape
    if n <= 2 * _SAMPLE:
        return np.zeros(m)
    run = _SAMPLE // _BLOCKS
    starts = np.linspace(0, n - run, _BLOCKS).astype(np.int64)
    users = (starts[:, None] + np.arange(run)).ravel()
    matrix = np.concatenate([np.asarray(scores.rows(int(s), int(s) + run), np.float32) for s in starts])
    share = len(users) / n
    floor = np.ceil(problem.floor * share).astype(np.int64)
    cap = np.maximum(np.ceil(problem.cap * share).astype(np.int64), floor)
    pairs = dense_pairs(matrix, None)
    state = fresh_state(pairs, problem.capacity[users], floor, cap, ceiling, np.zeros(m))
    return run_phases(pairs, state, 0.05, 0, 0.0).w


def _largest_score(scores: ChunkedScores, *, of_all: bool) -> float:
    """The largest score of all users, or of the first block, without its sign; refuses what is no score.

    Raises:
        ModelError: If the scorer returns what is no score.
    """
    n, largest = scores.shape[0], 0.0
    for start in range(0, n if of_all else min(n, 1), _ROWS):
        block = np.asarray(scores.rows(start, min(start + _ROWS, n)), np.float64)
        if np.isnan(block).any() or (block == np.inf).any():
            raise ModelError(
                "solve_dual: rows() returned a score that is not a number; allowed: finite numbers or −inf"
            )
        largest = max(largest, float(np.abs(block[np.isfinite(block)]).max(initial=0.0)))
    return largest


def solve_in_chunks(
    problem: Problem, scores: ChunkedScores, bonus: Floats | None, tol: float, tie_seed: int
) -> DualSolution:
    """Solve by looks at all scores in blocks.

    Args:
        problem: Capacities, floors, caps and cost.
        scores: The scorer.
        bonus: (M,) bonuses to start from; None to guess them from a sample of users.
        tol: Relative gap at which to stop.
        tie_seed: Seed of the order among equal scores.

    Raises:
        InfeasibleError: If hard floors are still not met after the last look.
        ModelError: If the scorer returns what is no score.
    """
    n, m = scores.shape
    hard = np.isinf(problem.cost)
    ceiling = bonus_ceiling(problem.cost, _largest_score(scores, of_all=bool(hard.any())))
    w = _guess(scores, problem, ceiling) if bonus is None else bonus
    per_user = int(_PER_USER * problem.capacity.max(initial=0)) + 8
    per_item = int(_PER_ITEM * problem.floor.max(initial=0)) + 16 if problem.floor.any() else 0
    keys, values = np.empty(0, np.int64), np.empty(0, np.float32)
    best_w, best_price, best_dual = w, np.zeros(n), np.inf
    solution: DualSolution | None = None
    epsilon = 0.0
    for number in range(_LOOKS):
        look = sweep(scores, w, problem.capacity, per_user, per_item)
        dual = look.top - float(np.maximum(w, 0.0) @ problem.floor) + float(np.maximum(-w, 0.0) @ problem.cap)
        if dual < best_dual:
            best_w, best_price, best_dual = w, look.user_price, dual
        if solution is not None:
            gap = (best_dual - solution.primal) / abs(best_dual) if best_dual else abs(solution.primal)
            solution = dataclasses.replace(
                solution, item_price=-best_w + 0.0, user_price=best_price, dual=best_dual, gap=gap
            )
            unmet = hard & (solution.exposure < problem.floor)
            if (gap <= tol and not unmet.any()) or number == _LOOKS - 1:
                break
        keys, first = np.unique(np.concatenate([keys, look.keys]), return_index=True)
        values = np.concatenate([values, look.values])[first]
        pairs = sparse_pairs(n, m, keys, values)
        state = fresh_state(
            pairs, problem.capacity, problem.floor, problem.cap, ceiling, np.minimum(w, ceiling)
        )
        end: End = run_phases(pairs, state, 0.3 * tol, tie_seed, epsilon)
        epsilon = last_epsilon(state, score_of(pairs, state), tol)
        w = end.w
        solution = packed(pairs, state, end)
    if solution is None:
        raise ModelError("solve_dual: no look at the scores was made")
    refuse_short(problem, solution, f"after {_LOOKS} looks at all scores")
    return solution
