"""Scores computed in blocks, and scores of a list of pairs, in place of a matrix."""

from __future__ import annotations

import numpy as np
import pytest
from kit import refused
from scipy.sparse import csr_array
from test_matching_parts import Blocks

from rimsim.errors import ConfigError, InfeasibleError, ModelError
from rimsim.matching import FactorScores, certificate, columns, solve_dual
from rimsim.matching.problem import SparseScores


def factors(seed=0, n=700, m=90, link="exp"):
    """Scores of rank 6 with skewed popularity."""
    draw = np.random.default_rng(seed)
    users, items = draw.standard_normal((n, 6)) * 0.6, draw.standard_normal((m, 6)) * 0.6
    users[:, 0], items[:, 0] = 1.0, draw.standard_normal(m)
    return FactorScores(users.astype(np.float32), items.astype(np.float32), link)


def test_factors_give_the_optimum_of_their_matrix():
    """Few pairs, fed by looks at all scores, reach the value that the whole matrix gives."""
    scores = factors()
    matrix = scores.rows(0, 700)
    floor = np.random.default_rng(1).integers(0, 30, 90)
    chunked = solve_dual(scores, 5, floor, tol=1e-5)
    whole = solve_dual(matrix, 5, floor, tol=1e-7)
    assert chunked.gap <= 1e-5
    assert whole.primal * (1 - 1e-5) <= chunked.primal <= whole.dual * (1 + 1e-6)
    proof = certificate(matrix, chunked.slates, 5, floor, chunked.item_price, None)
    assert proof.items_met == proof.items_required
    assert proof.bound == pytest.approx(chunked.dual, rel=1e-6)


def test_sample_and_blocks_do_not_change_the_promise(monkeypatch):
    """A first guess from a small sample and tiny blocks still end in a certified optimum, with caps and cost."""
    monkeypatch.setattr(columns, "_SAMPLE", 64)
    monkeypatch.setattr(columns, "_CELLS", 1000)
    scores = factors(2)
    cost = 0.5
    end = solve_dual(scores, 4, 20, 60, cost=cost, tol=1e-4)
    proof = certificate(scores, end.slates, 4, 20, end.item_price, cost, max_exposure=60)
    assert proof.gap <= 1.01e-4
    assert proof.excess == 0
    whole = solve_dual(scores.rows(0, 700), 4, 20, 60, cost=cost, tol=1e-6)
    assert proof.value == pytest.approx(whole.primal, rel=2e-4)


def test_certificate_of_chunks_is_that_of_the_matrix():
    """Blocks or matrix, the certificate is the same."""
    scores = factors(3, link="identity")
    matrix = scores.rows(0, 700)
    slates = np.argsort(-matrix, axis=1)[:, :5]
    one = certificate(scores, slates, 5, 3, -0.1, 1.0)
    two = certificate(matrix, slates, 5, 3, -0.1, 1.0)
    assert (one.value, one.bound, one.shortfall) == (two.value, two.bound, two.shortfall)


def test_minus_infinity_hides_a_pair():
    """A scorer excludes pairs by −inf; the solver never shows them."""
    matrix = np.random.default_rng(4).random((60, 12)).astype(np.float32)
    mask = np.random.default_rng(5).random(matrix.shape) < 0.7
    hidden = Blocks(np.where(mask, matrix, -np.inf).astype(np.float32))
    end = solve_dual(hidden, 3, 8, tol=1e-5)
    rows, positions = np.nonzero(end.slates >= 0)
    assert mask[rows, end.slates[rows, positions]].all()
    assert end.primal == pytest.approx(solve_dual(matrix, 3, 8, admissible=mask, tol=1e-7).primal, rel=1e-5)
    refused(ConfigError, "rows\\(\\) returns", solve_dual, hidden, 3, 8, admissible=mask)


def test_floors_that_cannot_be_met_in_chunks():
    """The closed form refuses at once; a mask that only the scorer knows, after looking; no pair, by its item."""
    refused(InfeasibleError, "more than can reach them", solve_dual, factors(), 1, 700)
    blocked = np.ones((20, 4), np.float32)
    blocked[:, 0] = -np.inf
    blocked[:2, 0] = 1.0
    with pytest.raises(InfeasibleError, match="short of their floors") as caught:
        solve_dual(Blocks(blocked), 2, [3, 0, 0, 0])
    assert (caught.value.items, caught.value.shortfall) == ((0,), 1)
    scores, mask, _ = _pairs(0)
    mask[:, 3] = False
    pairs = csr_array((scores[mask], np.nonzero(mask)), shape=mask.shape)
    with pytest.raises(InfeasibleError) as caught:
        solve_dual(pairs, 3, (np.arange(25) == 3).astype(int))
    assert caught.value.items == (3,)


def test_bad_factors_and_scores():
    """Factors of different rank, infinite ones and unknown links are named, as is a score that is no number."""
    refused(ConfigError, r"users have shape \(2, 3\)", FactorScores, np.ones((2, 3)), np.ones((2, 2)))
    refused(ConfigError, "not finite", FactorScores, np.full((2, 2), np.inf), np.ones((2, 2)))
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
        found = solve_dual(scores, 1, [3, 0], cost=1000.0)
        assert found.primal == pytest.approx(2.0 - 1000.0)
        assert found.shortfall == 1
        assert found.dual >= found.primal - 1e-9


@pytest.mark.parametrize("cost", [None, 2.0])
def test_floors_are_met_whatever_users_are_looked_at_first(cost):
    """Users with tiny scores come first: bonuses are measured against the scores of all."""
    matrix = np.random.default_rng(0).random((600, 6)).astype(np.float32)
    matrix[:256] *= 1e-4
    floor = np.array([560, 0, 0, 0, 0, 0])
    whole = solve_dual(matrix, 1, floor, cost=cost)
    for scores in (*_ways(matrix), Blocks(matrix[::-1].copy())):
        found = solve_dual(scores, 1, floor, cost=cost)
        assert found.shortfall == 0
        assert found.primal == pytest.approx(whole.primal, rel=1e-3)


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
    floor = np.random.default_rng(seed).integers(0, 4, 25)
    cap = floor + np.random.default_rng(seed + 1).integers(2, 6, 25)
    one = solve_dual(pairs, 3, floor, cap, cost=0.7, tol=1e-4)
    other = solve_dual(scores, 3, floor, cap, admissible=mask, cost=0.7, tol=1e-4)
    assert one.gap <= 1e-4
    assert one.primal == pytest.approx(other.primal, rel=2e-4)
    assert (one.exposure <= cap).all()
    shown = one.slates >= 0
    assert mask[np.nonzero(shown)[0], one.slates[shown]].all()
    proof = certificate(pairs, one.slates, 3, floor, one.item_price, 0.7, max_exposure=cap)
    assert proof.value == pytest.approx(one.primal, rel=1e-6)
    assert proof.bound == pytest.approx(one.dual, rel=1e-6)
    assert proof.excess == 0
    again = solve_dual(pairs, 3, floor, cap, cost=0.7, tol=1e-4, prices=one.item_price)
    assert again.primal == pytest.approx(one.primal, rel=2e-4)


def test_rows_of_a_list_of_pairs_are_those_of_the_matrix():
    """Any users' scores, −∞ for pairs that are not there; pairs are numbered user by user."""
    scores, mask, pairs = _pairs(2, 7, 5)
    found, dense = SparseScores(pairs, "here"), np.where(mask, scores, -np.inf)
    assert found.shape == (7, 5)
    for start in range(7):
        for stop in range(start, 8):
            assert found.rows(start, stop).tolist() == dense[start:stop].tolist()
    assert found.keys().tolist() == np.flatnonzero(mask).tolist()
    assert found.values.tolist() == scores[mask].tolist()
