"""Training of the sequence models: softmax at the target positions, AdamW, early stopping."""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch.nn import functional

from rimsim.arrays import Bools, Ints
from rimsim.intensity.adamw import AdamW
from rimsim.intensity.sampled_softmax import Proposal, sampled_loss
from rimsim.intensity.sequence.next_events import next_events_loss
from rimsim.intensity.sequence.sequences import batches
from rimsim.rng import Purpose, derived_seed, generator, uniform

if TYPE_CHECKING:
    from rimsim.intensity.sequence.sequences import Batch, Windows


Outputs: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""h (p, W) at the predicted positions, and item vectors V (M, W)."""

_CLIP = 1.0
"""Largest norm of a gradient."""


class SequenceNetwork(torch.nn.Module, ABC):
    """A network that turns read items into a logit V h + b for every next item.

    Read and predicted items have the same vectors, and each item has a bias.

    Args:
        n_items: Size of the catalogue, M.
        width: Size of the vectors, W.
        dropout: Share of read items and hidden units that is dropped in a training.
    """

    item: torch.nn.Parameter
    """(M, W) item vectors that are learned."""
    bias: torch.nn.Parameter
    """(M,) item biases, b."""

    def __init__(self, n_items: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.item = torch.nn.Parameter(torch.empty(n_items, width))
        self.bias = torch.nn.Parameter(torch.empty(n_items))

    @torch.no_grad()
    def draw(self, seed: int) -> None:
        """Initial values of everything but the item bias, from a generator of the network's own."""
        source = torch.Generator()
        source.manual_seed(derived_seed(seed, Purpose.MODEL, 4))
        self._drawn(source)

    @abstractmethod
    def _drawn(self, source: torch.Generator) -> None:
        """Draw them, in place."""

    @abstractmethod
    def outputs(self, batch: Batch, draw: torch.Generator | None) -> Outputs:
        """The h (p, W) at the predicted positions of a batch and item vectors V (M, W).

        ``draw`` draws dropout, None: no dropout.
        """


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a training: length, step sizes, early stopping."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int
    patience: int = 0
    """Epochs without a better held-out loss before training stops; 0: no early stopping."""
    final_rate: float = 1.0
    """Share of the learning rate that is left after the last epoch; it falls linearly, batch by batch."""
    ahead: int = 1
    """Events from each predicted position on that its p is fitted to."""
    sampled: float = 1.0
    """Share of the predicted positions whose loss is computed, drawn anew in every batch."""
    negatives: int | None = None
    """Labels and uniform items, as many of each, that stand for all items in a batch's softmax; None: the full one."""


@dataclass(frozen=True)
class TrainingRun:
    """Record of a training."""

    losses: tuple[float, ...]
    """Mean negative log-likelihood of a training target, per epoch, nats."""
    held_out: tuple[float, ...]
    """Mean negative log-likelihood on held-out users after each epoch, nats; empty without early stopping."""
    best_epoch: int
    """The epoch whose parameters were kept, counted from 1; 0 where nothing was trained."""


def dropped(values: torch.Tensor, rate: float, draw: torch.Generator | None) -> torch.Tensor:
    """Dropout whose mask comes from a generator of its own rather than from torch's global one."""
    if draw is None or rate == 0:
        return values
    kept = torch.rand(values.shape, generator=draw, device=values.device) >= rate
    return values * kept / (1.0 - rate)


def held_out(users: Ints, share: float, seed: int) -> Bools:
    """(n,) which users are kept from training; the same user always is, whatever else is in the log."""
    return np.asarray(uniform(seed, Purpose.MODEL, 1, users) < share, bool)


def mean_loss(
    network: SequenceNetwork,
    cut: Windows,
    batch_size: int,
    device: torch.device,
    ahead: int = 1,
    proposal: Proposal | None = None,
) -> float:
    """Mean negative log-likelihood of the predicted events, nats; with a proposal, from the same draws each time."""
    total, count = 0.0, 0
    source = torch.Generator(device)
    source.manual_seed(0)
    with torch.no_grad():
        for batch in batches(cut, batch_size, device, ahead=ahead):
            loss = _loss(network, network.outputs(batch, None), batch, ahead, proposal, source)
            total += float(loss) * len(batch.label)
            count += len(batch.label)
    return total / max(count, 1)


def _loss(
    network: SequenceNetwork,
    outputs: Outputs,
    batch: Batch,
    ahead: int,
    proposal: Proposal | None,
    source: torch.Generator,
) -> torch.Tensor:
    """Mean negative log-likelihood of a batch's predicted events, each with its weight."""
    hidden, vectors = outputs
    if proposal is not None:
        drawn = proposal.draw(batch.label, source)
        return sampled_loss(hidden, vectors, network.bias, batch.later, batch.weight, drawn)
    if ahead > 1 or batch.weighted:
        return next_events_loss(hidden, vectors, network.bias, batch.later, batch.weight)
    return functional.cross_entropy(torch.addmm(network.bias, hidden, vectors.T), batch.label)


def _some(outputs: Outputs, batch: Batch, share: float, draw: torch.Generator) -> tuple[Outputs, Batch]:
    """A share of the predicted positions, drawn."""
    hidden, vectors = outputs
    chosen = torch.rand(len(hidden), generator=draw, device=hidden.device) < share
    if not bool(chosen.any()):
        return outputs, batch
    kept = dataclasses.replace(
        batch,
        row=batch.row[chosen],
        step=batch.step[chosen],
        label=batch.label[chosen],
        later=batch.later[chosen],
        weight=batch.weight[chosen],
    )
    return (hidden[chosen], vectors), kept


def train(
    network: SequenceNetwork,
    cut: Windows,
    options: TrainingOptions,
    device: torch.device,
    *,
    check: Windows | None = None,
    outputs: Callable[[Batch, torch.Generator | None], Outputs] | None = None,
) -> TrainingRun:
    """Train a network in place by AdamW on the mean cross-entropy of the predicted events.

    With ``check`` and patience, the parameters of the epoch with the least held-out loss are kept (the
    parameters before the first epoch count too).

    Args:
        network: The network; a :class:`SequenceNetwork`.
        cut: Windows to train on.
        options: How long and how fast; its seed orders batches and draws dropout.
        device: Where the network is.
        check: Windows of held-out users.
        outputs: What to call instead of ``network.outputs``, such as one that starts from given states.
    """
    forward, ahead = outputs or network.outputs, options.ahead
    order = generator(options.seed, Purpose.MODEL, 2)
    draw = torch.Generator(device)
    draw.manual_seed(derived_seed(options.seed, Purpose.MODEL, 3))
    proposal = None
    if options.negatives is not None:
        items = cut.item[cut.target]
        proposal = Proposal.of(items, len(network.bias), options.negatives, device)
    optimizer = AdamW(network.parameters(), weight_decay=options.weight_decay, largest=_CLIP)
    stopping = check is not None and len(check) > 0 and options.patience > 0
    best, best_epoch, kept = np.inf, options.epochs, None
    if stopping and check is not None:
        best, best_epoch = mean_loss(network, check, options.batch_size, device, ahead, proposal), 0
        kept = copy.deepcopy(network.state_dict())
    steps = options.epochs * -(-len(cut) // options.batch_size)
    done = 0
    losses: list[float] = []
    checks: list[float] = []
    for epoch in range(1, options.epochs + 1):
        total, count = 0.0, 0
        for batch in batches(cut, options.batch_size, device, order, ahead):
            left = 1.0 - (1.0 - options.final_rate) * done / steps
            done += 1
            outputs_here = forward(batch, draw)
            if options.sampled < 1.0:
                outputs_here, batch = _some(outputs_here, batch, options.sampled, draw)  # noqa: PLW2901
            loss = _loss(network, outputs_here, batch, ahead, proposal, draw)
            torch.autograd.backward(loss)
            optimizer.step(options.learning_rate * left)
            total += float(loss.detach()) * len(batch.label)
            count += len(batch.label)
        losses.append(total / max(count, 1))
        if not stopping or check is None:
            continue
        checks.append(mean_loss(network, check, options.batch_size, device, ahead, proposal))
        if checks[-1] < best:
            best, best_epoch, kept = checks[-1], epoch, copy.deepcopy(network.state_dict())
        elif epoch - best_epoch >= options.patience:
            break
    if kept is not None:
        network.load_state_dict(kept)
    return TrainingRun(tuple(losses), tuple(checks), best_epoch)
