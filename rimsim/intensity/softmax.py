"""Softmax losses over all items or a sample of them, and their optimizer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch.autograd.function import FunctionCtx

from rimsim.arrays import Ints
from rimsim.data.log import EventLog

MANY_PAIRS = 3_000_000_000
"""Target events times items up to which a fit over all items takes less than a minute of one core."""
MANY_ITEMS = 4_096
"""Items up to which a sample of some 1,700 is barely faster than all of them, where labels come batch by batch."""
Softmax: TypeAlias = Literal["auto", "full", "sampled"]
Sample: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""(C,) distinct items, ascending, and (C,) corrections of their logits: see :meth:`Proposal.draw`."""

_FIRST, _SECOND, _SMALL = 0.9, 0.999, 1e-8
"""Decay of AdamW's moments, and the number that keeps its steps finite."""
_RISE = 0.3
"""Share of the steps in which the step size rises."""
_FIRST_RATE = 0.04
"""First step size, as a share of the largest."""
_ROWS = 512
"""Positions whose logits are held at once; few enough for a processor's cache."""


class AdamW:
    """Adam with decoupled weight decay and a bound on the gradient's norm.

    Loshchilov and Hutter, ICLR 2019. Torch's own would import its compiler, a second of CPU in every process.

    Args:
        parameters: Trained parameters.
        weight_decay: Share of a parameter that a step of unit size takes away.
        largest: Longest gradient over all parameters; a longer one is scaled down.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        *,
        weight_decay: float = 0.0,
        largest: float = float("inf"),
    ) -> None:
        self._parameters = list(parameters)
        self._mean = [torch.zeros_like(p) for p in self._parameters]
        self._square = [torch.zeros_like(p) for p in self._parameters]
        self._decay, self._largest = weight_decay, largest
        self._steps = 0

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move every parameter by its gradient with step size ``rate``, and drop the gradients."""
        self._steps += 1
        first, second = 1 - _FIRST**self._steps, 1 - _SECOND**self._steps
        known = [p.grad for p in self._parameters if p.grad is not None]
        norm = torch.stack([g.norm() for g in known]).norm()
        scale = torch.clamp(self._largest / (norm + 1e-6), max=1.0)
        for p, mean, square in zip(self._parameters, self._mean, self._square, strict=True):
            if p.grad is None:
                continue
            gradient = p.grad * scale
            mean.lerp_(gradient, 1 - _FIRST)
            square.mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)
            p.mul_(1 - rate * self._decay)
            p.addcdiv_(mean, (square / second).sqrt_().add_(_SMALL), value=-rate / first)
            p.grad = None


def one_cycle(step: int, steps: int, largest: float) -> float:
    """Step size of a step counted from 0: a rise over 30 % of the steps, then a cosine."""
    done = (step + 1) / steps
    if done < _RISE:
        share = _FIRST_RATE + (1 - _FIRST_RATE) * done / _RISE
    else:
        share = 0.5 * (1 + np.cos(np.pi * (done - _RISE) / (1 - _RISE)))
    return largest * max(float(share), 1e-4)


def is_sampled(log: EventLog, softmax: Softmax = "auto", *, many_items: int = 0) -> bool:
    """True if a fit to a log, or to its past, samples the items.

    Args:
        log: The whole log.
        softmax: Configured choice; ``auto``: a sample where there are more than :data:`MANY_PAIRS`.
        many_items: Items up to which ``auto`` takes no sample.
    """
    return softmax == "sampled" or (
        softmax == "auto"
        and log.n_items > many_items
        and log.n_items * int(np.count_nonzero(log.targets)) > MANY_PAIRS
    )


@dataclass(frozen=True, eq=False)
class Proposal:
    """Distribution of sampled items: labels of a batch, and as many uniform items.

    Labels bring the items that matter to the sum, uniform items the rest (mixed negative sampling, Yang et al.,
    WWW 2020).
    """

    share: torch.Tensor
    """(M,) share of each item in the labels that batches are made of."""
    draws: int
    """Number of each of the two."""

    @classmethod
    def of(cls, labels: Ints, n_items: int, draws: int, device: torch.device) -> Proposal:
        """Proposal for batches of the given labels."""
        counts = np.bincount(labels, minlength=n_items).astype(np.float32)
        return cls(torch.from_numpy(counts / max(float(counts.sum()), 1.0)).to(device), draws)

    def draw(self, labels: torch.Tensor, source: torch.Generator) -> Sample:
        """Sample of items for a batch with labels (p,).

        A correction is the log of an item's number of draws over its expected number: with it added to the logits, the
        sum of exponentials over the C items is that over all items, in expectation.
        """
        device, n_items = labels.device, len(self.share)
        own = labels[torch.randint(len(labels), (self.draws,), generator=source, device=device)]
        uniform = torch.randint(n_items, (self.draws,), generator=source, device=device)
        items, count = torch.unique(torch.cat([own, uniform]), return_counts=True)
        return items, (count / (self.draws * (self.share[items] + 1.0 / n_items))).log()


def sampled_loss(
    hidden: torch.Tensor,
    vectors: torch.Tensor,
    bias: torch.Tensor,
    label: torch.Tensor,
    weight: torch.Tensor,
    sample: Sample,
) -> torch.Tensor:
    """Weighted mean of −log softmax(V h + b) at the labels, over a sample.

    A position's own labels are in its sum as they are, and the sample stands for all other items with the log of
    its expected count taken off its logit (logQ correction, Bengio and Senécal, 2008). So the estimate of the sum is
    unbiased; that of its logarithm is too low by half its squared relative error.

    Args:
        hidden: (p, W) outputs at the predicted positions, h.
        vectors: (M, W) item vectors, V.
        bias: (M,) item biases, b.
        label: (p, K) int64 items, distinct where their weight is not 0.
        weight: (p, K) their weights, not all 0.
        sample: Items and corrections of :meth:`Proposal.draw`.
    """
    items, correction = sample
    counted = weight > 0
    own = torch.einsum("pw,pkw->pk", hidden, vectors[label]) + bias[label]
    others = torch.addmm(bias[items] + correction, hidden, vectors[items].T)
    place = torch.searchsorted(items, label).clamp(max=len(items) - 1)
    row, column = torch.nonzero((items[place] == label) & counted, as_tuple=True)
    others[row, place[row, column]] = -torch.inf  # it is among its own already
    every = torch.cat([others, own.masked_fill(~counted, -torch.inf)], 1)
    return (weight * (torch.logsumexp(every, 1, keepdim=True) - own)).sum() / weight.sum()


class _FullLoss(torch.autograd.Function):
    """Mean cross-entropy over weighted labels, its gradients taken with the logits."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        hidden: torch.Tensor,
        vectors: torch.Tensor,
        bias: torch.Tensor,
        label: torch.Tensor,
        weight: torch.Tensor,
    ) -> torch.Tensor:
        row = weight.sum(1, keepdim=True)
        total = row.sum()
        of_hidden, of_vectors = torch.empty_like(hidden), torch.zeros_like(vectors)
        of_bias, loss = torch.zeros_like(bias), hidden.new_zeros(())
        for start in range(0, len(hidden), _ROWS):
            rows = slice(start, start + _ROWS)
            logits = torch.addmm(bias, hidden[rows], vectors.T)
            of_labels = logits.gather(1, label[rows])
            most = logits.amax(1, keepdim=True)
            logits.sub_(most).exp_()
            norm = logits.sum(1, keepdim=True)
            loss += (weight[rows] * (most + norm.log() - of_labels)).sum()
            slope = logits.mul_(row[rows] / norm).scatter_add_(1, label[rows], -weight[rows]).div_(total)
            of_hidden[rows] = slope @ vectors
            of_vectors.addmm_(slope.T, hidden[rows])
            of_bias += slope.sum(0)
        ctx.save_for_backward(of_hidden, of_vectors, of_bias)
        return loss / total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (by,) = outer
        of_hidden, of_vectors, of_bias = ctx.saved_tensors
        return of_hidden * by, of_vectors * by, of_bias * by, None, None


def next_events_loss(
    hidden: torch.Tensor, vectors: torch.Tensor, bias: torch.Tensor, label: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Weighted mean of −log softmax(V h + b) at the labels, over all items.

    Arguments are those of :func:`sampled_loss`. The softmax over M items takes most of a training's time; here one
    softmax learns from all labels of its position, its logits are made in blocks, and gradients are taken before a
    block is dropped, so that no (p, M) matrix is ever held.
    """
    loss: torch.Tensor = _FullLoss.apply(hidden, vectors, bias, label, weight)  # type: ignore[no-untyped-call,unused-ignore]
    return loss


class RowItems(NamedTuple):
    """p pairs of a row of a batch and an item, by row."""

    row: torch.Tensor
    """(p,) int64."""
    item: torch.Tensor
    """(p,) int64."""


@dataclass(frozen=True, eq=False)
class SampledShares:
    """Softmax of b rows over their own items and C sampled ones."""

    pairs: RowItems
    """Own items."""
    own: torch.Tensor
    """(p,) their shares."""
    items: torch.Tensor
    """(C,) the sample."""
    others: torch.Tensor
    """(b, C) shares of the items that each sampled item stands for; 0 for a row's own items."""

    def slopes(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(p,) and (b, C) slopes of Σ weight·(−log share) by the logits."""
        count = weight.new_zeros(len(self.others)).index_add_(0, self.pairs.row, weight)
        return self.own * count[self.pairs.row] - weight, self.others * count[:, None]

    def mean(self, own: torch.Tensor, others: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """(b, W) sums of item vectors (M, W), weighted by (p,) and (b, C)."""
        found = others @ vectors[self.items]
        return found.index_add_(0, self.pairs.row, own[:, None] * vectors[self.pairs.item])

    def spread(
        self, own: torch.Tensor, others: torch.Tensor, hidden: torch.Tensor, n_items: int
    ) -> torch.Tensor:
        """(M, W) sums of row vectors (b, W), weighted by (p,) and (b, C)."""
        found = hidden.new_zeros(n_items, hidden.shape[1])
        found[self.items] = others.T @ hidden
        return found.index_add_(0, self.pairs.item, own[:, None] * hidden[self.pairs.row])


def sampled_shares(
    hidden: torch.Tensor,
    vectors: torch.Tensor,
    bias: torch.Tensor,
    pairs: RowItems,
    sample: Sample,
    barred: RowItems | None = None,
) -> SampledShares:
    """Softmax of V h + b of b rows, its sum estimated as in :func:`sampled_loss`.

    Args:
        hidden: (b, W) h.
        vectors: (M, W) V.
        bias: (M,) b.
        pairs: Own items of the rows.
        sample: Items and corrections of :meth:`Proposal.draw`.
        barred: Items that a row cannot take.
    """
    items, correction = sample
    own = (hidden[pairs.row] * vectors[pairs.item]).sum(1) + bias[pairs.item]
    others = torch.addmm(bias[items] + correction, hidden, vectors[items].T)
    for some in (pairs, barred):
        if some is not None:
            place = torch.searchsorted(items, some.item).clamp(max=len(items) - 1)
            drawn_too = items[place] == some.item
            others[some.row[drawn_too], place[drawn_too]] = -torch.inf
    top = others.amax(1).scatter_reduce_(0, pairs.row, own, "amax")
    own = (own - top[pairs.row]).exp_()
    others = others.sub_(top[:, None]).exp_()
    total = others.sum(1).index_add_(0, pairs.row, own)
    return SampledShares(pairs, own / total[pairs.row], items, others / total[:, None])
