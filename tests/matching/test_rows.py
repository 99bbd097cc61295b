"""Rows over items: groups, audiences, floors and caps, against linear programmes."""

import dataclasses

import numpy as np
import pytest
from kit import cases, refused
from kit.problems import between, proven, random_problem, relaxed, solved

from rimsim.errors import ConfigError, InfeasibleError
from rimsim.matching import Rows, certificate, solve_dual, solve_prices

ROW_PROBLEMS = 120


def exposure_of(slates, weights, rows, number):
    """Σ w of what the users of a row are shown of its items."""
    total = 0.0
    for x, slate in enumerate(slates):
        if rows.active is None or rows.active[x, number]:
            for r, y in enumerate(slate):
                if y >= 0 and y in rows.item[rows.first[number] : rows.first[number + 1]]:
                    total += weights[r]
    return total


def groups_of(sizes, items, floors, caps=None, cost=None, active=None):
    """Rows of given sizes."""
    number = len(sizes)
    first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    item = np.asarray(items, np.int64)
    caps = np.full(number, np.inf) if caps is None else np.asarray(caps, float)
    cost = np.full(number, np.inf) if cost is None else np.asarray(cost, float)
    return Rows(first, item, np.asarray(floors, float), caps, cost, active)


def random_rows(seed):
    """A problem of items, and one to three rows over it: groups, audiences, floors (hard or for sale) and caps."""
    draw = np.random.default_rng(10_000 + seed)
    scores, capacity, weights, floor, cap, admissible, cost = random_problem(seed)
    n, m = scores.shape
    groups = int(draw.integers(1, 4))
    if seed % 3 == 0:
        weights = np.ones(len(weights))
        floor = 0.5 * np.floor(2 * floor)
        cap = None if cap is None else 0.5 * np.ceil(2 * cap)
    sizes = draw.integers(1, m + 1, groups)
    item = np.concatenate([draw.permutation(m)[:size] for size in sizes])
    active = draw.random((n, groups)) < 0.6 if draw.random() < 0.6 else None
    rows = groups_of(sizes, item, np.zeros(groups), active=active)
    # What some slates give the rows: those of the best items at random prices, by which whole slates can keep bounds.
    problem = (scores, capacity, weights, floor, cap, admissible, cost)
    start = solved((scores + 0.3 * draw.standard_normal(scores.shape) * np.ptp(scores), *problem[1:]))
    delivered = np.array([exposure_of(start.slates, weights, rows, g) for g in range(groups)])
    for_sale = draw.random(groups) < (0.4 if cost is None else 0.8)
    floors = np.where(
        for_sale, delivered * draw.uniform(0.8, 2.0, groups), delivered * draw.uniform(0.2, 0.7, groups)
    )
    caps = np.where(draw.random(groups) < 0.4, np.maximum(delivered, floors) * 1.3 + 0.2, np.inf)
    costs = np.where(for_sale, draw.random(groups) * 2 * np.abs(scores).max(), np.inf)
    return problem, dataclasses.replace(rows, min_exposure=floors, max_exposure=caps, cost=costs)


@pytest.mark.parametrize("seed", range(ROW_PROBLEMS))
def test_between_slates_and_linear_programme_with_rows(seed):
    """V ≤ optimum ≤ D, D is within 10⁻³ of the optimum, the gap is the certificate's, and bounds of rows hold."""
    problem, rows = random_rows(seed)
    solution, proof = between(problem, relaxed(*problem, rows), rows)
    assert np.array_equal(proof.row_price, solution.row_price)
    for g, exposure in enumerate(proof.row_exposure):
        assert exposure == pytest.approx(exposure_of(solution.slates, problem[2], rows, g), abs=1e-12)
        assert exposure <= rows.max_exposure[g] + 1e-9
        assert np.isfinite(rows.cost[g]) or exposure >= rows.min_exposure[g] - 1e-9


@pytest.mark.parametrize("seed", range(0, ROW_PROBLEMS, 10))
def test_prices_from_a_start_that_is_far_off(seed):
    """D is within 10⁻³ of the linear programme's optimum whatever prices the search is told to start from."""
    problem, rows = random_rows(seed)
    scores = problem[0]
    best = relaxed(*problem, rows)
    far = np.random.default_rng(seed).standard_normal(scores.shape[1]) * 5 * np.ptp(scores)
    solution = solved(problem, solve_prices, prices=far, rows=rows)
    assert best - 1e-8 <= solution.dual <= best + 1e-3 * max(1.0, abs(best))


@pytest.mark.parametrize("weights", [None, np.round(0.85 ** np.arange(5) * 2**20) / 2**20])
def test_campaigns_and_audiences_where_there_are_many_states(weights):
    """Hard rows of groups and audiences, and caps, are kept, and whole slates come near the bound."""
    draw = np.random.default_rng(2)
    scores = np.exp(draw.standard_normal((400, 60)) + 1.5 * draw.standard_normal(60)).astype(np.float32)
    total = 400 * (5.0 if weights is None else weights.sum())
    active = np.ones((400, 3), bool)
    active[:200, 1] = False
    active[:, 2] = draw.random(400) < 0.3
    items = [*range(20), *range(10, 30), *range(50, 60)]
    floors = [0.7 * total, 0.2 * total, 0.0]
    caps = [np.inf, np.inf, 0.002 * total]
    cost = [np.inf, np.inf, 0.0]
    rows = groups_of([20, 20, 10], items, floors, caps, cost, active)
    solution = solve_dual(scores, 5, position_weights=weights, rows=rows)
    assert solution.gap <= 2e-3
    counts = np.ones(5) if weights is None else weights
    exposures = [exposure_of(solution.slates, counts, rows, g) for g in range(3)]
    assert exposures[0] >= 0.7 * total
    assert exposures[1] >= 0.2 * total
    assert exposures[2] <= 0.002 * total
    assert solution.row_price[0] < 0 < solution.row_price[2]
    start = np.concatenate([solution.item_price, solution.row_price])
    warm = solve_dual(scores, 5, position_weights=weights, rows=rows, prices=start)
    assert warm.dual <= solution.dual * (1 + 1e-12)
    raised = np.maximum(solution.row_price, 0.5)  # no exposure can be too much for a row without a cap
    arguments = scores, solution.slates, 5, 0, solution.item_price, None
    assert certificate(*arguments, position_weights=weights, rows=rows, row_price=raised).row_price[0] == 0.0


def test_the_missing_share_is_of_the_floors_of_items_and_rows():
    """By hand: both users see item 0, so item 1 lacks its exposure, and the row of both items 3 of its 5."""
    rows = groups_of([2], [0, 1], [5.0], cost=[1.0])
    arguments = np.ones((2, 2)), [[0], [0]], 1, [0, 1], 0.0, 1.0
    proof = certificate(*arguments, position_weights=[1.0], rows=rows)
    assert proof.shortfall == pytest.approx(1 + 3)
    assert proof.shortfall_share == pytest.approx((1 + 3) / (1 + 5))


def test_a_row_that_is_active_for_nobody_changes_nothing():
    """Slates and prices of items are those without the row; its floor is missed."""
    draw = np.random.default_rng(3)
    scores = draw.random((40, 10))
    weights = np.array([1.0, 0.5])
    rows = groups_of([3], [0, 1, 2], [5.0], cost=[2.0], active=np.zeros((40, 1), bool))
    plain = solve_dual(scores, 2, 3.25, cost=0.5, position_weights=weights)
    solution = solve_dual(scores, 2, 3.25, cost=0.5, position_weights=weights, rows=rows)
    assert solution.shortfall == pytest.approx(plain.shortfall + 5.0)
    assert solution.dual == pytest.approx(plain.dual - 10.0, abs=2e-3)
    proof = proven((scores, 2, weights, 3.25, None, None, 0.5), solution, rows)
    assert proof.row_exposure.tolist() == [0.0]
    assert proof.value == pytest.approx(solution.primal)


@cases(
    "change message",
    ({"first": np.array([0, 2])}, "rows.first"),
    ({"first": np.array([0, 2, 1, 3])}, "rows.first"),
    ({"first": np.array([1, 3])}, "rows.first"),
    ({"item": np.array([0, 1, 9])}, "rows.item"),
    ({"item": np.array([0, 1, 1])}, "twice"),
    ({"min_exposure": np.array([-1.0])}, "rows.min_exposure"),
    ({"max_exposure": np.array([0.5])}, "at most rows.max_exposure"),
    ({"active": np.ones((2, 1), bool)}, "rows.active"),
)
def test_rows_that_do_not_fit(change, message):
    """What does not fit is named, and a hard row that asks for more than its audience can be shown."""
    rows = dataclasses.replace(groups_of([3], [0, 1, 2], [1.0]), **change)
    refused(ConfigError, message, solve_dual, np.ones((6, 5)), 2, rows=rows)
    active = np.arange(6)[:, None] < 2
    far = groups_of([3], [0, 1, 2], [4.5], active=active)
    refused(InfeasibleError, "rows 0", solve_dual, np.ones((6, 5)), 2, rows=far)
