"""Weights of the parts of a score, against loops over users and items; and short logs, of which little is believed."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
from made_logs import log_of
from scipy.optimize import approx_fprime

from rimsim.intensity import EASE, EASEConfig, UserStates
from rimsim.intensity.registry import make
from rimsim.intensity.selection.held_out import HeldOut
from rimsim.intensity.selection.shrinkage import (
    for_all,
    for_slates,
    rescaling,
    unlikelihood,
    unlikelihood_of_answers,
)
from rimsim.market.consumers.truths import fit_truth
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
        best = np.float32(weights[0]) * parts[0] + np.float32(weights[1]) * parts[1]
        shown = held.best(parts[1]) | held.best(best)
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


M = 60
LOGS = [(40, 3.0), (60, 2.0), (200, 2.0)]
"""Users, and how much likelier items of one's own taste are, nats."""


def two_tastes(users, strength):
    """A log in which users of two tastes have three sessions of four items, and the (n, 4) items of a fourth session.

    p(y|u) ∝ exp(b_y + strength·[y is of the taste of u]), without replacement; nearly all users are cut.
    """
    source = np.random.default_rng(1)
    base = source.normal(0, 1, M)
    drawn = []
    for _ in range(users):
        logit = base + strength * (np.arange(M) % 2 == source.integers(2))
        drawn.append(source.choice(M, 16, replace=False, p=np.exp(logit) / np.exp(logit).sum()))
    items = np.array(drawn)
    user, place = np.repeat(np.arange(users), 12), np.tile(np.arange(12), users)
    time = 1e6 + place // 4 * 1e5 + place
    return log_of(user, items[:, :12].ravel(), time, users, M), items[:, 12:]


def nats(log, fresh, scores):
    """Mean log-likelihood of the items of fresh sessions, over what was not consumed before."""
    open_scores = np.asarray(scores, float).copy()
    open_scores[log.user, log.item] = 0.0
    open_scores /= open_scores.sum(1, keepdims=True)
    return np.log(np.take_along_axis(open_scores, fresh, 1)).mean()


@pytest.mark.parametrize(("users", "strength"), LOGS)
def test_nothing_is_much_worse_than_popularity(users, strength):
    """Models and the truth foretell fresh sessions as well as bestsellers, though most of the log was held out."""
    log, fresh = two_tastes(users, strength)
    everyone = np.arange(users)
    states = UserStates.of(log, everyone, log.time[-1] + 9e4)
    bar = nats(log, fresh, make("popularity").fit(log).score(states))
    names = ("bag", "ease", "factors")
    found = {name: nats(log, fresh, make(name, seed=0).fit(log).score(states)) for name in names}
    truth = fit_truth(log, gap="30min", kind="factors")
    found["truth"] = nats(log, fresh, truth.preference(everyone, states))
    assert min(found.values()) > bar - 0.03, (bar, found)


def test_only_a_spread_that_is_larger_by_more_than_a_quarter_counts():
    """The product of weight and spread stays what was chosen; smaller differences change nothing."""
    assert rescaling(2.0, 5.0) == 0.4
    assert rescaling(2.0, 2.5) == rescaling(2.0, 0.1) == rescaling(0.0, 0.0) == 1.0


def test_the_report_says_what_is_used():
    """A model's personal weight is the one that it serves with, and its factor is told beside it."""
    log, _ = two_tastes(40, 3.0)
    held = HeldOut.of(log, "30min", 0)
    model = EASE(EASEConfig(cold_items=False)).fit(log)
    found = model.shrinkage
    (past,), (whole,) = (model._fits(one, (found.strength,), log) for one in (held.past, log))
    spreads = [model._scores(fit, held.states).std() for fit in (past, whole)]
    assert found.rescaling == pytest.approx(spreads[0] / spreads[1], rel=1e-4)
    assert found.rescaling < 0.8
    expected = found.personal * whole["weights"]
    np.testing.assert_allclose(model.served("weights"), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("weighted", [for_all, for_slates])
def test_a_part_that_tells_nothing_apart_and_a_flat_likelihood_give_no_weight(weighted):
    """Scores that differ by rounding errors are not blown up; where nothing else could be taken, nothing is shown."""
    held = HeldOut.of(two_tastes(60, 2.0)[0], "30min", 0)
    popular = np.log(held.taken.sum(0) + 1.0).astype(np.float32)
    (alone,) = weighted(held, (popular,))
    weights = weighted(held, (1e-5 * held.taken, popular))
    assert weights[0] == 0.0
    assert weights[1] == pytest.approx(alone, rel=1e-3)
    taken = np.eye(M, dtype=np.float32)[held.taken.argmax(1)]
    held = dataclasses.replace(held, taken=taken, consumed=taken == 0)
    noise = np.random.default_rng(0).normal(size=(2, *held.taken.shape)).astype(np.float32)
    assert weighted(held, (noise[0], noise[1])).tolist() == [0.0, 0.0]
    assert held.nats(held.log_likelihood(noise[0])) == pytest.approx(0.0, abs=1e-6)
