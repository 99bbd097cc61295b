"""Fitting p to the next few events: the loss against torch's own, labels against loops, and what it is for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from rimsim.data import load
from rimsim.errors import ModelError
from rimsim.intensity import GRU, GRUConfig, HawkesPoisson, HawkesPoissonConfig
from rimsim.intensity.cache import fitted
from rimsim.intensity.registry import thorough
from rimsim.intensity.sequence.training import FADE, batches, windows
from rimsim.intensity.softmax import softmax_loss
from rimsim.intensity.states import count_examples


@pytest.fixture(scope="module")
def log():
    """The embedded log's most popular items, its first 12,000 events."""
    whole = load("ml-latest-small", min_item_events=120)
    return whole.rows(slice(0, 12_000))


def test_the_loss_and_its_gradients_are_torchs():
    """Against log_softmax and autograd in float64, with more positions than a block and weights of 0."""
    draw = torch.Generator().manual_seed(0)
    hidden, vectors = (torch.randn(n, 5, generator=draw, dtype=torch.float64) for n in (700, 11))
    bias = torch.randn(11, generator=draw, dtype=torch.float64)
    label = torch.randint(0, 11, (700, 3), generator=draw)
    weight = torch.rand(700, 3, generator=draw, dtype=torch.float64) * (
        torch.rand(700, 3, generator=draw) > 0.3
    )
    found, wanted = [], []
    for own, place in ((True, found), (False, wanted)):
        leaves = [part.clone().requires_grad_() for part in (hidden, vectors, bias)]
        if own:
            loss = softmax_loss(*leaves, label, weight)
        else:
            chances = torch.log_softmax(leaves[0] @ leaves[1].T + leaves[2], 1)
            loss = -(weight * chances.gather(1, label)).sum() / weight.sum()
        (3 * loss).backward()
        place += [loss.detach(), *(leaf.grad for leaf in leaves)]
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_one_event_ahead_is_the_cross_entropy():
    """K = 1 with weight 1 is the usual loss."""
    draw = torch.Generator().manual_seed(1)
    hidden, vectors = torch.randn(20, 4, generator=draw), torch.randn(9, 4, generator=draw)
    label = torch.randint(0, 9, (20, 1), generator=draw)
    found = softmax_loss(hidden, vectors, torch.zeros(9), label, torch.ones(20, 1))
    assert float(found) == pytest.approx(
        float(functional.cross_entropy(hidden @ vectors.T, label[:, 0])), rel=1e-6
    )


def test_labels_are_the_next_targets_of_the_same_user(log):
    """Every position's labels are what follows in its user's history, fading, without what is no target."""
    target = np.random.default_rng(0).random(len(log)) < 0.6
    log = dataclasses.replace(log, target=target)
    cut = windows(log, 16, 4)
    history = {user: np.flatnonzero(log.user == user) for user in np.unique(log.user)}
    seen = 0
    for batch in batches(cut, 32, torch.device("cpu"), ahead=5):
        rows, steps = batch.row.numpy(), batch.step.numpy()
        for place in range(0, len(rows), 7):
            window = batch.rows[rows[place]]
            own = history[cut.user[window]]
            at = cut.begin[window] - cut.origin[window] + steps[place]
            coming = own[at : at + 5]
            weight = np.zeros(5)
            weight[: len(coming)] = FADE ** np.arange(len(coming)) * target[coming]
            assert batch.weight[place].numpy() == pytest.approx(weight / weight.sum(), rel=1e-6)
            there = batch.weight[place].numpy() > 0
            wanted = log.item[coming[there[: len(coming)]]]
            assert np.array_equal(batch.later[place].numpy()[there], wanted)
            seen += 1
    assert seen > 200


def test_a_fit_to_what_comes_soon_foresees_it_better(log):
    """Held-out users' next ten items are likelier under p that was fitted to them; the very next one is not."""
    test = log.user % 5 == 0
    train, held = log.rows(~test), log.rows(test)
    cut = windows(held, 64, 16)
    losses = {}
    for ahead in (1, 10):
        model = GRU(GRUConfig(width=24, epochs=6, learning_rate=0.02, ahead=ahead, patience=0)).fit(train)
        with torch.no_grad():
            soon = next_one = count = 0.0
            for batch in batches(cut, 64, torch.device("cpu"), ahead=10):
                hidden, vectors = model.network.outputs(batch, None)
                here = torch.ones(len(hidden), 1)
                soon += len(hidden) * float(
                    softmax_loss(hidden, vectors, model.network.bias, batch.later, batch.weight)
                )
                next_one += len(hidden) * float(
                    softmax_loss(hidden, vectors, model.network.bias, batch.label[:, None], here)
                )
                count += len(hidden)
        losses[ahead] = (soon / count, next_one / count)
    assert losses[10][0] < losses[1][0]
    assert losses[10][1] > losses[1][1]


def test_a_share_of_the_positions_is_drawn_by_seed(log):
    """Half of the positions give another fit than all, the same one again, and updates take them all."""
    small = log.rows(slice(0, 3000))
    half = GRUConfig(width=8, epochs=2, ahead=3, sampled=0.5)
    one, two = GRU(half).fit(small), GRU(half).fit(small)
    whole = GRU(dataclasses.replace(half, sampled=1.0)).fit(small)
    assert torch.equal(one.network.item, two.network.item)
    assert not torch.equal(one.network.item, whole.network.item)
    assert one.update(log.rows(slice(3000, 4000))).last_run is not None


def test_thorough_recipes_are_for_models_that_have_one():
    """Sequence models have one, counts have none; the closed loop's defaults stay the next event alone."""
    assert thorough("gru").ahead == thorough("transformer").ahead == 10
    assert thorough("popularity") is None
    assert (GRUConfig().ahead, GRUConfig().sampled) == (1, 1.0)


def test_the_cache_keeps_ground_intensities_by_their_examples(log, tmp_path):
    """Other examples are another fit; the same ones are read back; a mark model takes none."""
    users = np.unique(log.user)
    middle = np.full(len(users), float(np.median(log.time)))
    examples = count_examples(log, users, middle, 86400.0 * 365)
    other = count_examples(log, users, middle - 86400.0 * 200, 86400.0 * 365)
    config = HawkesPoissonConfig(horizon=86400.0 * 365)
    first = HawkesPoisson(config)
    assert fitted(first, log, tmp_path, examples=examples) is first
    second = HawkesPoisson(config)
    again = fitted(second, log, tmp_path, examples=examples)
    assert again is not second
    assert torch.equal(again.weights, first.weights)
    third = HawkesPoisson(config)
    assert fitted(third, log, tmp_path, examples=other) is third
    assert not torch.equal(third.weights, first.weights)
    with pytest.raises(ModelError, match="allowed: for a Ground"):
        fitted(GRU(), log, tmp_path, examples=examples)
