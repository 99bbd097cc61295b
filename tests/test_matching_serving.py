"""Serving at prices, seeded ties, and required exposures in whole numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kit import refused

import rimsim.matching
from rimsim.errors import ConfigError
from rimsim.matching import price_slates, required_exposure
from rimsim.matching.kernels import row_states, tie_rank
from rimsim.rng import Purpose, bits


def test_only_admissible_items_of_value_are_shown_in_their_order():
    """A slate is the head of the order of s − v where that is at least 0; a float32 tensor gives that of its values."""
    draw = np.random.default_rng(0)
    scores, v = draw.random((50, 30)), -draw.random(30)
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
    whole = price_slates(scores, 0.0, 5, tie_seed=3, row_keys=keys)
    parts = [price_slates(scores[i : i + 1], 0.0, 5, tie_seed=3, row_keys=keys[i : i + 1]) for i in range(40)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert len(np.unique(whole, axis=0)) == 40
    assert not np.array_equal(whole, price_slates(scores, 0.0, 5, tie_seed=4, row_keys=keys))
    keys = np.array([0, 5, -7, 2**40])
    expected = bits(11, Purpose.TIES, keys[:, None], np.arange(6)[None, :])
    states = row_states(11, keys)
    found = [[int(tie_rank(state, item)) for item in range(6)] for state in states]
    assert np.array_equal(np.array(found, np.uint64), expected)


def test_ties_are_broken_fairly_and_a_width_mixes_near_ties_alone():
    """Every tied item is shown about equally often; a dither spreads identical rows over items nearly tied."""
    shown = np.bincount(price_slates(np.ones((4000, 20)), 0.0, 5).ravel(), minlength=20)
    assert abs(shown - 1000).max() < 5 * np.sqrt(1000)
    scores = np.repeat([[1.0, 1.0 + 1e-6, 1.0 - 1e-6, 0.5]], 200, axis=0)
    assert len(np.unique(price_slates(scores, 0.0, 2), axis=0)) == 1
    mixed = price_slates(scores, 0.0, 2, tie_width=1e-3)
    assert set(np.unique(mixed)) == {0, 1, 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": -1}, "k is -1"),
        ({"tie_width": -0.1}, "tie_width is -0.1"),
        ({"admissible": np.ones((1, 1))}, r"admissible has shape \(1, 1\)"),
        ({"row_keys": np.arange(3)}, r"row_keys have shape \(3,\)"),
        ({"scores": np.ones(2)}, r"scores have shape \(2,\)"),
    ],
)
def test_bad_arguments(change, message):
    """A wrong argument is named with what was found."""
    refused(ConfigError, message, price_slates, **{"scores": np.ones((2, 2)), "v": 0.0, "k": 1} | change)


def test_required_exposure_is_whole_and_adds_up():
    """β·n·k is shared out in whole exposures that differ by one at most, among released items only."""
    released = np.arange(50) % 5 != 0
    required = required_exposure(0.5, 203, 10, released, seed=1)
    assert required.sum() == 1015
    assert set(required[released]) == {25, 26}
    assert (required[~released] == 0).all()
    assert not np.array_equal(required, required_exposure(0.5, 203, 10, released, seed=2))
    assert np.array_equal(required, required_exposure(0.5, 203, 10, released, seed=1))


@pytest.mark.parametrize(
    ("share", "n", "k", "released", "expected"),
    [(0.0, 10, 3, 1, 0), (1.0, 10, 3, 1, 6), (1.0, 10, 3, 0, 0), (1.0, 0, 3, 1, 0), (1.0, 10, 0, 1, 0)],
)
def test_required_exposure_at_the_ends(share, n, k, released, expected):
    """β = 0 asks for nothing, β = 1 for the uniform exposure; without items nothing can be asked."""
    there = np.full(5, released, bool)
    assert required_exposure(share, n, k, there, 0).tolist() == [expected] * 5
    refused(ConfigError, r"share is 1\.5", required_exposure, 1.5, n, k, there, 0)
    refused(ConfigError, "n is -1", required_exposure, share, -1, k, there, 0)


def test_public_names():
    """All public names resolve to what they say, `certificate` to the function and not to its module."""
    for name in rimsim.matching.__all__:
        assert getattr(rimsim.matching, name).__name__ == name
    refused(AttributeError, "nothing_like_it", getattr, rimsim.matching, "nothing_like_it")
