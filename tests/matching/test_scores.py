"""Scores in blocks, as factors and as pairs, against the matrix of the same scores."""

import numpy as np
import pytest
from kit import calls_of, cases, refused
from scipy.sparse import csr_array

from rimsim.errors import ConfigError, InfeasibleError, ModelError
from rimsim.matching import FactorScores, certificate, columns, solve_dual
from rimsim.matching.problem import SparseScores


class Blocks:
    """A matrix behind the protocol of a scorer, which counts its rows as they are asked for."""

    def __init__(self, matrix):
        self.matrix = matrix
        self.shape = matrix.shape
        self.n_rows_read = 0

    def rows(self, start, stop):
        """Some rows."""
        self.n_rows_read += stop - start
        return self.matrix[start:stop]


@pytest.mark.parametrize("cells", [1, 40, 10_000])
@cases("per_user per_item", (1, 1), (3, 4), (3, 0), (7, 9), (50, 50))
def test_a_look_finds_the_best_pairs_of_users_and_of_items(per_user, per_item, cells, monkeypatch):
    """Top sums, users' prices and the pairs are those of full sorts, whatever the blocks."""
    monkeypatch.setattr(columns, "_CELLS", cells)
    draw = np.random.default_rng(per_user)
    scores = draw.normal(size=(9, 7)).astype(np.float32)
    scores[draw.random((9, 7)) < 0.2] = -np.inf
    w = draw.normal(size=7)
    capacity = np.minimum(draw.integers(0, 4, 9), per_user)
    scores[np.argmax(capacity), 1:] = -np.inf  # one user may be shown fewer items than fit
    look = columns.look_at(Blocks(scores), w, capacity, per_user, per_item)
    value = scores + w
    keys = set()
    prices = []
    top = 0.0
    for user in range(9):
        order = [item for item in np.argsort(-value[user]) if value[user, item] > -np.inf]
        keys |= {user * 7 + int(item) for item in order[:per_user]}
        k = capacity[user]
        top += sum(max(value[user, item], 0.0) for item in order[:k])
        prices.append(np.inf if k == 0 else max(value[user, order[k - 1]], 0.0) if k <= len(order) else 0.0)
    margin = scores - np.array(prices)[:, None]
    for item in range(7):
        order = [user for user in np.argsort(-margin[:, item]) if margin[user, item] > -np.inf]
        keys |= {int(user) * 7 + item for user in order[:per_item]}
    assert look.top == pytest.approx(top)
    assert look.user_price.tolist() == pytest.approx(prices)
    assert look.keys.tolist() == sorted(keys)
    assert look.values == pytest.approx(scores.reshape(-1)[look.keys], rel=1e-6)


@pytest.mark.parametrize("cost", [1e-3, None])
@pytest.mark.parametrize("floor", [0, 1, 5])
def test_looks_end_when_the_gap_is_small_enough(cost, floor):
    """Floors that cost little, or hard ones that are met, are certified after two looks, of nobody's best item too."""
    scores = Blocks(np.random.default_rng(0).random((60, 12)).astype(np.float32))
    assert solve_dual(scores, 3, 1, cost=cost, tol=0.05).gap <= 0.05
    assert scores.n_rows_read == (1 + 2) * 60  # once for the largest score
    matrix = np.random.default_rng(1).random((60, 40)).astype(np.float32)
    matrix[:, 7] *= 0.01
    scores = Blocks(matrix)
    solution = solve_dual(scores, [3] * 59 + [1], floor * (np.arange(40) == 7), tol=0.05)
    assert solution.exposure[7] == floor
    assert scores.n_rows_read == (1 + 2) * 60


@pytest.mark.parametrize("looks", [2, 3])
def test_the_last_look_ends_the_search(looks, monkeypatch):
    """Where the gap stays too large, there are as many looks as are allowed."""
    monkeypatch.setattr(columns, "_LOOKS", looks)
    scores = Blocks(np.random.default_rng(0).normal(size=(60, 12)).astype(np.float32) / 3)
    solution = solve_dual(scores, 3, 15, cost=2.0, tol=1e-300)
    assert scores.n_rows_read == (1 + looks) * 60
    assert solution.gap > 0


@cases("users is_sampled", (256, False), (600, True))
def test_many_users_are_guessed_from_a_few_of_them(users, is_sampled, monkeypatch):
    """The first look is at bonuses of a sample, with floors and caps scaled down: near those of all users."""
    looks = calls_of(monkeypatch, columns, "look_at")
    monkeypatch.setattr(columns, "_SAMPLE", 128)
    draw = np.random.default_rng(4)
    matrix = (draw.gamma(1.0, 1.0, (users, 12)) * np.geomspace(0.1, 3, 12)).astype(np.float32)
    bounds = users // 5, np.linspace(users // 4, users, 12).astype(int)
    scores = Blocks(matrix)
    assert solve_dual(scores, 3, *bounds, cost=4.0, tol=0.01).gap <= 0.01
    assert scores.n_rows_read == 256 + 128 * is_sampled + len(looks) * users
    expected = -solve_dual(matrix, 3, *bounds, cost=4.0, tol=1e-4).item_price
    assert np.ptp(expected) > 1.0
    assert looks[0]["w"] == pytest.approx(expected if is_sampled else np.zeros(12), abs=1.2 * is_sampled)


def factors(seed=0, n=700, m=90, link="exp"):
    """Scores of rank 6 with skewed popularity."""
    draw = np.random.default_rng(seed)
    users = draw.standard_normal((n, 6)) * 0.6
    items = draw.standard_normal((m, 6)) * 0.6
    users[:, 0] = 1.0
    items[:, 0] = draw.standard_normal(m)
    return FactorScores(users.astype(np.float32), items.astype(np.float32), link)


def test_factors_give_the_optimum_of_their_matrix():
    """Few pairs, fed by looks at all scores, reach the value that the whole matrix gives."""
    scores = factors()
    matrix = scores.rows(0, 700)
    floor = np.random.default_rng(1).integers(0, 30, 90)
    chunked = solve_dual(scores, 5, floor, tol=1e-5)
    of_matrix = solve_dual(matrix, 5, floor, tol=1e-7)
    assert chunked.gap <= 1e-5
    assert of_matrix.primal * (1 - 1e-5) <= chunked.primal <= of_matrix.dual * (1 + 1e-6)
    proof = certificate(matrix, chunked.slates, 5, floor, chunked.item_price, None)
    assert proof.items_met == proof.items_required
    assert proof.bound == pytest.approx(chunked.dual, rel=1e-6)


def test_floors_that_cannot_be_met_in_chunks():
    """The closed form refuses at once; a mask that only the scorer knows, after looking; no pair, by its item."""
    refused(InfeasibleError, "allow [0-9]+ fewer", solve_dual, factors(), 1, 700)
    blocked = np.ones((20, 4), np.float32)
    blocked[:, 0] = -np.inf
    blocked[:2, 0] = 1.0
    with pytest.raises(InfeasibleError, match="below their floors") as caught:
        solve_dual(Blocks(blocked), 2, [3, 0, 0, 0])
    assert (caught.value.items, caught.value.shortfall) == ((0,), 1)
    scores, mask, _ = _pairs(0)
    mask[:, 3] = False
    pairs = csr_array((scores[mask], np.nonzero(mask)), shape=mask.shape)
    with pytest.raises(InfeasibleError) as caught:
        solve_dual(pairs, 3, (np.arange(25) == 3).astype(int))
    assert caught.value.items == (3,)


def test_bad_factors_and_scores():
    """Factors that do not fit and a score that is no number are named; a scorer hides pairs by −∞, not by a mask."""
    mask = np.ones((4, 3), bool)
    refused(ConfigError, r"rows\(\) return", solve_dual, Blocks(np.ones((4, 3))), 1, 1, admissible=mask)
    refused(ConfigError, r"users have shape \(2, 3\)", FactorScores, np.ones((2, 3)), np.ones((2, 2)))
    refused(ConfigError, "an infinite number or NaN", FactorScores, np.full((2, 2), np.inf), np.ones((2, 2)))
    refused(ConfigError, "link is 'log'", FactorScores, np.ones((2, 2)), np.ones((2, 2)), "log")
    refused(ModelError, "not a number", solve_dual, Blocks(np.full((4, 3), np.nan, np.float32)), 1, 1)
    bad = csr_array((np.array([1.0, np.nan]), ([0, 2], [1, 4])), shape=(3, 5))
    refused(ConfigError, "user 2 and item 4", solve_dual, bad, 1)


def _ways(matrix):
    """The same scores as a matrix, in blocks and as pairs."""
    return matrix, Blocks(matrix), csr_array(matrix)


def test_a_cost_far_above_all_scores_is_charged_whole():
    """What a missing exposure costs is never replaced by less: value, bound and gap are those of the matrix."""
    matrix = np.array([[1.0, 0.5], [1.0, 0.5]], np.float32)
    for scores in _ways(matrix):
        solution = solve_dual(scores, 1, [3, 0], cost=1000.0)
        assert solution.primal == pytest.approx(2.0 - 1000.0)
        assert solution.shortfall == 1
        assert solution.dual >= solution.primal - 1e-9


@pytest.mark.parametrize("cost", [None, 2.0])
def test_floors_are_met_whatever_users_are_looked_at_first(cost):
    """Users with tiny scores come first: bonuses are measured against the scores of all."""
    matrix = np.random.default_rng(0).random((600, 6)).astype(np.float32)
    matrix[:256] *= 1e-4
    floor = np.array([560, 0, 0, 0, 0, 0])
    of_matrix = solve_dual(matrix, 1, floor, cost=cost)
    for scores in (*_ways(matrix), Blocks(matrix[::-1].copy())):
        solution = solve_dual(scores, 1, floor, cost=cost)
        assert solution.shortfall == 0
        assert solution.primal == pytest.approx(of_matrix.primal, rel=1e-3)


def _pairs(seed, n=60, m=25, share=0.3):
    draw = np.random.default_rng(seed)
    mask = draw.random((n, m)) < share
    mask[0] = False
    scores = draw.random((n, m)).astype(np.float32) * mask
    scores[1, np.flatnonzero(mask[1])[:1]] = 0.0  # a pair of value 0 is a pair
    row, item = np.nonzero(mask)
    return scores, mask, csr_array((scores[row, item], (row, item)), shape=(n, m))


@pytest.mark.parametrize("seed", range(6))
def test_a_list_of_pairs_is_a_matrix_with_a_mask(seed):
    """Value, bound and certificate are those of the masked matrix within the tolerance; caps hold exactly."""
    scores, mask, pairs = _pairs(seed)
    stored = SparseScores(pairs, "here")
    dense = np.where(mask, scores, -np.inf)
    assert (stored.rows(0, 60) == dense).all()
    assert (stored.rows(7, 31) == dense[7:31]).all()
    assert stored.keys().tolist() == np.flatnonzero(mask).tolist()
    assert stored.values.tolist() == scores[mask].tolist()
    floor = np.random.default_rng(seed).integers(0, 4, 25)
    cap = floor + np.random.default_rng(seed + 1).integers(2, 6, 25)
    solution = solve_dual(pairs, 3, floor, cap, cost=0.7, tol=1e-4)
    of_matrix = solve_dual(scores, 3, floor, cap, admissible=mask, cost=0.7, tol=1e-4)
    assert solution.gap <= 1e-4
    assert solution.primal == pytest.approx(of_matrix.primal, rel=2e-4)
    assert (solution.exposure <= cap).all()
    shown = solution.slates >= 0
    assert mask[np.nonzero(shown)[0], solution.slates[shown]].all()
    proof = certificate(pairs, solution.slates, 3, floor, solution.item_price, 0.7, max_exposure=cap)
    assert proof.value == pytest.approx(solution.primal, rel=1e-6)
    assert proof.bound == pytest.approx(solution.dual, rel=1e-6)
    assert proof.excess == 0
    restarted = solve_dual(pairs, 3, floor, cap, cost=0.7, tol=1e-4, prices=solution.item_price)
    assert restarted.primal == pytest.approx(solution.primal, rel=2e-4)
