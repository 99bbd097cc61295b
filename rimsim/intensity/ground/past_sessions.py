"""A user's earlier sessions, counted and measured: what the ground intensity ``visits`` knows of a state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from rimsim.arrays import Floats, Ints
from rimsim.compiled import compiled

if TYPE_CHECKING:
    from rimsim.intensity.contract import Hidden
    from rimsim.intensity.states import UserStates
    from rimsim.intensity.walking import Walk


TERMS = (
    "first visit",
    "came back",
    "size of the first session",
    "size of the sessions after it",
    "size of the last session",
    "came once before",
    "sessions so far",
    "silence",
)
"""What the columns of :func:`terms` stand for."""


def encode(states: UserStates, gap: float, device: torch.device) -> Hidden:
    """The sessions of the states' events; an event more than ``gap`` seconds after the one before begins another.

    Returns:
        ``sessions`` (n, 4) float64: the number of sessions, the events of the newest, the log of the events of the
        first (0 while it is the newest), and the sum of these logs over the sessions between the first and the
        newest. ``last`` (n,) float64: the time of the last event in seconds, −inf where there is none.
    """
    n = len(states)
    held, last = np.zeros((n, 4)), np.full(n, -np.inf)
    active = np.flatnonzero(states.lengths)
    if len(active):
        begins = np.ones(len(states.times), bool)
        begins[1:] = np.diff(states.times) > gap
        begins[states.offsets[active]] = True
        at = np.flatnonzero(begins)
        size = np.diff(np.append(at, len(states.times))).astype(np.float64)
        row = np.searchsorted(states.offsets, at, "right") - 1
        number = np.bincount(row, minlength=n)
        newest = np.cumsum(number)[active] - 1
        first = newest - number[active] + 1
        held[active, 0] = number[active]
        held[active, 1] = size[newest]
        log_size = np.log(size)
        held[active, 2] = np.where(number[active] > 1, log_size[first], 0.0)
        between = np.ones(len(size), bool)
        between[first] = between[newest] = False
        # bincount adds the sessions of a row one after another, so a row's bits do not depend on its neighbours.
        held[:, 3] = np.bincount(row, np.where(between, log_size, 0.0), n)
        last[active] = states.times[states.offsets[active + 1] - 1]
    return torch.from_numpy(held).to(device), torch.from_numpy(last).to(device)


def step(hidden: Hidden, times: torch.Tensor, gap: float) -> Hidden:
    """The sessions after one more event each at ``times`` (n,), seconds: O(1) a row."""
    held, last = hidden
    number, newest, first, between = held.unbind(1)
    another = times - last > gap
    closed = torch.log(newest.clamp(min=1.0))
    grown = (
        number + another.to(held.dtype),
        torch.where(another, 1.0, newest + 1.0),
        torch.where(another & (number == 1), closed, first),
        torch.where(another & (number > 1), between + closed, between),
    )
    return torch.stack(grown, 1), times


def walk(hidden: Hidden, events: Walk, gap: float) -> tuple[Hidden, Hidden]:
    """The sessions after all events of a walk and at its points, on the processor; to the bits of :func:`step`."""
    after = hidden[0].clone(), hidden[1].clone()
    order, edges = events.points()
    at = after[0].new_empty((len(order), 4)), after[1].new_empty(len(order))
    largest = int(after[0][:, 1].max()) + int(np.diff(events.offsets).max(initial=0)) if len(after[0]) else 0
    logs = torch.log(torch.arange(largest + 1, dtype=after[0].dtype).clamp(min=1.0))
    states = after[0].numpy(), after[1].numpy(), logs.numpy(), at[0].numpy(), at[1].numpy()
    _walk(*states, events.times, events.offsets, order, edges, events.count, gap)
    return after, at


@compiled
def _walk(
    held: Floats,
    last: Floats,
    logs: Floats,
    held_at: Floats,
    last_at: Floats,
    times: Floats,
    offsets: Ints,
    order: Ints,
    edges: Ints,
    count: Ints,
    gap: float,
) -> None:
    """Let sessions (u, 4) with last events (u,) take events, in place, and fill in what they are at some points."""
    for state in range(len(held)):
        point, first = edges[state], offsets[state]
        for event in range(first, offsets[state + 1] + 1):
            while point < edges[state + 1] and count[order[point]] == event - first:
                for column in range(held.shape[1]):  # a whole row at once takes longer to compile
                    held_at[order[point], column] = held[state, column]
                last_at[order[point]] = last[state]
                point += 1
            if event == offsets[state + 1]:
                break
            if times[event] - last[state] > gap:
                closed = logs[int(held[state, 1])]
                if held[state, 0] == 1:
                    held[state, 2] = closed
                elif held[state, 0] > 1:
                    held[state, 3] += closed
                held[state, 0] += 1
                held[state, 1] = 1.0
            else:
                held[state, 1] += 1.0
            last[state] = times[event]


def last_sizes(hidden: Hidden) -> torch.Tensor:
    """(m,) the log of the events of the newest session of each state that has had two or more."""
    held, _ = hidden
    return torch.log(held[held[:, 0] > 1, 1])


def terms(hidden: Hidden, now: torch.Tensor, gap: float, usual: float, weight: float) -> torch.Tensor:
    """(n, 8) float64 terms of the states at ``now`` (n,), seconds, in the order of :data:`TERMS`.

    Sizes are logs of event counts. The sizes of the sessions after the first are Σ_j (log n_j − usual) over their
    number plus ``weight``: a mean that is shrunk to the usual where there are few. All terms but the first are 0 for a
    user without events.

    Args:
        hidden: What :func:`encode` gives.
        now: Instants at which no session is under way.
        gap: The unit of the silence since the last event, seconds; the term is log(1 + silence / gap).
        usual: Mean log size of sessions after the first.
        weight: How many sessions of the usual size a user's own are weighed against.
    """
    held, last = hidden
    number, newest, first, between = held.unbind(1)
    back, once, often = number > 0, number == 1, number > 1
    size = torch.log(newest.clamp(min=1.0))
    after = (number - 1.0).clamp(min=0.0)
    silence = torch.where(back, now - last, 0.0).clamp(min=0.0)
    columns = (
        (~back).to(held.dtype),
        back.to(held.dtype),
        torch.where(once, size, first),
        torch.where(often, between + size - after * usual, 0.0) / (after + weight),
        torch.where(often, size, 0.0),
        once.to(held.dtype),
        torch.log(number.clamp(min=1.0)),
        torch.log1p(silence / gap),
    )
    return torch.stack(columns, 1)
