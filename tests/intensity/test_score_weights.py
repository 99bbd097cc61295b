"""Weights of the parts of a score, chosen on held-out sessions: losses against loops, optima and what nothing tells."""

import dataclasses
import warnings

import numpy as np
import pytest
from kit.logs import log_of
from scipy.optimize import approx_fprime

from rimsim.intensity import (
    EASE,
    EASEConfig,
    UserStates,
)
from rimsim.intensity.registry import make
from rimsim.intensity.selection import shrinkage
from rimsim.intensity.selection.held_out import HeldOut, Worth
from rimsim.intensity.selection.shrinkage import (
    best_of,
    chosen,
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


def test_the_best_strength_is_chosen_and_noise_is_given_no_weight(held):
    """Of several the one with the most likely labels, an end of the grid is told; scores that mislead weigh 0."""
    popular = np.log(held.taken.sum(0) + 1.0)
    choice = chosen(held, [(1.0, -held.taken), (2.0, -2 * held.taken)], popular, popular)
    assert choice.personal == 0
    assert choice.log_likelihood == pytest.approx(choice.impersonal_log_likelihood, abs=1e-6)
    flat = np.zeros(held.taken.shape[1])
    noise = np.random.default_rng(4).normal(size=held.taken.shape).astype(np.float32)
    good = held.taken + 0.5 * noise
    middle = chosen(held, [(1.0, noise), (2.0, good), (3.0, noise)], flat, flat)
    assert (middle.strength, middle.end_of_grid) == (2.0, False)
    last = chosen(held, [(1.0, noise), (2.0, noise), (3.0, good)], flat, flat)
    assert (last.strength, last.end_of_grid) == (3.0, True)
    assert "an end of the grid" in last.line()


def test_weights_for_slates_are_taken_where_slates_are_told_to_be_better(held, monkeypatch):
    """Of both ways to weigh, the likelihood's is taken unless its slates are worse beyond two standard errors."""
    good = held.taken.copy()
    flat = np.zeros(held.taken.shape[1])
    place = "rimsim.intensity.selection.shrinkage"
    monkeypatch.setattr(f"{place}.for_slates", lambda _, parts: np.ones(len(parts)))
    for personal, slates in ((0.0, True), (2.0, False)):
        weights = lambda _, parts, personal=personal: np.array([personal, 0.0, 0.0])[-len(parts) :]  # noqa: E731
        monkeypatch.setattr(f"{place}.for_all", weights)
        choice = chosen(held, [(1.0, good)], flat, flat)
        assert (choice.slates, "for slates" in choice.line()) == (slates, slates)
        assert choice.personal == (1.0 if slates else 2.0)


def test_slates_decide_only_beyond_two_standard_errors():
    """The likelier is taken while its slates may be as good, and not where they are told to be worse."""
    source = np.random.default_rng(6)
    good = source.random(400)
    near = good - 0.001 + 0.1 * source.normal(size=400)
    worse = good - 0.05 + 0.1 * source.normal(size=400)

    def best(hits, nats):
        ones = np.ones(400)
        return best_of([Worth(hit, value * ones, ones) for hit, value in zip(hits, nats, strict=True)])

    assert best([good, near, worse], [-3.0, -2.0, -1.0]) == 1
    assert best([good, near], [-2.0, -3.0]) == 0


def test_held_out_states_are_before_what_they_took(held):
    """What was taken is new to its state, lies in the future of the cut, and is not in the past that models see."""
    log = random_log(n_users=80)
    assert len(held.past) < len(log)
    assert not (held.consumed & (held.taken > 0)).any()
    assert held.taken.any(1).all()
    seen = set(zip(held.past.user.tolist(), held.past.item.tolist(), strict=True))
    rows, items = np.nonzero(held.taken)
    assert not seen & set(zip(held.user[rows].tolist(), items.tolist(), strict=True))
    thin = HeldOut.of(log, "30min", 0, most_cells=1200)
    assert len(thin) < len(held)
    rows = np.searchsorted(held.user, thin.user)
    np.testing.assert_array_equal(thin.taken, held.taken[rows])
    np.testing.assert_array_equal(thin.consumed, held.consumed[rows])
    for row, consumed in enumerate(held.consumed):
        state = held.states.take([row])
        np.testing.assert_array_equal(np.flatnonzero(consumed), np.unique(state.items))
        future = log.rows((log.user == held.user[row]) & (log.time >= state.now[0]))
        new = np.setdiff1d(future.item, state.items)
        np.testing.assert_array_equal(np.flatnonzero(held.taken[row]), new)


@pytest.fixture
def parts(held):
    """A part of each user's own, which knows something, and one for all."""
    noise = np.random.default_rng(3).normal(size=held.taken.shape)
    popular = np.log(held.taken.sum(0) + 1.0)
    return (noise + held.taken).astype(np.float32), popular.astype(np.float32)


def _loop_over_all(held, logits):
    log_likelihoods = []
    for row, taken in zip(np.where(held.consumed, -np.inf, logits), held.taken, strict=True):
        log_likelihoods += (row - np.log(np.exp(row).sum()))[taken > 0].tolist()
    return -np.mean(log_likelihoods)


def _loop_over_shown(held, logits, shown):
    log_likelihoods = []
    for n, row in enumerate(np.where(held.consumed, -np.inf, logits)):
        p = np.exp(row) / np.exp(row).sum()
        number = held.taken[n].sum()
        for item in np.flatnonzero(shown[n]):
            missed = np.exp(-number * p[item])
            log_likelihoods.append(np.log(1 - missed if held.taken[n, item] else missed))
    return -np.mean(log_likelihoods)


def test_the_best_of_a_slate_are_the_best_and_their_ties(held):
    """What is shown is no worse than the tenth unconsumed item; where all tie, all are shown, and all count alike."""
    logits = np.random.default_rng(0).normal(size=held.taken.shape)
    for n, shown in enumerate(held.best(logits, 4)):
        unconsumed = np.flatnonzero(~held.consumed[n])
        first = unconsumed[np.argsort(-logits[n, unconsumed])[:4]]
        np.testing.assert_array_equal(np.flatnonzero(shown), np.sort(first))
        assert held.precision(logits, 4)[n] == pytest.approx(held.taken[n, first].mean())
    flat = np.zeros(held.taken.shape[1])
    np.testing.assert_array_equal(held.best(flat), ~held.consumed)
    expected = held.taken.sum(1) / (~held.consumed).sum(1)
    np.testing.assert_allclose(held.precision(flat), expected)


@pytest.mark.parametrize("answers", [False, True])
def test_the_losses_are_sums_and_their_slopes_are_slopes(held, parts, answers):
    """Both losses are loops over users and items, their slopes numerical derivatives."""
    shown = held.best(parts[1]) | held.best(parts[0])
    loss = unlikelihood_of_answers(held, parts, shown) if answers else unlikelihood(held, parts)
    for weights in np.array([[0.5, 0.5], [0.0, 1.0], [1.3, 0.2]]):
        logits = weights[0] * parts[0].astype(float) + weights[1] * parts[1]
        brute = _loop_over_shown(held, logits, shown) if answers else _loop_over_all(held, logits)
        value, slope = loss(weights)
        assert value == pytest.approx(brute, rel=1e-5)
        np.testing.assert_allclose(slope, approx_fprime(weights, lambda w: loss(w)[0], 1e-2), atol=0.02)


@pytest.mark.parametrize("items", [5, 8, 131, 9_001])
def test_sums_of_losses_are_those_of_arrays(held, items):
    """Sums over items have the bits of NumPy's, those of converted numbers too, whose rows are cut at 8,192."""
    source = np.random.default_rng(7)
    scores = source.normal(0, 9, (3, items)).astype(np.float32)
    parts = scores, *(source.normal(0, 9, (2, items)).astype(np.float32))
    nothing = np.zeros((3, items), bool)
    three_users = dataclasses.replace(
        held, states=held.states[:3], consumed=nothing, taken=nothing.astype(np.float32)
    )
    softmax = shrinkage._WeightedSoftmax(three_users, parts)
    share, norm, top = softmax.exponentials(np.array([0.5, 0.1, 0.2]), slice(0, 3))
    rows = share.T.copy()
    factor = np.array([0.3, 1e-4, 7.0], np.float32)[:, np.newaxis]
    logits = np.float32(0.5) * scores + np.float32(0.1) * parts[1] + np.float32(0.2) * parts[2]
    np.testing.assert_array_equal(rows, np.exp(logits - top[:, np.newaxis]))
    np.testing.assert_array_equal(norm, rows.sum(1, dtype=np.float64))
    totals = np.array([(part * (factor * rows)).sum(1) for part in parts]).sum(1, dtype=np.float64)
    np.testing.assert_array_equal(softmax.totals(share, factor[:, 0].astype(float), slice(0, 3)), totals)


def test_who_takes_thousands_takes_what_is_shown(held, parts):
    """Where more is expected of an item than a number can hold the exponential of, nothing warns, and its pull is 0."""
    thousandfold = dataclasses.replace(held, taken=held.taken * 1e5)
    shown = (thousandfold.taken > 0) & (
        np.arange(thousandfold.taken.shape[1]) == thousandfold.taken.argmax(1)[:, np.newaxis]
    )
    loss = unlikelihood_of_answers(thousandfold, parts, shown)
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


M = 60
LOGS = [(40, 3.0), (200, 2.0)]  # users, and how much likelier items of one's own taste are, nats


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
    user = np.repeat(np.arange(users), 12)
    place = np.tile(np.arange(12), users)
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
    log_likelihoods = {name: nats(log, fresh, make(name, seed=0).fit(log).score(states)) for name in names}
    truth = fit_truth(log, gap="30min", kind="factors")
    log_likelihoods["truth"] = nats(log, fresh, truth.preference(everyone, states))
    assert min(log_likelihoods.values()) > bar - 0.03, (bar, log_likelihoods)


def test_the_report_says_what_is_used():
    """The weight that it serves with and its factor; a spread larger by less than a quarter changes nothing."""
    log, _ = two_tastes(40, 3.0)
    held = HeldOut.of(log, "30min", 0)
    model = EASE(EASEConfig(cold_items=False)).fit(log)
    report = model.shrinkage
    (past,), (all_events,) = (
        model._fits(fitted_log, (report.strength,), log) for fitted_log in (held.past, log)
    )
    spreads = [model._scores(fit, held.states).std() for fit in (past, all_events)]
    assert report.rescaling == pytest.approx(spreads[0] / spreads[1], rel=1e-4)
    assert report.rescaling < 0.8
    expected = report.personal * all_events["weights"]
    np.testing.assert_allclose(model.served("weights"), expected, rtol=1e-4, atol=1e-7)
    assert rescaling(2.0, 5.0) == 0.4
    assert rescaling(2.0, 2.5) == rescaling(2.0, 0.1) == rescaling(0.0, 0.0) == 1.0


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
    assert weighted(held, (noise[0], noise[1, 0])).tolist() == [0.0, 0.0]
    assert held.nats(held.log_likelihood(noise[0])) == pytest.approx(0.0, abs=1e-6)
