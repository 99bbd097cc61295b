"""Problems of matching, and their optimum by a solver of linear programmes."""

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linprog

from rimsim.matching import certificate, solve_dual


def skewed(draw, n, m):
    """Scores λ(x)·p(y|x) with heavy popularity skew."""
    logit = 0.3 * draw.standard_normal((n, 8)) @ draw.standard_normal((8, m)) + 2 * draw.standard_normal(m)
    marks = np.exp(logit)
    return np.exp(draw.standard_normal((n, 1))) * marks / marks.sum(axis=1, keepdims=True)


def popular_scores(seed=0, n=120, m=60):
    """(n, m) scores with heavy popularity skew, by a seed."""
    return skewed(np.random.default_rng(seed), n, m)


def relaxed(scores, capacity, weights, floor, cap, admissible, cost, rows=None):
    """The optimum by HiGHS over fractions x[u, y, r] of item y at position r of user u; None if infeasible.

    Without weights all positions of a user are one.
    """
    n, m = scores.shape
    positions = np.minimum(capacity, m) if weights is None else np.ones(n * len(weights))
    weights = np.ones(1) if weights is None else weights
    k = len(weights)
    u, y, r = (index.ravel() for index in np.indices((n, m, k)))
    column = np.arange(n * m * k)

    def block(row, value, height):
        return sparse.csr_matrix((value, (row, column)), shape=(height, len(column)))

    ones = np.ones(len(column))
    of_items = block(y, weights[r], m)
    parts = [(block(u * m + y, ones, n * m), np.ones(n * m)), (block(u * k + r, ones, n * k), positions)]
    lower = [(of_items, floor, np.full(m, np.inf if cost is None else cost))]
    upper = [] if cap is None else [(of_items, cap)]
    for g in range(0 if rows is None else len(rows.min_exposure)):
        active = np.ones(n, bool) if rows.active is None else rows.active[:, g]
        inside = np.isin(y, rows.item[rows.first[g] : rows.first[g + 1]]) & active[u]
        line = sparse.csr_matrix((weights[r] * inside)[np.newaxis])
        lower.append((line, rows.min_exposure[g : g + 1], rows.cost[g : g + 1]))
        if rows.max_exposure[g] < np.inf:
            upper.append((line, rows.max_exposure[g : g + 1]))
    floors = sparse.vstack([line for line, _, _ in lower])
    count = floors.shape[0]
    costs = np.concatenate([charge for _, _, charge in lower])
    matrix = sparse.vstack(
        [sparse.hstack([line, sparse.csr_matrix((line.shape[0], count))]) for line, _ in parts + upper]
        + [sparse.hstack([-floors, -sparse.eye(count)])]
    )
    limits = np.concatenate([bound for _, bound in parts + upper] + [-bound for _, bound, _ in lower])
    allowed = np.ones((n, m), bool) if admissible is None else admissible
    highest = (allowed[u, y] & (r < np.asarray(capacity)[u])).astype(float)
    slack = np.isfinite(costs)
    gains = np.concatenate([scores[u, y] * weights[r], -np.where(slack, costs, 0.0)])
    ends = np.concatenate([highest, np.where(slack, np.inf, 0.0)])
    bounds = np.column_stack([np.zeros(len(highest) + count), ends])
    result = linprog(-gains, matrix.tocsr(), limits, bounds=bounds, method="highs")
    return -result.fun if result.status == 0 else None


def weights_of(draw, k):
    """Weights that fall by a factor, linearly, in steps, or at random; multiples of 2⁻²⁰."""
    kind = draw.integers(4)
    if kind == 0:
        weights = draw.uniform(0.4, 0.95) ** np.arange(k)
    elif kind == 1:
        weights = 1.0 - np.arange(k) / (k + 1)
    elif kind == 2:
        weights = np.where(np.arange(k) < (k + 1) // 2, 1.0, 0.5)
    else:
        weights = np.sort(draw.random(k) + 0.1)[::-1]
    return np.round(weights * 2**20) / 2**20


def scores_of(draw, kind, n, m, skew=2):
    """(n, m) scores: uniform, with ties and zeros, all equal, skewed, of clones, or negative ones too."""
    if kind == 0:
        return draw.random((n, m))
    if kind == 1:
        return draw.integers(0, 3, (n, m)).astype(float)
    if kind == 2:
        return np.full((n, m), 0.5)
    if kind == 3:
        return np.exp(skew * draw.standard_normal((n, 1)) + skew * draw.standard_normal(m))
    return np.repeat(draw.random((1, m)), n, axis=0) if kind == 4 else draw.standard_normal((n, m))


def random_problem(seed):
    """One small problem; the seed chooses sizes, kinds of scores, weights, bounds, masks and costs.

    Hard floors and caps are those of some slates, less (more) a little, so that whole slates can keep them.
    """
    draw = np.random.default_rng(seed)
    n = int(draw.integers(2, 14))
    m = int(draw.integers(2, 10))
    scores = scores_of(draw, seed % 6, n, m)
    k = int(draw.integers(1, min(m, 5) + 1))
    capacity = draw.integers(0, k + 1, n) if draw.random() < 0.4 else np.full(n, k)
    admissible = draw.random((n, m)) < 0.75 if draw.random() < 0.5 else None
    weights = weights_of(draw, k)
    planted = np.zeros(m)
    for x in range(n):
        allowed = np.arange(m) if admissible is None else np.flatnonzero(admissible[x])
        shown = draw.permutation(allowed)[: capacity[x]]
        planted[shown] += weights[: len(shown)]
    hard = draw.random() < 0.5
    floor = planted * draw.uniform(0.3, 0.9) if hard else draw.random(m) * n * weights.sum() / m * 1.5
    floor *= draw.random(m) < 0.8
    cap = np.maximum(planted, floor) * draw.uniform(1.0, 1.5) if draw.random() < 0.4 else None
    cost = None if hard else float(draw.random() * 2 * np.abs(scores).max())
    return scores, capacity, weights, floor, cap, admissible, cost


def solved(problem, solve=solve_dual, **options):
    """A problem as the solver takes it."""
    scores, capacity, weights, floor, cap, mask, cost = problem
    return solve(
        scores, capacity, floor, cap, admissible=mask, cost=cost, position_weights=weights, **options
    )


def proven(problem, solution, rows=None):
    """The certificate of what the solver found."""
    scores, capacity, weights, floor, cap, mask, cost = problem
    options = {} if rows is None else {"rows": rows, "row_price": solution.row_price}
    options |= {"max_exposure": cap, "admissible": mask, "position_weights": weights}
    return certificate(scores, solution.slates, capacity, floor, solution.item_price, cost, **options)


def between(problem, best, rows=None, tol=1e-4):
    """What the solver found and its certificate: V ≤ HiGHS' optimum ≤ D, D within 10⁻³ of it."""
    solution = solved(problem, rows=rows, tol=tol)
    scale = max(1.0, abs(best))
    assert solution.primal <= best + 1e-8 * scale
    assert best - 1e-8 * scale <= solution.dual <= best + 1e-3 * scale
    proof = proven(problem, solution, rows)
    assert proof.value == pytest.approx(solution.primal, abs=1e-9 * scale)
    assert proof.bound == pytest.approx(solution.dual, abs=1e-9 * scale)
    assert proof.excess == 0
    assert proof.shortfall == pytest.approx(solution.shortfall, abs=1e-12)
    return solution, proof
