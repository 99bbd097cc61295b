"""A first in, first out queue of items for compiled code; an item waits in it at most once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Queue", "dequeue", "enqueue", "new_queue"]


class Queue(NamedTuple):
    """A ring."""

    ring: NDArray[np.int64]
    """(M+1,) waiting items."""
    ends: NDArray[np.int64]
    """(2,) head and tail."""
    waiting: NDArray[np.uint8]
    """(M,) whether an item waits."""


@compiled
def new_queue(m: int) -> Queue:
    """An empty queue for items 0 to m − 1."""
    return Queue(np.empty(m + 1, np.int64), np.zeros(2, np.int64), np.zeros(m, np.uint8))


@compiled
def enqueue(queue: Queue, item: int) -> None:
    """Let an item wait, unless it does already."""
    if queue.waiting[item] == 0:
        queue.waiting[item] = 1
        queue.ring[queue.ends[1]] = item
        queue.ends[1] = (queue.ends[1] + 1) % len(queue.ring)


@compiled
def dequeue(queue: Queue) -> int:
    """The item that waited longest; −1 if none waits."""
    if queue.ends[0] == queue.ends[1]:
        return -1
    item = queue.ring[queue.ends[0]]
    queue.ends[0] = (queue.ends[0] + 1) % len(queue.ring)
    queue.waiting[item] = 0
    return int(item)
