"""Problems of matching, and their optimum by a solver of linear programmes."""

import numpy as np
from scipy import sparse
from scipy.optimize import linprog


def skewed(draw, n, m):
    """Scores λ(x)·p(y|x) with heavy popularity skew."""
    logit = 0.3 * draw.standard_normal((n, 8)) @ draw.standard_normal((8, m)) + 2 * draw.standard_normal(m)
    marks = np.exp(logit)
    return np.exp(draw.standard_normal((n, 1))) * marks / marks.sum(axis=1, keepdims=True)


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
