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

    number: int
    """The round whose mailboxes they go to; 0 for those of a replay."""
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

    def pending(self) -> NDArray[np.int64]:
        """(4, p) numbers, slots, due ticks and items of what waits on the clock, in the order in which it was sent."""
        parts = [np.zeros((4, 0), np.int64)]
        for number, slot, due, items in self._pending.values():
            parts.append(np.stack(np.broadcast_arrays(number, slot, due, items)))
        return np.concatenate(parts, axis=1)

    def due(self, ticks: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) when what is consumed at some ticks (n,) is part of a state."""
        return ticks + self._wait

    def send(self, number: int, boxes: Mailboxes, slot: int, tick: int, items: NDArray[np.int64]) -> None:
        """What one arrival consumed at a tick.

        Args:
            number: See :class:`Post`.
            boxes: The mailboxes of that round.
            slot: Whose.
            tick: When.
            items: (n,) what.
        """
        due = tick + self._wait
        if due <= self._clock.now:
            boxes.post(slot, due, items)
        else:
            self.schedule(Post(number, slot, due, items), boxes)

    def send_all(
        self,
        number: int,
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
            self.schedule(Post(number, int(slots[begin]), int(dues[begin]), items[begin:end]), boxes)

    def schedule(self, post: Post, boxes: Mailboxes) -> None:
        """Let items reach a mailbox at the tick at which they are due, which is not past."""
        key = next(self._keys)
        self._pending[key] = post

        def arrive() -> None:
            del self._pending[key]
            boxes.post(post.slot, post.due, post.items)

        self._clock.at(post.due, Rank.FEEDBACK, arrive)
