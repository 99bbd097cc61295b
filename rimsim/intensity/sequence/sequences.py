"""Training windows of a log: what is read of a history, and at which of its positions p is fitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from rimsim.arrays import Bools, Floats, Ints

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.intensity.states import UserStates


@dataclass(frozen=True, eq=False)
class Windows:
    """w stretches of users' histories over the log's events sorted by (user, time)."""

    item: Ints
    """(n,) items of all events, sorted by user, then time."""
    target: Bools
    """(n,) whether an event is fitted to."""
    user: Ints
    """(w,) the user of each window."""
    origin: Ints
    """(w,) position of the user's first event."""
    begin: Ints
    """(w,) position of the first event that is read."""
    loss: Ints
    """(w,) position of the first event that is predicted; targets from here to ``stop`` are."""
    stop: Ints
    """(w,) position past the last event."""
    end: Ints
    """(w,) position past the user's last event."""
    weight: Floats | None = field(default=None, kw_only=True)
    """(n,) how much each event counts where it is predicted; None: all alike."""
    session_end: Ints | None = field(default=None, kw_only=True)
    """(n,) position past the session that an event begins as a target, 0 for any other event; None: what is predicted
    is each target event from the events before it, whatever session they are of."""

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: Ints | Bools) -> Windows:
        """The windows of some rows."""
        ends = (self.stop[rows], self.end[rows])
        cut = (self.user[rows], self.origin[rows], self.begin[rows], self.loss[rows], *ends)
        return Windows(self.item, self.target, *cut, weight=self.weight, session_end=self.session_end)


@dataclass(frozen=True, eq=False)
class Batch:
    """b windows, left-aligned."""

    items: torch.Tensor
    """(b, L) int64 items that are read, L the longest window less one; item 0 past a window's end."""
    row: torch.Tensor
    """(p,) the window of each predicted event."""
    step: torch.Tensor
    """(p,) how many events of its window precede it, 0 … L."""
    label: torch.Tensor
    """(p,) the item that came."""
    rows: Ints
    """(b,) which windows these are."""
    later: torch.Tensor
    """(p, K) the item that came and the ones after it; anything where the weight is 0."""
    weight: torch.Tensor
    """(p, K) float32 their weights: 0 for what is no target or past the user's (or the session's) last event. They sum
    to 1, or, where events have weights of their own, to a mean of these."""
    weighted: bool = False
    """Events have weights of their own, or positions have as many labels as their session has events."""


FADE = 0.9
"""Weight of a later event relative to the event before it."""


LONGEST = 64
"""Most events of a session that its state is fitted to, where whole sessions are predicted."""


def windows(log: EventLog, context: int, burn: int, session_gap: str | None = None) -> Windows:
    """Cut every user's history into windows of at most ``context`` events that cover each target event once.

    A window begins ``burn`` events before the first target not yet covered (or with the user's first event),
    so that a prediction in the middle of a history sees at least ``burn`` events of it. Stretches without
    targets are in no window.

    Args:
        log: The log.
        context: Longest window, events; more than ``burn``.
        burn: Events read before the first prediction.
        session_gap: Predict whole sessions from what came before them, a longer silence being what ends one: of the
            targets, only those that begin a session are then covered. None: predict each target event.
    """
    order = log.by_user
    user, item, target = log.user[order], log.item[order], log.targets[order]
    weight = None if log.weight is None else log.weight[order]
    session_end = None if session_gap is None else _session_ends(log, order, session_gap)
    goal = np.flatnonzero(target if session_end is None else session_end)
    # The first target at or after each position, n where there is none.
    upcoming = np.append(goal, len(user))[np.searchsorted(goal, np.arange(len(user) + 1))]
    owners, origins = np.unique(user, return_index=True)
    ends = np.append(origins[1:], len(user))
    parts: list[tuple[Ints, ...]] = []
    position = upcoming[origins]
    while (alive := position < ends).any():
        owners, origins, ends, position = owners[alive], origins[alive], ends[alive], position[alive]
        begin = np.maximum(origins, position - burn)
        stop = np.minimum(begin + context, ends)
        parts.append((owners, origins, begin, position, stop, ends))
        position = upcoming[stop]
    if not parts:
        return Windows(
            item, target, *(np.zeros(0, np.int64) for _ in range(6)), weight=weight, session_end=session_end
        )
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Windows(item, target, *columns, weight=weight, session_end=session_end)


def _session_ends(log: EventLog, order: Ints, gap: str) -> Ints:
    """(n,) in the given order by user and time: the position past a session at its first event, if that is a target."""
    session = log.sessions(gap).of_event[order]
    begin = np.flatnonzero(np.append(True, session[1:] != session[:-1])[: len(session)])
    found = np.zeros(len(session), np.int64)
    found[begin] = np.append(begin[1:], len(session)) if len(begin) else begin
    return np.where(log.targets[order], found, 0)


def batches(
    cut: Windows,
    size: int,
    device: torch.device,
    generator: np.random.Generator | None = None,
    ahead: int = 1,
) -> Iterator[Batch]:
    """Batches of windows of like length, so that next to nothing is padding.

    Args:
        cut: The windows.
        size: Windows a batch.
        device: Where the tensors go.
        generator: Shuffles equal lengths and the order of the batches; None: fixed order.
        ahead: How many events from a predicted position on are its labels, K; where whole sessions are predicted, all
            of the session.
    """
    length = cut.stop - cut.begin
    tie = np.arange(len(cut)) if generator is None else generator.permutation(len(cut))
    order = np.lexsort((tie, length))
    starts = np.arange(0, len(order), size)
    for start in starts if generator is None else generator.permutation(starts):
        rows = order[start : start + size]
        longest = int(length[rows].max())
        position = cut.begin[rows, None] + np.arange(longest)
        inside = position < cut.stop[rows, None]
        position = np.where(inside, position, 0)
        goal = cut.target if cut.session_end is None else cut.session_end > 0
        predicted = inside & (position >= cut.loss[rows, None]) & goal[position]
        items = np.where(inside, cut.item[position], 0)
        row, step = np.nonzero(predicted)
        coming, weight = _labels(cut, position[row, step], cut.end[rows][row], ahead)
        if cut.weight is not None:
            weight = weight * cut.weight[coming]
        yield Batch(
            torch.from_numpy(items[:, :-1].copy()).to(device),
            torch.from_numpy(row).to(device),
            torch.from_numpy(step).to(device),
            torch.from_numpy(items[row, step]).to(device),
            rows,
            torch.from_numpy(cut.item[coming]).to(device),
            torch.from_numpy(weight.astype(np.float32)).to(device),
            cut.weight is not None or cut.session_end is not None,
        )


def _labels(cut: Windows, position: Ints, end: Ints, ahead: int) -> tuple[Ints, Floats]:
    """(p, K) positions of the labels of each predicted position, and their weights, which sum to 1."""
    fade = FADE
    if cut.session_end is not None:
        end, fade = cut.session_end[position], 1.0
        ahead = min(int((end - position).max(initial=1)), LONGEST)
    coming = position[:, None] + np.arange(ahead)
    there = coming < end[:, None]
    coming = np.where(there, coming, position[:, None])
    weight = fade ** np.arange(ahead) * (there & cut.target[coming])
    return coming, weight / weight.sum(1, keepdims=True)


def histories(items: Ints, begin: Ints, stop: Ints, context: int) -> tuple[Ints, Ints]:
    """The last ``context`` events of n stretches, left-aligned.

    Args:
        items: Flat array that the stretches lie in.
        begin: (n,) first position of each stretch.
        stop: (n,) position past its last event.
        context: Longest history.

    Returns:
        (n, L) items, 0 past a row's end, L the longest row; and (n,) lengths.
    """
    length = np.minimum(stop - begin, context)
    longest = int(length.max(initial=0))
    step = np.arange(longest)
    inside = step < length[:, None]
    position = np.where(inside, (stop - length)[:, None] + step, 0)
    found = items[position] if len(items) else np.zeros(position.shape, np.int64)
    return np.where(inside, found, 0), length


def last_events(states: UserStates, context: int) -> tuple[Ints, Ints]:
    """The last ``context`` items of every state, left-aligned; see :func:`histories`."""
    return histories(states.items, states.offsets[:-1], states.offsets[1:], context)
