"""The price solver beyond its optimum: scale, ties, starts, infeasible floors and wrong arguments."""

import numpy as np
import pytest
import torch
from kit import cases, refused
from kit.problems import popular_scores

from rimsim.errors import ConfigError, InfeasibleError
from rimsim.matching import (
    Rows,
    certificate,
    price_slates,
    solve_dual,
)
from rimsim.matching.solution import violated_items, violated_items_of_all


@pytest.mark.parametrize("factor", [2.0, 3.0, 0.1, 1e-12, 1e12])
def test_scaling_scores_scales_prices(factor):
    """Scores in another unit give the same slates, and prices and value in that unit."""
    scores = popular_scores()
    plain = solve_dual(scores, 5, 4, tol=1e-6)
    scaled = solve_dual(factor * scores, 5, 4, tol=1e-6)
    assert np.array_equal(plain.slates, scaled.slates)
    assert scaled.item_price == pytest.approx(factor * plain.item_price, rel=1e-3)
    assert scaled.primal == pytest.approx(factor * plain.primal, rel=1e-12)
    assert scaled.gap == pytest.approx(plain.gap)
    assert solve_dual(factor * scores, 5, 4, position_weights=0.9 ** np.arange(5)).gap <= 2e-3


def test_ties_favour_nobody():
    """Equal scores are broken by seed, not by index."""
    solution = solve_dual(np.ones((200, 20)), 5, 0)
    assert solution.exposure[:10].sum() < 0.6 * solution.exposure.sum()
    assert not np.array_equal(solution.slates, solve_dual(np.ones((200, 20)), 5, 0, tie_seed=1).slates)


@pytest.mark.parametrize("weights", [None, 0.9 ** np.arange(5)])
def test_identical_rows_are_spread(weights):
    """Clones are one state; every hard floor is met, and slates differ among them."""
    scores = np.repeat(popular_scores(9)[:1], 300, axis=0)
    floor = 12 if weights is None else 10.0
    solution = solve_dual(scores, 5, floor, position_weights=weights, tol=1e-3)
    assert weights is not None or solution.gap <= 1e-3
    assert solution.exposure.min() >= floor
    assert len(np.unique(np.sort(solution.slates, axis=1), axis=0)) > 10


@pytest.mark.parametrize("cost", [None, 40.0])
def test_prices_far_too_high_are_no_start(cost):
    """Bonuses that pay more beyond floors than slates are worth are given up: bytes are those of no prices at all."""
    scores = popular_scores(11, 60, 30)
    cold = solve_dual(scores, 5, 4, cost=cost)
    warm = solve_dual(scores, 5, 4, cost=cost, prices=np.full(30, -50.0))
    near = solve_dual(scores, 5, 4, cost=cost, prices=1.1 * cold.item_price)
    assert warm.slates.tobytes() == cold.slates.tobytes()
    assert warm.item_price.tobytes() == cold.item_price.tobytes()
    assert near.item_price.tobytes() != cold.item_price.tobytes()


@pytest.mark.parametrize("weights", [None, 0.8 ** np.arange(5)])
def test_the_solver_is_deterministic_and_takes_tensors(weights):
    """The same call gives the same bytes; scores and mask may be tensors, or the mask −inf among the scores."""
    first, second = (
        solve_dual(popular_scores(13), 5, 4, 30, cost=0.5, position_weights=weights) for _ in range(2)
    )
    assert first.item_price.tobytes() == second.item_price.tobytes()
    assert first.slates.tobytes() == second.slates.tobytes()
    scores = popular_scores(14).astype(np.float32)
    mask = np.random.default_rng(15).random(scores.shape) < 0.9
    from_arrays = solve_dual(scores, 5, 3, admissible=mask)
    from_tensors = solve_dual(torch.tensor(scores), 5, 3, admissible=torch.tensor(mask))
    from_infinities = solve_dual(np.where(mask, scores, -np.inf), 5, 3)
    assert np.array_equal(from_arrays.slates, from_tensors.slates)
    assert from_arrays.slates.tobytes() == from_infinities.slates.tobytes()


@pytest.mark.parametrize("shape", [(0, 2), (3, 2)])
def test_infeasible_floors_name_a_set_and_the_shortfall(shape):
    """Three items that two users may see cannot have three exposures each; without pairs whole floors are lacking."""
    with pytest.raises(InfeasibleError) as caught:
        solve_dual(np.ones(shape), 1, [10**10, 0], admissible=np.zeros(shape, bool))
    assert (caught.value.items, caught.value.shortfall) == ((0,), 10**10)
    mask = np.ones((6, 5), bool)
    mask[2:, :3] = False
    with pytest.raises(InfeasibleError, match="floors of 3 items") as caught:
        solve_dual(np.ones((6, 5)), 2, [2, 2, 2, 0, 0], admissible=mask)
    assert (caught.value.items, caught.value.shortfall) == ((0, 1, 2), 2)


def test_closed_form_of_feasibility_agrees_with_the_flow():
    """Without a mask, the Gale-Ryser condition and the maximum flow lack the same number of exposures."""
    draw = np.random.default_rng(16)
    for _ in range(200):
        n, m = draw.integers(1, 7, 2)
        capacity = draw.integers(0, m + 1, n)
        floor = draw.integers(0, n + 2, m)
        items, deficit = violated_items_of_all(floor, capacity)
        assert deficit == violated_items(np.ones((n, m), bool), floor, capacity)[1]
        reach = np.minimum(capacity, len(items)).sum()
        assert floor[items].sum() - reach == deficit


def test_empty_problems():
    """No users, no items and no positions are problems too."""
    assert solve_dual(np.empty((0, 3)), 2).slates.shape == (0, 0)
    assert solve_dual(np.empty((3, 0)), 2).primal == 0.0
    assert solve_dual(np.ones((3, 2)), 0).exposure.tolist() == [0, 0]
    for scores in (np.empty((0, 3)), np.empty((3, 0)), np.ones((2, 3))):
        mask = np.zeros(scores.shape, bool)
        solution = solve_dual(scores, 2, admissible=mask, position_weights=[1.0, 0.5])
        assert (solution.primal, solution.dual, (solution.slates >= 0).any()) == (0.0, 0.0, False)


@pytest.mark.parametrize("n", [0, 3])
def test_floors_that_no_user_can_meet_have_their_cost_as_bonus(n):
    """Two soft floors of one exposure, missing at 0.5 each, are worth −1, and the certified gap is 0."""
    weighted = {"position_weights": [1.0, 0.5], "admissible": np.zeros((n, 2), bool)}
    solution = solve_dual(np.zeros((n, 2)), 2, 1, cost=0.5, **weighted)
    assert solution.item_price.tolist() == [-0.5, -0.5]
    assert (solution.primal, solution.dual, solution.gap) == (-1.0, -1.0, 0.0)


@cases(
    "solve change message",
    (solve_dual, {"tol": 0.0}, "tol is 0.0"),
    (solve_dual, {"tol": -1e-3}, "tol is -0.001"),
    (solve_dual, {"tol": float("nan")}, "tol is nan"),
    (solve_dual, {"prices": np.zeros(3)}, r"prices have shape \(3,\)"),
    (solve_dual, {"min_exposure": 0.5}, "min_exposure holds 0.5"),
    (solve_dual, {"max_exposure": [[1]]}, r"max_exposure has shape \(1, 1\)"),
    (price_slates, {"k": -1}, "k is -1"),
    (price_slates, {"tie_width": -0.1}, "tie_width is -0.1"),
    (price_slates, {"admissible": np.ones((1, 1))}, r"admissible has shape \(1, 1\)"),
    (price_slates, {"row_keys": np.arange(3)}, r"row_keys have shape \(3,\)"),
    (price_slates, {"scores": np.ones(2)}, r"scores have shape \(2,\)"),
)
def test_bad_arguments(solve, change, message):
    """A wrong argument is named with what was found."""
    defaults = {"capacity": 1} if solve is solve_dual else {"v": 0.0, "k": 1}
    refused(ConfigError, message, solve, **({"scores": np.ones((2, 2))} | defaults | change))


@cases("floor cap largest smallest", (2.75, 9.0, 9.0, 3.0), (1.0, 4.4, 4.0, 1.0), (1.25, 1.25, 1.0, 1.0))
def test_bounds_between_whole_positions_are_kept(floor, cap, largest, smallest):
    """Where all positions count one half, exposures are multiples of it within floors and caps, soft or hard."""
    cost = None if smallest >= floor else 1.0
    solution = solve_dual(np.ones((40, 8)), 2, floor, cap, cost=cost, position_weights=[0.5, 0.5])
    assert solution.exposure.max() <= largest
    assert solution.exposure.min() >= smallest


@pytest.mark.parametrize("size", [5, 16, (4, 1)])
def test_prices_to_start_from_are_of_items_or_of_items_and_rows(size):
    """One price an item, or one a row besides; another shape, or what is no finite number, is refused."""
    rows = Rows(np.array([0, 2, 3]), np.array([0, 1, 2]), *np.array([[1.0, 0.0], [9.0, 9.0], [1.0, 1.0]]))
    for good in (4, 6):
        solve_dual(np.ones((5, 4)), 2, 1, rows=rows, prices=np.zeros(good))
    for wrong in (np.zeros(size), np.full(4, np.nan), np.full(6, np.inf)):
        message = r"^solve_dual: prices have shape .*. Expected \(4,\) finite numbers"
        refused(ConfigError, message, solve_dual, np.ones((5, 4)), 2, 1, rows=rows, prices=wrong)


@cases("items named", (3, r"\(0, 1, 2\)"), (10, r"8, 9\)"), (11, r"8, 9, …\)"))
def test_what_cannot_be_asked_for_is_refused_or_not_shown(items, named):
    """Ten items are named and more said to be; a misspelt keyword is refused; caps of 0 leave slates empty."""
    refused(InfeasibleError, named, solve_dual, np.ones((2, items)), 1, 1)
    for call in (
        solve_dual,
        lambda *arguments, **options: certificate(arguments[0], [[0]], 1, 0, 0.0, None, **options),
    ):
        message = "unexpected keyword argument 'position_weight'"
        refused(TypeError, message, call, np.ones((1, 2)), 1, position_weight=[1.0])
    solution = solve_dual(np.full((4, 3), 0.5), 3, 0, 0, position_weights=[1.0, 0.8, 0.5])
    assert (solution.slates == -1).all()
    assert (solution.primal, solution.dual) == (0.0, pytest.approx(0.0, abs=1e-9))
