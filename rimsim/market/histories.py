"""Histories of visitors: consumptions, and ticks when they become visible."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from rimsim.arrays import TICKS, Bools, Float32s, Floats, Ints, offsets_of, seconds
from rimsim.compiled import compiled, compiled_part
from rimsim.data.log import EventLog
from rimsim.intensity.states import UserStates
from rimsim.market.records import Schedule

_ROOM = 1024
"""Number of events for which there is room at the beginning."""


@dataclass(frozen=True, eq=False)
class LoggedPast:
    """Events of a log grouped by user."""

    offsets: Ints
    """(users + 1,) index of each user's first event."""
    items: Ints
    """(n,) items, by user, then time."""
    times: Floats
    """(n,) times in seconds, by user, ascending."""

    @classmethod
    def of(cls, log: EventLog, *, empty: bool = False) -> LoggedPast:
        """Grouped events of a log; none of them if ``empty``."""
        # Markets over a log share one grouping.
        return _grouped(log, empty)

    @property
    def counts(self) -> Ints:
        """Number of events of each user."""
        return np.diff(self.offsets)

    def length(self, log_user: Ints, logged: Ints | None) -> Ints:
        """Number of logged events per slot, at most ``logged``."""
        everything = self.offsets[log_user + 1] - self.offsets[log_user]
        return everything if logged is None else np.minimum(logged, everything)

    def last(self, log_user: Ints, length: Ints) -> Floats:
        """Seconds at which each past ends; 0 without events."""
        last, some = np.zeros(len(log_user)), length > 0
        last[some] = self.times[(self.offsets[log_user] + length - 1)[some]]
        return last


@lru_cache(maxsize=4)
def _grouped(log: EventLog, empty: bool) -> LoggedPast:  # noqa: FBT001  # a key of the cache
    if empty:
        nothing = np.zeros(0, np.int64)
        return LoggedPast(np.zeros(log.n_users + 1, np.int64), nothing, nothing.astype(np.float64))
    return LoggedPast(log.offsets, log.item[log.by_user], log.time[log.by_user])


class Events(NamedTuple):
    """Consumptions in the market, as linked lists for compiled code."""

    first: Ints
    """(slots,) place of each slot's oldest event; −1 without an event."""
    last: Ints
    """(slots,) place of each slot's newest event."""
    counts: Ints
    """(slots,) number of each slot's events, visible or not."""
    newest: Ints
    """(slots,) tick from which each slot's newest event is visible; the earliest possible tick without an event."""
    tick: Ints
    """(room,) tick from which each event is visible."""
    item: Ints
    """(room,) consumed items."""
    next: Ints
    """(room,) place of the next event of the same slot; −1 after the last event."""
    size: Ints
    """(1,) number of places in use."""


@compiled_part
def enter_event(slot: int, tick: int, item: int, events: Events) -> None:
    """Insert an event, sorted by the tick of its visibility."""
    place = events.size[0]
    before, following = events.last[slot], -1
    if events.newest[slot] > tick:  # what a visitor does by himself may have been entered ahead
        before, following = -1, events.first[slot]
        while events.tick[following] <= tick:  # ends at the newest event, if not before
            before, following = following, events.next[following]
    events.tick[place], events.item[place], events.next[place] = tick, item, following
    if before >= 0:
        events.next[before] = place
    else:
        events.first[slot] = place
    if following < 0:
        events.last[slot], events.newest[slot] = place, tick
    events.counts[slot] += 1
    events.size[0] = place + 1


@compiled
def _enter_all(slots: Ints, ticks: Ints, items: Ints, events: Events) -> None:
    """Insert n events."""
    for n in range(len(slots)):
        enter_event(slots[n], ticks[n], items[n], events)


@compiled
def enter_marked(slots: Ints, ticks: Ints, items: Ints, marked: Bools, first: Ints, last: Ints, counts:
    Ints, newest: Ints, tick: Ints, item: Ints, following: Ints, size: Ints) -> None:  # fmt: skip
    """Add the items of slates that ``marked`` selects, in order."""
    # The events come as arrays: to hand over their record takes longer than to enter the items of one slate.
    events = Events(first, last, counts, newest, tick, item, following, size)
    for n in range(len(slots)):
        for position in range(items.shape[1]):
            if marked[n, position]:
                enter_event(slots[n], ticks[n], items[n, position], events)


@compiled
def _visible_at(slots: Ints, ticks: Ints, first: Ints, counts: Ints, newest: Ints, tick: Ints, following:
    Ints, visible: Ints) -> None:  # fmt: skip
    """Fill in each slot's number of visible events."""
    for n in range(len(slots)):
        slot = slots[n]
        visible[n] = counts[slot]
        if newest[slot] > ticks[n]:
            visible[n], place = 0, first[slot]
            while tick[place] <= ticks[n]:  # ends at the newest event, if not before
                visible[n] += 1
                place = following[place]


@compiled
def _between(slots: Ints, begin: Ints, end: Ints, first: Ints, tick: Ints, item: Ints, following: Ints,
    ticks: Ints, items: Ints) -> None:  # fmt: skip
    """Fill in ticks and items of events ``begin`` to ``end``."""
    size = 0
    for n in range(len(slots)):
        place = first[slots[n]]
        for event in range(end[n]):
            if event >= begin[n]:
                ticks[size], items[size] = tick[place], item[place]
                size += 1
            place = following[place]


@compiled
def _states_of(slots: Ints, counts: Ints, begin: Ints, length: Ints, logged: Ints, logged_at: Floats, shift:
    Floats, first: Ints, tick: Ints, item: Ints, following: Ints, rows: Ints, items: Ints, times:
    Floats) -> None:  # fmt: skip
    """Fill in slot, item and time of each event."""
    # Slots are given by their index in ``slots``.
    end = 0
    for row in range(len(slots)):
        slot = slots[row]
        for place in range(begin[slot], begin[slot] + length[slot]):
            rows[end], items[end], times[end] = row, logged[place], logged_at[place] + shift[slot]
            end += 1
        place = first[slot]
        for _ in range(counts[row]):
            rows[end], items[end], times[end] = row, item[place], tick[place] / TICKS
            place = following[place]
            end += 1


@compiled
def _take_out(slots: Ints, counts: Ints, begin: Ints, length: Ints, logged: Ints, first: Ints, item: Ints,
    following: Ints, scores: Float32s, admissible: Bools) -> None:  # fmt: skip
    """Set consumed items to 0 in scores and admissibility."""
    for row in range(len(slots)):
        slot, score, left = slots[row], scores[row], admissible[row]
        for place in range(begin[slot], begin[slot] + length[slot]):
            score[logged[place]], left[logged[place]] = 0.0, False
        place = first[slot]
        for _ in range(counts[row]):
            score[item[place]], left[item[place]], place = 0.0, False, following[place]


class Histories:
    """Histories by slot: logged past, and consumptions in the market.

    An event is added when its item is consumed, together with the tick from which it belongs to the visitor's state.
    Arrivals at that tick or later have the event in their state, whatever the order of processing.
    """

    def __init__(self, schedule: Schedule, past: LoggedPast) -> None:
        self.past = past
        self.user = schedule.user
        self.log_user = schedule.log_user
        self.shift = schedule.shift
        self.begin = past.offsets[self.log_user]
        """(slots,) where each slot's logged past begins among the events of ``past``."""
        self.length = past.length(self.log_user, schedule.logged)
        """(slots,) events of each slot's logged past."""
        self.row_of_past = self.begin + self.log_user + self.length
        """(slots,) number of each slot's past among all: user u after j events has offsets[u] + u + j."""
        slots = len(self.user)
        self.events = Events(
            first=np.full(slots, -1),
            last=np.full(slots, -1),
            counts=np.zeros(slots, np.int64),
            newest=np.full(slots, np.iinfo(np.int64).min),
            tick=np.zeros(_ROOM, np.int64),
            item=np.zeros(_ROOM, np.int64),
            next=np.zeros(_ROOM, np.int64),
            size=np.zeros(1, np.int64),
        )

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def last_logged(self) -> Floats:
        """End of each logged past in seconds; 0 without events."""
        return np.where(self.length > 0, self.past.last(self.log_user, self.length) + self.shift, 0.0)

    def copy(self) -> Histories:
        """Independent copy of the histories."""
        other = copy.copy(self)
        other.events = Events(*(array.copy() for array in self.events))
        return other

    def append(self, slots: Ints, ticks: Ints, items: Ints) -> None:
        """Add events of slots, each visible from its tick on."""
        self.make_room(len(items))
        _enter_all(slots, ticks, items, self.events)

    def append_marked(self, slots: Ints, ticks: Ints, items: Ints, marked: Bools) -> None:
        """Add the items of slates that ``marked`` selects, in order."""
        self.make_room(items.size)
        enter_marked(slots, ticks, items, marked, *self.events)

    def make_room(self, n: int) -> None:
        """Make room for ``n`` more events."""
        events = self.events
        room = len(events.item)
        if int(events.size[0]) + n > room:
            more = np.zeros(max(room, n), np.int64)
            grown = (np.concatenate([column, more]) for column in (events.tick, events.item, events.next))
            self.events = events._replace(**dict(zip(("tick", "item", "next"), grown, strict=True)))

    def all_events(self) -> tuple[Ints, Ints, Ints]:
        """Slots, ticks and items of all events."""
        # They are by slot, in the order in which they become visible.
        counts = self.events.counts
        slots = np.arange(len(counts))
        return np.repeat(slots, counts), *self.between(slots, np.zeros_like(counts), counts)

    def visible_at(self, slots: Ints, ticks: Ints) -> Ints:
        """Number of each slot's visible events at a tick."""
        events, visible = self.events, np.empty(len(slots), np.int64)
        _visible_at(
            slots, ticks, events.first, events.counts, events.newest, events.tick, events.next, visible
        )
        return visible

    def lengths_at(self, slots: Ints, ticks: Ints) -> Ints:
        """Number of events in states at ticks, logged events included."""
        return np.asarray(self.length[slots] + self.visible_at(slots, ticks), np.int64)

    def between(self, slots: Ints, begin: Ints, end: Ints) -> tuple[Ints, Ints]:
        """Ticks and items of slots' events ``begin`` to ``end``."""
        events, total = self.events, int((end - begin).sum())
        ticks, items = np.empty(total, np.int64), np.empty(total, np.int64)
        _between(slots, begin, end, events.first, events.tick, events.item, events.next, ticks, items)
        return ticks, items

    def consumed(self, slots: Ints, counts: Ints | None = None) -> tuple[Ints, Ints]:
        """Pairs (slot index, item) of logged and ``counts`` market events."""
        # A row is an index of ``slots``; None: all events.
        counts = self.events.counts[slots] if counts is None else counts
        return self._logged_and_other(slots, counts)[:2]

    def take_out(self, slots: Ints, counts: Ints, scores: Float32s, admissible: Bools) -> None:
        """Make consumed items inadmissible, with intensity 0, in place."""
        # Pairs of :meth:`consumed`, of which a list costs more than all else here.
        events = self.events
        _take_out(slots, counts, self.begin, self.length, self.past.items, events.first, events.item,
            events.next, scores, admissible)  # fmt: skip

    def states(self, slots: Ints, counts: Ints, now: Ints) -> UserStates:
        """States of slots with ``counts`` events at the ticks ``now``."""
        _, items, times = self._logged_and_other(slots, counts)
        return UserStates(offsets_of(self.length[slots] + counts), items, times, seconds(now))

    def _logged_and_other(self, slots: Ints, counts: Ints) -> tuple[Ints, Ints, Floats]:
        """Slot, item and time in seconds of states' events."""
        past, events, total = self.past, self.events, int((self.length[slots] + counts).sum())
        rows, items, times = np.empty(total, np.int64), np.empty(total, np.int64), np.empty(total)
        _states_of(slots, counts, self.begin, self.length, past.items, past.times, self.shift, events.first,
            events.tick, events.item, events.next, rows, items, times)  # fmt: skip
        return rows, items, times
