"""Hidden states at many points of known events: what a recurrent model has after each of them that is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import torch

from rimsim.arrays import Floats, Ints
from rimsim.intensity.blocks import STEP, spans

if TYPE_CHECKING:
    from rimsim.intensity.contract import Hidden


@dataclass(frozen=True, eq=False)
class Walk:
    """The events that u hidden states take one after another, and the n points at which they are looked at."""

    offsets: Ints
    """(u + 1,) where each state's events begin."""
    items: Ints
    """(total,) consumed items, by state, in order."""
    times: Floats
    """(total,) times of consumption, seconds."""
    row: Ints
    """(n,) the state that is looked at."""
    count: Ints
    """(n,) after how many of its events."""

    def points(self) -> tuple[Ints, Ints]:
        """(n,) the points by state, then count, and (u + 1,) where those of each state begin among them."""
        order = np.lexsort((self.count, self.row))
        return order, np.searchsorted(self.row[order], np.arange(len(self.offsets))).astype(np.int64)


class Stepping(Protocol):
    """What takes an event at a time: a recurrent model or a ground intensity."""

    def step(self, hidden: Hidden, items: torch.Tensor, times: torch.Tensor) -> Hidden:
        """The hidden states after one more event each."""
        ...


class _Walking(Stepping, Protocol):
    def walk(self, hidden: Hidden, walk: Walk) -> tuple[Hidden, Hidden]: ...


def walked(model: Stepping, hidden: Hidden, walk: Walk) -> tuple[Hidden, Hidden]:
    """The hidden states after all their events, and at the points of a walk.

    A model with a method ``walk(hidden, walk)`` does it by itself, to the same bits as :func:`stepped`.

    Args:
        model: What takes the events.
        hidden: Hidden states of the u states before the walk; they stay as they are.
        walk: The events and the points.

    Returns:
        (u, …) and (n, …) hidden states.
    """
    if _walks(type(model)):
        return cast("_Walking", model).walk(hidden, walk)
    return stepped(model, hidden, walk)


def _walks(kind: type) -> bool:
    """True if a class has a ``walk`` no older than its ``step``: an overridden step is not what a base walks."""
    where = {
        name: next((base for base in kind.__mro__ if name in vars(base)), None) for name in ("walk", "step")
    }
    walk, step = where["walk"], where["step"]
    return walk is not None and (step is None or issubclass(walk, step))


def stepped(model: Stepping, hidden: Hidden, walk: Walk) -> tuple[Hidden, Hidden]:
    """The same as :func:`walked`, by the model's ``step``.

    States take events side by side in full blocks of :data:`~rimsim.intensity.blocks.STEP` rows, so each row has the
    bits that it has when its events come one by one.
    """
    length = np.diff(walk.offsets)
    order = np.argsort(-length, kind="stable")  # who still has events is then always at the front
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    device = hidden[0].device
    now = tuple(part.index_select(0, torch.from_numpy(order).to(device)) for part in hidden)
    seen = tuple(part.new_empty((len(walk.row), *part.shape[1:])) for part in hidden)
    by_count = np.argsort(walk.count, kind="stable")
    edges = np.searchsorted(walk.count[by_count], np.arange(int(length.max(initial=0)) + 2))
    ahead = np.cumsum(np.bincount(length)[::-1])[::-1] if len(length) else np.zeros(1, np.int64)
    for done in range(len(edges) - 1):
        points = by_count[edges[done] : edges[done + 1]]
        if len(points):
            at = torch.from_numpy(back[walk.row[points]]).to(device)
            where = torch.from_numpy(points).to(device)
            for part, kept in zip(now, seen, strict=True):
                kept.index_copy_(0, where, part.index_select(0, at))
        active = int(ahead[done + 1]) if done + 1 < len(ahead) else 0
        for first, stop in spans(active, STEP):
            _step(model, now, walk, order, done, first, stop)
    after = torch.from_numpy(back).to(device)
    return tuple(part.index_select(0, after) for part in now), seen


def _step(model: Stepping, now: Hidden, walk: Walk, order: Ints, done: int, first: int, stop: int) -> None:
    """Let the states ``first`` to ``stop`` of an order take their event number ``done``, in place."""
    event = walk.offsets[order[first:stop]] + done
    items, times = walk.items[event], walk.times[event]
    block = tuple(part[first:stop] for part in now)
    if missing := STEP - (stop - first):  # a block of another height may differ in its last bits
        items = np.concatenate([items, np.repeat(items[:1], missing)])
        times = np.concatenate([times, np.repeat(times[:1], missing)])
        block = tuple(torch.cat([part, part[:1].expand(missing, *part.shape[1:])]) for part in block)
    device = now[0].device
    new = model.step(block, torch.from_numpy(items).to(device), torch.from_numpy(times).to(device))
    for part, taken in zip(now, new, strict=True):
        part[first:stop] = taken[: stop - first]
