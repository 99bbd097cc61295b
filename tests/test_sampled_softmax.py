"""The softmax over a sample of items against the full one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rimsim.intensity import GRU, Factors, FactorsConfig, GRUConfig
from rimsim.intensity.selection.held_out import HeldOut
from rimsim.intensity.sets.bag import Cycle, Tables, trained
from rimsim.intensity.sets.factors import Items, fit_items, fold_users, folded
from rimsim.intensity.sets.personal import Cells
from rimsim.intensity.softmax import (
    MANY_PAIRS,
    Negatives,
    RowItems,
    is_sampled,
    softmax_loss,
    softmax_shares,
)
from rimsim.market.consumers.truth_factors import fit_factors, fold_in, judge_factors
from rimsim.testing import random_log


def _problem(n_items=300, positions=40, k=3):
    source = torch.Generator().manual_seed(1)
    label = torch.stack([torch.randperm(n_items, generator=source)[:k] for _ in range(positions)])
    weight = torch.rand(positions, k, generator=source)
    weight[::3, 2] = 0.0
    hidden, vectors = torch.randn(positions, 8, generator=source), torch.randn(n_items, 8, generator=source)
    return (hidden, vectors / 2, torch.randn(n_items, generator=source) / 2, label, weight), source


def test_all_items_drawn_once_give_the_full_loss():
    """Where each item is drawn as often as expected, loss and gradients are those of the full softmax."""
    (hidden, vectors, bias, label, weight), _ = _problem()
    drawn = torch.arange(300), torch.zeros(300)
    found = []
    for sample in (drawn, None):
        inputs = [x.clone().requires_grad_() for x in (hidden, vectors, bias)]
        value = softmax_loss(*inputs, label, weight, sample)
        value.backward()
        found.append((value.detach(), *(x.grad for x in inputs)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_sum_over_a_sample_is_unbiased():
    """Over many draws, the corrected sum of exponentials is that over all items, within four standard errors."""
    (hidden, vectors, bias, label, _), source = _problem()
    proposal = Negatives.of(label[:, 0].numpy(), 300, 64, torch.device("cpu"))
    whole = (hidden[:5] @ vectors.T + bias).exp().sum(1)
    sums = []
    for _ in range(400):
        items, correction = proposal.draw(label[:, 0], source)
        sums.append((hidden[:5] @ vectors[items].T + bias[items] + correction).exp().sum(1))
    found = torch.stack(sums)
    assert ((found.mean(0) - whole).abs() <= 4 * found.std(0) / 20).all()


def test_a_sampled_fit_says_nearly_what_the_full_one_says():
    """On a small log, the held-out loss of a sampled fit is within .1 nats of the full one; auto is the full one."""
    log, losses = random_log(150, 60, mean_events=15.0), {}
    for softmax in ("full", "sampled", "auto"):
        config = GRUConfig(epochs=4, width=16, softmax=softmax, negatives=64, patience=0)
        losses[softmax] = GRU(config).fit(log).last_run.losses
    assert losses["auto"] == losses["full"]
    assert abs(losses["sampled"][-1] - losses["full"][-1]) < 0.1
    assert np.isfinite(losses["sampled"]).all()


def test_slopes_of_sets_are_those_of_the_full_softmax_where_all_items_are_drawn_once():
    """With some items barred and labels weighed, every sum over pairs and draws is autograd's gradient."""
    source = torch.Generator().manual_seed(2)
    hidden, vectors = torch.randn(4, 6, generator=source), torch.randn(30, 6, generator=source)
    bias = torch.randn(30, generator=source)
    taken = torch.rand(4, 30, generator=source) < 0.2
    barred = (torch.rand(4, 30, generator=source) < 0.2) & ~taken
    pairs, weight = RowItems(*taken.nonzero(as_tuple=True)), torch.rand(int(taken.sum()), generator=source)
    drawn = torch.arange(30), torch.zeros(30)
    shares = softmax_shares(hidden, vectors, bias, pairs, drawn, RowItems(*barred.nonzero(as_tuple=True)))
    slopes = shares.slopes(weight)
    found = shares.mean(*slopes, vectors), shares.spread(*slopes, hidden, 30)
    inputs = [table.clone().requires_grad_() for table in (hidden, vectors)]
    logits = (inputs[0] @ inputs[1].T + bias).masked_fill(barred, -torch.inf)
    (-(weight * logits.log_softmax(1)[pairs])).sum().backward()
    for one, table in zip(found, inputs, strict=True):
        torch.testing.assert_close(one, table.grad, rtol=1e-4, atol=1e-5)


def test_users_are_folded_in_on_samples_nearly_as_on_all_items():
    """With samples three times as large as the catalogue, users' vectors are Newton's over all items within .05."""
    log = random_log(40, 30, mean_events=12.0)
    source = torch.Generator().manual_seed(3)
    items = Items(0.5 * torch.randn(30, 4, generator=source), 0.5 * torch.randn(30, generator=source))
    cells = Cells.of(log)
    found = fold_users(cells, np.arange(len(cells)), items, 2.0, 2000, 0)
    x = torch.from_numpy(cells.matrix().toarray())
    exact = folded(x @ items.vectors, x.sum(1), items, 2.0, 12)
    assert float((found - exact).abs().max()) < 0.05


def test_a_sampled_fit_of_the_bag_is_nearly_the_full_one():
    """The loss of what the tables foretell of everything that users took is within .05 nats of the full training's."""
    log = random_log(100, 50, mean_events=12.0)
    cells = Cells.of(log)
    source = torch.Generator().manual_seed(4)
    begin = Tables(*(0.3 * torch.randn(50, 8, generator=source) for _ in range(2)), torch.zeros(50))
    cycle, x = Cycle(60, 64, 0.05, 1e-3, 0, learn_bias=True), torch.from_numpy(cells.matrix().toarray())
    nats = []
    for tables in (trained(begin, cells, cycle), trained(begin, cells, cycle, 64)):
        h = (x @ tables.read) * (x.sum(1, keepdim=True) + 1).rsqrt()
        nats.append(float(-(torch.log_softmax(h @ tables.predicted.T + tables.bias, 1) * x).sum() / x.sum()))
    assert abs(nats[0] - nats[1]) < 0.05


def test_a_truth_of_factors_is_nearly_the_same_on_samples(monkeypatch):
    """Its penalised likelihood, in which items and users are fitted by other means, is within .02 nats an event."""
    log = random_log(60, 30, mean_events=12.0)
    nats = []
    for many in (MANY_PAIRS, 0):
        monkeypatch.setattr("rimsim.intensity.softmax.MANY_PAIRS", many)
        a, c, d = fit_factors(log, 4, 3.0)
        shares = np.log(np.exp(a @ c.T + d).sum(1))[log.user] - (a @ c.T + d)[log.user, log.item]
        nats.append((shares.sum() + 1.5 * (np.square(a).sum() + np.square(c).sum())) / len(log))
    assert abs(nats[0] - nats[1]) < 0.02


def test_the_past_of_a_large_log_is_fitted_as_the_whole_is(monkeypatch):
    """What is chosen on a held-out past is chosen for sampled fits, though the past alone would be fitted in full."""
    log = random_log(60, 30, mean_events=12.0)
    held = HeldOut.of(log, "30min", 0)
    assert held is not None
    monkeypatch.setattr("rimsim.intensity.softmax.MANY_PAIRS", len(held.past) * 30)
    assert is_sampled(log)
    assert not is_sampled(held.past)
    by_itself, as_whole = (fit_factors(held.past, 4, 3.0, whole=whole) for whole in (None, log))
    assert not np.array_equal(by_itself.item, as_whole.item)
    users = [fold_in(held.past, as_whole, 3.0, whole=whole).user for whole in (None, log)]
    assert not np.array_equal(*users)
    asked = fit_factors(held.past, 4, 3.0, held.user, whole=log)
    spread = float((asked.user[held.user] @ asked.item.T).std())
    assert judge_factors(held, 3.0, "30min", 4).spread == pytest.approx(spread)
    fitted = []

    def counted(cells, *rest):
        fitted.append(int(cells.label.sum()))
        return fit_items(cells, *rest)

    monkeypatch.setattr("rimsim.intensity.sets.factors.fit_items", counted)
    Factors(FactorsConfig(rank=4, ridge=3.0)).fit(log)
    assert fitted == [len(held.past), len(log)]


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
