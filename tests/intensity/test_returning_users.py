"""Known answers for models of what a returning user takes."""

import dataclasses

import numpy as np
import pytest
import torch
from kit import refused
from kit.logs import log_of
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
from rimsim.intensity.popularity import learned, log_returning
from rimsim.intensity.product import settled
from rimsim.intensity.registry import load, make
from rimsim.intensity.selection.held_out import HeldOut
from rimsim.intensity.selection.shrinkage import (
    Shrinkage,
)
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
        x[split.read] = 1.0
        y[split.predicted] = split.label
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
    prior = np.array([1.0, 2.0, 1.0]) + 0.5
    expected = np.array([0.0, 0.0, 1.0]) + 0.5 * 3 * prior / prior.sum()
    np.testing.assert_allclose(np.exp(log_returning(log, "30min", 0.5)), expected / expected.sum())
    log = strangers()
    counts = np.bincount(log.item, minlength=log.n_items) + 0.5
    score = Returning().fit(log).score(UserStates.of(log, [3], log.time[-1] + 1)).cpu().numpy()[0]
    np.testing.assert_allclose(score, counts / counts.sum(), rtol=1e-5)
    refused(ConfigError, "device", Returning, ReturningConfig(device="abacus"))
    refused(ModelError, "returning: the model is not fitted", getattr, Returning(), "probability")
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
    for row, row_sums in enumerate(sums(states, table)):
        items = states.items[states.offsets[row] : states.offsets[row + 1]]
        np.testing.assert_allclose(row_sums, table[items].sum(0), atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_an_item_consumed_twice_counts_once(model):
    """A state is a set of items: a row with repeats scores as the same row without, and other rows as before."""
    log = random_log(n_users=80)
    model.fit(log)
    now = np.full(3, 9e9)
    items = np.array([4, 4, 1, 7, 1, 4, 7, 4])
    times = np.array([0, 0, 1, 2, 2, 2, 3, 4.0])
    plain = UserStates(np.array([0, 3, 3, 5]), np.array([4, 1, 7, 7, 4]), np.arange(5.0), now)
    twice = UserStates(np.array([0, 6, 6, 8]), items, times, now)
    assert distinct(plain) is plain
    assert torch.equal(model.score(plain), model.score(twice))
    fit = next(model._fits(log, (1.0,), log))
    np.testing.assert_array_equal(model._scores(fit, plain), model._scores(fit, twice))


@pytest.mark.parametrize("predicts_history", [True, False])
def test_ease_is_a_ridge_regression_without_the_item_itself(predicts_history):
    """Each column of B is the ridge regression of that column on all other columns."""
    source = np.random.default_rng(1)
    x = (source.random((30, 7)) < 0.4).astype(float)
    goal = x if predicts_history else x * source.random(x.shape)
    gram = x.T @ x
    solution = solved(gram, gram if predicts_history else x.T @ goal, 2.0)
    for column in range(7):
        other_items = np.delete(np.arange(7), column)
        ridge_matrix = gram[np.ix_(other_items, other_items)] + 2.0 * np.eye(6)
        expected = np.linalg.solve(ridge_matrix, x[:, other_items].T @ goal[:, column])
        np.testing.assert_allclose(solution[other_items, column], expected, atol=1e-6)
        assert solution[column, column] == 0


def test_an_update_of_ease_leaves_history_as_it_is_foretold():
    """The change of B is the ridge regression of what labels and untaken items lack; history lacks nothing."""
    log = random_log(n_users=30, n_items=8)
    model = EASE(EASEConfig(ridge=5.0, update_ridge=7.0)).fit(log)
    scale = model.shrinkage.personal or 1.0
    before = model.served("weights").numpy() / scale
    later = dataclasses.replace(log, target=log.item % 2 == 0)
    cells = Cells.of(later)
    x = cells.matrix().toarray()
    label = cells.matrix(cells.label).toarray()
    lacks = np.where((x > 0) & (label == 0), 0.0, label - x @ before)
    change = model.update(later).served("weights").numpy() / scale - before
    for column in range(8):
        other_items = np.delete(np.arange(8), column)
        inputs = x[:, other_items]
        ridge_matrix = inputs.T @ inputs + 7.0 * np.eye(7)
        expected = np.linalg.solve(ridge_matrix, inputs.T @ lacks[:, column])
        np.testing.assert_allclose(change[other_items, column], expected, atol=1e-4)


def test_folding_in_finds_the_optimum():
    """A few Newton steps solve the penalised likelihood as a general optimiser does, whatever the number of items."""
    source = np.random.default_rng(2)
    vectors = source.normal(size=(20, 3))
    offset = source.normal(size=20)
    count = np.array([0.0, 1.0, 10.0, 400.0])
    total = np.stack([vectors[source.integers(0, 6, int(n))].sum(0) for n in count])
    items = Items(torch.from_numpy(vectors), torch.from_numpy(offset))
    folded_vectors = folded(torch.from_numpy(total), torch.from_numpy(count), items, 2.0, 8).numpy()

    def loss(u, row):
        logits = vectors @ u + offset
        return count[row] * np.log(np.exp(logits).sum()) - total[row] @ u + u @ u

    for row in range(4):
        best = minimize(loss, np.zeros(3), args=(row,), tol=1e-10)
        np.testing.assert_allclose(folded_vectors[row], best.x, atol=2e-3)


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
    flat = start.astype(float).ravel()
    steps = 1e-5 * np.eye(24)
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


@pytest.mark.parametrize("name", ["bag-hp", "ease-hp", "factors-hp", "auto-hp"])
def test_a_settled_model_chooses_nothing_and_has_what_was_chosen(name, monkeypatch):
    """Fitted to the same log without held-out sessions, it has the same scores to the bit; so has its kind in auto."""
    log = returning()
    model = make(name, seed=1).fit(log)
    monkeypatch.setattr(HeldOut, "of", lambda *_: pytest.fail("something was chosen"))
    refitted = settled(make(name, seed=1), model).fit(log)
    chosen_mark = model.mark.chosen if name == "auto-hp" else model.mark
    assert type(refitted.mark) is type(chosen_mark)
    if name != "auto-hp":
        assert model.mark.shrinkage.users > 0
    states = UserStates.of(log, np.arange(log.n_users), log.time[-1] + 1)
    assert torch.equal(refitted.score(states), model.score(states))


def test_what_chooses_nothing_is_settled_as_it_is():
    """A model that says nothing of its choices is fitted to a part of the log as any is."""
    model = make("popularity-hp", seed=1)
    parts = model.mark, model.ground
    refitted = settled(model, make("popularity-hp", seed=1).fit(returning()))
    assert (refitted.mark, refitted.ground) == parts
