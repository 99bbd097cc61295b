"""Softmax losses over all or sampled items, and their optimizer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np
import torch
from torch.autograd.function import FunctionCtx

from rimsim.arrays import Array, Ints
from rimsim.compiled import compiled
from rimsim.data.log import EventLog

MANY_PAIRS = 3_000_000_000
"""Largest number of pairs of a target event and an item for a loss over all items; such a fit takes less than a minute
on one core."""
MANY_ITEMS = 4_096
"""Largest number of items for a loss over all items, if labels come in batches. Up to this number, a sample of some
1,700 items is barely faster."""
Softmax: TypeAlias = Literal["auto", "full", "sampled"]
Sample: TypeAlias = tuple[torch.Tensor, torch.Tensor] | None
"""Distinct items (C,), ascending, and corrections (C,) of their logits; None: all items, without correction."""

_FIRST = 0.9
"""Decay of AdamW's mean gradient, the first moment, per step."""
_SECOND = 0.999
"""Decay of AdamW's mean squared gradient, the second moment, per step."""
_SMALL = 1e-8
"""Number that AdamW adds to the root of the second moment, so that steps are finite."""
_RISE = 0.3
"""Share of the steps in which the step size rises to its largest value."""
_FIRST_RATE = 0.04
"""First step size, as a share of the largest step size."""
_UNLIKELY = -1e9
"""Logit of an excluded item. It is finite, because logits are subtracted from each other."""
_PAIRS = 4096
"""Number of pairs whose vectors are held at once."""
_ROWS = 512
"""Number of positions whose logits are held at once, few enough for the cache of a CPU."""


class AdamW:
    """Adam with decoupled weight decay and bounded gradients.

    The method is that of Loshchilov and Hutter (ICLR 2019). The Adam of torch imports torch's compiler, which takes a
    second in every process. If the gradient over all parameters is longer than ``largest``, it is scaled down.
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
        self._decay = weight_decay
        self._largest = largest
        self._steps = 0

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update every parameter by its gradient, then drop the gradients."""
        self._steps += 1
        # Both moments start at 0, so the weights of past gradients sum to these numbers. A division corrects this bias.
        first_weight = 1 - _FIRST**self._steps
        second_weight = 1 - _SECOND**self._steps
        if self._largest < float("inf"):
            gradients = [p.grad for p in self._parameters if p.grad is not None]
            norm = torch.stack([part.norm() for part in gradients]).norm()
            scale = torch.clamp(self._largest / (norm + 1e-6), max=1.0)
            for part in gradients:
                part.mul_(scale)
        for p, mean, square in zip(self._parameters, self._mean, self._square, strict=True):
            if (gradient := p.grad) is None:
                continue
            mean.lerp_(gradient, 1 - _FIRST)
            square.mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)
            p.mul_(1 - rate * self._decay)
            # The memory of the gradient, which is no longer needed, takes the denominator of the step.
            denominator = torch.div(square, second_weight, out=gradient).sqrt_().add_(_SMALL)
            p.addcdiv_(mean, denominator, value=-rate / first_weight)
            p.grad = None


def one_cycle(step: int, steps: int, largest: float) -> float:
    """Step size: a linear rise, then a cosine decay."""
    progress = (step + 1) / steps
    if progress < _RISE:
        relative_rate = _FIRST_RATE + (1 - _FIRST_RATE) * progress / _RISE
    else:
        relative_rate = 0.5 * (1 + np.cos(np.pi * (progress - _RISE) / (1 - _RISE)))
    return largest * max(float(relative_rate), 1e-4)


def softmax_(logits: torch.Tensor) -> torch.Tensor:
    """Softmax of each row, in place on a CPU."""
    # On a CPU, a second array of this size would displace the first array from the cache.
    return torch.softmax(logits, 1, out=logits if logits.device.type == "cpu" else None)


def is_sampled(log: EventLog, softmax: Softmax = "auto", *, many_items: int = 0) -> bool:
    """True if a fit to a log samples the items.

    ``auto`` samples if there are more than :data:`MANY_PAIRS` pairs and more than ``many_items`` items.
    """
    return softmax == "sampled" or (
        softmax == "auto"
        and log.n_items > many_items
        and log.n_items * int(np.count_nonzero(log.targets)) > MANY_PAIRS
    )


@dataclass(frozen=True, eq=False)
class Negatives:
    """Items in a batch's softmax: all, or a sample.

    A sample has labels of the batch, which contribute most to the sum, and as many uniform items (mixed negative
    sampling, Yang et al., WWW 2020).
    """

    share: torch.Tensor | None = None
    """(M,) share of each item among the labels that samples are drawn from; None: all items are used without a
    sample."""
    draws: int = 0
    """Number of sampled labels, and also of uniform items."""

    @classmethod
    def of(cls, labels: Ints, n_items: int, draws: int | None, device: torch.device) -> Negatives:
        """Samples of ``draws`` labels, or all items if None."""
        if draws is None:
            return cls()
        counts = np.bincount(labels, minlength=n_items).astype(np.float32)
        return cls(torch.from_numpy(counts / max(float(counts.sum()), 1.0)).to(device), draws)

    def draw(self, labels: torch.Tensor, source: torch.Generator) -> Sample:
        """Draw items for a batch, given its p labels.

        The correction of an item is log(number of its draws / expected number of its draws). The correction gives an
        unbiased estimate of the sum over all items (logQ correction, Bengio and Senécal, 2008).
        """
        if self.share is None:
            return None
        device = labels.device
        n_items = len(self.share)
        sampled_labels = labels[torch.randint(len(labels), (self.draws,), generator=source, device=device)]
        uniform = torch.randint(n_items, (self.draws,), generator=source, device=device)
        items, n_drawn = torch.unique(torch.cat([sampled_labels, uniform]), return_counts=True)
        n_expected = self.draws * (self.share[items] + 1.0 / n_items)
        return items, (n_drawn / n_expected).log()


def softmax_loss(
    hidden: torch.Tensor,
    vectors: torch.Tensor,
    bias: torch.Tensor,
    label: torch.Tensor,
    weight: torch.Tensor,
    sample: Sample = None,
) -> torch.Tensor:
    """Weighted mean of −log softmax(V h + b) at the labels.

    The softmax sum of a position contains its own labels, and a sample that represents all other items. The estimated
    sum is unbiased; its logarithm is too low by half of its squared relative error. Without a sample the sum is exact.
    The shapes are h (p, W), V (M, W), b (M,), labels (p, K) and weights (p, K). Labels of nonzero weight are distinct.
    """
    if sample is None:
        exact: torch.Tensor = cast("Any", _ExactLoss).apply(hidden, vectors, bias, label, weight)
        return exact
    items, correction = sample
    is_label = weight > 0
    label_scores = torch.einsum("pw,pkw->pk", hidden, vectors[label]) + bias[label]
    sampled_scores = torch.addmm(bias[items] + correction, hidden, vectors[items].T)
    position = torch.searchsorted(items, label).clamp(max=len(items) - 1)
    # Labels that are in the sample, with their position there.
    label_row, label_column = torch.nonzero((items[position] == label) & is_label, as_tuple=True)
    # A sampled item that is also a label of the row must not count twice.
    sampled_scores[label_row, position[label_row, label_column]] = -torch.inf
    all_scores = torch.cat([sampled_scores, label_scores.masked_fill(~is_label, -torch.inf)], 1)
    return (weight * (torch.logsumexp(all_scores, 1, keepdim=True) - label_scores)).sum() / weight.sum()


class _ExactLoss(torch.autograd.Function):
    """Loss over all items, with gradients per block of logits.

    The softmax over M items takes most of the training time. So one softmax serves all labels of its position. Logits
    are computed in blocks, and gradients are taken block by block, so that no (p, M) matrix is in memory.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        hidden: torch.Tensor,
        vectors: torch.Tensor,
        bias: torch.Tensor,
        label: torch.Tensor,
        weight: torch.Tensor,
    ) -> torch.Tensor:
        """Loss; the gradients are computed here too, for :meth:`backward`."""
        row_weight = weight.sum(1, keepdim=True)
        total = row_weight.sum()
        hidden_gradient = torch.empty_like(hidden)
        vectors_gradient = torch.zeros_like(vectors)
        bias_gradient = torch.zeros_like(bias)
        loss = hidden.new_zeros(())
        for start in range(0, len(hidden), _ROWS):
            rows = slice(start, start + _ROWS)
            logits = torch.addmm(bias, hidden[rows], vectors.T)
            label_logits = logits.gather(1, label[rows])
            largest_logit = logits.amax(1, keepdim=True)
            exponentials = logits.sub_(largest_logit).exp_()
            norm = exponentials.sum(1, keepdim=True)
            loss += (weight[rows] * (largest_logit + norm.log() - label_logits)).sum()
            # The loss of a row is its weight times the log-sum-exp of its logits, minus its weighted label logits. So
            # the gradient in the logits is the row's weight times the softmax, minus the label weights.
            softmax = exponentials.mul_(row_weight[rows] / norm)
            gradient = softmax.scatter_add_(1, label[rows], -weight[rows]).div_(total)
            hidden_gradient[rows] = gradient @ vectors
            vectors_gradient.addmm_(gradient.T, hidden[rows])
            bias_gradient += gradient.sum(0)
        ctx.save_for_backward(hidden_gradient, vectors_gradient, bias_gradient)
        return loss / total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of the loss, times that of the outer function."""
        (factor,) = outer
        hidden_gradient, vectors_gradient, bias_gradient = ctx.saved_tensors
        return hidden_gradient * factor, vectors_gradient * factor, bias_gradient * factor, None, None


class RowItems(NamedTuple):
    """p pairs of a batch row and an item."""

    row: torch.Tensor
    """(p,) row of each pair in the batch."""
    item: torch.Tensor
    """(p,) item of each pair."""


def add_rows_(
    out: torch.Tensor, at: torch.Tensor, table: torch.Tensor, of: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Tensor with weighted rows of a table added in place."""
    # Row ``of[i]`` of the table, times ``weight[i]``, is added to row ``at[i]`` of the tensor; i counts p pairs.
    if out.device.type != "cpu":
        return out.index_add_(0, at, weight[:, None] * table[of])
    _add_rows(out.detach().numpy(), at.numpy(), table.detach().numpy(), of.numpy(), weight.detach().numpy())
    return out


@compiled
def _add_rows(out: Array, at: Ints, table: Array, of: Ints, weight: Array) -> None:
    """Add weighted table rows to ``out``; see :func:`add_rows_`."""
    # The loop adds in the order of ``index_add_``, but does not copy the rows.
    for pair in range(len(at)):
        target_row = out[at[pair]]
        source_row = table[of[pair]]
        factor = weight[pair]
        for column in range(len(target_row)):
            target_row[column] += factor * source_row[column]


def _put(table: torch.Tensor, cells: Iterable[RowItems], value: float) -> None:
    """Set given cells of a table to a value."""
    for row, item in cells:
        # On a CPU, a compiled loop takes less than half the time of an assignment by index.
        if table.device.type == "cpu":
            _fill(table.numpy(), row.numpy(), item.numpy(), value)
        else:
            table[row, item] = value


@compiled
def _fill(table: Array, row: Ints, item: Ints, value: float) -> None:
    """Set given cells of a table to a value."""
    for pair in range(len(row)):
        table[row[pair], item[pair]] = value


@dataclass(frozen=True, eq=False)
class SoftmaxShares:
    """Softmax of b rows over own and other items."""

    pairs: RowItems
    """Pairs of a row and an own item, which is a label or history of this row."""
    pair_share: torch.Tensor
    """(p,) share of each own item."""
    rest_share: torch.Tensor
    """(b, C) share of each sampled item, with the items that it stands for; without a sample, share of each item. It is
    0 for own items."""
    items: torch.Tensor | None
    """(C,) sampled items; None: all items."""

    def slopes(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of Σ weight·(−log share) in own and other logits.

        ``weight`` has a weight per own item; ``rest_share`` is overwritten. A gradient is the row's total weight times
        the share, minus the weight of the item itself.
        """
        row_weight = weight.new_zeros(len(self.rest_share)).index_add_(0, self.pairs.row, weight)
        own_gradient = self.pair_share * row_weight[self.pairs.row] - weight
        return own_gradient, self.rest_share.mul_(row_weight[:, None])

    def rows_of(self, vectors: torch.Tensor) -> torch.Tensor:
        """(C, W) vectors of the other items."""
        return vectors if self.items is None else vectors[self.items]

    def mean(
        self, pair_weight: torch.Tensor, rest_weight: torch.Tensor, vectors: torch.Tensor
    ) -> torch.Tensor:
        """(b, W) weighted sums of item vectors for each row.

        ``pair_weight`` has a weight per own item, ``rest_weight`` a weight per row and other item.
        """
        total = rest_weight @ self.rows_of(vectors)
        return add_rows_(total, self.pairs.row, vectors, self.pairs.item, pair_weight)

    def spread(
        self, pair_weight: torch.Tensor, rest_weight: torch.Tensor, hidden: torch.Tensor, n_items: int
    ) -> torch.Tensor:
        """(M, W) weighted sums of row vectors for each item.

        The weights are those of :meth:`mean`.
        """
        total = rest_weight.T @ hidden
        if self.items is not None:
            total = hidden.new_zeros(n_items, hidden.shape[1]).index_copy_(0, self.items, total)
        return add_rows_(total, self.pairs.item, hidden, self.pairs.row, pair_weight)


def softmax_shares(
    hidden: torch.Tensor,
    vectors: torch.Tensor,
    bias: torch.Tensor,
    pairs: RowItems,
    sample: Sample,
    barred: RowItems | None = None,
) -> SoftmaxShares:
    """Softmax of the logits V h + b; see :func:`softmax_loss`.

    ``pairs`` are the rows' own items. ``barred`` are the items that a row cannot consume.
    """
    own_logits = bias.index_select(0, pairs.item)
    # The vectors of all pairs would not fit into the cache of a CPU, so pairs are treated in blocks.
    for start in range(0, len(own_logits), _PAIRS):
        row = pairs.row[start : start + _PAIRS]
        item = pairs.item[start : start + _PAIRS]
        products = hidden.index_select(0, row).mul_(vectors.index_select(0, item))
        own_logits[start : start + _PAIRS] += products.sum(1)
    cells = [pairs] if barred is None else [pairs, barred]
    if sample is None:
        items = None
        other_logits = torch.addmm(bias, hidden, vectors.T)
    else:
        items, correction = sample
        other_logits = torch.addmm(bias[items] + correction, hidden, vectors[items].T)
        column_of_item = items.new_full((len(vectors),), -1)  # −1: the item is not in the sample
        column_of_item[items] = torch.arange(len(items), device=items.device)
        columns = [(row, column_of_item.index_select(0, item)) for row, item in cells]
        cells = [RowItems(row[column >= 0], column[column >= 0]) for row, column in columns]
    # Own and barred items do not count among the other items.
    _put(other_logits, cells, _UNLIKELY)
    top = other_logits.amax(1).scatter_reduce_(0, pairs.row, own_logits, "amax")
    own_exps = (own_logits - top[pairs.row]).exp_()
    other_logits.sub_(top[:, None])
    _put(other_logits, cells, 0.0)  # an exponential takes many times as long where it underflows
    other_exps = other_logits.exp_()
    _put(other_exps, cells, 0.0)
    smallest = torch.finfo(other_exps.dtype).tiny
    total = other_exps.sum(1).index_add_(0, pairs.row, own_exps).clamp_(min=smallest)
    return SoftmaxShares(
        pairs=pairs,
        pair_share=own_exps / total[pairs.row],
        rest_share=other_exps.div_(total[:, None]),
        items=items,
    )
