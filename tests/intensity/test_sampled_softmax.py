"""Fits to samples of items: losses and slopes of the full softmax, and fits that are nearly the full ones."""

import dataclasses

import numpy as np
import torch
from kit import calls_of

from rimsim import intensity
from rimsim.intensity.selection.held_out import HeldOut
from rimsim.intensity.sets import factors
from rimsim.intensity.sets.bag import Cycle, Tables, trained
from rimsim.intensity.sets.factors import UserFactors
from rimsim.intensity.sets.personal import Cells
from rimsim.intensity.softmax import MANY_PAIRS, Negatives, RowItems, is_sampled, softmax_loss, softmax_shares
from rimsim.testing import random_log


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
