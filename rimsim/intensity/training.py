"""How the sequence models are trained: full softmax at the target positions, AdamW, early stopping."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from rimsim.intensity.adamw import AdamW
from rimsim.intensity.sequences import batches
from rimsim.rng import Purpose, derived_seed, generator, uniform

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from rimsim.intensity.sequences import Batch, Windows

__all__ = ["Schedule", "SequenceNetwork", "TrainingRun", "dropped", "held_out", "mean_loss", "train"]

_CLIP = 1.0
"""Largest norm of a gradient."""


class SequenceNetwork(torch.nn.Module, ABC):
    """A network that turns read items into a logit for every next item."""

    @abstractmethod
    def logits(self, batch: Batch, draw: torch.Generator | None) -> torch.Tensor:
        """(p, M) logits at the predicted positions of a batch; ``draw`` draws dropout, None: no dropout."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int
    patience: int = 0
    """Epochs without a better held-out loss before training stops; 0: no early stopping."""
    final_rate: float = 1.0
    """Share of the learning rate that is left after the last epoch; it falls linearly, batch by batch."""


@dataclass(frozen=True)
class TrainingRun:
    """What a training did."""

    losses: tuple[float, ...]
    """Mean negative log-likelihood of a training target, per epoch, nats."""
    held_out: tuple[float, ...]
    """The same on held-out users after each epoch; empty without early stopping."""
    best_epoch: int
    """The epoch whose parameters were kept, counted from 1; 0 where nothing was trained."""


def dropped(values: torch.Tensor, rate: float, draw: torch.Generator | None) -> torch.Tensor:
    """Dropout whose mask comes from a generator of its own rather than from torch's global one."""
    if draw is None or rate == 0:
        return values
    kept = torch.rand(values.shape, generator=draw, device=values.device) >= rate
    return values * kept / (1.0 - rate)


def held_out(users: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """(n,) which users are kept from training; the same user always is, whatever else is in the log."""
    return np.asarray(uniform(seed, Purpose.MODEL, 1, users) < share, bool)


def mean_loss(network: SequenceNetwork, cut: Windows, batch_size: int, device: torch.device) -> float:
    """Mean negative log-likelihood of the predicted events, nats."""
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in batches(cut, batch_size, device):
            total += float(
                functional.cross_entropy(network.logits(batch, None), batch.label, reduction="sum")
            )
            count += len(batch.label)
    return total / max(count, 1)


def train(
    network: SequenceNetwork,
    cut: Windows,
    schedule: Schedule,
    device: torch.device,
    *,
    check: Windows | None = None,
    logits: Callable[[Batch, torch.Generator | None], torch.Tensor] | None = None,
) -> TrainingRun:
    """Train a network in place by AdamW on the mean cross-entropy of the predicted events.

    With ``check`` and patience, the parameters of the epoch with the least held-out loss are kept (the
    parameters before the first epoch count too).

    Args:
        network: The network; a :class:`SequenceNetwork`.
        cut: Windows to train on.
        schedule: How long and how fast; its seed orders batches and draws dropout.
        device: Where the network is.
        check: Windows of held-out users.
        logits: What to call instead of ``network.logits``, such as one that starts from given states.
    """
    forward = logits or network.logits
    order = generator(schedule.seed, Purpose.MODEL, 2)
    draw = torch.Generator(device)
    draw.manual_seed(derived_seed(schedule.seed, Purpose.MODEL, 3))
    optimizer = AdamW(network.parameters(), weight_decay=schedule.weight_decay, largest=_CLIP)
    stopping = check is not None and len(check) > 0 and schedule.patience > 0
    best, best_epoch, kept = np.inf, schedule.epochs, None
    if stopping and check is not None:
        best, best_epoch = mean_loss(network, check, schedule.batch_size, device), 0
        kept = copy.deepcopy(network.state_dict())
    steps = schedule.epochs * -(-len(cut) // schedule.batch_size)
    done = 0
    losses: list[float] = []
    checks: list[float] = []
    for epoch in range(1, schedule.epochs + 1):
        total, count = 0.0, 0
        for batch in batches(cut, schedule.batch_size, device, order):
            left = 1.0 - (1.0 - schedule.final_rate) * done / steps
            done += 1
            loss = functional.cross_entropy(forward(batch, draw), batch.label)
            torch.autograd.backward(loss)
            optimizer.step(schedule.learning_rate * left)
            total += float(loss.detach()) * len(batch.label)
            count += len(batch.label)
        losses.append(total / max(count, 1))
        if not stopping or check is None:
            continue
        checks.append(mean_loss(network, check, schedule.batch_size, device))
        if checks[-1] < best:
            best, best_epoch, kept = checks[-1], epoch, copy.deepcopy(network.state_dict())
        elif epoch - best_epoch >= schedule.patience:
            break
    if kept is not None:
        network.load_state_dict(kept)
    return TrainingRun(tuple(losses), tuple(checks), best_epoch)
