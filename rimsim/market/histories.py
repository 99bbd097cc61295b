"""Histories: visitors' events in the log and the market."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from rimsim.arrays import NEVER, TICKS, Array, Bools, Float32s, Floats, Ints, offsets_of, seconds, ticks
from rimsim.compiled import CompiledRecord, compiled, compiled_part
from rimsim.data.log import EventLog
from rimsim.intensity.states import UserStates
from rimsim.market.records import Schedule

_ROOM = 1024
"""Number of events that fit into the arrays at the beginning."""


@dataclass(frozen=True)
class RepeatRule:
    """Rule by which visitors may take an item again."""

    gap: int = NEVER
    """Ticks from a visitor's last consumption of an item until the item is admissible again; 0: it stays admissible,
    NEVER: it is not admissible again."""
    wait: int = 1
    """Ticks from a consumption in the market until it is visible to the platform."""

    @property
    def forbids(self) -> bool:
        """True if no visitor may take an item again."""
        return self.gap == NEVER

    def excludes(self, consumed: Ints, now: Ints) -> Bools:
        """Mask of consumptions whose items are inadmissible at ``now``.

        Args:
            consumed: Tick of each consumption.
        """
        if not self.gap:
            return np.zeros(len(consumed), bool)
        return np.asarray(now - consumed < self.gap, np.bool_)

    def keys(self, pair: Ints, visible_from: Ints, known: Ints) -> Ints:
        """Number of each consumption, equal for equal consumptions.

        If a visitor takes an item once, the number of the pair of visitor and item is enough. Otherwise, consumptions
        of a pair differ by the tick from which they are visible.

        Args:
            pair: Number of each pair; negative numbers stay negative.
            known: Ascending ticks. All ticks that are not among them count as equal.
        """
        if self.forbids:
            return pair
        index = np.searchsorted(known, visible_from)
        is_known = known[np.minimum(index, len(known) - 1)] == visible_from if len(known) else False
        return np.asarray(pair * (len(known) + 1) + np.where(is_known, index, len(known)), np.int64)


NEVER_AGAIN = RepeatRule()
"""Rule of a market in which visitors take each item once."""


@dataclass(frozen=True, eq=False)
class LoggedPast:
    """Events of a log grouped by user."""

    offsets: Ints
    """(users + 1,) index of each user's first event."""
    items: Ints
    """(n,) items, sorted by user, then by time."""
    times: Floats
    """(n,) times in seconds, sorted by user, ascending within a user."""
    rule: RepeatRule = NEVER_AGAIN
    """Rule by which visitors with these pasts may take an item again."""

    @classmethod
    def of(cls, log: EventLog, *, empty: bool = False, rule: RepeatRule = NEVER_AGAIN) -> LoggedPast:
        """Grouped events of a log; none of them if ``empty``."""
        # A cache keeps one grouping for all markets that use the log.
        past = _grouped(log, empty)
        return past if rule == past.rule else replace(past, rule=rule)

    @property
    def counts(self) -> Ints:
        """Number of events of each user."""
        return np.diff(self.offsets)

    def length(self, log_user: Ints, logged: Ints | None) -> Ints:
        """Number of logged events per slot; ``logged`` limits it."""
        n_events = self.offsets[log_user + 1] - self.offsets[log_user]
        return n_events if logged is None else np.minimum(logged, n_events)

    def last(self, log_user: Ints, length: Ints) -> Floats:
        """Seconds at which each past ends; 0 without events."""
        last_time = np.zeros(len(log_user))
        has_events = length > 0
        last_time[has_events] = self.times[(self.offsets[log_user] + length - 1)[has_events]]
        return last_time


@lru_cache(maxsize=4)
def _grouped(log: EventLog, empty: bool) -> LoggedPast:  # noqa: FBT001  # only the cache uses it, as a key
    """Events of a log grouped by user, cached."""
    if empty:
        return LoggedPast(np.zeros(log.n_users + 1, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return LoggedPast(log.offsets, log.item[log.by_user], log.time[log.by_user])


@dataclass(frozen=True, eq=False)
class Events(CompiledRecord):
    """Consumptions in the market, as linked lists for compiled code."""

    first: Ints
    """(slots,) place of each slot's oldest event; −1 for a slot without events."""
    last: Ints
    """(slots,) place of each slot's newest event; −1 for a slot without events."""
    counts: Ints
    """(slots,) number of each slot's events, including events that are not visible yet."""
    newest: Ints
    """(slots,) tick from which each slot's newest event is visible; the earliest possible tick for a slot without
    events."""
    tick: Ints
    """(room,) tick from which each event is visible to the platform."""
    item: Ints
    """(room,) consumed items."""
    next: Ints
    """(room,) place of the next event of the same slot; −1 after the last event."""
    size: Ints
    """(1,) number of places in use."""

    @classmethod
    def nothing(cls, slots: int) -> Events:
        """No event of any slot."""
        return cls(
            first=np.full(slots, -1),
            last=np.full(slots, -1),
            counts=np.zeros(slots, np.int64),
            newest=np.full(slots, np.iinfo(np.int64).min),
            tick=np.zeros(_ROOM, np.int64),
            item=np.zeros(_ROOM, np.int64),
            next=np.zeros(_ROOM, np.int64),
            size=np.zeros(1, np.int64),
        )

    def enlarged(self, n: int) -> Events:
        """The same events, with room for ``n`` more places."""
        room = np.zeros(n, np.int64)
        return replace(
            self,
            tick=np.concatenate([self.tick, room]),
            item=np.concatenate([self.item, room]),
            next=np.concatenate([self.next, room]),
        )


@compiled_part
def enter_event(slot: int, tick: int, item: int, events: Events) -> None:
    """Insert an event, sorted by the tick of its visibility."""
    # Places of the event, of the event before it in the slot's list, and of the event after it; −1: there is none.
    place = events.size[0]
    before = events.last[slot]
    following = -1
    if events.newest[slot] > tick:  # organic consumption may have been entered before its time
        before = -1
        following = events.first[slot]
        while events.tick[following] <= tick:  # this ends at the newest event at the latest
            before = following
            following = events.next[following]
    events.tick[place] = tick
    events.item[place] = item
    events.next[place] = following
    if before >= 0:
        events.next[before] = place
    else:
        events.first[slot] = place
    if following < 0:
        events.last[slot] = place
        events.newest[slot] = tick
    events.counts[slot] += 1
    events.size[0] = place + 1


@compiled
def _enter_all(slots: Ints, ticks: Ints, items: Ints, events: Events) -> None:
    """Insert n events."""
    for n in range(len(slots)):
        enter_event(slots[n], ticks[n], items[n], events)


# Each look-up of a record's array counts a reference, which is too slow within a loop over events. So the functions
# below look up the arrays first.
@compiled
def _count_visible(slots: Ints, ticks: Ints, events: Events, visible: Ints) -> None:
    """Fill in each slot's number of visible events."""
    counts = events.counts
    newest = events.newest
    first = events.first
    event_tick = events.tick
    following = events.next
    for n in range(len(slots)):
        slot = slots[n]
        visible[n] = counts[slot]
        if newest[slot] > ticks[n]:
            visible[n] = 0
            place = first[slot]
            while event_tick[place] <= ticks[n]:  # this ends at the newest event at the latest
                visible[n] += 1
                place = following[place]


@compiled
def _copy_between(slots: Ints, begin: Ints, end: Ints, events: Events, ticks: Ints, items: Ints) -> None:
    """Fill in ticks and items of events ``begin`` to ``end``."""
    first = events.first
    event_tick = events.tick
    event_item = events.item
    following = events.next
    size = 0
    for n in range(len(slots)):
        place = first[slots[n]]
        for event in range(end[n]):
            if event >= begin[n]:
                ticks[size] = event_tick[place]
                items[size] = event_item[place]
                size += 1
            place = following[place]


@dataclass(frozen=True, eq=False)
class LoggedEvents(CompiledRecord):
    """Logged past of each slot, for compiled code."""

    begin: Ints
    """(slots,) index of the first logged event of each slot's past."""
    length: Ints
    """(slots,) number of logged events in each slot's past."""
    shift: Floats
    """(slots,) seconds by which each slot's past is moved in time."""
    item: Ints
    """(n,) items of all logged events."""
    time: Floats
    """(n,) times of all logged events, in seconds."""


@compiled
def _copy_states(slots: Ints, counts: Ints, logged: LoggedEvents, events: Events, rows: Ints, items: Ints,
    times: Floats) -> None:  # fmt: skip
    """Fill in row, item and time of states' events."""
    begin = logged.begin
    length = logged.length
    shift = logged.shift
    logged_item = logged.item
    logged_time = logged.time
    first = events.first
    event_tick = events.tick
    event_item = events.item
    following = events.next
    size = 0
    for row in range(len(slots)):
        slot = slots[row]
        for event in range(begin[slot], begin[slot] + length[slot]):
            rows[size] = row
            items[size] = logged_item[event]
            times[size] = logged_time[event] + shift[slot]
            size += 1
        place = first[slot]
        for _ in range(counts[row]):
            rows[size] = row
            items[size] = event_item[place]
            times[size] = event_tick[place] / TICKS
            place = following[place]
            size += 1


@compiled
def _exclude_consumed(slots: Ints, counts: Ints, logged: LoggedEvents, events: Events, scores: Float32s,
    admissible: Bools) -> None:  # fmt: skip
    """Set consumed items to 0 in scores and admissibility."""
    begin = logged.begin
    length = logged.length
    logged_item = logged.item
    first = events.first
    event_item = events.item
    following = events.next
    for row in range(len(slots)):
        slot = slots[row]
        score = scores[row]
        is_admissible = admissible[row]
        for event in range(begin[slot], begin[slot] + length[slot]):
            score[logged_item[event]] = 0.0
            is_admissible[logged_item[event]] = False
        place = first[slot]
        for _ in range(counts[row]):
            score[event_item[place]] = 0.0
            is_admissible[event_item[place]] = False
            place = following[place]


@compiled
def _exclude_recent(slots: Ints, counts: Ints, now: Ints, gap: int, wait: int, logged: LoggedEvents,
    events: Events, scores: Float32s, admissible: Bools) -> None:  # fmt: skip
    """Exclude items consumed within a gap, in place."""
    begin = logged.begin
    length = logged.length
    shift = logged.shift
    logged_item = logged.item
    logged_time = logged.time
    first = events.first
    event_tick = events.tick
    event_item = events.item
    following = events.next
    for row in range(len(slots)):
        slot = slots[row]
        score = scores[row]
        is_admissible = admissible[row]
        since = now[row] - gap
        # Times ascend, so the first event that is not recent, from the end on, has only such events before it.
        for event in range(begin[slot] + length[slot] - 1, begin[slot] - 1, -1):
            if np.int64(np.rint((logged_time[event] + shift[slot]) * TICKS)) <= since:
                break
            score[logged_item[event]] = 0.0
            is_admissible[logged_item[event]] = False
        place = first[slot]
        for _ in range(counts[row]):
            if event_tick[place] - wait > since:
                score[event_item[place]] = 0.0
                is_admissible[event_item[place]] = False
            place = following[place]


@compiled
def _mark_repeats(slots: Ints, begin: Ints, end: Ints, logged: LoggedEvents, events: Events, seen: Ints,
    has_repeat: Bools) -> None:  # fmt: skip
    """Mark slots with a repeated item among given events."""
    # The events are those from ``begin`` to ``end`` in the market. ``seen`` (M,) must be zero; it gets 1 plus the index
    # of the last row whose history has the item.
    first_logged = logged.begin
    length = logged.length
    logged_item = logged.item
    first = events.first
    event_item = events.item
    following = events.next
    for row in range(len(slots)):
        has_repeat[row] = False
        if end[row] <= begin[row]:
            continue
        slot = slots[row]
        for event in range(first_logged[slot], first_logged[slot] + length[slot]):
            seen[logged_item[event]] = row + 1
        place = first[slot]
        for number in range(end[row]):
            item = event_item[place]
            if number >= begin[row] and seen[item] == row + 1:
                has_repeat[row] = True
                break
            seen[item] = row + 1
            place = following[place]


class Histories:
    """Histories by slot: logged past, and consumptions in the market.

    An event is added when its item is consumed, together with the tick from which it belongs to the visitor's state.
    Arrivals at that tick or later have the event in their state, whatever the order of processing.
    """

    def __init__(self, schedule: Schedule, past: LoggedPast) -> None:
        self.past = past
        self.rule = past.rule
        """Rule by which visitors may take an item again."""
        self.user = schedule.user
        self.log_user = schedule.log_user
        self.shift = schedule.shift
        self.begin = past.offsets[self.log_user]
        """(slots,) index, among the events of ``past``, of each slot's first event."""
        self.length = past.length(self.log_user, schedule.logged)
        """(slots,) number of events in each slot's logged past."""
        self.row_of_past = self.begin + self.log_user + self.length
        """(slots,) number of each slot's past among all: user u after j events has offsets[u] + u + j."""
        self.events = Events.nothing(len(self.user))
        """Consumptions in the market; a larger record replaces this one when it is full."""
        self._logged = LoggedEvents(
            begin=self.begin, length=self.length, shift=self.shift, item=past.items, time=past.times
        )

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def last_logged(self) -> Floats:
        """End of each logged past in seconds; 0 without events."""
        return np.where(self.length > 0, self.past.last(self.log_user, self.length) + self.shift, 0.0)

    def copy(self) -> Histories:
        """Independent copy of the histories."""
        histories = copy.copy(self)
        histories.events = copy.deepcopy(self.events)
        return histories

    def append(self, slots: Ints, ticks: Ints, items: Ints) -> None:
        """Add events of slots, each visible from its tick on."""
        self.make_room(len(items))
        _enter_all(slots, ticks, items, self.events)

    def make_room(self, n: int) -> None:
        """Make room for ``n`` more events."""
        room = len(self.events.item)
        if int(self.events.size[0]) + n > room:
            self.events = self.events.enlarged(max(room, n))

    def all_events(self) -> tuple[Ints, Ints, Ints]:
        """Slots, ticks and items of all events."""
        # Events are sorted by slot, then by the time at which they become visible.
        counts = self.events.counts
        slots = np.arange(len(counts))
        return np.repeat(slots, counts), *self.between(slots, np.zeros_like(counts), counts)

    def visible_at(self, slots: Ints, ticks: Ints) -> Ints:
        """Number of each slot's visible events at a tick."""
        n_visible = np.empty(len(slots), np.int64)
        _count_visible(slots, ticks, self.events, n_visible)
        return n_visible

    def lengths_at(self, slots: Ints, ticks: Ints) -> Ints:
        """Number of events in states at ticks, logged events included."""
        return np.asarray(self.length[slots] + self.visible_at(slots, ticks), np.int64)

    def between(self, slots: Ints, begin: Ints, end: Ints) -> tuple[Ints, Ints]:
        """Ticks and items of slots' events ``begin`` to ``end``."""
        total = int((end - begin).sum())
        ticks = np.empty(total, np.int64)
        items = np.empty(total, np.int64)
        _copy_between(slots, begin, end, self.events, ticks, items)
        return ticks, items

    def consumed(self, slots: Ints, counts: Ints | None = None) -> tuple[Ints, Ints]:
        """Pairs (slot index, item) of logged and ``counts`` market events."""
        # Row i of the result belongs to ``slots[i]``. Without ``counts``, all events of the market are included.
        counts = self.events.counts[slots] if counts is None else counts
        return self._events_of(slots, counts)[:2]

    def inadmissible(self, slots: Ints, counts: Ints, now: Ints) -> tuple[Ints, Ints]:
        """Pairs (slot index, item) of consumptions that exclude their items.

        Consumptions are those in the log and the first ``counts`` in the market, and ``now`` are ticks.
        """
        if self.rule.forbids:
            return self.consumed(slots, counts)
        if not self.rule.gap:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        rows, items, times = self._events_of(slots, counts)
        from_end = np.cumsum(self.length[slots] + counts)[rows] - np.arange(len(rows))
        in_market = from_end <= counts[rows]
        consumed = ticks(times) - self.rule.wait * in_market
        is_excluded = self.rule.excludes(consumed, now[rows])
        return rows[is_excluded], items[is_excluded]

    def exclude_consumed(
        self, slots: Ints, counts: Ints, now: Ints, scores: Float32s, admissible: Bools
    ) -> None:
        """Exclude items that may not be taken again, in place."""
        # Compiled code marks the items, because a list of all pairs takes longer than scoring.
        if self.rule.forbids:
            _exclude_consumed(slots, counts, self._logged, self.events, scores, admissible)
        elif self.rule.gap:
            _exclude_recent(slots, counts, now, self.rule.gap, self.rule.wait, self._logged, self.events, scores,
                admissible)  # fmt: skip

    def have_repeats(self, slots: Ints, begin: Ints, end: Ints, n_items: int) -> Bools:
        """Mask of slots whose events ``begin`` to ``end`` repeat items."""
        has_repeat = np.zeros(len(slots), bool)
        if not self.rule.forbids:
            seen = np.zeros(n_items, np.int64)
            _mark_repeats(slots, begin, end, self._logged, self.events, seen, has_repeat)
        return has_repeat

    def had_before(self, slots: Ints, now: Ints, items: Array) -> Bools:
        """(n, k) mask of items that slots consumed before given ticks.

        ``items`` (n, k) are −1 at empty positions, where the mask is False.
        """
        all_slots = np.arange(len(self))
        logged_slot, logged_item, _ = self._events_of(all_slots, np.zeros_like(all_slots))
        slot, visible_from, item = self.all_events()
        n_items = 1 + max(int(part.max(initial=0)) for part in (logged_item, item, items))
        pair = np.append(logged_slot * n_items + logged_item, slot * n_items + item)
        tick = np.append(np.full(len(logged_item), -NEVER), visible_from - self.rule.wait)
        order = np.lexsort((tick, pair))
        consumed_pair, first = np.unique(pair[order], return_index=True)
        first_tick = tick[order][first]
        shown_pair = slots[:, None] * n_items + np.maximum(items, 0)
        place = np.searchsorted(consumed_pair, shown_pair)
        is_known = place < len(consumed_pair)
        place[~is_known] = 0
        if not len(consumed_pair):
            return np.zeros(items.shape, bool)
        is_known &= (consumed_pair[place] == shown_pair) & (items >= 0)
        return np.asarray(is_known & (first_tick[place] < now[:, None]), np.bool_)

    def states(self, slots: Ints, counts: Ints, now: Ints) -> UserStates:
        """States of slots with ``counts`` events at the ticks ``now``."""
        _, items, times = self._events_of(slots, counts)
        return UserStates(offsets_of(self.length[slots] + counts), items, times, seconds(now))

    def _events_of(self, slots: Ints, counts: Ints) -> tuple[Ints, Ints, Floats]:
        """Slot index, item and time in seconds of states' events."""
        total = int((self.length[slots] + counts).sum())
        rows = np.empty(total, np.int64)
        items = np.empty(total, np.int64)
        times = np.empty(total)
        _copy_states(slots, counts, self._logged, self.events, rows, items, times)
        return rows, items, times
