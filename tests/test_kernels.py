"""Compiled pieces of the market against what they stand for, in plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rimsim.agents.contract import top_k
from rimsim.market.slates import shown_of
from rimsim.market.truth import log_shares
from rimsim.matching._best import best_rows


@pytest.mark.parametrize("rank", [1, 7, 8, 9, 16, 31, 128, 200])
def test_log_shares_are_the_products_of_each_pair(rank):
    """Each shown pair gets ⟨a, c⟩ + d − log Z, whatever else is in the batch; the rest gets −inf."""
    draw = np.random.default_rng(rank)
    a, c = draw.normal(size=(20, rank)), draw.normal(size=(90, rank))
    d, z = draw.normal(size=90), draw.normal(size=20)
    users, slates = draw.integers(20, size=33), draw.integers(90, size=(33, 6))
    shown = draw.random((33, 6)) < 0.8
    out, alone = np.empty((33, 6)), np.empty((1, 6))
    log_shares(users, slates, shown, a, c, d, z, out)
    want = (a[users[:, None]] * c[slates]).sum(-1) + d[slates] - z[users[:, None]]
    np.testing.assert_allclose(out[shown], want[shown], rtol=1e-13, atol=1e-13)
    assert (out[~shown] == -np.inf).all()
    for row in range(33):
        log_shares(users[row : row + 1], slates[row : row + 1], shown[row : row + 1], a, c, d, z, alone)
        assert (alone[0] == out[row]).all()


@pytest.mark.parametrize("levels", [3, 40, 10**6])
@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_best_rows_are_those_of_a_sort_and_ties_are_told(levels, share):
    """Rows without ties equal a full sort; those with a tie among the best or at their end are marked, no others."""
    draw = np.random.default_rng(levels)
    scores = (draw.integers(levels, size=(50, 333)) / 7).astype(np.float32)
    admissible = draw.random((50, 333)) < share
    items = np.empty((50, 9), np.int64)
    tied = best_rows(scores, admissible, items)
    for row in range(50):
        allowed = np.flatnonzero(admissible[row])
        order = allowed[np.argsort(-scores[row][allowed], kind="stable")]
        values = scores[row][order[:10]]
        assert tied[row] == (len(np.unique(values)) < len(values))
        assert (items[row] == -1).sum() == max(0, 9 - len(order))
        if not tied[row]:
            assert items[row][items[row] >= 0].tolist() == order[:9].tolist()


def test_top_k_of_tied_rows_is_the_same_in_any_batch():
    """Rows full of equal scores get one slate of best items, alone or among others."""
    draw = np.random.default_rng(1)
    scores = torch.from_numpy((draw.integers(4, size=(40, 200)) / 4).astype(np.float32))
    admissible = torch.from_numpy(draw.random((40, 200)) < 0.9)
    together = top_k(scores, admissible, 7)
    for row in range(40):
        assert (top_k(scores[row : row + 1], admissible[row : row + 1], 7)[0] == together[row]).all()
        best = np.sort(scores[row][admissible[row]].numpy())[::-1][:7]
        assert scores[row].numpy()[together[row]].tolist() == best.tolist()
        assert admissible[row].numpy()[together[row]].all()


def test_shown_of_empties_what_is_repeated_outside_or_inadmissible():
    """Only the first showing of an admissible item stays, with its intensity; the rest is empty."""
    admissible = np.array([[True, True, False, True]])
    relevance = np.array([[0.5, 0.25, 0.0, 0.25]], np.float32)
    items = np.array([[3, 3, 2, -1, 4, 0]])
    shown, intensity = shown_of(items, admissible, relevance, np.array([2.0], np.float32))
    assert shown.tolist() == [[3, -1, -1, -1, -1, 0]]
    np.testing.assert_array_equal(intensity, np.float32([[0.5, np.nan, np.nan, np.nan, np.nan, 1.0]]))
