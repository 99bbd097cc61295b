"""Histories of visitors, against plain lists."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rimsim.market.histories import Histories, LoggedPast

SLOTS = 4
LOGGED = [[7, 8], [], [9], [7]]
ITEMS = st.lists(st.integers(0, 9), max_size=3)
CONSUMED = st.lists(st.tuples(st.integers(0, SLOTS - 1), st.integers(0, 3), ITEMS), max_size=30)


def _empty(slots=SLOTS):
    """Histories of some slots, each of which is the log user of its number, seen ten seconds later."""
    logged = (LOGGED + [[]] * slots)[:slots]
    offsets = np.cumsum([0, *(len(items) for items in logged)])
    events = [(item, float(n)) for items in logged for n, item in enumerate(items)]
    items = np.array([item for item, _ in events], np.int64)
    times = np.array([at for _, at in events])
    past = LoggedPast(offsets, items, times)
    users = np.arange(slots)
    about = SimpleNamespace(user=users, log_user=users, shift=np.full(slots, 10.0), logged=None)
    return Histories(about, past)


def _entered(consumed, way):
    """Histories, and the same as a list of (tick, item) for each slot; every tick adds to the slot's last."""
    histories = _empty()
    lists = [[] for _ in range(SLOTS)]
    last = [0] * SLOTS
    rows = []
    for slot, wait, items in consumed:
        last[slot] += wait
        lists[slot] += [(last[slot], item) for item in items]
        rows += [(slot, last[slot], item) for item in items]
        slots = np.full(len(items), slot)
        ticks = np.full(len(items), last[slot])
        if way == "one by one":
            histories.append(slots, ticks, np.array(items, np.int64))
    if way == "at once":
        histories.append(*np.array(rows, np.int64).reshape(-1, 3).T.copy())
    return histories, lists


@given(consumed=CONSUMED, way=st.sampled_from(["one by one", "at once"]), tick=st.integers(-1, 12))
def test_histories_are_lists(consumed, way, tick):
    """What is entered, visible and read equals what plain lists hold, however it was entered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rimsim.market.histories._ROOM", 2)  # so that they grow
        histories, lists = _entered(consumed, way)
    slots = np.arange(SLOTS)
    visible = np.array([sum(since <= tick for since, _ in events) for events in lists])
    assert histories.visible_at(slots, np.full(SLOTS, tick)).tolist() == visible.tolist()
    all_events = [(slot, since, item) for slot in range(SLOTS) for since, item in lists[slot]]
    assert list(zip(*(column.tolist() for column in histories.all_events()), strict=True)) == all_events
    length = np.array([len(events) for events in lists])
    ticks, items = histories.between(slots[::-1].copy(), (length // 2)[::-1].copy(), length[::-1].copy())
    later_events = [event for slot in slots[::-1] for event in lists[slot][length[slot] // 2 :]]
    assert list(zip(ticks.tolist(), items.tolist(), strict=True)) == later_events
    states = histories.states(slots, visible, np.full(SLOTS, 50))
    for slot in slots.tolist():
        seen = slice(states.offsets[slot], states.offsets[slot + 1])
        visible_events = lists[slot][: visible[slot]]
        assert states.items[seen].tolist() == LOGGED[slot] + [item for _, item in visible_events]
        logged_times = [10.0 + n for n in range(len(LOGGED[slot]))]
        assert states.times[seen].tolist() == logged_times + [since / 1e6 for since, _ in visible_events]
    rows, everything = histories.consumed(slots)
    pairs = [(slot, item) for slot in slots.tolist() for item in LOGGED[slot] + [i for _, i in lists[slot]]]
    assert list(zip(rows.tolist(), everything.tolist(), strict=True)) == pairs
    copied = histories.copy()
    copied.append(np.array([0]), np.array([10**6]), np.array([5]))
    assert copied.events.counts[0] == histories.events.counts[0] + 1 == len(lists[0]) + 1


def test_an_event_goes_before_those_that_are_visible_later():
    """What is entered ahead does not keep out what becomes visible before it; of one tick, the last entered is last."""
    histories = _empty()
    entered = [(50, 3), (90, 4), (49, 5), (90, 6), (50, 7), (10, 8)]
    for tick, item in entered:
        histories.append(np.array([1]), np.array([tick]), np.array([item]))
    _, *events = (column.tolist() for column in histories.all_events())
    assert list(zip(*events, strict=True)) == sorted(entered, key=lambda event: event[0])
    assert histories.visible_at(np.array([1, 1, 1]), np.array([9, 50, 90])).tolist() == [0, 4, 6]
