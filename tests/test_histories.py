"""Histories against plain lists, and hidden states: of events as they become visible, and encoded beforehand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import cases
from small_markets import small_replay, small_scenario

from rimsim.agents import top_k
from rimsim.config import ArrivalsConfig, ConsumerConfig, PlatformConfig
from rimsim.intensity import GRU, RIM, GRUConfig, HawkesPoisson
from rimsim.intensity.contract import Walk, stepped, walked
from rimsim.intensity.registry import make
from rimsim.intensity.sets.bag import Bag, BagConfig
from rimsim.intensity.states import UserStates
from rimsim.market import Market, platform
from rimsim.market import scores as module
from rimsim.market.consumers.replay import ReplayedLog
from rimsim.market.histories import Histories, LoggedPast
from rimsim.market.scores import Scorer, ScoreRows
from rimsim.testing import random_log

SLOTS = 4
LOGGED = [[7, 8], [], [9], [7]]
ITEMS = st.lists(st.integers(0, 9), max_size=3)
CONSUMED = st.lists(st.tuples(st.integers(0, SLOTS - 1), st.integers(0, 3), ITEMS), max_size=30)


def _empty(slots=SLOTS):
    """Histories of some slots, each of which is the log user of its number, seen ten seconds later."""
    logged = (LOGGED + [[]] * slots)[:slots]
    offsets = np.cumsum([0, *(len(items) for items in logged)])
    events = [(item, float(n)) for items in logged for n, item in enumerate(items)]
    items, times = np.array([item for item, _ in events], np.int64), np.array([at for _, at in events])
    past = LoggedPast(offsets, items, times)
    users = np.arange(slots)
    about = SimpleNamespace(user=users, log_user=users, shift=np.full(slots, 10.0), logged=None)
    return Histories(about, past)


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
    entered = [(50, 3), (90, 4), (49, 5), (90, 6), (50, 7), (10, 8)]
    for tick, item in entered:
        histories.append(np.array([1]), np.array([tick]), np.array([item]))
    _, *events = (column.tolist() for column in histories.all_events())
    assert list(zip(*events, strict=True)) == sorted(entered, key=lambda event: event[0])
    assert histories.visible_at(np.array([1, 1, 1]), np.array([9, 50, 90])).tolist() == [0, 4, 6]


@pytest.mark.parametrize("delay", [None, "3h"], ids=["clones", "delayed clones"])
def test_hidden_states_hold_the_visible_events_of_what_is_scored(delay, monkeypatch):
    """Each slot takes an event once and none that its next visit does not see; scores are those of whole states."""
    arrivals = ArrivalsConfig(per_round=400, max_visits=6)
    consumer = ConsumerConfig(attraction=5.0, delay=delay)
    platform = PlatformConfig(model="gru-hp", retrain=False)
    config = small_scenario(rounds=1, arrivals=arrivals, consumer=consumer, platform=platform)
    store, catch_up, taken = Scorer._store, Scorer._catch_up, []

    def counted(self, slots, hidden, known):
        assert len(set(slots.tolist())) == len(slots)
        taken.append(len(slots))
        store(self, slots, hidden, known)

    def checked(self, model, slots, counts):
        catch_up(self, model, slots, counts)
        if type(self) is Scorer:  # under a truth, users may keep their hidden states
            assert np.array_equal(self._known[slots], counts)

    monkeypatch.setattr(Scorer, "_store", counted)
    monkeypatch.setattr(Scorer, "_catch_up", checked)
    market = Market(config)
    while not market.done:
        arrivals = market.next_arrivals(8, in_waves=True)
        histories, tick = market.open.histories, market.schedule.tick[arrivals.row]
        slots = market.schedule.slot[arrivals.row]
        whole = market.model.score(histories.states(slots, histories.visible_at(slots, tick), tick))
        whole = whole * arrivals.admissible
        whole /= whole.sum(1, keepdim=True)
        torch.testing.assert_close(arrivals.relevance, whole, rtol=1e-3, atol=1e-6)
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


def _walk(draw, users, n_items, start):
    """Events of some users, some of whom have none, with silences around half an hour, and points at all of them."""
    length = draw.integers(0, 12, users)
    length[:2] = 0, 40
    offsets = np.concatenate([[0], np.cumsum(length)])
    times = np.concatenate([start + np.cumsum(draw.choice([10.0, 1800.0, 1801.0, 9e4], n)) for n in length])
    row = np.concatenate([np.repeat(np.arange(users), length + 1), [5, 5]])
    count = np.concatenate([*(np.arange(n + 1) for n in length), [0, length[5]]])
    mixed = draw.permutation(len(row))
    return Walk(offsets, draw.integers(0, n_items, offsets[-1]), times, row[mixed], count[mixed])


MODELS = {
    "bag-visits": lambda: make("bag-visits", mark=BagConfig(steps=3, weight_decay=1e-4)),
    "gru-hp": lambda: make("gru-hp", mark=GRUConfig(epochs=1)),
    "popularity-visits": lambda: make("popularity-visits"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_walk_is_its_steps_to_the_bit(name):
    """At every point of a walk, and after it, hidden states are those of blocks that take one event of one user."""
    log = random_log(70, 30, mean_events=6.0)
    model = MODELS[name]().fit(log)
    hidden = model.encode(UserStates.of(log, np.arange(70), float(log.time[-1]) + 1.0))
    walk = _walk(np.random.default_rng(3), 70, 30, float(log.time[-1]))
    ways = walked(model, hidden, walk), stepped(model, hidden, walk)
    for user in (0, 1, 5, 69):
        now = tuple(part[[user] * 64] for part in hidden)
        first, stop = walk.offsets[user], walk.offsets[user + 1]
        for done in range(stop - first + 1):
            points = np.flatnonzero((walk.row == user) & (walk.count == done))
            for _, seen in ways:
                assert all((part[points] == one[0]).all() for part, one in zip(seen, now, strict=True))
            if first + done < stop:
                item = torch.full((64,), int(walk.items[first + done]))
                time = torch.full((64,), walk.times[first + done], dtype=torch.float64)
                now = model.step(now, item, time)
        for after, _ in ways:
            assert all(torch.equal(part[user], one[0]) for part, one in zip(after, now, strict=True))


def test_a_step_of_ones_own_is_walked_by():
    """A subclass that overrides the step alone does not walk as its base does."""

    class Still(Bag):
        def step(self, hidden, items, times):
            return hidden

    log = random_log(30, 20, mean_events=8.0)
    model = Still(BagConfig(steps=1, weight_decay=1e-4)).fit(log)
    hidden = model.encode(UserStates.of(log, np.arange(30), float(log.time[-1]) + 1.0))
    after, _ = walked(model, hidden, _walk(np.random.default_rng(0), 30, 20, float(log.time[-1])))
    assert torch.equal(after[0], hidden[0])


class _AsItComes(ReplayedLog):
    """The same consumer, who does not say that all is known beforehand."""

    foretold = False


@cases("model delay", ("bag-visits", None), ("bag-visits", "3h"), ("hp", None))
def test_what_is_foretold_changes_nothing(model, delay, monkeypatch):
    """Rounds whose states are encoded beforehand, in windows, end as those whose events come as they happen."""
    monkeypatch.setattr(module, "_MOST_BYTES", 1)
    consumer = ConsumerConfig(kind="replay", delay=delay)
    config = small_replay(rounds=3, consumer=consumer, platform=PlatformConfig(model=model))
    ends = []
    for kind in (ReplayedLog, _AsItComes):
        market = Market(config, consumer=kind(config))
        rows = []
        while not market.done:
            arrivals = market.next_arrivals(9)
            rows.append(arrivals.relevance.numpy() * arrivals.ground_intensity.numpy()[:, None])
            market.serve(arrivals, top_k(arrivals.relevance, arrivals.admissible, config.slate))
        ends.append((np.concatenate(rows), market))
    (one, first), (other, second) = ends
    np.testing.assert_array_equal(one, other)
    for mine, theirs in zip(first.closed, second.closed, strict=True):
        np.testing.assert_array_equal(mine.ledger.consumed, theirs.ledger.consumed)
        np.testing.assert_array_equal(mine.log_counts, theirs.log_counts)
        assert mine.learnt_events == theirs.learnt_events


class _Counting:
    """A scorer of which each arrival's scores are its id, and its hidden state says whose it is."""

    def __init__(self, size):
        self.size, self.encoded, self.scored = size, [], []

    def hidden_bytes(self):
        return self.size

    def hidden_at(self, slots, counts):
        self.encoded.append(len(slots))
        return (100 * slots + counts,)

    def score(self, ids, slots, ticks, counts, hidden):
        assert hidden[0].tolist() == (100 * slots + counts).tolist()
        assert (ticks == ids + 1000).all()
        self.scored.append(ids.tolist())
        rows = np.zeros((4, 3), np.float32)
        rows[: len(ids)] = ids[:, None]
        return ScoreRows((torch.from_numpy(rows), torch.from_numpy(rows[:, 0]), torch.from_numpy(rows >= 0)))


@cases("room encoded", (1, [4, 4, 2]), (39, [4, 4, 2]), (80, [8, 2]), (999, [10]))
def test_blocks_are_encoded_in_windows_and_forgotten_once_they_are_served(room, encoded, monkeypatch):
    """As many whole blocks at once as there is room for, one at least; each is scored once, and freed at its end."""
    monkeypatch.setattr(module, "BLOCK", 4)
    monkeypatch.setattr(module, "_MOST_BYTES", room)
    n, scorer = np.arange(10), _Counting(10)
    events = SimpleNamespace(newest=np.zeros(7, np.int64), counts=np.arange(7) % 3)
    histories = _Ten(id=range(7), visible_at=lambda slot, _: slot % 3, events=events)
    schedule = _Ten(id=n, slot=n[::-1] % 7, tick=n + 1000)
    scores = module.PrecomputedScores(scorer, histories, schedule)
    served = 0
    for size in (1, 3, 2, 1, 3):
        arrivals = np.arange(served, served + size)
        rows = scores.rows(arrivals)
        assert rows.tensors[0][:, 0].tolist() == arrivals.tolist()
        scores.drop(arrivals)
        served += size
        held = np.array([block is not None for block in scores._block])
        held = [held[first : first + 4].any() for first in (0, 4, 8)]
        assert held == [4 * block < served < min(4 * block + 4, 10) for block in range(3)]
    assert scorer.encoded == encoded
    assert scorer.scored == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


class _Ten(SimpleNamespace):
    def __len__(self):
        return len(self.id)


def test_warm_up_states_are_scored_by_models_that_have_not_seen_what_their_users_did(monkeypatch):
    """The log of the model of a fold of users lacks their events in those sessions, and has those of others."""
    past = Market(small_replay(platform=PlatformConfig(model="ease-hp"))).round_view().past
    first, users = past.past.tick.min() / 1e6, []
    monkeypatch.setattr(platform, "initial_model", lambda config, log, *_: log)
    monkeypatch.setattr(module.StateScores, "_scored", lambda self, log, rows: [(log, self.past.user[rows])])
    for log, mine in past:
        seen = np.unique(log.user[log.time >= first])
        assert len(seen)
        assert not np.isin(mine, seen).any()
        users += mine.tolist()
    assert sorted(users) == sorted(past.past.user)
