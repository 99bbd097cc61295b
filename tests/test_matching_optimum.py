"""The price solver against an independent linear programme (SciPy's HiGHS)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linprog

from rimsim.errors import InfeasibleError
from rimsim.matching import certificate, solve_dual

INSTANCES, LARGE = 240, 12  # the large ones have more items than the auction caches pairs of a user


def random_instance(seed):
    """One small problem; the seed chooses sizes, kinds of scores, floors, caps, masks and costs."""
    draw = np.random.default_rng(seed)
    n, m = int(draw.integers(1, 14)), int(draw.integers(1, 10))
    if seed >= INSTANCES:
        n, m = int(draw.integers(30, 40)), int(draw.integers(20, 40))
    kind = seed % 6
    if kind == 0:
        scores = draw.random((n, m))
    elif kind == 1:
        scores = draw.integers(0, 3, (n, m)).astype(float)  # ties and zeros
    elif kind == 2:
        scores = np.full((n, m), 0.5)  # all equal
    elif kind == 3:
        scores = np.exp(3 * draw.standard_normal((n, 1)) + 3 * draw.standard_normal(m))  # heavy skew
    elif kind == 4:
        scores = np.repeat(draw.random((1, m)), n, axis=0)  # clones
    else:
        scores = draw.standard_normal((n, m))  # negative ones too
    capacity = draw.integers(0, m + 1, n) if draw.random() < 0.4 else np.full(n, draw.integers(1, m + 1))
    admissible = draw.random((n, m)) < 0.75 if draw.random() < 0.5 else None
    style = draw.integers(4)
    if style == 0:
        floor = np.zeros(m, int)
    elif style == 1:
        floor = np.full(m, int(capacity.sum() // m))  # tight
    else:
        floor = draw.integers(0, max(1, n // 2) + 1, m)
    cap = None
    if draw.random() < 0.5:
        cap = floor + draw.integers(0, 3, m) if draw.random() < 0.7 else floor.copy()
    cost = None if draw.random() < 0.5 else float(draw.random() * 2 * np.abs(scores).max())
    return scores, capacity, floor, cap, admissible, cost


def linear_programme(scores, capacity, floor, cap, admissible, cost):
    """The optimum by HiGHS, None if infeasible; shortfall is a variable where it has a price."""
    n, m = scores.shape
    users = sparse.kron(sparse.eye(n), np.ones((1, m)))
    items = sparse.kron(np.ones((1, n)), sparse.eye(m))
    rows = [sparse.hstack([users, sparse.csr_matrix((n, m))]), sparse.hstack([-items, -sparse.eye(m)])]
    right = [np.minimum(capacity, m), -floor]
    if cap is not None:
        rows.append(sparse.hstack([items, sparse.csr_matrix((m, m))]))
        right.append(cap)
    upper = np.ones(n * m) if admissible is None else admissible.ravel().astype(float)
    slack = np.zeros(m) if cost is None else np.full(m, np.inf)
    price = 0.0 if cost is None else cost
    result = linprog(
        -np.concatenate([scores.ravel(), np.full(m, -price)]),
        A_ub=sparse.vstack(rows).tocsr(),
        b_ub=np.concatenate(right),
        bounds=np.column_stack([np.zeros(n * m + m), np.concatenate([upper, slack])]),
        method="highs",
    )
    return -result.fun if result.status == 0 else None


@pytest.mark.parametrize("seed", range(INSTANCES + LARGE))
def test_optimum_of_highs(seed):
    """Slates are worth the optimum of the linear programme, D never falls below it, and constraints hold."""
    scores, capacity, floor, cap, admissible, cost = random_instance(seed)
    best = linear_programme(scores, capacity, floor, cap, admissible, cost)
    if best is None:
        with pytest.raises(InfeasibleError) as caught:
            solve_dual(scores, capacity, floor, cap, admissible=admissible, cost=cost, tol=1e-7)
        pairs = np.ones(scores.shape, bool) if admissible is None else admissible
        items = list(caught.value.items)
        reach = np.minimum(capacity, pairs[:, items].sum(axis=1)).sum()
        assert floor[items].sum() - reach == caught.value.shortfall > 0
        return
    solution = solve_dual(scores, capacity, floor, cap, admissible=admissible, cost=cost, tol=1e-7)
    scale = max(1.0, abs(best))
    assert solution.primal == pytest.approx(best, abs=1e-6 * scale)
    assert solution.dual >= best - 1e-9 * scale
    proof = certificate(
        scores,
        solution.slates,
        capacity,
        floor,
        solution.item_price,
        cost,
        max_exposure=cap,
        admissible=admissible,
    )
    assert proof.value == pytest.approx(solution.primal, abs=1e-9 * scale)
    assert proof.bound == pytest.approx(solution.dual, abs=1e-9 * scale)
    assert proof.excess == 0
    value = np.where(True if admissible is None else admissible, scores - solution.item_price, 0.0)
    best = np.pad(-np.sort(-np.maximum(value, 0.0), axis=1), ((0, 0), (1, 0)), constant_values=np.inf)
    last = np.minimum(capacity, scores.shape[1])
    full = last > 0
    assert solution.user_price[full] == pytest.approx(
        best[np.arange(len(best)), last][full], abs=1e-9 * scale
    )
    assert proof.shortfall == solution.shortfall
    assert cost is not None or proof.shortfall == 0
