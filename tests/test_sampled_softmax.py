"""The softmax over a sample of items against the full one."""

from __future__ import annotations

import numpy as np
import torch

from rimsim.intensity import GRU, GRUConfig
from rimsim.intensity.next_events import next_events_loss
from rimsim.intensity.sampled_softmax import Proposal, sampled_loss
from rimsim.testing import random_log


def _problem(n_items=300, positions=40, k=3):
    source = torch.Generator().manual_seed(1)
    label = torch.stack([torch.randperm(n_items, generator=source)[:k] for _ in range(positions)])
    weight = torch.rand(positions, k, generator=source)
    weight[::3, 2] = 0.0
    return (
        torch.randn(positions, 8, generator=source),
        torch.randn(n_items, 8, generator=source) / 2,
        torch.randn(n_items, generator=source) / 2,
        label,
        weight,
    ), source


def test_all_items_drawn_once_give_the_full_loss():
    """Where each item is drawn as often as expected, loss and gradients are those of the full softmax."""
    (hidden, vectors, bias, label, weight), _ = _problem()
    drawn = torch.arange(300), torch.zeros(300)
    found = []
    for loss in (sampled_loss, next_events_loss):
        inputs = [x.clone().requires_grad_() for x in (hidden, vectors, bias)]
        value = loss(*inputs, label, weight, drawn) if loss is sampled_loss else loss(*inputs, label, weight)
        value.backward()
        found.append((value.detach(), *(x.grad for x in inputs)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_sum_over_a_sample_is_unbiased():
    """Over many draws, the corrected sum of exponentials is that over all items, within four standard errors."""
    (hidden, vectors, bias, label, _), source = _problem()
    proposal = Proposal.of(label[:, 0].numpy(), 300, 64, torch.device("cpu"))
    whole = (hidden[:5] @ vectors.T + bias).exp().sum(1)
    sums = []
    for _ in range(400):
        items, correction = proposal.draw(label[:, 0], source)
        sums.append((hidden[:5] @ vectors[items].T + bias[items] + correction).exp().sum(1))
    found = torch.stack(sums)
    assert ((found.mean(0) - whole).abs() <= 4 * found.std(0) / 20).all()


def test_a_sampled_fit_says_nearly_what_the_full_one_says():
    """On a small log, the held-out loss of a sampled fit is within .1 nats of the full one; auto is the full one."""
    log = random_log(150, 60, mean_events=15.0)
    losses = {}
    for softmax in ("full", "sampled", "auto"):
        config = GRUConfig(epochs=4, width=16, softmax=softmax, negatives=64, patience=0)
        model = GRU(config).fit(log)
        losses[softmax] = model.last_run.losses
    assert losses["auto"] == losses["full"]
    assert abs(losses["sampled"][-1] - losses["full"][-1]) < 0.1
    assert np.isfinite(losses["sampled"]).all()
