"""Softmax factors of a large log: items by steps over some users at a time, users by Newton's method, on samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from rimsim.arrays import Ints
from rimsim.intensity.adamw import AdamW
from rimsim.intensity.blocks import spans
from rimsim.intensity.sampled_softmax import Proposal
from rimsim.intensity.sets.denoising import Cycle, decks
from rimsim.intensity.sets.folding import shortened
from rimsim.intensity.sets.sampled_sets import Pairs, sampled_shares
from rimsim.rng import Purpose, derived_seed, generator

if TYPE_CHECKING:
    from rimsim.intensity.sets.cells import Cells
    from rimsim.intensity.sets.sampled_sets import SampledShares


_USERS = 256
"""Users of a step."""
_STEPS, _TIMES = 240, 4
"""Steps of a fit at least, and how often each user is looked at at least."""
_RATE = 0.05
"""Largest step size."""
_NEWTON_STEPS = 5
"""With which a user is folded in from nothing."""


class Items(NamedTuple):
    """What is known of items: log p(y|u) = ⟨a_u, c_y⟩ + d_y − log Σ."""

    vectors: torch.Tensor
    """(M, R) c."""
    bias: torch.Tensor
    """(M,) d."""


@torch.no_grad()
def fit_items(
    cells: Cells, begin: Items, ridge: float, draws: int, seed: int, *, learn_bias: bool = False
) -> Items:
    """The c (and d) that maximise Σ log p(y|u) over the labels less ridge/2·(‖a‖² + ‖c‖²), nearly.

    A step takes some users, improves their a by a Newton step on the likelihood of all that they consumed, and c and
    d by one of Adam on that of the labels. Each user's a is kept for the next time. Sums over items are over the users'
    own items and a sample, so a step costs what its users consumed, whatever the size of the catalogue.

    Args:
        cells: Who has consumed what.
        begin: Initial values; they stay as they are.
        ridge: The penalty.
        draws: Labels drawn for a step, and as many uniform items, which stand for all others.
        seed: Seed of the order of users and of what is drawn.
        learn_bias: Whether d is fitted too.
    """
    n, device = len(cells), begin.vectors.device
    size = min(_USERS, n)
    steps = max(_STEPS, -(-_TIMES * n // max(size, 1)))
    c, d = (torch.nn.Parameter(table.clone()) for table in begin)
    a = torch.zeros(n, c.shape[1], device=device)
    optimizer = AdamW([c, d] if learn_bias else [c], weight_decay=0.0, largest=float("inf"))
    cycle = Cycle(steps, size, _RATE, 0.0, seed)
    order = generator(seed, Purpose.MODEL, 26)
    draw = _Draw(cells, draws, seed, device)
    for step, batch in enumerate(decks(np.arange(n), size, steps, order)):
        pairs, label, drawn = draw.of(batch)
        rows = torch.from_numpy(batch).to(device)
        a[rows] = u = _newton(a[rows], c, sampled_shares(a[rows], c, d, pairs, drawn), ridge)
        shares = sampled_shares(u, c, d, pairs, drawn)
        slopes = shares.slopes(label)
        c.grad = shares.spread(*slopes, u, len(c)) * (n / size) + ridge * c
        if learn_bias:
            d.grad = shares.spread(*slopes, u.new_ones(size, 1), len(d))[:, 0] * (n / size)
        optimizer.step(cycle.rate(step))
    return Items(c.detach(), d.detach())


@torch.no_grad()
def fold_users(cells: Cells, users: Ints, items: Items, ridge: float, draws: int, seed: int) -> torch.Tensor:
    """(len(users), R) the a of some of the cells' users under given items, by Newton's method from 0.

    Args:
        cells: Who has consumed what.
        users: Which of them.
        items: c and d.
        ridge: The penalty.
        draws: As for :func:`fit_items`.
        seed: Seed of what is drawn.
    """
    c, d = items
    draw = _Draw(cells, draws, seed, c.device)
    found = c.new_zeros(len(users), c.shape[1])
    for first, last in spans(len(users), _USERS):
        pairs, _, drawn = draw.of(users[first:last])
        for _ in range(_NEWTON_STEPS):
            u = found[first:last]
            found[first:last] = _newton(u, c, sampled_shares(u, c, d, pairs, drawn), ridge)
    return found


class _Draw:
    """Pairs of users, and items that stand for all others, drawn anew each time."""

    def __init__(self, cells: Cells, draws: int, seed: int, device: torch.device) -> None:
        self._cells, self._device = cells, device
        self._proposal = Proposal.of(cells.item, cells.n_items, draws, device)
        self._source = torch.Generator(device)
        self._source.manual_seed(derived_seed(seed, Purpose.MODEL, 27))

    def of(self, users: Ints) -> tuple[Pairs, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """The users' pairs, the pairs' labels, and what is drawn."""
        row, place = self._cells.pairs_of(users)
        parts = row, self._cells.item[place], self._cells.label[place]
        of_row, item, label = (torch.from_numpy(part).to(self._device) for part in parts)
        return Pairs(of_row, item), label, self._proposal.draw(item, self._source)


def _newton(u: torch.Tensor, c: torch.Tensor, shares: SampledShares, ridge: float) -> torch.Tensor:
    """(b, R) u after a Newton step on the penalised likelihood of the own pairs; see :func:`folded`."""
    rank, row, item = c.shape[1], *shares.pairs
    every = torch.ones_like(shares.own)
    count = u.new_zeros(len(u)).index_add_(0, row, every)
    slope = -shares.mean(*shares.slopes(every), c) - ridge * u
    mean = shares.mean(shares.own, shares.others, c)
    second = shares.others @ _squares(c[shares.items])
    # As a product of matrices: to lay out a square for each pair takes five times as long.
    items, place = torch.unique(item, return_inverse=True)
    pairs = torch.sparse_coo_tensor(
        torch.stack([row, place]), shares.own, (len(u), len(items)), check_invariants=False
    )
    second += torch.sparse.mm(pairs, _squares(c[items]))
    spread = second.reshape(-1, rank, rank) - mean[:, :, None] * mean[:, None, :]
    penalty = ridge * torch.eye(rank, device=c.device)
    delta = torch.linalg.solve(count[:, None, None] * spread + penalty, slope)
    return shortened(u, delta, 2.0 * c.norm(dim=1).amax())


def _squares(vectors: torch.Tensor) -> torch.Tensor:
    """(n, R²) outer products of vectors with themselves."""
    return (vectors[:, :, None] * vectors[:, None, :]).flatten(1)
