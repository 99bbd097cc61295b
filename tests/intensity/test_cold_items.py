"""Items that nobody met: vectors and probabilities by their genres."""

import dataclasses

import numpy as np
import pandas as pd
import torch

from rimsim import intensity
from rimsim.intensity import UserStates
from rimsim.intensity.popularity import fill_cold, item_features
from rimsim.testing import random_log


def test_cold_items_get_the_vectors_of_items_like_them():
    """An item that nobody met gets about the mean vector of its genre, by features of genres and year."""
    year = pd.array([2000, None, 2002], dtype="Int64")
    items = pd.DataFrame({"id": [1, 2, 3], "genres": ["A|B", "B", ""], "year": year})
    expected = [[1, 1, 1, -1, 1], [1, 0, 1, 0, 0], [1, 0, 0, 1, 1]]
    np.testing.assert_allclose(item_features(items), expected)
    log = random_log()
    unmet = log.rows(log.item != 6)
    vectors = torch.zeros((log.n_items, 2))
    bias = torch.zeros(log.n_items)
    is_warm = torch.arange(log.n_items) != 6
    even = torch.arange(log.n_items) % 2 == 0
    vectors[even, 0] = 5.0
    vectors[6] = -9.0
    original = vectors.clone()
    assert fill_cold(vectors, bias, unmet).tolist() == [6]
    assert float((vectors[6] - torch.tensor([5.0, 0.0])).abs().max()) < 0.5
    assert torch.equal(vectors[is_warm], original[is_warm])


def test_a_cold_item_has_a_probability_like_its_genre():
    """After a fit without item 6, users of even items give it a larger p than users of odd items."""
    log = random_log(n_users=200)
    config = intensity.GRUConfig(width=16, epochs=12, learning_rate=0.02, dropout=0.0, patience=0)
    model = intensity.GRU(config).fit(log.rows(log.item != 6))
    plain = intensity.GRU(dataclasses.replace(config, cold_items=False)).fit(log.rows(log.item != 6))
    states = UserStates.of(log.rows(log.item != 6), np.arange(200), log.time[-1] + 1)
    p = model.score(states)[:, 6].cpu().numpy()
    is_long = states.lengths > 5
    even = np.arange(200) % 2 == 0
    assert p[even & is_long].mean() > 1.3 * p[~even & is_long].mean()
    assert p.mean() > 3 * float(plain.score(states)[:, 6].mean())
