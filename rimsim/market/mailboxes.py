"""What the users of a market have consumed in it, and from which tick on it is part of their states."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Mailboxes", "Mails"]

_ROOM = 1024
"""Events that there is room for at first."""


class Mails(NamedTuple):
    """The events of all mailboxes in linked arrays, as compiled code reads and lengthens them."""

    first: NDArray[np.int64]
    """(slots,) place of the oldest event of each mailbox; −1 where there is none."""
    last: NDArray[np.int64]
    """(slots,) place of the newest."""
    events: NDArray[np.int64]
    """(slots,) how many each holds."""
    last_due: NDArray[np.int64]
    """(slots,) due tick of the newest event; the earliest there is where there is none."""
    due: NDArray[np.int64]
    """(room,) due ticks."""
    item: NDArray[np.int64]
    """(room,) items."""
    slot: NDArray[np.int64]
    """(room,) whose they are."""
    after: NDArray[np.int64]
    """(room,) place of the next event of the same mailbox; −1 where there is none."""
    size: NDArray[np.int64]
    """(1,) places in use."""


@compiled
def _post_all(
    slots: NDArray[np.int64], dues: NDArray[np.int64], items: NDArray[np.int64], mails: Mails
) -> None:
    """Put (n,) events into mailboxes; there must be room."""
    for n in range(len(slots)):
        slot, place = slots[n], mails.size[0]
        mails.due[place], mails.item[place] = dues[n], items[n]
        mails.slot[place], mails.after[place] = slot, -1
        if mails.events[slot]:
            mails.after[mails.last[slot]] = place
        else:
            mails.first[slot] = place
        mails.last[slot], mails.last_due[slot] = place, dues[n]
        mails.events[slot] += 1
        mails.size[0] = place + 1


@compiled
def _post(
    slot: int,
    due: int,
    items: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    events: NDArray[np.int64],
    last_due: NDArray[np.int64],
    due_of: NDArray[np.int64],
    item_of: NDArray[np.int64],
    slot_of: NDArray[np.int64],
    after: NDArray[np.int64],
    size: NDArray[np.int64],
) -> None:
    """:func:`_post_all` for one mailbox, its record spread out, which is handed over faster."""
    n = len(items)
    mails = Mails(first, last, events, last_due, due_of, item_of, slot_of, after, size)
    _post_all(np.full(n, slot), np.full(n, due), items, mails)


@compiled
def _visible_at(slots: NDArray[np.int64], ticks: NDArray[np.int64], mails: Mails) -> NDArray[np.int64]:
    counts = mails.events[slots]
    for n in range(len(slots)):
        slot = slots[n]
        if mails.last_due[slot] > ticks[n]:
            counts[n], place = 0, mails.first[slot]
            while mails.due[place] <= ticks[n]:  # ends at the last event, if not before
                counts[n] += 1
                place = mails.after[place]
    return counts


@compiled
def _between(
    slots: NDArray[np.int64], begin: NDArray[np.int64], end: NDArray[np.int64], mails: Mails
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    total = (end - begin).sum()
    dues, items = np.empty(total, np.int64), np.empty(total, np.int64)
    found = 0
    for n in range(len(slots)):
        place = mails.first[slots[n]]
        for event in range(end[n]):
            if event >= begin[n]:
                dues[found], items[found] = mails.due[place], mails.item[place]
                found += 1
            place = mails.after[place]
    return dues, items


class Mailboxes:
    """A mailbox for each slot, which holds (due tick, item) in order of their due ticks.

    Args:
        slots: How many.
    """

    def __init__(self, slots: int) -> None:
        never = np.iinfo(np.int64).min
        self.mails = Mails(
            first=np.full(slots, -1),
            last=np.full(slots, -1),
            events=np.zeros(slots, np.int64),
            last_due=np.full(slots, never),
            due=np.zeros(_ROOM, np.int64),
            item=np.zeros(_ROOM, np.int64),
            slot=np.zeros(_ROOM, np.int64),
            after=np.zeros(_ROOM, np.int64),
            size=np.zeros(1, np.int64),
        )
        # Views: one number of an array is read faster through them.
        self._events = self.mails.events.data
        self._last_due = self.mails.last_due.data

    def post(self, slot: int, due: int, items: NDArray[np.int64]) -> None:
        """Put items into a mailbox, which are part of the state from tick ``due`` on.

        Args:
            slot: Whose.
            due: Not earlier than what is in the mailbox.
            items: (n,) what was consumed.
        """
        self._make_room(len(items))
        _post(slot, due, items, *self.mails)

    def post_all(self, slots: NDArray[np.int64], dues: NDArray[np.int64], items: NDArray[np.int64]) -> None:
        """:meth:`post` for n items, each with a slot (n,) and a due tick (n,), those of a slot in order."""
        self._make_room(len(items))
        _post_all(slots, dues, items, self.mails)

    def _make_room(self, n: int) -> None:
        mails = self.mails
        room = len(mails.item)
        if len(self) + n > room:
            more = np.zeros(max(room, n), np.int64)
            self.mails = mails._replace(
                due=np.concatenate([mails.due, more]),
                item=np.concatenate([mails.item, more]),
                slot=np.concatenate([mails.slot, more]),
                after=np.concatenate([mails.after, more]),
            )

    def __len__(self) -> int:
        return int(self.mails.size[0])

    def posted(self, since: int) -> NDArray[np.int64]:
        """(n,) the slot of each event that was posted after the first ``since`` ones."""
        return self.mails.slot[since : len(self)]

    def posts(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Slots, due ticks and items (n,) of all that is in the mailboxes, by slot, then in order."""
        events = self.mails.events
        slots = np.arange(len(events))
        return np.repeat(slots, events), *_between(slots, np.zeros_like(events), events, self.mails)

    def visible(self, slot: int, tick: int) -> int:
        """How many events of a mailbox are in the state at a tick."""
        if self._last_due[slot] <= tick:
            return self._events[slot]
        return int(self.visible_at(np.array([slot]), np.array([tick]))[0])

    def visible_at(self, slots: NDArray[np.int64], ticks: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) :meth:`visible` of each slot at its tick."""
        return _visible_at(slots, ticks, self.mails)

    def between(
        self, slots: NDArray[np.int64], begin: NDArray[np.int64], end: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Events ``begin`` to ``end`` of some mailboxes, one mailbox after the other.

        Args:
            slots: (n,) mailboxes.
            begin: (n,) the first event of each that is wanted, counted from 0.
            end: (n,) the first that is not.

        Returns:
            Due ticks and items, (total,) each.
        """
        return _between(slots, begin, end, self.mails)
