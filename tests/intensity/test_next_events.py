"""Fitting p to next events, sessions and samples of items: losses against torch's, labels against loops."""

import dataclasses

import numpy as np
import pytest
import torch
from kit import calls_of, refused
from kit.logs import log_of
from kit.markets import small_scenario

from rimsim import intensity
from rimsim.config import DataConfig, PlatformConfig
from rimsim.data import load
from rimsim.errors import ModelError
from rimsim.intensity.cache import fitted
from rimsim.intensity.popularity import log_returning
from rimsim.intensity.registry import Auto, make, thorough
from rimsim.intensity.selection.held_out import HeldOut
from rimsim.intensity.sequence.training import FADE, batches, windows
from rimsim.intensity.sets import factors
from rimsim.intensity.sets.bag import Cycle, Tables, trained
from rimsim.intensity.sets.factors import UserFactors
from rimsim.intensity.sets.personal import Cells
from rimsim.intensity.softmax import MANY_PAIRS, Negatives, RowItems, is_sampled, softmax_loss, softmax_shares
from rimsim.intensity.states import count_examples
from rimsim.market.agreement import unfitted_model
from rimsim.market.world import initial_model
from rimsim.scenarios.kinds.validate.checks import rate_of_ground
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


def test_the_cache_keeps_ground_intensities_by_their_examples(log, tmp_path):
    """Other examples are another fit; the same ones are read back; a mark model takes none."""
    users = np.unique(log.user)
    middle = np.full(len(users), float(np.median(log.time)))
    examples = count_examples(log, users, middle, 86400.0 * 365)
    later_examples = count_examples(log, users, middle - 86400.0 * 200, 86400.0 * 365)
    config = intensity.HawkesPoissonConfig(horizon=86400.0 * 365)
    first = intensity.HawkesPoisson(config)
    assert fitted(first, log, tmp_path, examples=examples) is first
    second = intensity.HawkesPoisson(config)
    second_fit = fitted(second, log, tmp_path, examples=examples)
    assert second_fit is not second
    assert torch.equal(second_fit.weights, first.weights)
    third = intensity.HawkesPoisson(config)
    assert fitted(third, log, tmp_path, examples=later_examples) is third
    assert not torch.equal(third.weights, first.weights)
    message = "Give examples only with a ground intensity"
    refused(ModelError, message, fitted, intensity.GRU(), log, tmp_path, examples=examples)


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


def hourly():
    """A log of 60 users who come three times, a fortnight between, and consume four items, an hour between."""
    source = np.random.default_rng(0)
    items = np.concatenate([source.permutation(40)[:12] for _ in range(60)])
    user = np.repeat(np.arange(60), 12)
    place = np.tile(np.arange(12), 60)
    time = 1e6 + (place // 4) * 14 * 24 * HOUR + (place % 4) * HOUR + user
    return log_of(user, items, time, items=40)


def test_a_scenario_tells_its_model_what_ends_a_session():
    """Events an hour apart are one session by six hours: later sessions are counted so, and their size is four."""
    log = hourly()
    data = DataConfig(session_gap="6h")
    platform = PlatformConfig(model="returning-visits")
    model = initial_model(small_scenario(data=data, platform=platform), log, 0)
    states = intensity.UserStates.of(log, np.arange(60), log.time[-1] + 14 * 24 * HOUR)
    score = model.score(states)
    np.testing.assert_allclose(score.sum(1), 4.0, rtol=0.1)
    expected = np.exp(log_returning(log, "6h", 0.5))
    np.testing.assert_allclose(score[0] / score[0].sum(), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["bag-visits", "ease-hp", "gru-ema", "returning-hawkes", "auto-pop"])
def test_every_config_that_says_what_ends_a_session_is_told(name):
    """Marks are told as text and grounds in seconds; half an hour changes no config, however it is written."""
    for model in (make(name, gap="6h"), unfitted_model(name, 0, "cpu", "6h")):
        assert (model.mark.config.session_gap, model.ground.config.gap) == ("6h", 6 * HOUR)
    plain = make(name)
    with_gap = make(name, gap="0.5h")
    assert (plain.mark.config, plain.ground.config) == (with_gap.mark.config, with_gap.ground.config)


def test_auto_tells_what_it_chooses_among_and_a_validation_its_rates():
    """The chosen model has auto's own gap, and λ(x) of held-out users is about four a session, as they consume."""
    model = Auto(intensity.AutoConfig(candidates=("ease", "returning"), session_gap="6h")).fit(hourly())
    assert model.ranking
    assert model.chosen.config.session_gap == "6h"
    assert isinstance(model.chosen.score(intensity.UserStates.of(hourly(), [0], 1e9)), torch.Tensor)
    rates = rate_of_ground("visits", hourly(), gap=6 * HOUR, device="cpu")
    assert rates["rate_ratio_later"] == pytest.approx(1.0, abs=0.1)


def _problem(n_items=300, positions=40, k=3):
    source = torch.Generator().manual_seed(1)
    label = torch.stack([torch.randperm(n_items, generator=source)[:k] for _ in range(positions)])
    weight = torch.rand(positions, k, generator=source)
    weight[::3, 2] = 0.0
    hidden = torch.randn(positions, 8, generator=source)
    vectors = torch.randn(n_items, 8, generator=source)
    return (hidden, vectors / 2, torch.randn(n_items, generator=source) / 2, label, weight), source


def test_all_items_drawn_once_give_the_full_loss():
    """Where each item is drawn as often as expected, loss and gradients are those of the full softmax."""
    (hidden, vectors, bias, label, weight), _ = _problem()
    drawn = torch.arange(300), torch.zeros(300)
    results = []
    for sample in (drawn, None):
        inputs = [x.clone().requires_grad_() for x in (hidden, vectors, bias)]
        value = softmax_loss(*inputs, label, weight, sample)
        value.backward()
        results.append((value.detach(), *(x.grad for x in inputs)))
    for on_sample, on_all in zip(*results, strict=True):
        torch.testing.assert_close(on_sample, on_all, rtol=1e-4, atol=1e-6)


def test_the_sum_over_a_sample_is_unbiased():
    """Over many draws, the corrected sum of exponentials is that over all items, within four standard errors."""
    (hidden, vectors, bias, label, _), source = _problem()
    proposal = Negatives.of(label[:, 0].numpy(), 300, 64, torch.device("cpu"))
    full_sum = (hidden[:5] @ vectors.T + bias).exp().sum(1)
    sums = []
    for _ in range(400):
        items, correction = proposal.draw(label[:, 0], source)
        sums.append((hidden[:5] @ vectors[items].T + bias[items] + correction).exp().sum(1))
    estimates = torch.stack(sums)
    assert ((estimates.mean(0) - full_sum).abs() <= 4 * estimates.std(0) / 20).all()


def test_a_sampled_fit_says_nearly_what_the_full_one_says():
    """On a small log, the held-out loss of a sampled fit is within .1 nats of the full one; auto is the full one."""
    log = random_log(150, 60, mean_events=15.0)
    losses = {}
    for softmax in ("full", "sampled", "auto"):
        config = intensity.GRUConfig(epochs=4, width=16, softmax=softmax, negatives=64, patience=0)
        losses[softmax] = intensity.GRU(config).fit(log).last_run.losses
    assert losses["auto"] == losses["full"]
    assert abs(losses["sampled"][-1] - losses["full"][-1]) < 0.1
    assert np.isfinite(losses["sampled"]).all()


def test_slopes_of_sets_are_those_of_the_full_softmax_where_all_items_are_drawn_once():
    """With some items barred and labels weighed, every sum over pairs and draws is autograd's gradient."""
    source = torch.Generator().manual_seed(2)
    hidden = torch.randn(4, 6, generator=source)
    vectors = torch.randn(30, 6, generator=source)
    bias = torch.randn(30, generator=source)
    taken = torch.rand(4, 30, generator=source) < 0.2
    barred = (torch.rand(4, 30, generator=source) < 0.2) & ~taken
    pairs = RowItems(*taken.nonzero(as_tuple=True))
    weight = torch.rand(int(taken.sum()), generator=source)
    drawn = torch.arange(30), torch.zeros(30)
    shares = softmax_shares(hidden, vectors, bias, pairs, drawn, RowItems(*barred.nonzero(as_tuple=True)))
    slopes = shares.slopes(weight)
    gradients = shares.mean(*slopes, vectors), shares.spread(*slopes, hidden, 30)
    inputs = [table.clone().requires_grad_() for table in (hidden, vectors)]
    logits = (inputs[0] @ inputs[1].T + bias).masked_fill(barred, -torch.inf)
    (-(weight * logits.log_softmax(1)[pairs])).sum().backward()
    for gradient, table in zip(gradients, inputs, strict=True):
        torch.testing.assert_close(gradient, table.grad, rtol=1e-4, atol=1e-5)


def test_factors_of_users_are_nearly_the_same_on_samples():
    """The penalised likelihood of every user, given the items, is within .02 nats an event of that on all items."""
    log = random_log(60, 30, mean_events=12.0)
    model = UserFactors(intensity.FactorsConfig(rank=4, ridge=3.0, softmax="full")).fit(log)
    c = model.served("vectors")
    d = model.served("offset")
    x = torch.from_numpy(Cells.of(log).matrix().toarray())
    nats = []
    for config in (model.config, dataclasses.replace(model.config, softmax="sampled")):
        model.config = config
        (a,) = model.users_of(log)
        a = a[np.unique(log.user)]
        objective = (torch.log_softmax(a @ c.T + d, 1) * x).sum() - 1.5 * a.square().sum()
        nats.append(float(objective / x.sum()))
    assert nats[0] > nats[1]
    assert nats[0] - nats[1] < 0.02


def test_a_sampled_fit_of_the_bag_is_nearly_the_full_one():
    """The loss of what the tables foretell of everything that users took is within .05 nats of the full training's."""
    log = random_log(100, 50, mean_events=12.0)
    cells = Cells.of(log)
    source = torch.Generator().manual_seed(4)
    begin = Tables(*(0.3 * torch.randn(50, 8, generator=source) for _ in range(2)), torch.zeros(50))
    cycle = Cycle(60, 64, 0.05, 1e-3, 0, learn_bias=True)
    x = torch.from_numpy(cells.matrix().toarray())
    nats = []
    for tables in (trained(begin, cells, cycle), trained(begin, cells, cycle, 64)):
        h = (x @ tables.read) * (x.sum(1, keepdim=True) + 1).rsqrt()
        nats.append(float(-(torch.log_softmax(h @ tables.predicted.T + tables.bias, 1) * x).sum() / x.sum()))
    assert abs(nats[0] - nats[1]) < 0.05


def test_the_past_of_a_large_log_is_fitted_as_the_whole_is(monkeypatch):
    """What is chosen on a held-out past is chosen for sampled fits, though the past alone would be fitted in full."""
    log = random_log(60, 30, mean_events=12.0)
    held = HeldOut.of(log, "30min", 0)
    assert held is not None
    monkeypatch.setattr("rimsim.intensity.softmax.MANY_PAIRS", len(held.past) * 30)
    assert is_sampled(log)
    assert not is_sampled(held.past)
    fits = calls_of(monkeypatch, factors, "fit_items")
    intensity.Factors(intensity.FactorsConfig(rank=4, ridge=3.0)).fit(log)
    assert [int(fit["cells"].label.sum()) for fit in fits] == [len(held.past), len(log)]


def test_a_log_is_sampled_by_its_size_alone(monkeypatch):
    """Up to so many pairs of an event and an item nothing is sampled, unless it is asked for."""
    log = random_log(30, 20)
    assert not is_sampled(log)
    assert is_sampled(log, "sampled")
    monkeypatch.setattr("rimsim.intensity.softmax.MANY_PAIRS", len(log) * 20 - 1)
    assert is_sampled(log)
    assert not is_sampled(log, many_items=20)
    assert is_sampled(log, "sampled", many_items=20)
    assert not is_sampled(log, "full")
    assert MANY_PAIRS > 575_281 * 3_533  # MovieLens-1M's ratings of 4 and 5 keep their figures
