"""Column generation: prices for score matrices that exceed memory.

The auction uses only a few user-item pairs. Reading all scores at given bonuses w gives the dual value D(w),
a bound on the value of all slates. The reading also finds pairs that the best slates may contain: the best
pairs of every user and of every item. The auction's slates are feasible, so D(w) minus their value V
certifies the gap. Pairs are added until the gap is small.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from rimsim.arrays import Float32s, Floats, Ints
from rimsim.compiled import compiled
from rimsim.errors import ModelError
from rimsim.matching.auction import auction, last_epsilon, score_of
from rimsim.matching.kernels import keep_largest
from rimsim.matching.pairs import dense_pairs, no_holdings, sparse_pairs
from rimsim.matching.problem import ChunkedScores, Problem
from rimsim.matching.solution import DualSolution, refuse_short

_CELLS = 1 << 24  # number of scores per block, 64 MiB in float32
_LOOKS = 12  # largest number of times that all scores are read
_SAMPLE = 4096  # number of users for whom start bonuses are solved
# Number of runs of consecutive users in this sample. Users come in runs, because scores in chunks are cheapest for
# consecutive users.
_BLOCKS = 16
_ROWS = 256  # number of users per block in the search for the largest score
# Each reading of the scores adds pairs to the auction. A user may add ``_PER_USER`` times its positions plus 8. An item
# may add ``_PER_ITEM`` times the largest floor plus 16.
_PER_USER = 2.0
_PER_ITEM = 2.0


class Look(NamedTuple):
    """Dual value at given bonuses, and pairs for the auction."""

    top: float  # part of D that users contribute: Σ over users of the k largest (s + w)₊
    user_price: Floats  # (n,) the k-th largest (s + w)₊
    keys: Ints  # candidate pairs as numbers user·M + item, ascending and distinct
    values: Float32s  # scores of the candidate pairs


@compiled
def _best_of_users(block: Float32s, w: Floats, capacity: Ints, prices: Floats, best: Ints) -> float:
    """Users' part of D; fills in best items and prices."""
    pairs_per_user = best.shape[1]
    values = np.empty(pairs_per_user + 1, np.float64)
    heap_items = np.empty(pairs_per_user + 1, np.int64)
    total = 0.0
    for row in range(block.shape[0]):
        size = 0
        threshold = -np.inf
        for item in range(block.shape[1]):
            value = block[row, item] + w[item]
            if value > threshold:
                size = keep_largest(values, heap_items, size, pairs_per_user, value, item)
                if size == pairs_per_user:
                    threshold = values[0]
        order = np.argsort(-values[:size], kind="mergesort")
        k = capacity[row]
        for index in range(min(k, size)):
            total += max(values[order[index]], 0.0)
        # A user with an empty position has the price 0, and a user without positions an infinite price.
        prices[row] = max(values[order[k - 1]], 0.0) if 0 < k <= size else (0.0 if k > 0 else np.inf)
        for index in range(pairs_per_user):
            best[row, index] = heap_items[index] if index < size else -1
    return total


@compiled
def _best_of_items(
    block: Float32s, start: int, prices: Floats, sizes: Ints, margins: Floats, users: Ints, thresholds: Floats
) -> None:
    """Keep every item's users of largest score minus price."""
    pairs_per_item = margins.shape[1]
    for row in range(block.shape[0]):
        for item in range(block.shape[1]):
            margin = block[row, item] - prices[row]
            if margin > thresholds[item]:
                sizes[item] = keep_largest(
                    margins[item], users[item], sizes[item], pairs_per_item, margin, start + row
                )
                if sizes[item] == pairs_per_item:
                    thresholds[item] = margins[item, 0]


def look_at(scores: ChunkedScores, w: Floats, capacity: Ints, per_user: int, per_item: int) -> Look:
    """Read all scores once, at the bonuses w.

    Each user keeps the ``per_user`` pairs with the largest s + w (score plus bonus). Each item keeps the
    ``per_item`` pairs with the largest s − u, where u is the user's k-th largest s + w.
    """
    n, m = scores.shape
    per_user = min(per_user, m)
    per_item = min(per_item, n)
    prices = np.empty(n)
    margins = np.empty((m, per_item))
    users = np.full((m, per_item), -1, np.int64)
    sizes = np.zeros(m, np.int64)
    thresholds = np.full(m, -np.inf)
    best_items = np.empty((n, per_user), np.int32)
    best_scores = np.empty((n, per_user), np.float32)
    total = 0.0
    block_rows = max(1, _CELLS // max(m, 1))
    for start in range(0, n, block_rows):
        stop = min(start + block_rows, n)
        block = np.ascontiguousarray(scores.rows(start, stop), np.float32)
        block_items = np.empty((stop - start, per_user), np.int64)
        total += _best_of_users(block, w, capacity[start:stop], prices[start:stop], block_items)
        if per_item:
            _best_of_items(block, start, prices[start:stop], sizes, margins, users, thresholds)
        best_items[start:stop] = block_items
        best_scores[start:stop] = np.take_along_axis(block, np.maximum(block_items, 0), axis=1)
    rows, columns = np.nonzero(best_items >= 0)
    keys = rows * m + best_items[rows, columns]
    user_scores = best_scores[rows, columns]
    items, columns = np.nonzero(users >= 0)
    best_users = users[items, columns]
    margin_scores = (margins[items, columns] + prices[best_users]).astype(np.float32)
    finite = np.isfinite(margin_scores)
    keys = np.concatenate([keys, best_users[finite] * m + items[finite]])
    # A pair can be among the best of its user and of its item.
    keys, first = np.unique(keys, return_index=True)
    pair_scores = np.concatenate([user_scores, margin_scores[finite]])[first]
    admissible = pair_scores > -np.inf
    return Look(top=total, user_price=prices, keys=keys[admissible], values=pair_scores[admissible])


def _guess(scores: ChunkedScores, problem: Problem, ceiling: Floats) -> Floats:
    """(M,) start bonuses, solved for a sample of users."""
    n, m = scores.shape
    if n <= 2 * _SAMPLE:
        return np.zeros(m)
    run_length = _SAMPLE // _BLOCKS
    starts = np.linspace(0, n - run_length, _BLOCKS).astype(np.int64)
    users = (starts[:, None] + np.arange(run_length)).ravel()
    runs = [np.asarray(scores.rows(int(start), int(start) + run_length), np.float32) for start in starts]
    sampled_scores = np.concatenate(runs)
    sampled_share = len(users) / n
    min_exposure = np.ceil(problem.min_exposure * sampled_share).astype(np.int64)
    max_exposure = np.maximum(np.ceil(problem.max_exposure * sampled_share).astype(np.int64), min_exposure)
    pairs = dense_pairs(sampled_scores)
    state = no_holdings(pairs, problem.capacity[users], min_exposure, max_exposure, ceiling, np.zeros(m))
    return -auction(pairs, state, tol=0.05, tie_seed=0, epsilon=0.0).item_price


def _largest_score(scores: ChunkedScores, *, of_all: bool) -> float:
    """Largest absolute score, over all users or the first user."""
    n = scores.shape[0]
    largest_score = 0.0
    for start in range(0, n if of_all else min(n, 1), _ROWS):
        block = np.asarray(scores.rows(start, min(start + _ROWS, n)), np.float64)
        if np.isnan(block).any() or (block == np.inf).any():
            raise ModelError(
                "solve_dual: rows() returned a score that is not a number. Expected finite numbers or −inf"
            )
        largest_score = max(largest_score, float(np.abs(block[np.isfinite(block)]).max(initial=0.0)))
    return largest_score


def solve_in_chunks(
    problem: Problem, scores: ChunkedScores, bonus: Floats | None, tol: float, tie_seed: int
) -> DualSolution:
    """Solution that reads all scores in blocks.

    Raises:
        InfeasibleError: If the final slates miss hard floors.
        ModelError: If the scorer returns numbers that are not scores.
    """
    n, m = scores.shape
    hard = np.isinf(problem.cost)
    ceiling = problem.bonus_ceiling(_largest_score(scores, of_all=bool(hard.any())))
    w = _guess(scores, problem, ceiling) if bonus is None else bonus
    per_user = int(_PER_USER * problem.capacity.max(initial=0)) + 8
    per_item = int(_PER_ITEM * problem.min_exposure.max(initial=0)) + 16 if problem.min_exposure.any() else 0
    keys = np.empty(0, np.int64)
    values = np.empty(0, np.float32)
    best_w = w
    best_price = np.zeros(n)
    best_dual = np.inf
    solution: DualSolution | None = None
    epsilon = 0.0
    for n_looks in range(_LOOKS):
        look = look_at(scores, w, problem.capacity, per_user, per_item)
        dual = (
            look.top
            - float(np.maximum(w, 0.0) @ problem.min_exposure)
            + float(np.maximum(-w, 0.0) @ problem.max_exposure)
        )
        if dual < best_dual:
            best_w = w
            best_price = look.user_price
            best_dual = dual
        if solution is not None:
            gap = (best_dual - solution.primal) / abs(best_dual) if best_dual else abs(solution.primal)
            solution = dataclasses.replace(
                solution, item_price=-best_w + 0.0, user_price=best_price, dual=best_dual, gap=gap
            )
            is_unmet = hard & (solution.exposure < problem.min_exposure)
            if (gap <= tol and not is_unmet.any()) or n_looks == _LOOKS - 1:
                break
        keys, first_index = np.unique(np.concatenate([keys, look.keys]), return_index=True)
        values = np.concatenate([values, look.values])[first_index]
        pairs = sparse_pairs(n, m, keys, values)
        state = no_holdings(
            pairs,
            problem.capacity,
            problem.min_exposure,
            problem.max_exposure,
            ceiling,
            np.minimum(w, ceiling),
        )
        solution = auction(pairs, state, 0.3 * tol, tie_seed, epsilon)  # 0.7·tol is for pairs not yet known
        epsilon = last_epsilon(state, score_of(pairs, state), tol)
        w = -solution.item_price
    if solution is None:
        raise ModelError(
            "solve_dual: no pass over the scores was made. This is a fault of rimsim; please report it"
        )
    return refuse_short(problem, solution, f"after {_LOOKS} looks at all scores")
