"""Training of the bag: part of each user's items is read, the rest is what the softmax is fitted to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from rimsim.arrays import Bools, Float32s, Ints
from rimsim.intensity.adamw import AdamW
from rimsim.rng import Purpose, generator

if TYPE_CHECKING:
    from rimsim.intensity.sets.cells import Cells


_LEAST, _MOST = 0.05, 0.95
"""Share of a user's items that is read, drawn uniformly between the two."""
UNLIKELY = -1e9
"""Logit of what is read; finite, so that a user who has read everything has a softmax too."""
_RISE = 0.3
"""Share of the steps in which the step size rises."""
_FIRST = 0.04
"""First step size, as a share of the largest."""


@dataclass(frozen=True, eq=False)
class Tables:
    """The parameters: logits of a state with n items are W·Σ E_i/√(n + 1) + b."""

    read: torch.Tensor
    """(M, W) E, the vectors of items that are read."""
    predicted: torch.Tensor
    """(M, W) W, the vectors of items that are predicted."""
    bias: torch.Tensor
    """(M,) b."""


@dataclass(frozen=True)
class Cycle:
    """How long, how fast and how strongly held back a training is."""

    steps: int
    batch_size: int
    """Users a step."""
    learning_rate: float
    """Largest step size; it rises over the first 30 % of the steps and falls as a cosine (one cycle)."""
    weight_decay: float
    """Half of this times the squared distance of both tables from ``centre`` is added to the mean loss of a label."""
    seed: int
    learn_bias: bool = False
    """Whether b is trained too."""
    centred: bool = False
    """Whether tables are held near where they began, and not near 0."""
    read_history: bool = False
    """Whether all events that are no targets are read, and not a share of them."""

    def rate(self, step: int) -> float:
        """Step size of a step, counted from 0."""
        done = (step + 1) / self.steps
        if done < _RISE:
            share = _FIRST + (1 - _FIRST) * done / _RISE
        else:
            share = 0.5 * (1 + np.cos(np.pi * (done - _RISE) / (1 - _RISE)))
        return self.learning_rate * max(float(share), 1e-4)


def begun(tables: Tables, cycle: Cycle) -> tuple[list[torch.nn.Parameter], list[torch.Tensor], AdamW]:
    """Where a training begins.

    Args:
        tables: What to begin from; stays as it is.
        cycle: What is trained, and what it is held near to.

    Returns:
        Parameters E, W and b; what E and W are held near to; the optimizer of those that are trained.
    """
    begin = [tables.read, tables.predicted, tables.bias]
    now = [torch.nn.Parameter(t.clone()) for t in begin]
    centre = [t if cycle.centred else torch.zeros_like(t) for t in begin[:2]]
    return now, centre, AdamW(now if cycle.learn_bias else now[:2], weight_decay=0.0, largest=float("inf"))


@torch.no_grad()
def trained(tables: Tables, cells: Cells, cycle: Cycle) -> Tables:
    """The tables after a training on the users of a log; the given ones stay as they are.

    The loss is the mean over labels of −log softmax over the items that are not read, each label with its weight.
    A batch's gradients are written out, which spares recording them: with P the softmax minus the labels,
    ∇W = Pᵀh and ∇E = XᵀPW/√(n + 1).
    """
    device = tables.read.device
    now, centre, optimizer = begun(tables, cycle)
    read, predicted, bias = now
    for step, (read_now, label) in enumerate(matrices(cells, cycle)):
        x, y = read_now.to(device), label.to(device)
        scale = (x.sum(1, keepdim=True) + 1).rsqrt()
        h = (x @ read) * scale
        logits = torch.addmm(bias, h, predicted.T).masked_fill_(x > 0, UNLIKELY)
        count = y.sum(1, keepdim=True)
        slope = torch.softmax(logits, 1).mul_(count).sub_(y).div_(count.sum().clamp(min=1e-6))
        held = [cycle.weight_decay * (table - origin) for table, origin in zip(now, centre, strict=False)]
        read.grad = x.T @ ((slope @ predicted) * scale) + held[0]
        predicted.grad = slope.T @ h + held[1]
        bias.grad = slope.sum(0) if cycle.learn_bias else None
        optimizer.step(cycle.rate(step))
    return Tables(read.detach(), predicted.detach(), bias.detach())


def matrices(cells: Cells, cycle: Cycle) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """For every step, what is read and what is foretold of some users: (b, M) ones, and (b, M) weights of labels."""
    for split in splits(cells, cycle):
        x = np.zeros((split.users, cells.n_items), np.float32)
        x[split.row[split.is_read], split.item[split.is_read]] = 1.0
        y = np.zeros_like(x)
        y[split.row[~split.is_read], split.item[~split.is_read]] = split.label[~split.is_read]
        yield torch.from_numpy(x), torch.from_numpy(y)


def decks(users: Ints, size: int, steps: int, source: np.random.Generator) -> Iterator[Ints]:
    """Some users for every step, in random order, each once before any comes again; none where there are no users.

    Args:
        users: (n,) who comes.
        size: How many a step; all, where there are fewer.
        steps: How many steps.
        source: Draws the order when it is needed, between what else is drawn from it.
    """
    size = min(size, len(users))
    waiting = np.zeros(0, np.int64)
    for _ in range(steps if size else 0):
        if len(waiting) < size:
            waiting = np.concatenate([waiting, source.permutation(users)])
        batch, waiting = waiting[:size], waiting[size:]
        yield batch


class Split(NamedTuple):
    """The pairs of some users, and which of them are read."""

    users: int
    """How many users, b."""
    row: Ints
    """(p,) which of them each pair is of."""
    item: Ints
    """(p,) its item."""
    label: Float32s
    """(p,) its weight as a label; 0 for what is only history."""
    is_read: Bools
    """(p,) whether it is read."""


def splits(cells: Cells, cycle: Cycle) -> Iterator[Split]:
    """For every step, the pairs of some users, part of which are read.

    Users come in random order, each once before any comes again. Those who have nothing to foretell are left out.
    """
    if not len(cells):
        return
    source = generator(cycle.seed, Purpose.MODEL, 21)
    labelled = np.add.reduceat(cells.label > 0, cells.offsets[:-1], dtype=np.int64) > 0
    users = np.flatnonzero(labelled & ((np.diff(cells.offsets) > 1) | cycle.read_history))
    for batch in decks(users, cycle.batch_size, cycle.steps, source):
        row, place = cells.pairs_of(batch)
        share = _LEAST + (_MOST - _LEAST) * source.random(len(batch))
        is_read = source.random(len(row)) < share[row]
        if cycle.read_history:
            is_read |= cells.label[place] == 0
        yield Split(len(batch), row, cells.item[place], cells.label[place], is_read)
