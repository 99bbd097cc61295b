"""The price solver beyond its optimum, serving at prices, and certificates that hold for any slates and prices."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import cases, refused
from kit.problems import skewed as skewed_scores

from rimsim.errors import AgentError, ConfigError, InfeasibleError
from rimsim.matching import (
    FactorScores,
    certificate,
    certificates,
    offline_match,
    price_slates,
    required_exposure,
    solve_dual,
    user_rec,
)
from rimsim.matching.kernels import row_states, tie_rank
from rimsim.matching.solution import violated_items, violated_items_of_all
from rimsim.rng import Purpose, bits


def skewed(seed=0, n=120, m=60):
    """Scores with heavy popularity skew."""
    return skewed_scores(np.random.default_rng(seed), n, m)


@pytest.mark.parametrize("factor", [2.0, 3.0, 0.1, 1e-12, 1e12])
def test_scaling_scores_scales_prices(factor):
    """Scores in another unit give the same slates, and prices and value in that unit."""
    scores = skewed()
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
    scores = np.repeat(skewed(9)[:1], 300, axis=0)
    floor = 12 if weights is None else 10.0
    solution = solve_dual(scores, 5, floor, position_weights=weights, tol=1e-3)
    assert weights is not None or solution.gap <= 1e-3
    assert solution.exposure.min() >= floor
    assert len(np.unique(np.sort(solution.slates, axis=1), axis=0)) > 10


@pytest.mark.parametrize("cost", [None, 40.0])
def test_prices_far_too_high_are_no_start(cost):
    """Bonuses that pay more beyond floors than slates are worth are given up: bytes are those of no prices at all."""
    scores = skewed(11, 60, 30)
    cold = solve_dual(scores, 5, 4, cost=cost)
    warm = solve_dual(scores, 5, 4, cost=cost, prices=np.full(30, -50.0))
    near = solve_dual(scores, 5, 4, cost=cost, prices=1.1 * cold.item_price)
    assert warm.slates.tobytes() == cold.slates.tobytes()
    assert warm.item_price.tobytes() == cold.item_price.tobytes()
    assert near.item_price.tobytes() != cold.item_price.tobytes()


@pytest.mark.parametrize("weights", [None, 0.8 ** np.arange(5)])
def test_the_solver_is_deterministic_and_takes_tensors(weights):
    """The same call gives the same bytes; scores and mask may be tensors, or the mask −inf among the scores."""
    first, second = (solve_dual(skewed(13), 5, 4, 30, cost=0.5, position_weights=weights) for _ in range(2))
    assert first.item_price.tobytes() == second.item_price.tobytes()
    assert first.slates.tobytes() == second.slates.tobytes()
    scores = skewed(14).astype(np.float32)
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


@cases(
    "solve change message",
    (solve_dual, {"tol": 0.0}, "tol is 0.0"),
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


def test_offline_online_and_by_item_the_slates_are_those_of_prices():
    """Of frozen prices up to near ties; and for every item the c users of largest intensity, in order."""
    scores = skewed(18)
    offline = offline_match(scores, 5, 4, tol=1e-7)
    online = price_slates(scores, solve_dual(scores, 5, 4, tol=1e-7).item_price, 5)
    is_equal = (np.sort(offline.slates, axis=1) == np.sort(online, axis=1)).all(axis=1)
    assert is_equal.mean() > 0.8
    assert offline.exposure.min() >= 4
    scores = np.random.default_rng(17).random((30, 4))
    users = user_rec(scores, 3)
    assert np.array_equal(users, np.argsort(-scores, axis=0)[:3].T)
    assert np.array_equal(user_rec(scores[:, 0], 3), users[0])
    assert user_rec(scores[:, 0], 3, admissible=np.arange(30) < 2).tolist()[-1] == -1


def test_only_admissible_items_of_value_are_shown_in_their_order():
    """A slate is the head of the order of s − v where that is at least 0; a float32 tensor gives that of its values."""
    draw = np.random.default_rng(0)
    scores = draw.random((50, 30))
    v = -draw.random(30)
    assert np.array_equal(price_slates(scores, v, 7), np.argsort(-(scores - v), axis=1)[:, :7])
    scores = np.array([[0.5, 0.2, 0.0], [0.5, 0.2, 0.9]])
    mask = np.array([[True, True, True], [True, False, False]])
    assert price_slates(scores, [0.0, 0.3, 0.0], 3, admissible=mask).tolist() == [[0, 2, -1], [0, -1, -1]]
    scores = np.random.default_rng(1).random((5, 9)).astype(np.float32)
    v = -np.random.default_rng(2).random(9)
    assert np.array_equal(price_slates(torch.tensor(scores), v, 3), price_slates(scores.astype(float), v, 3))


def test_ties_follow_the_seed_and_the_row_key_alone():
    """A row's slate is the same in any batch and differs between keys and seeds; bits are those of the package."""
    scores = np.ones((40, 25))
    keys = np.arange(100, 140)
    together = price_slates(scores, 0.0, 5, tie_seed=3, row_keys=keys)
    parts = [price_slates(scores[i : i + 1], 0.0, 5, tie_seed=3, row_keys=keys[i : i + 1]) for i in range(40)]
    assert np.array_equal(together, np.concatenate(parts))
    assert len(np.unique(together, axis=0)) == 40
    assert not np.array_equal(together, price_slates(scores, 0.0, 5, tie_seed=4, row_keys=keys))
    keys = np.array([0, 5, -7, 2**40])
    expected = bits(11, Purpose.TIES, keys[:, None], np.arange(6)[None, :])
    states = row_states(11, keys)
    ranks = [[int(tie_rank(state, item)) for item in range(6)] for state in states]
    assert np.array_equal(np.array(ranks, np.uint64), expected)


def test_ties_are_broken_fairly_and_a_width_mixes_near_ties_alone():
    """Every tied item is shown about equally often; a dither spreads identical rows over items nearly tied."""
    shown = np.bincount(price_slates(np.ones((4000, 20)), 0.0, 5).ravel(), minlength=20)
    assert abs(shown - 1000).max() < 5 * np.sqrt(1000)
    scores = np.repeat([[1.0, 1.0 + 1e-6, 1.0 - 1e-6, 0.5]], 200, axis=0)
    assert len(np.unique(price_slates(scores, 0.0, 2), axis=0)) == 1
    mixed = price_slates(scores, 0.0, 2, tie_width=1e-3)
    assert set(np.unique(mixed)) == {0, 1, 2}


def test_required_exposure_is_whole_and_adds_up():
    """β·n·k is shared out in whole exposures that differ by one at most, among released items only."""
    released = np.arange(50) % 5 != 0
    required = required_exposure(0.5, 203, 10, released, seed=1)
    assert (required.sum(), set(required[released])) == (1015, {25, 26})
    assert (required[~released] == 0).all()
    assert not np.array_equal(required, required_exposure(0.5, 203, 10, released, seed=2))
    assert np.array_equal(required, required_exposure(0.5, 203, 10, released, seed=1))


@cases(
    "share n k released expected",
    (0.0, 10, 3, 1, 0),
    (1.0, 10, 3, 1, 6),
    (1.0, 10, 3, 0, 0),
    (1.0, 0, 3, 1, 0),
    (1.0, 10, 0, 1, 0),
)
def test_required_exposure_at_the_ends(share, n, k, released, expected):
    """β = 0 asks for nothing, β = 1 for the uniform exposure; without items nothing can be asked."""
    is_released = np.full(5, released, bool)
    assert required_exposure(share, n, k, is_released, 0).tolist() == [expected] * 5
    refused(ConfigError, r"beta is 1\.5", required_exposure, 1.5, n, k, is_released, 0)
    refused(ConfigError, r"beta is -0\.1", required_exposure, -0.1, n, k, is_released, 0)
    refused(ConfigError, "n is -1", required_exposure, share, -1, k, is_released, 0)


@st.composite
def problems(draw):
    """A small problem with arbitrary admissible slates and arbitrary prices."""
    n = draw(st.integers(1, 6))
    m = draw(st.integers(1, 6))
    k = draw(st.integers(1, m))
    number = st.floats(-10, 10, allow_nan=False, width=32)
    scores = np.array(draw(st.lists(number, min_size=n * m, max_size=n * m))).reshape(n, m)
    flags = st.lists(st.booleans(), min_size=n * m, max_size=n * m)
    admissible = np.array(draw(flags), bool).reshape(n, m)
    slates = np.full((n, k), -1)
    for row in range(n):
        items = draw(st.permutations(list(np.flatnonzero(admissible[row]))))
        size = draw(st.integers(0, min(k, len(items))))
        slates[row, :size] = items[:size]
    floor = np.array(draw(st.lists(st.integers(0, n), min_size=m, max_size=m)))
    price = np.array(draw(st.lists(number, min_size=m, max_size=m)))
    cost = draw(st.floats(0, 20, allow_nan=False))
    return scores, admissible, slates, k, floor, price, cost


@settings(max_examples=300)
@given(problems(), st.integers(0, 2))
def test_bound_holds_for_any_slates_and_prices(case, room):
    """V of any admissible slates is at most D at any prices, clipped into the box or, under caps, of either sign."""
    scores, admissible, slates, k, floor, price, cost = case
    shown = np.bincount(slates[slates >= 0], minlength=scores.shape[1])
    for cap in (None, np.maximum(shown, floor) + room):
        proof = certificate(scores, slates, k, floor, price, cost, max_exposure=cap, admissible=admissible)
        assert proof.value <= proof.bound + 1e-9 * max(1.0, abs(proof.bound))
        assert (proof.price >= -cost).all()
        assert (proof.excess == 0) if cap is not None else (proof.price <= 0).all()


def test_value_and_bound_by_hand():
    """V charges the shortfall, D is the top sum at s − v less w·b; hidden scores count nothing, hard bounds all."""
    scores = np.array([[3.0, 1.0], [2.0, 1.5]])
    proof = certificate(scores, [[0], [0]], 1, [0, 1], [0.0, -0.25], 0.5)
    assert (proof.score, proof.shortfall, proof.value) == (5.0, 1, 4.5)
    assert proof.bound == 3.0 + 2.0 - 0.25
    assert proof.gap == pytest.approx((4.75 - 4.5) / 4.75)
    assert (proof.items_met, proof.items_required, proof.worst_ratio) == (0, 1, 0.0)
    assert (proof.exposure.tolist(), proof.shortfall_share) == ([2, 0], 1.0)
    scores = np.ones((2, 2))
    assert certificate(scores, [[0], [0]], 1, [0, 1], 0.0, None).value == -np.inf
    capped = certificate(scores, [[0], [0]], 1, 0, 0.0, None, max_exposure=[1, 2])
    assert capped.excess == 1
    assert capped.gap == np.inf
    scores = np.array([[np.nan, 1.0], [1e9, 2.0]])
    mask = np.array([[False, True], [False, True]])
    proof = certificate(scores, [[1], [1]], 1, 0, 0.0, None, admissible=mask)
    assert proof.value == proof.bound == 3.0


@cases(
    "slates message",
    ([[0, 0], [1, -1], [-1, -1]], "row 0 shows item 0 twice"),
    ([[0, 2], [1, -1], [-1, -1]], "row 0 shows item 2"),
    ([[0, -2], [1, -1], [-1, -1]], "row 0 shows item -2"),
    ([[-1, -1], [0, 1], [1, -1]], "row 1 shows item 0, which is not admissible"),
    ([[0, 1], [1, -1], [-1, -1]], "row 0 shows 2 items. Expected at most the capacity of this row, 1"),
    ([[0, -1]], r"shape \(1, 2\)"),
)
def test_what_is_no_slate(slates, message):
    """Repeated, unknown and inadmissible items, and more than fit, are named with the first of their rows."""
    mask = np.array([[True, True], [False, True], [True, False]])
    arguments = np.ones((3, 2)), slates, [1 if "capacity" in message else 2, 2, 2], 0, 0.0, None
    refused(AgentError, message, certificate, *arguments, admissible=mask)


@cases(
    "change message",
    ({"min_exposure": 1.5}, "min_exposure holds 1.5"),
    ({"min_exposure": [1, -1]}, "min_exposure holds -1"),
    ({"min_exposure": [1, 2, 3]}, r"min_exposure has shape \(3,\)"),
    ({"capacity": float("nan")}, "capacity holds nan"),
    ({"cost": -1.0}, "cost is -1.0"),
    ({"cost": [1.0, 2.0, 3.0]}, "one per item"),
    ({"cost": [1.0]}, "one per item"),
    ({"cost": [[1.0, 2.0]]}, "one per item"),
    ({"max_exposure": 0, "min_exposure": 1}, "item 0 has min_exposure 1 but max_exposure 0"),
    ({"scores": np.ones(3)}, r"scores have shape \(3,\)"),
    ({"scores": np.array([[1.0, np.nan]])}, "the score of user 0 and item 1 is nan"),
    ({"admissible": np.ones((3, 3))}, r"admissible has shape \(3, 3\)"),
)
def test_bad_arguments_of_a_certificate(change, message):
    """A wrong argument is named with what was found."""
    defaults = {"scores": np.ones((1, 2)), "slates": [[0]], "capacity": 1, "min_exposure": 0, "price": 0.0}
    refused(ConfigError, message, certificate, **({"cost": 1.0} | defaults | change))


@cases("rows starts", (200, [0, 128, 256]), (400, [0]), (100, [0, 100, 200]))
def test_scores_on_demand_are_asked_for_in_the_blocks_they_are_made_in(rows, starts, monkeypatch):
    """A block has 128 rows or a multiple, fewer only where it has no room for as many; value and bound are the same."""
    scores = np.random.default_rng(0).random((300, 20)).astype(np.float32)
    block_starts = []

    class Recorded(FactorScores):
        def rows(self, start, stop):
            block_starts.append(start)
            return scores[start:stop]

    arguments = (np.argsort(-scores, axis=1)[:, :3], 3, np.full(20, 5), np.full(20, -0.5), 1.0)
    in_weights = {"position_weights": [1.0, 0.5, 0.25]}
    of_matrix = [certificate(scores, *arguments, **options) for options in ({}, in_weights)]
    monkeypatch.setattr(certificates, "_CELLS", rows * 20)
    factors = Recorded(np.zeros((300, 1)), np.zeros((20, 1)))
    of_blocks = [certificate(factors, *arguments, **options) for options in ({}, in_weights)]
    assert block_starts == starts * 2
    for block_proof, matrix_proof in zip(of_blocks, of_matrix, strict=True):
        assert (block_proof.value, block_proof.bound) == pytest.approx(
            (matrix_proof.value, matrix_proof.bound), rel=1e-12
        )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_the_bound_is_what_sorting_gives(weighted, precision):
    """D is each user's largest s − v above 0, as many as fit, times their positions' weights, and v·(bounds)."""
    random = np.random.default_rng(3)
    n = 200
    m = 30
    k = 6
    scores = random.normal(size=(n, m)).astype(precision)
    admissible = random.random((n, m)) < 0.7
    capacity = random.integers(0, k + 1, n)
    weights = np.sort(random.random(k))[::-1].copy() if weighted else np.ones(k)
    floor = random.integers(0, 9, m)
    price = -random.random(m)
    value = np.where(admissible, scores.astype(np.float64) - price, -np.inf)
    value = -np.sort(-np.maximum(value, 0.0), axis=1)[:, :k]
    top = (value * weights * (np.arange(k) < capacity[:, None])).sum()
    options = {"admissible": admissible, "position_weights": weights if weighted else None}
    proof = certificate(scores, np.full((n, k), -1), capacity, floor, price, 1.0, **options)
    assert proof.bound == pytest.approx(top + price @ floor, rel=1e-12)
