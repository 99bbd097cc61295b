"""Positions that count differently: equal weights, warm starts, certificates by hand and refusals."""

from functools import partial

import numpy as np
import pytest
from kit import cases, refused
from kit.problems import proven, skewed, solved

from rimsim.errors import ConfigError, InfeasibleError
from rimsim.matching import FactorScores, certificate, solve_dual, solve_prices


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


@cases("start", ("no bonus",), ("largest bonuses",))
def test_bad_start_prices_are_descended_from(start):
    """Whatever the prices at the start, the gap falls within the tolerance, and D is that of a cold start."""
    scores, mask, cost = market()
    weights = decay(0.9, 5)
    solve = partial(solve_dual, scores, 5, 0.6 * 150 * weights.sum() / 60)
    solve = partial(solve, admissible=mask, cost=cost, position_weights=weights)
    cold = solve()
    warm = solve(prices=np.full(60, 0.0 if start == "no bonus" else -cost))
    assert warm.gap <= 1e-3
    assert warm.dual == pytest.approx(cold.dual, rel=1e-3)


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
