"""Consumptions on their way into the states of users: some are part of them at once, others wait on the clock."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.market.clock import Rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.market.clock import Clock
    from rimsim.market.mailboxes import Mailboxes

__all__ = ["Deliveries", "Post"]


class Post(NamedTuple):
    """Items that one arrival consumed."""

    boxes: Mailboxes
    """Where they go to."""
    slot: int
    due: int
    """The tick from which on they are part of the state."""
    items: NDArray[np.int64]


class Deliveries:
    """What users consume reaches their mailboxes when it is due.

    Args:
        clock: The market's clock.
        delay: Ticks that a consumption takes to reach the state beside the one that it always takes, so that no state
            sees its own future.
    """

    def __init__(self, clock: Clock, delay: int) -> None:
        self._clock = clock
        self._wait = delay + 1
        self._pending: dict[int, Post] = {}
        self._keys = itertools.count()

    def pending(self, boxes: Mailboxes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Slots, due ticks and items (p,) of what waits for some mailboxes, in the order in which it was sent."""
        posts = [post for post in self._pending.values() if post.boxes is boxes]
        lengths = [len(post.items) for post in posts]
        slots = np.repeat(np.array([post.slot for post in posts], np.int64), lengths)
        dues = np.repeat(np.array([post.due for post in posts], np.int64), lengths)
        return slots, dues, np.concatenate([np.zeros(0, np.int64), *(post.items for post in posts)])

    def due(self, ticks: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) when what is consumed at some ticks (n,) is part of a state."""
        return ticks + self._wait

    def send(self, boxes: Mailboxes, slot: int, tick: int, items: NDArray[np.int64]) -> None:
        """What one arrival consumed at a tick.

        Args:
            boxes: The mailboxes of its users.
            slot: Whose.
            tick: When.
            items: (n,) what.
        """
        due = tick + self._wait
        if due <= self._clock.now:
            boxes.post(slot, due, items)
        else:
            self.schedule(Post(boxes, slot, due, items))

    def send_all(
        self,
        boxes: Mailboxes,
        slots: NDArray[np.int64],
        ticks: NDArray[np.int64],
        items: NDArray[np.int64],
    ) -> None:
        """:meth:`send` for n items, each with a slot (n,) and a tick (n,); those of an arrival stand together."""
        dues = self.due(ticks)
        now = dues <= self._clock.now
        boxes.post_all(slots[now], dues[now], items[now])
        if now.all():
            return
        slots, dues, items = slots[~now], dues[~now], items[~now]
        begins = np.flatnonzero((np.diff(slots, prepend=-1) != 0) | (np.diff(dues, prepend=0) != 0)).tolist()
        for begin, end in itertools.pairwise([*begins, len(items)]):
            self.schedule(Post(boxes, int(slots[begin]), int(dues[begin]), items[begin:end]))

    def schedule(self, post: Post) -> None:
        """Let items reach their mailbox at the tick at which they are due, which is not past."""
        key = next(self._keys)
        self._pending[key] = post

        def arrive() -> None:
            del self._pending[key]
            post.boxes.post(post.slot, post.due, post.items)

        self._clock.at(post.due, Rank.FEEDBACK, arrive)
