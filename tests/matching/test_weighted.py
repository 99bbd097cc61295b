"""Prices, slates and certificates against linear programmes (SciPy's HiGHS): positions, weights, rows of items."""

import dataclasses
from functools import partial

import numpy as np
import pytest
from kit import cases, refused
from kit.problems import relaxed, skewed

from rimsim.errors import ConfigError, InfeasibleError
from rimsim.matching import FactorScores, Rows, certificate, ordered_by, solve_dual, solve_prices

INSTANCES = 200


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


@pytest.mark.parametrize("seed", range(INSTANCES))
def test_between_slates_and_linear_programme(seed):
    """V ≤ optimum ≤ D, the gap is the certificate's, and D, of prices alone too, is within 10⁻³ of the optimum."""
    problem = random_problem(seed)
    best = relaxed(*problem)
    solution, proof = between(problem, best)
    assert proof.gap == pytest.approx(solution.gap, abs=1e-8)
    assert np.array_equal(proof.exposure, solution.exposure)
    floor = problem[3]
    cost = problem[6]
    scale = max(1.0, abs(best))
    assert cost is not None or proof.shortfall == 0
    for for_bound in (False, True):
        alone = solved(problem, solve_prices, tol=1e-4, for_bound=for_bound)
        assert best - 1e-8 * scale <= alone.dual <= best + 1e-3 * scale
        assert (alone.item_price[floor == 0] >= 0).all()
        assert cost is None or (alone.item_price >= -cost).all()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("favour", [0.0, 2.0, 3.0])
def test_the_least_bound_is_found_from_wherever_the_search_begins(seed, favour):
    """Prices of 0, of −c and at random lead to one D, with many more items than positions too.

    Where D alone is wanted, it is as near as was asked for. Steps that were held back once passed for the end of the
    search, up to 1.5% above it.
    """
    n = 250
    m = 800
    weights = 0.85 ** np.arange(10)
    draw = np.random.default_rng(seed)
    logit = 0.3 * draw.standard_normal((n, 8)) @ draw.standard_normal((8, m)) + draw.standard_normal(m)
    first = np.argsort(-logit, axis=1)[:, :10]
    favoured = np.take_along_axis(logit, first, axis=1) + favour * draw.random((n, 10))
    np.put_along_axis(logit, first, favoured, axis=1)
    marks = np.exp(logit)
    size = np.exp(0.7 * draw.standard_normal((n, 1)))
    scores = (size * marks / marks.sum(axis=1, keepdims=True)).astype(np.float32)
    cost = 2 * float(np.median(np.sort(scores, axis=1)[:, -10]))
    admissible = draw.random((n, m)) < 0.8
    floor = np.full(m, 0.5 * weights.sum() * n / m)
    options = {"admissible": admissible, "cost": cost, "position_weights": weights}
    solve = partial(solve_prices, scores, 10, floor, **options)
    starts = (None, np.full(m, -cost), -cost * draw.random(m))
    duals = [solve(prices=start).dual for start in starts]
    assert max(duals) <= (1 + 1e-4) * min(duals)
    assert max(solve(prices=start, for_bound=True).dual for start in starts) <= (1 + 1e-3) * min(duals)


def market(seed=0, n=150, m=60):
    """Skewed scores of float32, a mask, and a cost of twice the median fifth score."""
    draw = np.random.default_rng(seed)
    scores = skewed(draw, n, m).astype(np.float32)
    cost = 2.0 * float(np.median(np.partition(scores, m - 5, axis=1)[:, m - 5]))
    return scores, draw.random((n, m)) < 0.85, cost


def decay(gamma, k):
    """γ^(r−1) in multiples of 2⁻²⁰."""
    return np.round(gamma ** np.arange(k) * 2**20) / 2**20


def test_warm_start_from_the_solution_stops_at_once():
    """The prices that were found are enough: no Newton step is made, and D and the slates are the same."""
    scores, mask, price = market(n=300)
    weights = decay(0.9, 5)
    solve = partial(solve_dual, scores, 5, 0.6 * 300 * weights.sum() / 60)
    solve = partial(solve, admissible=mask, cost=price, position_weights=weights)
    cold = solve()
    warm = solve(prices=cold.item_price)
    assert warm.item_price.tobytes() == cold.item_price.tobytes()
    assert warm.dual == cold.dual
    assert max(cold.gap, warm.gap) <= 1e-3


@pytest.mark.parametrize("unit", [1.0, 0.5, 0.3])
@pytest.mark.parametrize("hard", [True, False])
def test_equal_weights_are_the_problem_without(unit, hard):
    """Equal weights give the slates and prices of none to the bit, and value and exposure in that unit."""
    scores, mask, price = market(3)
    floor = np.arange(60) % 9
    price = None if hard else price
    units = (1, None), (unit, np.full(5, unit))
    problems = [(scores, 5, w, u * floor, u * 40, mask, price) for u, w in units]
    plain, equal = map(solved, problems)
    assert plain.slates.tobytes() == equal.slates.tobytes()
    assert plain.item_price.tobytes() == equal.item_price.tobytes()
    assert (equal.primal, equal.dual, equal.gap) == (unit * plain.primal, unit * plain.dual, plain.gap)
    assert np.array_equal(equal.exposure, unit * plain.exposure)
    assert (plain.exposure.dtype, equal.exposure.dtype == np.float64) == (np.int64, unit != 1.0)
    plain_proof, equal_proof = (proven(problem, plain) for problem in problems)
    assert (equal_proof.value, equal_proof.bound, equal_proof.gap) == (
        unit * plain_proof.value,
        unit * plain_proof.bound,
        plain_proof.gap,
    )
    assert (equal_proof.shortfall, equal_proof.items_met) == (
        unit * plain_proof.shortfall,
        plain_proof.items_met,
    )


def test_certificate_by_hand():
    """Scores, exposures and the top sum all count the weight of the position."""
    scores = np.array([[3.0, 1.0], [2.0, 1.5]])
    arguments = scores, [[0, 1], [1, 0]], 2, [0.0, 1.75], [0.0, -0.75], 1.0
    proof = certificate(*arguments, position_weights=[1.0, 0.5])
    assert proof.score == 3.0 + 0.5 + 1.5 + 1.0
    assert (proof.exposure.tolist(), (proof.shortfall, proof.value)) == ([1.5, 1.5], (0.25, 5.75))
    assert proof.bound == (3.0 + 0.875) + (2.25 + 1.0) - 0.75 * 1.75
    half = certificate(scores, [[0, 1], [1, 0]], 2, [0, 1.5], 0.0, 1.0, position_weights=[0.5, 0.5])
    assert (half.exposure.tolist(), half.shortfall, half.value) == ([1.0, 1.0], 0.5, 3.25)


@cases("floor weights", (1.81, [1.0, 0.5]), (3, None))
def test_floors_beyond_reach_are_named_by_the_function_that_was_called(floor, weights):
    """Items that two users may see cannot have more than they can give; prices that do not fit are refused too."""
    mask = np.ones((6, 5), bool)
    mask[2:, :3] = False
    with pytest.raises(InfeasibleError, match="more exposure than") as caught:
        solve_dual(np.ones((6, 5)), 2, [1.2, 1.2, 1.2, 0, 0], admissible=mask, position_weights=[1.0, 0.5])
    assert caught.value.items == (0, 1, 2)
    assert caught.value.shortfall == pytest.approx(0.6)
    refused(InfeasibleError, "more expos", solve_dual, np.ones((6, 5)), 2, 1.81, position_weights=[1.0, 0.5])
    for solve, name in ((solve_dual, "^solve_dual: "), (solve_prices, "^solve_prices: ")):
        refused(InfeasibleError, name, solve, np.ones((6, 5)), 2, floor, position_weights=weights)
        options = {"position_weights": weights, "prices": [0.0]}
        refused(ConfigError, f"{name}prices have shape", solve, np.ones((6, 5)), 2, **options)


@cases(
    "weights message",
    ([1.0], "capacity is 2"),
    ([0.5, 1.0], "above the weight before"),
    ([1.0, 0.5, 0.51], "above the weight before"),
    ([1.0, 0.0], "positive"),
)
def test_weights_that_do_not_fit(weights, message):
    """Weights are positive numbers, do not rise, and cover every position."""
    refused(ConfigError, message, solve_dual, np.ones((3, 4)), 2, 0.5, position_weights=weights)
    refused(ConfigError, "positive", solve_dual, np.ones((3, 4)), 2, 0.5, position_weights=[weights])


def test_scores_in_chunks_are_not_solved_in_weights():
    """The solver says that it needs a matrix."""
    factors = FactorScores(np.ones((20, 3), np.float32), np.ones((8, 3), np.float32))
    for solver in (solve_dual, solve_prices):
        refused(ConfigError, "chunks", solver, factors, 2, 2.25, cost=1.0, position_weights=[1.0, 0.5])


def test_order_of_scores():
    """Slates in order of their scores: ties as they came, empty positions last."""
    scores = np.array([[0.1, 0.9, 0.5, 0.5], [0.4, 0.3, 0.2, 0.1]])
    assert ordered_by([[3, 0, 2, 1], [3, -1, 0, -1]], scores).tolist() == [[1, 3, 2, 0], [0, 3, -1, -1]]


# the large ones have more items than the auction caches pairs of a user
PLAIN = 180
LARGE = 12


def random_instance(seed):
    """One small problem; the seed chooses sizes, kinds of scores, floors, caps, masks and costs."""
    draw = np.random.default_rng(seed)
    n = int(draw.integers(1, 14))
    m = int(draw.integers(1, 10))
    if seed >= PLAIN:
        n = int(draw.integers(30, 40))
        m = int(draw.integers(20, 40))
    scores = scores_of(draw, seed % 6, n, m, skew=3)
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


@pytest.mark.parametrize("seed", range(PLAIN + LARGE))
def test_optimum_of_highs(seed):
    """Slates are worth the optimum of the linear programme, D never falls below it, and constraints hold."""
    scores, capacity, floor, cap, admissible, cost = random_instance(seed)
    problem = scores, capacity, None, floor, cap, admissible, cost
    best = relaxed(*problem)
    if best is None:
        with pytest.raises(InfeasibleError) as caught:
            solved(problem, tol=1e-7)
        pairs = np.ones(scores.shape, bool) if admissible is None else admissible
        items = list(caught.value.items)
        reach = np.minimum(capacity, pairs[:, items].sum(axis=1)).sum()
        assert floor[items].sum() - reach == caught.value.shortfall > 0
        return
    solution, proof = between(problem, best, tol=1e-7)
    scale = max(1.0, abs(best))
    assert solution.primal == pytest.approx(best, abs=1e-6 * scale)
    value = np.where(True if admissible is None else admissible, scores - solution.item_price, 0.0)
    best = np.pad(-np.sort(-np.maximum(value, 0.0), axis=1), ((0, 0), (1, 0)), constant_values=np.inf)
    last = np.minimum(capacity, scores.shape[1])
    full = last > 0
    assert solution.user_price[full] == pytest.approx(best[full, last[full]], abs=1e-9 * scale)
    assert cost is not None or proof.shortfall == 0


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
