"""Prices and slates over a list of pairs against the same problem with a mask."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from rimsim.errors import ConfigError, InfeasibleError
from rimsim.matching import certificate, solve_dual
from rimsim.matching.problem import SparseScores


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


def test_floors_beyond_the_pairs_are_refused():
    """A hard floor that no pair can serve is named."""
    scores, mask, _ = _pairs(0)
    mask[:, 3] = False
    row, item = np.nonzero(mask)
    with pytest.raises(InfeasibleError) as caught:
        solve_dual(
            csr_array((scores[row, item], (row, item)), shape=mask.shape), 3, (np.arange(25) == 3).astype(int)
        )
    assert caught.value.items == (3,)


def test_a_score_that_is_no_number_is_named():
    """The message names user and item."""
    bad = csr_array((np.array([1.0, np.nan]), ([0, 2], [1, 4])), shape=(3, 5))
    with pytest.raises(ConfigError, match="user 2 and item 4"):
        solve_dual(bad, 1)
