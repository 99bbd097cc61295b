"""Mailboxes against plain lists, deliveries against the clock, and hidden states that take events early."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_markets import small_replay, small_scenario

from rimsim.agents import top_k
from rimsim.config import ArrivalsConfig, ConsumerConfig, PlatformConfig
from rimsim.intensity import GRU, RIM, GRUConfig, HawkesPoisson
from rimsim.market import Market
from rimsim.market.clock import Clock
from rimsim.market.deliveries import Deliveries
from rimsim.market.mailboxes import Mailboxes
from rimsim.market.scoring import ScoreAhead, Scorer

SLOTS = 4
POSTS = st.lists(
    st.tuples(st.integers(0, SLOTS - 1), st.integers(0, 3), st.lists(st.integers(0, 9), max_size=3)),
    max_size=30,
)


def _posted(posts, *, one_by_one):
    """Mailboxes, and the same as a list of (due, item) for each slot; every due tick adds to the slot's last."""
    boxes, lists, due = Mailboxes(SLOTS), [[] for _ in range(SLOTS)], [0] * SLOTS
    rows = []
    for slot, wait, items in posts:
        due[slot] += wait
        lists[slot] += [(due[slot], item) for item in items]
        rows += [(slot, due[slot], item) for item in items]
        if one_by_one:
            boxes.post(slot, due[slot], np.array(items, np.int64))
    if not one_by_one:
        boxes.post_all(*np.array(rows, np.int64).reshape(-1, 3).T.copy())
    return boxes, lists, rows


@settings(deadline=None)
@given(posts=POSTS, one_by_one=st.booleans(), tick=st.integers(-1, 12))
def test_mailboxes_are_lists(posts, one_by_one, tick):
    """What is posted, visible and read equals what plain lists hold, posted one by one or all at once."""
    boxes, lists, rows = _posted(posts, one_by_one=one_by_one)
    slots = np.arange(SLOTS)
    visible = [sum(due <= tick for due, _ in box) for box in lists]
    assert boxes.visible_at(slots, np.full(SLOTS, tick)).tolist() == visible
    assert [boxes.visible(slot, tick) for slot in range(SLOTS)] == visible
    assert len(boxes) == len(rows)
    assert boxes.posted(len(rows) // 2).tolist() == [slot for slot, _, _ in rows[len(rows) // 2 :]]
    held = [(slot, due, item) for slot in range(SLOTS) for due, item in lists[slot]]
    assert list(zip(*(column.tolist() for column in boxes.posts()), strict=True)) == held
    length = np.array([len(box) for box in lists])
    dues, items = boxes.between(slots[::-1].copy(), (length // 2)[::-1].copy(), length[::-1].copy())
    wanted = [post for slot in slots[::-1] for post in lists[slot][length[slot] // 2 :]]
    assert list(zip(dues.tolist(), items.tolist(), strict=True)) == wanted


def test_mailboxes_grow():
    """Thousands of events, posted by the handful or at once, are all there in order."""
    boxes = Mailboxes(2)
    for tick in range(1500):
        boxes.post(tick % 2, tick, np.array([tick, tick + 1]))
    boxes.post_all(np.zeros(9000, np.int64), np.full(9000, 2000), np.arange(9000))
    _, _, items = boxes.posts()
    first = [item for tick in range(0, 1500, 2) for item in (tick, tick + 1)]
    second = [item for tick in range(1, 1500, 2) for item in (tick, tick + 1)]
    assert items.tolist() == first + list(range(9000)) + second


@pytest.mark.parametrize("at_once", [True, False])
def test_deliveries_wait_until_they_are_due(at_once):
    """What is due is in the mailbox at once; the rest of each arrival comes with one event of the clock."""
    clock, boxes = Clock(100), Mailboxes(3)
    deliveries = Deliveries(clock, delay=9)
    sent = [(0, 90, [5, 6]), (1, 95, [7, 8]), (2, 95, [1])]
    if at_once:
        slots, ticks, items = zip(
            *((slot, tick, item) for slot, tick, some in sent for item in some), strict=True
        )
        deliveries.send_all(boxes, np.array(slots), np.array(ticks), np.array(items))
    else:
        for slot, tick, some in sent:
            deliveries.send(boxes, slot, tick, np.array(some))
    assert len(boxes) == 2
    assert np.array(deliveries.pending(boxes)).T.tolist() == [[1, 105, 7], [1, 105, 8], [2, 105, 1]]
    assert not len(deliveries.pending(Mailboxes(3))[0])
    clock.step()
    assert (clock.now, boxes.visible(1, 104), boxes.visible(1, 105), boxes.visible(2, 105)) == (105, 0, 2, 0)
    clock.step()
    assert boxes.visible(2, 105) == 1
    assert not len(deliveries.pending(boxes)[0])
    assert clock.next_tick() == float("inf")


CLONES = {"arrivals": ArrivalsConfig(per_round=400, max_visits=6), "rounds": 1}


@pytest.mark.parametrize(
    ("scenario", "changes", "fills"),
    [
        (small_scenario, CLONES | {"consumer": ConsumerConfig(attraction=5.0)}, True),
        (small_scenario, CLONES | {"consumer": ConsumerConfig(attraction=5.0, delay="3h")}, True),
        (small_replay, {}, False),  # few users come twice
        (small_replay, {"consumer": ConsumerConfig(kind="replay", delay="3h")}, False),
    ],
    ids=["clones", "delayed clones", "replay", "delayed replay"],
)
def test_events_taken_early_change_no_score(scenario, changes, fills, monkeypatch):
    """Hidden states that take later visits' events early hold those of every scored state, and score the same bits."""
    config = scenario(platform=PlatformConfig(model="gru-hp", retrain=False), **changes)
    blocks, take, catch_up = [], Scorer._take_event, Scorer._catch_up

    def counted(self, model, slots):
        blocks[-1].append(len(slots))
        assert len(set(slots.tolist())) == len(slots)
        take(self, model, slots)

    def checked(self, model, slots, counts, next_visits):
        catch_up(self, model, slots, counts, next_visits)
        assert np.array_equal(self._coded[slots], counts)
        assert (self._coded <= self._population.mail.mails.events).all()

    def scores():
        blocks.append([])
        market, seen = Market(config), []
        while not market.done:
            arrivals = market.next_arrivals(8, in_waves=True)
            seen.append((arrivals.relevance.clone(), arrivals.ground_intensity.clone()))
            market.serve(arrivals, top_k(arrivals.relevance, arrivals.admissible, config.slate))
        return seen

    monkeypatch.setattr(Scorer, "_take_event", counted)
    monkeypatch.setattr(Scorer, "_catch_up", checked)
    early = scores()
    monkeypatch.setattr(ScoreAhead, "_next_visits", lambda self, slots: (slots[:0], slots[:0]))
    late = scores()
    assert all(
        torch.equal(a, b) for one, two in zip(early, late, strict=True) for a, b in zip(one, two, strict=True)
    )
    assert 0 < len(blocks[0]) <= len(blocks[1])
    assert (blocks[0] != blocks[1]) is fills


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
