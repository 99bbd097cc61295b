"""Known answers for the models of what a returning user takes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from kit import refused
from made_logs import log_of
from scipy.optimize import minimize

from rimsim.errors import ConfigError, ModelError
from rimsim.intensity import (
    EASE,
    Bag,
    BagConfig,
    EASEConfig,
    Factors,
    FactorsConfig,
    Returning,
    ReturningConfig,
    UserStates,
)
from rimsim.intensity.persistence import load
from rimsim.intensity.popularity import learned, log_returning
from rimsim.intensity.product import settled
from rimsim.intensity.registry import make
from rimsim.intensity.selection.held_out import HeldOut, Worth
from rimsim.intensity.selection.shrinkage import Shrinkage, best_of, chosen
from rimsim.intensity.sets.bag import Cycle, Tables, splits, trained
from rimsim.intensity.sets.ease import solved
from rimsim.intensity.sets.factors import Items, folded
from rimsim.intensity.sets.personal import Cells, distinct, sums
from rimsim.testing import random_log

HOUR = 3600.0
SMALL_BAG = BagConfig(width=8, steps=40)
MODELS = [Bag(SMALL_BAG), EASE(), Factors(FactorsConfig(rank=3, steps=20))]


def matrices(cells, cycle):
    """(b, M) ones at read items and (b, M) weights of labels, for every step of a training."""
    for split in splits(cells, cycle, torch.device("cpu")):
        x, y = torch.zeros(2, split.users, cells.n_items)
        x[split.read], y[split.own] = 1.0, split.label
        yield x, y


def returning():
    """Sixty users in two groups of taste, each of whom comes on four days."""
    source = np.random.default_rng(5)
    rows = []
    for user in range(60):
        items = source.permutation(20)[:12] * 2 + user % 2
        rows += [(user, item, (7 * user + place // 3) * 86_400.0 + place) for place, item in enumerate(items)]
    user, item, time = zip(*sorted(rows, key=lambda row: row[2]), strict=True)
    return log_of(user, item, time)


def strangers():
    """A log in which nobody comes back: each user has one session."""
    log = random_log()
    return dataclasses.replace(log, time=np.sort(log.time[0] + np.arange(len(log)) * 1.0))


def test_popularity_is_of_later_sessions_and_learnt_as_a_posterior_mean():
    """Only targets after a first session count, or all where there are none; an old one counts ``memory`` events."""
    time = [0, 60, 60, 9 * HOUR, 9 * HOUR + 1]
    log = log_of([0, 0, 1, 0, 1], [0, 1, 1, 2, 2], time, target=[True, True, True, True, False])
    every = np.array([1.0, 2.0, 1.0]) + 0.5
    expected = np.array([0.0, 0.0, 1.0]) + 0.5 * 3 * every / every.sum()
    np.testing.assert_allclose(np.exp(log_returning(log, "30min", 0.5)), expected / expected.sum())
    log = strangers()
    counts = np.bincount(log.item, minlength=log.n_items) + 0.5
    score = Returning().fit(log).score(UserStates.of(log, [3], log.time[-1] + 1)).cpu().numpy()[0]
    np.testing.assert_allclose(score, counts / counts.sum(), rtol=1e-5)
    refused(ConfigError, "device", Returning, ReturningConfig(device="abacus"))
    refused(ModelError, "returning: not fitted", getattr, Returning(), "probability")
    log = log_of([0, 0, 0], [0, 0, 2], [0, 1, 2], target=[True, True, False])
    old = np.log(np.array([0.2, 0.3, 0.5], np.float32)) + 7
    expected = np.array([2.0 + 2, 3.0, 5.0]) / 12
    np.testing.assert_allclose(np.exp(learned(old, log, 10.0)), expected, rtol=1e-6)


def test_cells_hold_each_pair_once_and_sums_are_sums():
    """History and target of a pair are one cell; users without events have no row, empty states zeros."""
    log = log_of([2, 0, 0, 2], [1, 0, 1, 1], [0, 1, 2, 3], target=[False, True, False, True])
    cells = Cells.of(log)
    assert len(cells) == 2
    np.testing.assert_array_equal(cells.matrix().toarray(), [[1, 1], [0, 1]])
    np.testing.assert_array_equal(cells.matrix(cells.label).toarray(), [[1, 0], [0, 1]])
    log = random_log()
    states = UserStates.of(log, np.arange(log.n_users), np.median(log.time))
    table = np.random.default_rng(0).normal(size=(log.n_items, 5)).astype(np.float32)
    for row, found in enumerate(sums(states, table)):
        items = states.items[states.offsets[row] : states.offsets[row + 1]]
        np.testing.assert_allclose(found, table[items].sum(0), atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_an_item_consumed_twice_counts_once(model):
    """A state is a set of items: a row with repeats scores as the same row without, and other rows as before."""
    log = random_log(n_users=80)
    model.fit(log)
    now, items = np.full(3, 9e9), np.array([4, 4, 1, 7, 1, 4, 7, 4])
    times = np.array([0, 0, 1, 2, 2, 2, 3, 4.0])
    plain = UserStates(np.array([0, 3, 3, 5]), np.array([4, 1, 7, 7, 4]), np.arange(5.0), now)
    twice = UserStates(np.array([0, 6, 6, 8]), items, times, now)
    assert distinct(plain) is plain
    assert torch.equal(model.score(plain), model.score(twice))
    fit = next(model._fits(log, (1.0,), log))
    np.testing.assert_array_equal(model._scores(fit, plain), model._scores(fit, twice))


def test_distinct_events_are_the_first_of_each_item():
    """Of states with many repeats, some of them empty, the first event of each item stays, in order."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(0, 12, 200) * draw.integers(0, 2, 200)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items, times = draw.integers(0, 6, offsets[-1]), np.arange(float(offsets[-1]))
    states = UserStates(offsets, items, times, np.full(200, 9e9))
    found = distinct(states)
    assert len(found) == 200
    for state in range(200):
        first = {}
        for event in range(offsets[state], offsets[state + 1]):
            first.setdefault(int(states.items[event]), float(event))
        kept = slice(found.offsets[state], found.offsets[state + 1])
        assert found.items[kept].tolist() == list(first)
        assert found.times[kept].tolist() == list(first.values())


@pytest.mark.parametrize("same", [True, False])
def test_ease_is_a_ridge_regression_without_the_item_itself(same):
    """Each column of B is the ridge regression of that column on all other columns."""
    source = np.random.default_rng(1)
    x = (source.random((30, 7)) < 0.4).astype(float)
    goal = x if same else x * source.random(x.shape)
    gram = x.T @ x
    found = solved(gram, gram if same else x.T @ goal, 2.0)
    for column in range(7):
        others = np.delete(np.arange(7), column)
        left = gram[np.ix_(others, others)] + 2.0 * np.eye(6)
        expected = np.linalg.solve(left, x[:, others].T @ goal[:, column])
        np.testing.assert_allclose(found[others, column], expected, atol=1e-6)
        assert found[column, column] == 0


def test_an_update_of_ease_leaves_history_as_it_is_foretold():
    """The change of B is the ridge regression of what labels and untaken items lack; history lacks nothing."""
    log = random_log(n_users=30, n_items=8)
    model = EASE(EASEConfig(ridge=5.0, update_ridge=7.0)).fit(log)
    scale = model.shrinkage.personal or 1.0
    before = model.served("weights").numpy() / scale
    later = dataclasses.replace(log, target=log.item % 2 == 0)
    cells = Cells.of(later)
    x, label = cells.matrix().toarray(), cells.matrix(cells.label).toarray()
    lacks = np.where((x > 0) & (label == 0), 0.0, label - x @ before)
    change = model.update(later).served("weights").numpy() / scale - before
    for column in range(8):
        others = np.delete(np.arange(8), column)
        inputs = x[:, others]
        left = inputs.T @ inputs + 7.0 * np.eye(7)
        expected = np.linalg.solve(left, inputs.T @ lacks[:, column])
        np.testing.assert_allclose(change[others, column], expected, atol=1e-4)


def test_folding_in_finds_the_optimum():
    """A few Newton steps solve the penalised likelihood as a general optimiser does, whatever the number of items."""
    source = np.random.default_rng(2)
    vectors, offset = source.normal(size=(20, 3)), source.normal(size=20)
    count = np.array([0.0, 1.0, 10.0, 400.0])
    total = np.stack([vectors[source.integers(0, 6, int(n))].sum(0) for n in count])
    items = Items(torch.from_numpy(vectors), torch.from_numpy(offset))
    found = folded(torch.from_numpy(total), torch.from_numpy(count), items, 2.0, 8).numpy()

    def loss(u, row):
        logits = vectors @ u + offset
        return count[row] * np.log(np.exp(logits).sum()) - total[row] @ u + u @ u

    for row in range(4):
        best = minimize(loss, np.zeros(3), args=(row,), tol=1e-10)
        np.testing.assert_allclose(found[row], best.x, atol=2e-3)


@pytest.fixture(scope="module")
def held():
    """Users of a small log who came back."""
    return HeldOut.of(random_log(n_users=80), "30min", 0)


def test_the_best_strength_is_chosen_and_noise_is_given_no_weight(held):
    """Of several the one with the most likely labels, an end of the grid is told; scores that mislead weigh 0."""
    popular = np.log(held.taken.sum(0) + 1.0)
    found = chosen(held, [(1.0, -held.taken), (2.0, -2 * held.taken)], popular, popular)
    assert found.personal == 0
    assert found.log_likelihood == pytest.approx(found.impersonal_log_likelihood, abs=1e-6)
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
    good, flat = held.taken.copy(), np.zeros(held.taken.shape[1])
    place = "rimsim.intensity.selection.shrinkage"
    monkeypatch.setattr(f"{place}.for_slates", lambda _, parts: np.ones(len(parts)))
    for personal, slates in ((0.0, True), (2.0, False)):
        weights = lambda _, parts, personal=personal: np.array([personal, 0.0, 0.0])[-len(parts) :]  # noqa: E731
        monkeypatch.setattr(f"{place}.for_all", weights)
        found = chosen(held, [(1.0, good)], flat, flat)
        assert (found.slates, "for slates" in found.line()) == (slates, slates)
        assert found.personal == (1.0 if slates else 2.0)


def test_slates_decide_only_beyond_two_standard_errors():
    """The likelier is taken while its slates may be as good, and not where they are told to be worse."""
    source = np.random.default_rng(6)
    good = source.random(400)
    near, worse = good - 0.001 + 0.1 * source.normal(size=400), good - 0.05 + 0.1 * source.normal(size=400)

    def best(hits, nats):
        return best_of([Worth(one, one, value) for one, value in zip(hits, nats, strict=True)])

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


@pytest.mark.parametrize("model", MODELS)
def test_what_was_chosen_is_saved_and_nothing_where_nobody_returns(model, tmp_path):
    """τ = κ = 1, κ' = 0 without later sessions; an item that nobody has met has a probability of its genres."""
    shrinkage = model.fit(strangers()).shrinkage
    assert (shrinkage.personal, shrinkage.popularity, shrinkage.returning, shrinkage.users) == (1, 1, 0, 0)
    assert "too few" in shrinkage.line()
    log = random_log()
    met = log.rows(log.item != 5)
    score = model.fit(met).score(UserStates.of(met, np.arange(log.n_users), log.time[-1] + 1)).cpu()
    assert float(score[:, 5].mean()) > 0.2 / log.n_items
    model.save(tmp_path)
    assert isinstance(model.shrinkage, Shrinkage)
    assert load(tmp_path).shrinkage == model.shrinkage


def test_the_written_out_gradient_is_the_gradient():
    """One small step of plain size moves the tables as the loss, differentiated numerically, says."""
    log = dataclasses.replace(random_log(n_users=12, n_items=6), target=None)
    cells = Cells.of(log)
    source = np.random.default_rng(5)
    start = source.normal(size=(2, 6, 2)).astype(np.float32)
    cycle = Cycle(1, 50, 1e-3, 0.3, 7)
    ((x, y),) = [(x.numpy().astype(float), y.numpy().astype(float)) for x, y in matrices(cells, cycle)]

    def loss(flat):
        read, predicted = flat.reshape(2, 6, 2)
        h = x @ read / np.sqrt(x.sum(1, keepdims=True) + 1)
        logits = np.where(x > 0, -300.0, h @ predicted.T)
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return -log_p[y > 0].sum() / y.sum() + 0.15 * (flat**2).sum()

    moved = trained(Tables(*(torch.from_numpy(t) for t in start), torch.zeros(6)), cells, cycle)
    step = np.stack([moved.read.numpy(), moved.predicted.numpy()]) - start
    flat, steps = start.astype(float).ravel(), 1e-5 * np.eye(24)
    slope = np.array([(loss(flat + step) - loss(flat - step)) / 2e-5 for step in steps])
    clear = np.abs(slope) > 1e-4  # the first step of Adam is the sign of the gradient
    np.testing.assert_array_equal(np.sign(step.ravel())[clear], -np.sign(slope)[clear])
    assert clear.sum() > 15


def test_history_is_only_read():
    """Events that are no targets are never foretold, and in an update all of them are read."""
    log = dataclasses.replace(random_log(), target=random_log().item % 3 == 0)
    cells = Cells.of(log)
    history = cells.matrix().toarray()
    labels = cells.matrix(cells.label).toarray()
    for read_history in (False, True):
        seen = np.zeros(2)
        for x, y in matrices(cells, Cycle(3, 1000, 0.1, 0.0, 1, read_history=read_history)):
            assert not (x.numpy() * y.numpy()).any()
            assert not (y.numpy() > 0).sum() > (labels > 0).sum()
            seen += x.numpy().sum(), y.numpy().sum()
        assert (seen > 0).all()
    users = (labels.sum(1) > 0).sum()
    ((x, _),) = matrices(cells, Cycle(1, users, 0.1, 0.0, 1, read_history=True))
    assert x.sum() >= (history - labels)[labels.sum(1) > 0].sum()


def test_wrong_logs_are_refused():
    """A fit needs a target event, a score a fit, and an update the catalogue that was fitted."""
    log = random_log()
    states = UserStates.of(log, [0], log.time[-1] + 1)
    no_target = dataclasses.replace(log, target=np.zeros(len(log), bool))
    refused(ModelError, "no target event", EASE().fit, no_target)
    refused(ModelError, "not fitted yet", EASE().score, states)
    refused(ModelError, "allowed: 40", EASE().fit(log).update, random_log(n_items=30))


@pytest.mark.parametrize("name", ["bag-hp", "ease-hp", "factors-hp", "auto-hp"])
def test_a_settled_model_chooses_nothing_and_has_what_was_chosen(name, monkeypatch):
    """Fitted to the same log without held-out sessions, it has the same scores to the bit; so has its kind in auto."""
    log = returning()
    model = make(name, seed=1).fit(log)
    monkeypatch.setattr(HeldOut, "of", lambda *_: pytest.fail("something was chosen"))
    again = settled(make(name, seed=1), model).fit(log)
    chosen_mark = model.mark.chosen if name == "auto-hp" else model.mark
    assert type(again.mark) is type(chosen_mark)
    if name != "auto-hp":
        assert model.mark.shrinkage.users > 0
    states = UserStates.of(log, np.arange(log.n_users), log.time[-1] + 1)
    assert torch.equal(again.score(states), model.score(states))


def test_what_chooses_nothing_is_settled_as_it_is():
    """A model that says nothing of its choices is fitted to a part of the log as any is."""
    model = make("popularity-hp", seed=1)
    parts = model.mark, model.ground
    again = settled(model, make("popularity-hp", seed=1).fit(returning()))
    assert (again.mark, again.ground) == parts
