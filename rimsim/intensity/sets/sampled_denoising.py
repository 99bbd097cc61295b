"""Training of the bag on a large log: as in full, with the softmax over what is foretold and a sample of items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rimsim.intensity.sampled_softmax import Proposal
from rimsim.intensity.sets.denoising import Tables, begun, splits
from rimsim.intensity.sets.sampled_sets import Pairs, sampled_shares
from rimsim.rng import Purpose, derived_seed

if TYPE_CHECKING:
    from rimsim.intensity.sets.cells import Cells
    from rimsim.intensity.sets.denoising import Cycle


@torch.no_grad()
def trained_on_samples(tables: Tables, cells: Cells, cycle: Cycle, draws: int) -> Tables:
    """The tables after a training; see :func:`rimsim.intensity.sets.denoising.trained`.

    Args:
        tables: What to begin from; stays as it is.
        cells: Who has consumed what.
        cycle: How long, how fast and how strongly held back.
        draws: Labels drawn for a batch, and as many uniform items, which stand for all others.
    """
    device, n_items = tables.read.device, cells.n_items
    now, centre, optimizer = begun(tables, cycle)
    read, predicted, bias = now
    proposal = Proposal.of(cells.item[cells.label > 0], n_items, draws, device)
    source = torch.Generator(device)
    source.manual_seed(derived_seed(cycle.seed, Purpose.MODEL, 25))
    for step, split in enumerate(splits(cells, cycle)):
        row, item, label = (
            torch.from_numpy(part).to(device) for part in (split.row, split.item, split.label)
        )
        is_read = torch.from_numpy(split.is_read).to(device)
        foretold = ~is_read & (label > 0)
        known, own = Pairs(row[is_read], item[is_read]), Pairs(row[foretold], item[foretold])
        total = torch.zeros(split.users, read.shape[1], device=device)
        total.index_add_(0, known.row, read[known.item])
        scale = (torch.bincount(known.row, minlength=split.users)[:, None] + 1.0).rsqrt()
        h = total * scale
        drawn = proposal.draw(own.item if len(own.item) else item, source)
        shares = sampled_shares(h, predicted, bias, own, drawn, barred=known)
        weight = label[foretold]
        slopes = shares.slopes(weight / weight.sum().clamp(min=1e-6))
        held = [cycle.weight_decay * (table - origin) for table, origin in zip(now, centre, strict=False)]
        pull = shares.mean(*slopes, predicted) * scale
        read.grad = held[0].index_add_(0, known.item, pull[known.row])
        predicted.grad = shares.spread(*slopes, h, n_items) + held[1]
        if cycle.learn_bias:
            bias.grad = shares.spread(*slopes, torch.ones_like(scale), n_items)[:, 0]
        optimizer.step(cycle.rate(step))
    return Tables(read.detach(), predicted.detach(), bias.detach())
