"""The price solver on a list of pairs: the auction knows all of them, so one run of it is the whole problem."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Float32s, Floats, Ints
from rimsim.errors import ConfigError
from rimsim.matching._pairs import bonus_ceiling, fresh_state
from rimsim.matching._phases import last_epsilon, run_phases
from rimsim.matching._refusals import refuse_short
from rimsim.matching._sweep import sparse_pairs
from rimsim.matching.solution import packed

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from rimsim.matching.problem import Problem
    from rimsim.matching.solution import DualSolution


def is_sparse(scores: object) -> bool:
    """True if scores are a sparse matrix of SciPy, in whatever format; SciPy is not imported for it."""
    return hasattr(scores, "tocsr") and hasattr(scores, "nnz")


class SparseScores:
    """Scores of the pairs of a sparse matrix, those of value 0 too; a pair that is not there cannot be served.

    Args:
        scores: (n, M), users by items.
        where: Who asks, for errors.

    Raises:
        ConfigError: If a score is no finite number.
    """

    def __init__(self, scores: object, where: str) -> None:
        matrix: csr_array = scores.tocsr(copy=True)  # type: ignore[attr-defined]  # a sparse matrix
        matrix.sum_duplicates()
        self._matrix = matrix
        self.values = matrix.data.astype(np.float32)
        if not np.isfinite(self.values).all():
            pair = int(np.flatnonzero(~np.isfinite(self.values))[0])
            row = int(np.searchsorted(matrix.indptr, pair, "right")) - 1
            raise ConfigError(
                f"{where}: the score of user {row} and item {int(matrix.indices[pair])} is {matrix.data[pair]}; "
                "allowed: finite numbers (leave a pair out that cannot be served)"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(n, M), users and items."""
        n, m = self._matrix.shape
        return n, m

    def keys(self) -> Ints:
        """(E,) the pairs, user·M + item, ascending."""
        n, m = self.shape
        row = np.repeat(np.arange(n), np.diff(self._matrix.indptr))
        return np.asarray(row * m + self._matrix.indices, np.int64)

    def rows(self, start: int, stop: int) -> Float32s:
        """(stop − start, M) scores of users ``start`` to ``stop`` − 1; −inf for pairs that are not there."""
        first = self._matrix.indptr[start : stop + 1]
        block = np.full((stop - start, self.shape[1]), -np.inf, np.float32)
        row = np.repeat(np.arange(stop - start), np.diff(first))
        block[row, self._matrix.indices[first[0] : first[-1]]] = self.values[first[0] : first[-1]]
        return block


def solve_sparse(
    problem: Problem, scores: SparseScores, bonus: Floats | None, tol: float, tie_seed: int
) -> DualSolution:
    """Solve by the auction on the pairs that are there; memory and time grow with their number.

    Args:
        problem: Capacities, floors, caps and cost.
        scores: The pairs.
        bonus: (M,) bonuses to start from; None: 0.
        tol: Relative gap at which to stop.
        tie_seed: Seed of the order among equal scores.

    Raises:
        InfeasibleError: If hard floors are not met.
    """
    n, m = scores.shape
    pairs = sparse_pairs(n, m, scores.keys(), scores.values)
    ceiling = bonus_ceiling(problem.cost, float(np.abs(scores.values).max(initial=0.0)))
    start = np.zeros(m) if bonus is None else np.minimum(bonus, ceiling)
    state = fresh_state(pairs, problem.capacity, problem.floor, problem.cap, ceiling, start)
    worth = float(np.abs(scores.values).mean()) * int(problem.capacity.sum()) if len(scores.values) else 0.0
    epsilon = 0.0 if bonus is None else last_epsilon(state, worth, tol)
    solution = packed(pairs, state, run_phases(pairs, state, tol, tie_seed, epsilon))
    refuse_short(problem, solution, "with the pairs that are there")
    return solution
