"""Histories against plain lists, and hidden states that take events as they become visible."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_markets import small_scenario

from rimsim.agents import top_k
from rimsim.config import ArrivalsConfig, ConsumerConfig, PlatformConfig
from rimsim.intensity import GRU, RIM, GRUConfig, HawkesPoisson
from rimsim.market import Market
from rimsim.market.histories import Histories, LoggedPast
from rimsim.market.scores import Scorer

SLOTS = 4
LOGGED = [[7, 8], [], [9], [7]]
CONSUMED = st.lists(
    st.tuples(st.integers(0, SLOTS - 1), st.integers(0, 3), st.lists(st.integers(0, 9), max_size=3)),
    max_size=30,
)


def _empty(slots=SLOTS):
    """Histories of some slots, each of which is the log user of its number, seen ten seconds later."""
    logged = (LOGGED + [[]] * slots)[:slots]
    past = LoggedPast(
        np.cumsum([0, *(len(items) for items in logged)]),
        np.array([item for items in logged for item in items], np.int64),
        np.array([float(n) for items in logged for n, _ in enumerate(items)]),
    )
    users = np.arange(slots)
    return Histories(
        SimpleNamespace(user=users, log_user=users, shift=np.full(slots, 10.0), logged=None), past
    )


def _entered(consumed, way):
    """Histories, and the same as a list of (tick, item) for each slot; every tick adds to the slot's last."""
    histories, lists, last, rows = _empty(), [[] for _ in range(SLOTS)], [0] * SLOTS, []
    for slot, wait, items in consumed:
        last[slot] += wait
        lists[slot] += [(last[slot], item) for item in items]
        rows += [(slot, last[slot], item) for item in items]
        slots, ticks = np.full(len(items), slot), np.full(len(items), last[slot])
        if way == "one by one":
            histories.append(slots, ticks, np.array(items, np.int64))
        elif way == "marked":  # beside what is not marked
            shown = np.array([[*items, 99, 98]], np.int64)
            histories.append_marked(np.array([slot]), np.array([last[slot]]), shown, shown < 98)
    if way == "at once":
        histories.append(*np.array(rows, np.int64).reshape(-1, 3).T.copy())
    return histories, lists


@settings(deadline=None)
@given(consumed=CONSUMED, way=st.sampled_from(["one by one", "marked", "at once"]), tick=st.integers(-1, 12))
def test_histories_are_lists(consumed, way, tick):
    """What is entered, visible and read equals what plain lists hold, however it was entered."""
    histories, lists = _entered(consumed, way)
    slots = np.arange(SLOTS)
    visible = np.array([sum(since <= tick for since, _ in events) for events in lists])
    assert histories.visible_at(slots, np.full(SLOTS, tick)).tolist() == visible.tolist()
    held = [(slot, since, item) for slot in range(SLOTS) for since, item in lists[slot]]
    assert list(zip(*(column.tolist() for column in histories.all_events()), strict=True)) == held
    length = np.array([len(events) for events in lists])
    ticks, items = histories.between(slots[::-1].copy(), (length // 2)[::-1].copy(), length[::-1].copy())
    wanted = [event for slot in slots[::-1] for event in lists[slot][length[slot] // 2 :]]
    assert list(zip(ticks.tolist(), items.tolist(), strict=True)) == wanted
    states = histories.states(slots, visible, np.full(SLOTS, 50))
    for slot in slots.tolist():
        seen = slice(states.offsets[slot], states.offsets[slot + 1])
        known = lists[slot][: visible[slot]]
        assert states.items[seen].tolist() == LOGGED[slot] + [item for _, item in known]
        logged_times = [10.0 + n for n in range(len(LOGGED[slot]))]
        assert states.times[seen].tolist() == logged_times + [since / 1e6 for since, _ in known]
    rows, everything = histories.consumed(slots)
    pairs = [(slot, item) for slot in slots.tolist() for item in LOGGED[slot] + [i for _, i in lists[slot]]]
    assert list(zip(rows.tolist(), everything.tolist(), strict=True)) == pairs
    copied = histories.copy()
    copied.append(np.array([0]), np.array([10**6]), np.array([5]))
    assert copied.events.counts[0] == histories.events.counts[0] + 1 == len(lists[0]) + 1


def test_histories_grow():
    """Thousands of events, entered by the handful or at once, are all there in order."""
    histories = _empty(2)
    for tick in range(1500):
        histories.append(np.full(2, tick % 2), np.full(2, tick), np.array([tick, tick + 1]))
    histories.append(np.zeros(9000, np.int64), np.full(9000, 2000), np.arange(9000))
    _, _, items = histories.all_events()
    first = [item for tick in range(0, 1500, 2) for item in (tick, tick + 1)]
    second = [item for tick in range(1, 1500, 2) for item in (tick, tick + 1)]
    assert items.tolist() == first + list(range(9000)) + second


def test_an_event_goes_before_those_that_are_visible_later():
    """What is entered ahead does not keep out what becomes visible before it; of one tick, the last entered is last."""
    histories = _empty()
    for tick, item in ((50, 3), (90, 4), (49, 5), (90, 6), (50, 7), (10, 8)):
        histories.append(np.array([1]), np.array([tick]), np.array([item]))
    _, ticks, items = histories.all_events()
    assert list(zip(ticks.tolist(), items.tolist(), strict=True)) == [
        (10, 8), (49, 5), (50, 3), (50, 7), (90, 4), (90, 6),
    ]  # fmt: skip
    assert histories.visible_at(np.array([1, 1, 1]), np.array([9, 50, 90])).tolist() == [0, 4, 6]


CLONES = {"arrivals": ArrivalsConfig(per_round=400, max_visits=6), "rounds": 1}


@pytest.mark.parametrize(
    ("scenario", "changes"),
    [
        (small_scenario, CLONES | {"consumer": ConsumerConfig(attraction=5.0)}),
        (small_scenario, CLONES | {"consumer": ConsumerConfig(attraction=5.0, delay="3h")}),
    ],
    ids=["clones", "delayed clones"],
)
def test_hidden_states_hold_the_visible_events_of_what_is_scored(scenario, changes, monkeypatch):
    """Each slot takes an event once and none that its next visit does not see; scores are those of whole states."""
    config = scenario(platform=PlatformConfig(model="gru-hp", retrain=False), **changes)
    store, catch_up, taken = Scorer._store, Scorer._catch_up, []

    def counted(self, slots, hidden, known):
        assert len(set(slots.tolist())) == len(slots)
        taken.append(len(slots))
        store(self, slots, hidden, known)

    def checked(self, model, slots, counts):
        catch_up(self, model, slots, counts)
        assert np.array_equal(self._known[slots], counts)

    monkeypatch.setattr(Scorer, "_store", counted)
    monkeypatch.setattr(Scorer, "_catch_up", checked)
    market = Market(config)
    while not market.done:
        arrivals = market.next_arrivals(8, in_waves=True)
        histories, tick = market.open.histories, market.schedule.tick[arrivals.index]
        slots = market.schedule.slot[arrivals.index]
        whole = market.model.score(histories.states(slots, histories.visible_at(slots, tick), tick))
        whole = whole * arrivals.admissible
        torch.testing.assert_close(
            arrivals.relevance, whole / whole.sum(1, keepdim=True), rtol=1e-3, atol=1e-6
        )
        market.serve(arrivals, top_k(arrivals.relevance, arrivals.admissible, config.slate))
    assert sum(taken) > 0


class _Remembering(GRU):
    """A model that returns the same memory for the same hidden states, and does not say that its caller owns it."""

    def score_hidden(self, hidden, now):
        self.scores = super().score_hidden(hidden, now)
        self.kept = self.scores.clone()
        return self.scores


def test_scores_that_a_model_keeps_are_not_written_to():
    """The memory of a mark model that does not hand its scores over is what it was after a market has used it."""
    config = small_scenario(rounds=1)
    log = Market(config).world.past
    mark = _Remembering(GRUConfig(epochs=1))
    model = RIM(mark=mark, ground=HawkesPoisson()).fit(log)
    market = Market(config, model=model)
    while not market.done:
        arrivals = market.next_arrivals(16)
        assert torch.equal(mark.scores, mark.kept)
        market.serve(arrivals, top_k(arrivals.relevance, arrivals.admissible, config.slate))
