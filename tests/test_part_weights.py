"""Weights of the parts of a score: against loops over users and items, and where a slate tells more than the tail."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from rimsim.intensity.selection.held_out import HeldOut
from rimsim.intensity.selection.shrinkage import for_all, for_slates, unlikelihood, unlikelihood_of_answers
from rimsim.testing import random_log


@pytest.fixture(scope="module")
def held():
    """Users of a small log who came back."""
    return HeldOut.of(random_log(n_users=80), "30min", 0)


@pytest.fixture
def parts(held):
    """A part of each user's own, which knows something, and one for all."""
    noise = np.random.default_rng(3).normal(size=held.taken.shape)
    popular = np.log(held.taken.sum(0) + 1.0)
    return (noise + held.taken).astype(np.float32), popular.astype(np.float32)


def _loop_over_all(held, logits):
    found = []
    for row, taken in zip(np.where(held.consumed, -np.inf, logits), held.taken, strict=True):
        found += (row - np.log(np.exp(row).sum()))[taken > 0].tolist()
    return -np.mean(found)


def _loop_over_shown(held, logits, shown):
    found = []
    for n, row in enumerate(np.where(held.consumed, -np.inf, logits)):
        p, number = np.exp(row) / np.exp(row).sum(), held.taken[n].sum()
        for item in np.flatnonzero(shown[n]):
            missed = np.exp(-number * p[item])
            found.append(np.log(1 - missed if held.taken[n, item] else missed))
    return -np.mean(found)


def test_the_best_of_a_slate_are_the_best_and_their_ties(held):
    """What is shown is no worse than the tenth unconsumed item; where all tie, all are shown, and all count alike."""
    logits = np.random.default_rng(0).normal(size=held.taken.shape)
    for n, shown in enumerate(held.best(logits, 4)):
        left = np.flatnonzero(~held.consumed[n])
        first = left[np.argsort(-logits[n, left])[:4]]
        np.testing.assert_array_equal(np.flatnonzero(shown), np.sort(first))
        assert held.precision(logits, 4)[n] == pytest.approx(held.taken[n, first].mean())
    flat = np.zeros(held.taken.shape[1])
    np.testing.assert_array_equal(held.best(flat), ~held.consumed)
    expected = held.taken.sum(1) / (~held.consumed).sum(1)
    np.testing.assert_allclose(held.precision(flat), expected)


@pytest.mark.parametrize("answers", [False, True])
def test_the_losses_are_sums_and_their_slopes_are_slopes(held, parts, answers, monkeypatch):
    """Both losses are what loops over users and items say, and their slopes are numerical derivatives.

    They are so whether a part is one row for all or a row for each, and however many rows are computed at once.
    """
    wide = [np.broadcast_to(part, held.taken.shape) for part in parts]
    shown = held.best(parts[1]) | held.best(parts[0])
    loss = unlikelihood_of_answers(held, parts, shown) if answers else unlikelihood(held, parts)
    for weights in np.array([[0.5, 0.5], [0.0, 1.0], [1.3, 0.2]]):
        logits = weights[0] * wide[0].astype(float) + weights[1] * wide[1]
        brute = _loop_over_shown(held, logits, shown) if answers else _loop_over_all(held, logits)
        value, slope = loss(weights)
        assert value == pytest.approx(brute, rel=1e-5)
        np.testing.assert_allclose(slope, approx_fprime(weights, lambda w: loss(w)[0], 1e-2), atol=0.02)
        monkeypatch.setattr("rimsim.intensity.selection.shrinkage._NEAR", 3 * held.taken.shape[1])
        again = unlikelihood_of_answers(held, wide, shown) if answers else unlikelihood(held, wide)
        assert again(weights)[0] == value
        np.testing.assert_array_equal(again(weights)[1], slope)


def test_who_takes_thousands_takes_what_is_shown(held, parts):
    """Where more is expected of an item than a number can hold the exponential of, nothing warns, and its pull is 0."""
    many = dataclasses.replace(held, taken=held.taken * 1e5)
    shown = (many.taken > 0) & (np.arange(many.taken.shape[1]) == many.taken.argmax(1)[:, np.newaxis])
    loss = unlikelihood_of_answers(many, parts, shown)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, slope = loss(np.zeros(2))
    assert value == pytest.approx(0.0, abs=1e-12)
    assert np.abs(slope).max() < 1e-9


@pytest.mark.parametrize("weighted", [for_all, for_slates])
def test_the_weights_are_at_the_optimum(held, parts, weighted):
    """No nearby weights do better, by loops over users and items; a slate is the one that the weights recommend."""
    weights = weighted(held, parts)

    def brute(w):
        if weighted is for_all:
            return _loop_over_all(held, w[0] * parts[0] + w[1] * parts[1])
        shown = held.best(parts[1]) | held.best(
            np.float32(weights[0]) * parts[0] + np.float32(weights[1]) * parts[1]
        )
        return _loop_over_shown(held, w[0] * parts[0] + w[1] * parts[1], shown)

    for step in ([0.1, 0], [-0.1, 0], [0, 0.1], [0, -0.1]):
        assert brute(weights) <= brute(np.maximum(weights + step, 0)) + 1e-4


def test_slates_say_what_the_tail_hides():
    """Where popularity is steeper among first items than in the tail, weights for slates foretell the ten best.

    Those for all that was taken fall short of it.
    """
    source, users, items = np.random.default_rng(1), 400, 300
    popular = -np.log(np.arange(1.0, items + 1)).astype(np.float32)
    p = np.exp(np.where(np.arange(items) < 10, 1.0, 0.2) * popular)
    p[:10] *= 0.4 / p[:10].sum()
    p[10:] *= 0.6 / p[10:].sum()
    taken = (source.random((users, items)) < -np.expm1(-8 * p)).astype(np.float32)
    held = HeldOut.of(random_log(n_users=80), "30min", 0)
    held = dataclasses.replace(held, consumed=np.zeros((users, items), bool), taken=taken)
    held = dataclasses.replace(held, states=held.states.take(np.zeros(users, np.int64)))

    def foretold(weighted):
        q = np.exp(weighted(held, (popular,))[0] * popular)
        return -np.expm1(-taken.sum(1)[:, None] * (q / q.sum())[:10]).mean()

    actual = taken[:, :10].mean()
    assert foretold(for_slates) == pytest.approx(actual, rel=0.1)
    assert abs(foretold(for_all) - actual) > 2 * abs(foretold(for_slates) - actual)
