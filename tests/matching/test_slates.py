"""Slates at given prices: their order, masks and ties."""

import numpy as np
import torch
from kit.problems import popular_scores

from rimsim.matching import (
    offline_match,
    ordered_by,
    price_slates,
    solve_dual,
    user_rec,
)
from rimsim.matching.kernels import row_states, tie_rank
from rimsim.rng import Purpose, bits


def test_offline_online_and_by_item_the_slates_are_those_of_prices():
    """Of frozen prices up to near ties; and for every item the c users of largest intensity, in order."""
    scores = popular_scores(18)
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


def test_slates_without_positions_and_without_users_are_empty():
    """Zero positions give slates of length 0; without users, a solution from start prices is worth 0."""
    assert price_slates(np.ones((4, 3)), 0.0, 0).shape == (4, 0)
    start = np.array([0.0, -0.1, 0.0])
    solution = solve_dual(np.zeros((0, 3)), 2, 0, cost=0.5, prices=start)
    assert solution.slates.shape == (0, 0)
    assert (solution.primal, solution.dual, solution.gap) == (0.0, 0.0, 0.0)
    assert solution.exposure.tolist() == [0, 0, 0]


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


def test_order_of_scores():
    """Slates in order of their scores: ties as they came, empty positions last."""
    scores = np.array([[0.1, 0.9, 0.5, 0.5], [0.4, 0.3, 0.2, 0.1]])
    assert ordered_by([[3, 0, 2, 1], [3, -1, 0, -1]], scores).tolist() == [[1, 3, 2, 0], [0, 3, -1, -1]]
