"""The softmax over the items that users may take, of which only what they took and a sample is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch


class Pairs(NamedTuple):
    """p pairs of a row of a batch and an item, by row."""

    row: torch.Tensor
    """(p,) int64."""
    item: torch.Tensor
    """(p,) int64."""


@dataclass(frozen=True, eq=False)
class SampledShares:
    """Softmax of b rows: of the rows' own pairs as it is, and of C drawn items, which stand for all others."""

    pairs: Pairs
    """The own pairs."""
    own: torch.Tensor
    """(p,) their shares."""
    items: torch.Tensor
    """(C,) what was drawn."""
    others: torch.Tensor
    """(b, C) shares of what each of them stands for; 0 for a row's own items."""

    def slopes(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Slopes of Σ weight·(−log share) over the own pairs by the logits: (p,) of these and (b, C) of the drawn."""
        count = weight.new_zeros(len(self.others)).index_add_(0, self.pairs.row, weight)
        return self.own * count[self.pairs.row] - weight, self.others * count[:, None]

    def mean(self, own: torch.Tensor, others: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """(b, W) sums of the items' vectors (M, W), weighed by numbers of the pairs (p,) and of the drawn (b, C)."""
        found = others @ vectors[self.items]
        return found.index_add_(0, self.pairs.row, own[:, None] * vectors[self.pairs.item])

    def spread(
        self, own: torch.Tensor, others: torch.Tensor, hidden: torch.Tensor, n_items: int
    ) -> torch.Tensor:
        """(M, W) sums of the rows' vectors (b, W) over each item, weighed likewise."""
        found = hidden.new_zeros(n_items, hidden.shape[1])
        found[self.items] = others.T @ hidden
        return found.index_add_(0, self.pairs.item, own[:, None] * hidden[self.pairs.row])


def sampled_shares(
    hidden: torch.Tensor,
    vectors: torch.Tensor,
    bias: torch.Tensor,
    pairs: Pairs,
    drawn: tuple[torch.Tensor, torch.Tensor],
    barred: Pairs | None = None,
) -> SampledShares:
    """The softmax of V h + b of some rows.

    Its sum is estimated as in :func:`~rimsim.intensity.sampled_softmax.sampled_loss`.

    Args:
        hidden: (b, W) h.
        vectors: (M, W) V.
        bias: (M,) b.
        pairs: The rows' own items.
        drawn: Items, ascending, and corrections of :meth:`~rimsim.intensity.sampled_softmax.Proposal.draw`.
        barred: Items that a row cannot take.
    """
    items, correction = drawn
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
