"""The softmax loss over a sample of items, for catalogues over which the full one costs too much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch

from rimsim.arrays import Ints

if TYPE_CHECKING:
    from rimsim.data.log import EventLog


MANY_PAIRS = 3_000_000_000
"""Target events times items up to which a fit over all items takes less than a minute of one core."""
MANY_ITEMS = 4_096
"""Items up to which a sample of some 1,700 is no faster than all of them by much, where labels come batch by batch."""
Softmax: TypeAlias = Literal["auto", "full", "sampled"]


def is_sampled(log: EventLog, softmax: Softmax = "auto", *, many_items: int = 0) -> bool:
    """Whether a fit to a log, or to the past of a cut of it, looks at a sample of the items.

    Args:
        log: The whole log.
        softmax: What is asked for; ``auto``: a sample where there are more than :data:`MANY_PAIRS`.
        many_items: Items up to which ``auto`` takes no sample.
    """
    return softmax == "sampled" or (
        softmax == "auto"
        and log.n_items > many_items
        and log.n_items * int(np.count_nonzero(log.targets)) > MANY_PAIRS
    )


@dataclass(frozen=True, eq=False)
class Proposal:
    """How items are drawn to stand for all: some of a batch's labels, and as many uniform ones.

    Labels bring the items that matter to the sum, uniform ones those that are never a label (mixed negative sampling,
    Yang et al., WWW 2020).
    """

    share: torch.Tensor
    """(M,) share of each item in the labels that batches are made of."""
    draws: int
    """How many of each of the two."""

    @classmethod
    def of(cls, labels: Ints, n_items: int, draws: int, device: torch.device) -> Proposal:
        """The proposal for batches of some labels."""
        counts = np.bincount(labels, minlength=n_items).astype(np.float32)
        return cls(torch.from_numpy(counts / max(float(counts.sum()), 1.0)).to(device), draws)

    def draw(self, labels: torch.Tensor, source: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw items for a batch.

        Args:
            labels: (p,) items that came.
            source: Draws.

        Returns:
            (C,) distinct items, and (C,) the log of how often each was drawn over how often that is expected: with it
            added to their logits, the sum of exponentials over the C is that over all items, in expectation.
        """
        device, n_items = labels.device, len(self.share)
        some = labels[torch.randint(len(labels), (self.draws,), generator=source, device=device)]
        others = torch.randint(n_items, (self.draws,), generator=source, device=device)
        items, count = torch.unique(torch.cat([some, others]), return_counts=True)
        return items, (count / (self.draws * (self.share[items] + 1.0 / n_items))).log()


def sampled_loss(
    hidden: torch.Tensor,
    vectors: torch.Tensor,
    bias: torch.Tensor,
    label: torch.Tensor,
    weight: torch.Tensor,
    drawn: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Mean of −log softmax(V h + b) at the labels, each with its weight, the softmax's sum estimated from a sample.

    A position's own labels are in its sum as they are, and what was drawn stands for all other items with the log of
    its expected count taken off its logit (logQ correction, Bengio and Senécal, 2008). So the estimate of the sum is
    unbiased; that of its logarithm is too low by half its squared relative error.

    Args:
        hidden: (p, W) outputs at the predicted positions, h.
        vectors: (M, W) item vectors, V.
        bias: (M,) item biases, b.
        label: (p, K) int64 items, distinct where their weight is not 0.
        weight: (p, K) their weights, not all 0.
        drawn: Items and corrections of :meth:`Proposal.draw`.

    Returns:
        A scalar, nats.
    """
    items, correction = drawn
    counted = weight > 0
    own = torch.einsum("pw,pkw->pk", hidden, vectors[label]) + bias[label]
    others = torch.addmm(bias[items] + correction, hidden, vectors[items].T)
    place = torch.searchsorted(items, label).clamp(max=len(items) - 1)
    row, column = torch.nonzero((items[place] == label) & counted, as_tuple=True)
    others[row, place[row, column]] = -torch.inf  # it is among its own already
    every = torch.cat([others, own.masked_fill(~counted, -torch.inf)], 1)
    return (weight * (torch.logsumexp(every, 1, keepdim=True) - own)).sum() / weight.sum()
