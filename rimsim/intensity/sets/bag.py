"""Bag: softmax linear in the set of consumed items."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled
from rimsim.data.log import EventLog
from rimsim.intensity import softmax
from rimsim.intensity.contract import Hidden, Walk, stepped
from rimsim.intensity.popularity import fill_cold, log_popularity
from rimsim.intensity.selection.shrinkage import Shrinkage
from rimsim.intensity.sets.personal import Arrays, Cells, PersonalModel, SoftmaxConfig, decks, distinct, sums
from rimsim.intensity.states import UserStates
from rimsim.rng import Purpose, derived_seed, generator

_LEAST = 0.05
_MOST = 0.95
"""Bounds of the share of a user's items that is read; the share is uniform between the bounds."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tables:
    """Parameters of the logits ``W·Σ E_i/√(n + 1) + b``."""

    read: torch.Tensor
    """(M, W) E, vectors of items as read."""
    predicted: torch.Tensor
    """(M, W) W, vectors of items as predicted."""
    bias: torch.Tensor
    """(M,) bias b of each item."""


@dataclasses.dataclass(frozen=True)
class Cycle:
    """Length, step size and regularisation of a training."""

    steps: int
    """Number of steps of Adam."""
    batch_size: int
    """Number of users per step."""
    learning_rate: float
    """Largest step size of :func:`one_cycle`."""
    weight_decay: float
    """Penalty w. The objective is the mean loss of a label plus w/2 times the squared distance of both tables from
    their centre (see ``centred``)."""
    seed: int
    """Seed of batches and samples."""
    learn_bias: bool = False
    """True if the bias b is trained too."""
    centred: bool = False
    """True if the penalty pulls tables towards their initial values; False: towards 0."""
    read_history: bool = False
    """True if the model reads all events that are not targets; False: a random share of these."""


class ReadSplit(NamedTuple):
    """Items of b users, split into read and predicted items."""

    users: int
    """b, the number of users."""
    read: softmax.RowItems
    """Pairs of a user's row and an item that the model reads."""
    predicted: softmax.RowItems
    """Pairs of a user's row and an item that the model predicts."""
    label: torch.Tensor
    """(p,) float32 weight of each predicted item as a label."""

    def sums(self, table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums of table rows over read items, and item counts."""
        total = table.new_zeros(self.users, table.shape[1])
        ones = table.new_ones(len(self.read.row))
        softmax.add_rows_(total, self.read.row, table, self.read.item, ones)
        return total, torch.bincount(self.read.row, minlength=self.users)


def splits(cells: Cells, cycle: Cycle, device: torch.device) -> Iterator[ReadSplit]:
    """Items of each step's users, split into read and predicted."""
    if not len(cells):
        return
    source = generator(cycle.seed, Purpose.MODEL, 21)
    has_label = np.add.reduceat(cells.label > 0, cells.offsets[:-1], dtype=np.int64) > 0
    # A user needs a label to predict. Unless the history is read, the user also needs another item to read.
    users = np.flatnonzero(has_label & ((np.diff(cells.offsets) > 1) | cycle.read_history))
    for batch in decks(users, cycle.batch_size, cycle.steps, source):
        row, pair = cells.pairs_of(batch)
        read_share = _LEAST + (_MOST - _LEAST) * source.random(len(batch))
        is_read = source.random(len(row)) < read_share[row]
        item = cells.item[pair]
        label = cells.label[pair]
        if cycle.read_history:
            is_read |= label == 0
        is_predicted = ~is_read & (label > 0)
        yield ReadSplit(
            users=len(batch),
            read=_pairs(row, item, is_read, device),
            predicted=_pairs(row, item, is_predicted, device),
            label=torch.from_numpy(label[is_predicted]).to(device),
        )


def _pairs(row: Ints, item: Ints, is_chosen: Bools, device: torch.device) -> softmax.RowItems:
    """Chosen pairs of row and item, on a device."""
    return softmax.RowItems(
        row=torch.from_numpy(row[is_chosen]).to(device), item=torch.from_numpy(item[is_chosen]).to(device)
    )


@torch.no_grad()
def trained(tables: Tables, cells: Cells, cycle: Cycle, draws: int | None = None) -> Tables:
    """Tables of item vectors after training on a log's users.

    The loss is a weighted mean of −log softmax at the labels; the softmax is over the items that are not read. A sample
    of ``draws`` labels and as many uniform items represents all items (None: no sampling). Formulas give the gradients
    without autograd. If P is the softmax minus the labels, then ∇W = Pᵀh and ∇E = XᵀPW/√(n + 1).
    """
    device = tables.read.device
    n_items = cells.n_items
    parameters = [torch.nn.Parameter(table.clone()) for table in (tables.read, tables.predicted, tables.bias)]
    read, predicted, bias = parameters
    # The penalty pulls both tables towards their centre.
    read_centre = tables.read if cycle.centred else torch.zeros_like(tables.read)
    predicted_centre = tables.predicted if cycle.centred else torch.zeros_like(tables.predicted)
    optimizer = softmax.AdamW(parameters if cycle.learn_bias else parameters[:2])
    negatives = softmax.Negatives.of(cells.item[cells.label > 0], n_items, draws, device)
    source = torch.Generator(device)
    source.manual_seed(derived_seed(cycle.seed, Purpose.MODEL, 25))
    for step, split in enumerate(splits(cells, cycle, device)):
        read_pairs = split.read
        predicted_pairs = split.predicted
        total, n_read = split.sums(read)
        scale = (n_read[:, None] + 1.0).rsqrt()
        h = total * scale
        # Labels cannot be drawn from a batch that predicts nothing, so its read items stand in for them.
        labels = predicted_pairs.item if len(predicted_pairs.item) else read_pairs.item
        sample = negatives.draw(labels, source)
        shares = softmax.softmax_shares(h, predicted, bias, predicted_pairs, sample, barred=read_pairs)
        label_weight = split.label / split.label.sum().clamp(min=1e-6)
        # Gradients P in the logits: at predicted items, and at all other items.
        own_gradient, other_gradient = shares.slopes(label_weight)
        read_penalty = cycle.weight_decay * (read - read_centre)
        predicted_penalty = cycle.weight_decay * (predicted - predicted_centre)
        # PW/√(n + 1) is the gradient in a user's sum of item vectors; each read item gets it.
        sum_gradient = shares.mean(own_gradient, other_gradient, predicted) * scale
        ones = sum_gradient.new_ones(len(read_pairs.row))
        read.grad = softmax.add_rows_(read_penalty, read_pairs.item, sum_gradient, read_pairs.row, ones)
        predicted.grad = shares.spread(own_gradient, other_gradient, h, n_items) + predicted_penalty
        if cycle.learn_bias:
            all_ones = torch.ones_like(scale)
            bias.grad = shares.spread(own_gradient, other_gradient, all_ones, n_items)[:, 0]
        optimizer.step(softmax.one_cycle(step, cycle.steps, cycle.learning_rate))
    return Tables(read.detach(), predicted.detach(), bias.detach())


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class BagConfig(SoftmaxConfig):
    """Size and training of the bag."""

    width: int = Field(default=64, ge=1)
    """Length of item vectors."""
    steps: int = Field(default=150, ge=1)
    """Number of steps of Adam in a fit."""
    further_steps: int = Field(default=40, ge=1)
    """Number of steps from one weight decay of the grid to the next, if the weight decay is chosen."""
    batch_size: int = Field(default=256, ge=1)
    """Number of users per step."""
    learning_rate: float = Field(default=0.05, gt=0)
    """Largest step size in a fit."""
    weight_decay: float | None = Field(default=None, ge=0)
    """Penalty on squared vectors; none: chosen on held-out later sessions."""
    update_steps: int = Field(default=20, ge=0)
    """Number of steps of Adam in an update."""
    update_learning_rate: float = Field(default=0.0003, gt=0)
    """Largest step size in an update."""


class Bag(PersonalModel[BagConfig]):
    """``p(y|x) = softmax(W·Σ_{i ∈ x} E_i/√(n + 1) + b)`` with n items in x, λ(x) = 1.

    The model is trained as a denoising autoencoder (Liang et al., WWW 2018). It reads a random 5 to 95% of each user's
    items, and the softmax is fitted to the target events among the other items. The model reads events that are not
    targets, but does not learn to predict them. On a large log a fit reads each user at least once. The bias b is κ log
    popularity + κ' log returning, and the tables of vectors contain the factor τ. An update trains W, E and b.
    """

    kind: ClassVar[str] = "bag"
    config_class = BagConfig
    summed = "read"
    grid = (3e-5, 1e-4, 2e-4, 4e-4, 1e-3)
    usual = 1e-4
    strength = "weight_decay"

    def _fits(self, log: EventLog, strengths: tuple[float, ...], full_log: EventLog) -> Iterator[Arrays]:
        """Tables E and W after training with each weight decay."""
        config = self.config
        cells = Cells.of(log)
        source = generator(config.seed, Purpose.MODEL, 20)
        shape = (2, log.n_items, config.width)
        normal = source.normal(0, config.width**-0.5, shape).astype(np.float32)
        read, predicted = torch.from_numpy(normal).to(self.device)
        bias = torch.from_numpy(log_popularity(log, config.smoothing).astype(np.float32))
        tables = Tables(read=read, predicted=predicted, bias=bias.to(self.device))
        steps = config.steps
        draws = self._draws(full_log)
        # Fits on a large log sample items. Such a fit takes more steps if ``steps`` are too few to read each user once.
        factor = max(1.0, len(cells) / (config.batch_size * steps)) if draws else 1.0
        for decay in strengths:
            cycle = Cycle(
                steps=round(factor * steps),
                batch_size=config.batch_size,
                learning_rate=config.learning_rate,
                weight_decay=decay,
                seed=config.seed,
            )
            tables = trained(tables, cells, cycle, draws)
            # Each further strength starts from the tables of the strength before, so it needs fewer steps.
            steps = config.further_steps
            yield {"read": tables.read.cpu().numpy(), "predicted": tables.predicted.cpu().numpy()}

    def _draws(self, full_log: EventLog) -> int | None:
        """Number of labels that a step samples; None: no sampling."""
        config = self.config
        sampled = softmax.is_sampled(full_log, config.softmax, many_items=softmax.MANY_ITEMS)
        return config.negatives if sampled else None

    def _scores(self, fit: Arrays, states: UserStates) -> Float32s:
        """(n, M) scores W·Σ E_i/√(n + 1) of states."""
        states = distinct(states)
        scale = 1.0 / np.sqrt(states.lengths.astype(np.float32) + 1.0)
        return np.asarray((sums(states, fit["read"]) * scale[:, None]) @ fit["predicted"].T, np.float32)

    def _serving(self, fit: Arrays, chosen: Shrinkage, base: Floats, log: EventLog) -> Arrays:
        """Tables and bias; both tables are multiplied by √τ.

        So scores, which are products of both tables, have the factor τ.
        """
        root = np.float32(np.sqrt(chosen.personal))
        # Both tables lie side by side, so that cold items get a row of each by one regression.
        joined_vectors = np.concatenate([fit["read"], fit["predicted"]], axis=1) * root
        vectors = torch.from_numpy(joined_vectors)
        bias = torch.from_numpy(base.astype(np.float32))
        if self.config.cold_items:
            fill_cold(vectors, bias, log)
        read, predicted = np.split(vectors.numpy(), 2, axis=1)
        return {"read": read, "predicted": predicted, "bias": bias.numpy()}

    def _updated(self, log: EventLog) -> Arrays:
        """Tables and bias, trained further on a log."""
        config = self.config
        tables_before = Tables(
            read=self.served("read"), predicted=self.served("predicted"), bias=self.served("bias")
        )
        cycle = Cycle(
            steps=config.update_steps,
            batch_size=config.batch_size,
            learning_rate=config.update_learning_rate,
            weight_decay=self.shrinkage.strength if self.shrinkage else self.usual,
            seed=derived_seed(config.seed, Purpose.MODEL, 22, self._updates),
            learn_bias=True,
            centred=True,
            read_history=True,
        )
        tables = trained(tables_before, Cells.of(log), cycle, self._draws(log))
        return {name: getattr(tables, name).cpu().numpy() for name in ("read", "predicted", "bias")}

    def walk(self, hidden: Hidden, walk: Walk) -> tuple[Hidden, Hidden]:
        """Sums after all events, and at times between events."""
        if self.device.type != "cpu":  # the compiled loop reads memory of the CPU
            return stepped(self, hidden, walk)
        sums_after = hidden[0].clone()
        order, edges = walk.points()
        sums_at = hidden[0].new_empty((len(order), sums_after.shape[1]))
        read = self.served("read").numpy()
        _add_up(sums_after.numpy(), read, walk.items, walk.offsets, order, edges, walk.count, sums_at.numpy())
        n_events = torch.from_numpy(np.diff(walk.offsets).astype(np.float32))
        n_before = torch.from_numpy(walk.count.astype(np.float32))
        count_at = hidden[1][torch.from_numpy(walk.row)] + n_before
        return (sums_after, hidden[1] + n_events), (sums_at, count_at)

    def _probabilities(self, *hidden: torch.Tensor) -> torch.Tensor:
        """(BLOCK, M) p(y|x) of a block of hidden states."""
        total, count = hidden
        h = total * (count + 1.0).rsqrt()[:, None]
        return softmax.softmax_(torch.addmm(self.served("bias"), h, self.served("predicted").T))


@compiled
def _add_up(
    sums: Float32s,
    table: Float32s,
    items: Ints,
    offsets: Ints,
    order: Ints,
    edges: Ints,
    count: Ints,
    sums_at: Float32s,
) -> None:
    """Add table rows to sums; copy sums at given times.

    The other arguments are fields and ``points()`` of a :class:`~rimsim.intensity.contract.Walk`.
    """
    for state in range(len(sums)):
        point = edges[state]
        first = offsets[state]
        for event in range(first, offsets[state + 1] + 1):
            # Copy the sums at all points that lie before this event, but after the event before it.
            while point < edges[state + 1] and count[order[point]] == event - first:
                # A loop compiles seconds faster than the assignment of a slice.
                for column in range(sums.shape[1]):
                    sums_at[order[point], column] = sums[state, column]
                point += 1
            if event < offsets[state + 1]:
                for column in range(sums.shape[1]):
                    sums[state, column] += table[items[event], column]
