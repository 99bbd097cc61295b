"""Training of sequence models: windows, batches, early stopping."""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch

from rimsim.arrays import Bools, Floats, Ints
from rimsim.data.log import EventLog
from rimsim.intensity.softmax import AdamW, Negatives, softmax_loss
from rimsim.intensity.states import UserStates
from rimsim.rng import Purpose, derived_seed, generator, uniform

Outputs: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Hidden units h (p, W) at the p predicted positions, and item vectors V (M, W)."""
Forward: TypeAlias = Callable[["Batch", torch.Generator | None], Outputs]
"""Function that computes the outputs of a batch. The generator draws dropout; None: no dropout."""

FADE = 0.9
"""Weight of an event relative to the weight of the event before it, among several predicted events."""
LONGEST = 64
"""Largest number of predicted events of a session, if whole sessions are predicted."""
_CLIP = 1.0
"""Largest norm of a gradient; a larger one is scaled down."""


@dataclass(frozen=True, eq=False)
class Windows:
    """w windows of histories, as ranges of events."""

    item: Ints
    """(n,) items of all events, sorted by user, then by time."""
    target: Bools
    """(n,) True for target events."""
    user: Ints
    """(w,) user of each window."""
    origin: Ints
    """(w,) index of the first event of each window's user."""
    begin: Ints
    """(w,) index of the first event that each window reads."""
    loss: Ints
    """(w,) index of each window's first predicted event. All targets from this event to ``stop`` are predicted."""
    stop: Ints
    """(w,) index after the last event of each window."""
    end: Ints
    """(w,) index after the last event of each window's user."""
    weight: Floats | None = field(default=None, kw_only=True)
    """(n,) weight of each event as a target; None: equal weights."""
    session_end: Ints | None = field(default=None, kw_only=True)
    """(n,) index after the end of the session, for an event that is the first of its session and a target; 0 for any
    other event. None: each target is predicted from all earlier events, whatever their session."""

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: Ints | Bools) -> Windows:
        """Windows with the given indices."""
        names = ("user", "origin", "begin", "loss", "stop", "end")
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in names})


@dataclass(frozen=True, eq=False)
class Batch:
    """b windows, left-aligned, with p predicted events."""

    items: torch.Tensor
    """(b, L) int64 items that are read; L is one less than the length of the longest window. Past the end of a window,
    the item is 0."""
    row: torch.Tensor
    """(p,) row of each predicted event's window in the batch."""
    step: torch.Tensor
    """(p,) number of events before the predicted event in its window, from 0 to L."""
    label: torch.Tensor
    """(p,) predicted items."""
    rows: Ints
    """(b,) index of each window among all windows."""
    later: torch.Tensor
    """(p, K) predicted item and the items after it; arbitrary where ``weight`` is 0."""
    weight: torch.Tensor
    """(p, K) float32 weights of these items. The weight is 0 for an event that is not a target, and after the last
    event of the user or session. The weights of a row sum to 1, or to the mean of the events' own weights."""


def windows(log: EventLog, context: int, burn: int, session_gap: str | None = None) -> Windows:
    """Cut histories into windows that cover each target once.

    A window has at most ``context`` events. A window begins ``burn`` events before the first target that no earlier
    window covers, or with the user's first event. Long stretches of a history without targets are in no window. With
    ``session_gap``, models predict whole sessions from earlier events, so only targets that begin a session are
    covered.
    """
    order = log.by_user
    user = log.user[order]
    item = log.item[order]
    target = log.targets[order]
    weight = None if log.weight is None else log.weight[order]
    session_end = None if session_gap is None else _session_ends(log, order, session_gap)
    targets = np.flatnonzero(target if session_end is None else session_end)
    # Entry i is the first target at or after position i, or n if there is none.
    next_target = np.append(targets, len(user))[np.searchsorted(targets, np.arange(len(user) + 1))]
    owners, origins = np.unique(user, return_index=True)
    ends = np.append(origins[1:], len(user))
    # Columns of windows, round by round. The first entry is empty, and gives the type if there is no window.
    blocks: list[tuple[Ints, ...]] = [(np.zeros(0, np.int64),) * 6]
    # Each round makes the next window of every user who has a target at or after `position`.
    position = next_target[origins]
    while (is_open := position < ends).any():
        owners = owners[is_open]
        origins = origins[is_open]
        ends = ends[is_open]
        position = position[is_open]
        begin = np.maximum(origins, position - burn)
        stop = np.minimum(begin + context, ends)
        blocks.append((owners, origins, begin, position, stop, ends))
        position = next_target[stop]
    users, first_events, begins, first_targets, stops, user_ends = (
        np.concatenate(column) for column in zip(*blocks, strict=True)
    )
    return Windows(
        item=item,
        target=target,
        user=users,
        origin=first_events,
        begin=begins,
        loss=first_targets,
        stop=stops,
        end=user_ends,
        weight=weight,
        session_end=session_end,
    )


def _session_ends(log: EventLog, order: Ints, gap: str) -> Ints:
    """(n,) end of the session a target begins, else 0."""
    session = log.sessions(gap).of_event[order]
    is_begin = np.append(True, session[1:] != session[:-1])[: len(session)]  # an empty log has no first event
    begin = np.flatnonzero(is_begin)
    session_end = np.zeros(len(session), np.int64)
    session_end[begin] = np.append(begin[1:], len(session)) if len(begin) else begin
    return np.where(log.targets[order], session_end, 0)


def batches(
    cut: Windows,
    size: int,
    device: torch.device,
    generator: np.random.Generator | None = None,
    ahead: int = 1,
) -> Iterator[Batch]:
    """Batches of windows of similar length, with little padding.

    ``generator`` shuffles windows of equal length, and the batches. Each predicted position has the next ``ahead``
    items as labels, or all items of its session.
    """
    length = cut.stop - cut.begin
    tie_order = np.arange(len(cut)) if generator is None else generator.permutation(len(cut))
    order = np.lexsort((tie_order, length))
    starts = np.arange(0, len(order), size)
    is_predictable = cut.target if cut.session_end is None else cut.session_end > 0
    for start in starts if generator is None else generator.permutation(starts):
        rows = order[start : start + size]
        max_length = int(length[rows].max())
        position = cut.begin[rows, None] + np.arange(max_length)
        is_inside = position < cut.stop[rows, None]
        position = np.where(is_inside, position, 0)
        is_predicted = is_inside & (position >= cut.loss[rows, None]) & is_predictable[position]
        items = np.where(is_inside, cut.item[position], 0)
        row, step = np.nonzero(is_predicted)
        label_positions, weight = _labels(cut, position[row, step], cut.end[rows][row], ahead)
        if cut.weight is not None:
            weight = weight * cut.weight[label_positions]
        yield Batch(
            items=torch.from_numpy(items[:, :-1].copy()).to(device),
            row=torch.from_numpy(row).to(device),
            step=torch.from_numpy(step).to(device),
            label=torch.from_numpy(items[row, step]).to(device),
            rows=rows,
            later=torch.from_numpy(cut.item[label_positions]).to(device),
            weight=torch.from_numpy(weight.astype(np.float32)).to(device),
        )


def _labels(cut: Windows, position: Ints, end: Ints, ahead: int) -> tuple[Ints, Floats]:
    """(p, K) positions of labels, and weights summing to 1."""
    fade = FADE
    if cut.session_end is not None:  # all events of the session are labels, with equal weights
        end = cut.session_end[position]
        fade = 1.0
        ahead = min(int((end - position).max(initial=1)), LONGEST)
    label_positions = position[:, None] + np.arange(ahead)
    is_ahead = label_positions < end[:, None]
    label_positions = np.where(is_ahead, label_positions, position[:, None])
    weight = fade ** np.arange(ahead) * (is_ahead & cut.target[label_positions])
    return label_positions, weight / weight.sum(1, keepdims=True)


def histories(items: Ints, begin: Ints, stop: Ints, context: int) -> tuple[Ints, Ints]:
    """Last ``context`` items of histories, left-aligned, and item counts."""
    length = np.minimum(stop - begin, context)
    step = np.arange(int(length.max(initial=0)))
    is_inside = step < length[:, None]
    position = np.where(is_inside, (stop - length)[:, None] + step, 0)
    read_items = items[position] if len(items) else np.zeros(position.shape, np.int64)
    return np.where(is_inside, read_items, 0), length


def last_events(states: UserStates, context: int) -> tuple[Ints, Ints]:
    """Last ``context`` items of every state, left-aligned; see :func:`histories`."""
    return histories(states.items, states.offsets[:-1], states.offsets[1:], context)


class SequenceNetwork(torch.nn.Module, ABC):
    """Network that computes logits V h + b from read items.

    Read and predicted items have the same vectors, and each item has a bias. ``dropout`` is the share of read items and
    hidden units that training drops.
    """

    item: torch.nn.Parameter
    """(M, W) learned item vectors."""
    bias: torch.nn.Parameter
    """(M,) bias b of each item."""

    def __init__(self, n_items: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.item = torch.nn.Parameter(torch.empty(n_items, width))
        self.bias = torch.nn.Parameter(torch.empty(n_items))

    @torch.no_grad()
    def draw(self, seed: int) -> None:
        """Initialise all parameters except the item bias."""
        source = torch.Generator()
        source.manual_seed(derived_seed(seed, Purpose.MODEL, 4))
        self._drawn(source)

    @abstractmethod
    def _drawn(self, source: torch.Generator) -> None:
        """Initialise parameters in place."""

    @abstractmethod
    def outputs(self, batch: Batch, draw: torch.Generator | None) -> Outputs:
        """Outputs h at the p predicted positions, and item vectors."""


@dataclass(frozen=True)
class TrainingOptions:
    """Length, step sizes and early stopping of a training."""

    epochs: int
    """Number of passes over the windows."""
    batch_size: int
    """Number of windows per batch."""
    learning_rate: float
    """First step size of AdamW."""
    weight_decay: float
    """Decoupled weight decay of AdamW."""
    seed: int
    """Seed of batches, dropout and samples."""
    patience: int = 0
    """Number of epochs without a better held-out loss after which training stops; 0: no early stopping."""
    final_rate: float = 1.0
    """Learning rate after the last epoch, as a share of the first; it falls linearly from batch to batch."""
    ahead: int = 1
    """Number of next events that p(y|x) is fitted to predict after each event of a sequence."""
    sampled: float = 1.0
    """Share of the predicted positions whose loss is computed; each batch draws them."""
    negatives: int | None = None
    """Number of labels of a batch that are drawn for its softmax; as many items again are drawn uniformly. None: the
    softmax is over all items."""


@dataclass(frozen=True)
class TrainingRun:
    """Losses of a training, in nats per target."""

    losses: tuple[float, ...]
    """Mean training loss of each epoch."""
    held_out: tuple[float, ...]
    """Mean loss of held-out users after each epoch; empty without early stopping."""
    best_epoch: int
    """Number of the epoch whose parameters are used, from 1; 0 if there was no training."""


def dropped(values: torch.Tensor, rate: float, draw: torch.Generator | None) -> torch.Tensor:
    """Values after dropout by a given generator."""
    if draw is None or rate == 0:
        return values
    mask = torch.rand(values.shape, generator=draw, device=values.device) >= rate
    return values * mask / (1.0 - rate)


def held_out(users: Ints, share: float, seed: int) -> Bools:
    """(n,) booleans: true for users held out from training."""
    return np.asarray(uniform(seed, Purpose.MODEL, 1, users) < share, bool)


class _Criterion:
    """Mean negative log-likelihood of a batch's predicted events."""

    def __init__(
        self, network: SequenceNetwork, cut: Windows, options: TrainingOptions, device: torch.device
    ) -> None:
        self._network = network
        self._options = options
        self._device = device
        labels = cut.item[cut.target]
        self._negatives = Negatives.of(labels, len(network.bias), options.negatives, device)

    def loss(self, outputs: Outputs, batch: Batch, source: torch.Generator) -> torch.Tensor:
        """Mean loss of a batch's predicted events, in nats."""
        hidden, vectors = outputs
        sample = self._negatives.draw(batch.label, source)
        return softmax_loss(hidden, vectors, self._network.bias, batch.later, batch.weight, sample)

    @torch.no_grad()
    def mean(self, cut: Windows) -> float:
        """Mean loss over windows, without dropout."""
        options = self._options
        losses = []
        source = torch.Generator(self._device)
        source.manual_seed(0)
        for batch in batches(cut, options.batch_size, self._device, ahead=options.ahead):
            loss = self.loss(self._network.outputs(batch, None), batch, source)
            losses.append((float(loss), len(batch.label)))
        return _mean(losses)


def _mean(losses: list[tuple[float, int]]) -> float:
    """Mean loss of batches, weighted by numbers of predicted events."""
    total = 0.0
    for loss, count in losses:  # the rounding of `sum` depends on the version of Python
        total += loss * count
    return total / max(sum(count for _, count in losses), 1)


def _sampled(outputs: Outputs, batch: Batch, share: float, draw: torch.Generator) -> tuple[Outputs, Batch]:
    """Outputs and labels of a random sample of predicted positions."""
    hidden, vectors = outputs
    chosen = torch.rand(len(hidden), generator=draw, device=hidden.device) < share
    if not bool(chosen.any()):
        return outputs, batch
    names = ("row", "step", "label", "later", "weight")  # the fields with an entry per predicted position
    sample = dataclasses.replace(batch, **{name: getattr(batch, name)[chosen] for name in names})
    return (hidden[chosen], vectors), sample


def train(
    network: SequenceNetwork,
    cut: Windows,
    options: TrainingOptions,
    device: torch.device,
    *,
    check: Windows | None = None,
    outputs: Forward | None = None,
) -> TrainingRun:
    """Train a network by AdamW, in place.

    With ``check`` (windows of held-out users) and patience, the network ends with the parameters of least held-out
    loss, perhaps the initial parameters. If given, ``outputs`` is called instead of ``network.outputs``.
    """
    forward = outputs or network.outputs
    order = generator(options.seed, Purpose.MODEL, 2)
    draw = torch.Generator(device)
    draw.manual_seed(derived_seed(options.seed, Purpose.MODEL, 3))
    criterion = _Criterion(network, cut, options, device)
    optimizer = AdamW(network.parameters(), weight_decay=options.weight_decay, largest=_CLIP)
    stopping = check is not None and len(check) > 0 and options.patience > 0
    best_loss = np.inf
    best_epoch = options.epochs
    best_weights = None
    if stopping and check is not None:
        best_loss = criterion.mean(check)
        best_epoch = 0
        best_weights = copy.deepcopy(network.state_dict())
    steps = options.epochs * -(-len(cut) // options.batch_size)
    step = 0
    losses: list[float] = []
    held_out_losses: list[float] = []
    for epoch in range(1, options.epochs + 1):
        batch_losses: list[tuple[float, int]] = []
        for batch in batches(cut, options.batch_size, device, order, options.ahead):
            relative_rate = 1.0 - (1.0 - options.final_rate) * step / steps
            step += 1
            hidden_outputs = forward(batch, draw)
            predicted = batch
            if options.sampled < 1.0:
                hidden_outputs, predicted = _sampled(hidden_outputs, batch, options.sampled, draw)
            loss = criterion.loss(hidden_outputs, predicted, draw)
            torch.autograd.backward(loss)
            optimizer.step(options.learning_rate * relative_rate)
            batch_losses.append((float(loss.detach()), len(predicted.label)))
        losses.append(_mean(batch_losses))
        if not stopping or check is None:
            continue
        held_out_losses.append(criterion.mean(check))
        if held_out_losses[-1] < best_loss:
            best_loss = held_out_losses[-1]
            best_epoch = epoch
            best_weights = copy.deepcopy(network.state_dict())
        elif epoch - best_epoch >= options.patience:
            break
    if best_weights is not None:
        network.load_state_dict(best_weights)
    return TrainingRun(losses=tuple(losses), held_out=tuple(held_out_losses), best_epoch=best_epoch)
