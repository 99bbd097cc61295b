"""Models fitted to next events and sessions: losses against torch's, labels against loops."""

import dataclasses

import numpy as np
import pytest
import torch
from kit.logs import log_of

from rimsim import intensity
from rimsim.data import load
from rimsim.intensity.registry import thorough
from rimsim.intensity.sequence.training import FADE, batches, windows
from rimsim.intensity.softmax import softmax_loss
from rimsim.testing import random_log


@pytest.fixture(scope="module")
def log():
    """The embedded log's most popular items, its first 12,000 events."""
    embedded = load("ml-latest-small", min_item_events=120)
    return embedded.rows(slice(0, 12_000))


def test_the_loss_and_its_gradients_are_torchs():
    """Against log_softmax and autograd, with blocks and weights of 0."""
    draw = torch.Generator().manual_seed(0)
    hidden, vectors = (torch.randn(n, 5, generator=draw, dtype=torch.float64) for n in (700, 11))
    bias = torch.randn(11, generator=draw, dtype=torch.float64)
    label = torch.randint(0, 11, (700, 3), generator=draw)
    weight = torch.rand(700, 3, generator=draw, dtype=torch.float64)
    weight *= torch.rand(700, 3, generator=draw) > 0.3
    results = []
    expected = []
    for blockwise, place in ((True, results), (False, expected)):
        leaves = [part.clone().requires_grad_() for part in (hidden, vectors, bias)]
        if blockwise:
            loss = softmax_loss(*leaves, label, weight)
        else:
            chances = torch.log_softmax(leaves[0] @ leaves[1].T + leaves[2], 1)
            loss = -(weight * chances.gather(1, label)).sum() / weight.sum()
        (3 * loss).backward()
        place += [loss.detach(), *(leaf.grad for leaf in leaves)]
    for result, reference in zip(results, expected, strict=True):
        assert torch.allclose(result, reference, atol=1e-12)


def test_labels_are_the_next_targets_of_the_same_user(log):
    """Every position's labels are what follows in its user's history, fading, without what is no target."""
    target = np.random.default_rng(0).random(len(log)) < 0.6
    log = dataclasses.replace(log, target=target)
    cut = windows(log, 16, 4)
    history = {user: np.flatnonzero(log.user == user) for user in np.unique(log.user)}
    seen = 0
    for batch in batches(cut, 32, torch.device("cpu"), ahead=5):
        rows = batch.row.numpy()
        steps = batch.step.numpy()
        for place in range(0, len(rows), 7):
            window = batch.rows[rows[place]]
            user_rows = history[cut.user[window]]
            at = cut.begin[window] - cut.origin[window] + steps[place]
            coming = user_rows[at : at + 5]
            weight = np.zeros(5)
            weight[: len(coming)] = FADE ** np.arange(len(coming)) * target[coming]
            assert batch.weight[place].numpy() == pytest.approx(weight / weight.sum(), rel=1e-6)
            is_label = batch.weight[place].numpy() > 0
            later_items = log.item[coming[is_label[: len(coming)]]]
            assert np.array_equal(batch.later[place].numpy()[is_label], later_items)
            seen += 1
    assert seen > 200


def test_fits_depend_on_how_far_they_look_ahead_and_on_the_drawn_share_of_positions(log):
    """Half of the positions give another fit than all, the same one again, and updates take them all."""
    small = log.rows(slice(0, 3000))
    half = intensity.GRUConfig(width=8, epochs=2, ahead=3, sampled=0.5)
    half_fit = intensity.GRU(half).fit(small)
    second_fit = intensity.GRU(half).fit(small)
    configs = dataclasses.replace(half, sampled=1.0), dataclasses.replace(half, ahead=1)
    full_fit, next_one = (intensity.GRU(config).fit(small) for config in configs)
    assert not torch.equal(half_fit.network.item, next_one.network.item)
    assert torch.equal(half_fit.network.item, second_fit.network.item)
    assert not torch.equal(half_fit.network.item, full_fit.network.item)
    assert half_fit.update(log.rows(slice(3000, 4000))).last_run is not None


def test_thorough_recipes_are_for_models_that_have_one():
    """Sequence models have one, counts have none; the closed loop's defaults stay the next event alone."""
    assert thorough("gru").ahead == thorough("transformer").ahead == 10
    assert thorough("popularity") is None
    assert (intensity.GRUConfig().ahead, intensity.GRUConfig().sampled) == (1, 1.0)


def small_log():
    """Two users; the first has sessions of 2, 1 and 2 events, the second one of 1 and one of 2."""
    user = np.array([0, 0, 1, 0, 0, 0, 1, 1])
    time = np.array([0.0, 60, 90, 2 * HOUR, 4 * HOUR, 4 * HOUR + 60, 6 * HOUR, 6 * HOUR + 1])
    return log_of(user, np.arange(8), time)


def told(log):
    """What is foretold from what: pairs of (items read, items with a weight), over all batches."""
    predictions = []
    for batch in batches(windows(log, 10, 5, "30min"), 4, torch.device("cpu")):
        for row, step, later, weight in zip(batch.row, batch.step, batch.later, batch.weight, strict=True):
            labels = later[weight > 0].tolist()
            np.testing.assert_allclose(weight[weight > 0], 1 / len(labels))
            predictions.append((batch.items[row, :step].tolist(), labels))
    return sorted(predictions)


def test_a_session_is_foretold_from_what_came_before_it():
    """Each is the label of the state at its start, all events alike; history has no weight, an empty log no windows."""
    expected = [([], [0, 1]), ([], [2]), ([0, 1], [3]), ([0, 1, 3], [4, 5]), ([2], [6, 7])]
    assert told(small_log()) == expected
    log = dataclasses.replace(small_log(), target=np.array([0, 1, 1, 1, 1, 0, 0, 1], bool))
    assert told(log) == [([], [2]), ([0, 1], [3]), ([0, 1, 3], [4])]
    assert len(windows(log.rows(slice(0, 0)), 10, 5, "30min")) == 0


@pytest.mark.parametrize("model", [intensity.GRU, intensity.Transformer])
def test_the_first_events_of_sessions_are_learnt(model):
    """In a log whose sessions go through the items in one order, sessions are foretold and not next events."""
    days = np.arange(30) * 86400.0
    user = np.repeat(np.arange(20), 60)
    item = np.tile(np.tile([0, 1], 30), 20)
    time = np.tile((days[:, None] + [0.0, 60.0]).ravel(), 20)
    log = log_of(user, item, time, random_log(n_users=20).users, random_log(n_items=5).items)
    config = intensity.GRUConfig if model is intensity.GRU else intensity.TransformerConfig
    states = intensity.UserStates.of(log, [3], 10 * 86400.0)
    settings = {"width": 8, "context": 40, "burn": 4, "epochs": 20, "patience": 0}
    settings |= {"learning_rate": 0.02, "dropout": 0.0, "cold_items": False}
    session = model(config(**settings, target="next-session")).fit(log).score(states)[0]
    event = model(config(**settings)).fit(log).score(states)[0]
    assert float(session[:2].min()) > 0.35
    assert float(event[0]) > 0.6


HOUR = 3600.0
