"""Hidden states of visitors: kept, walked and encoded ahead, with the scores of whole states."""

import dataclasses

import numpy as np
import pytest
import torch
from kit import calls_of, cases, same_arrays
from kit import markets as small

from rimsim.agents import top_k
from rimsim.config import ArrivalsConfig, ConsumerConfig, PlatformConfig
from rimsim.intensity import GRU, RIM, GRUConfig, HawkesPoisson, UserStates
from rimsim.intensity.contract import BLOCK, Walk, stepped, walked
from rimsim.intensity.registry import make
from rimsim.intensity.sets.bag import Bag, BagConfig
from rimsim.market import Market
from rimsim.market.consumers.replay import ReplayedLog
from rimsim.market.scores.scorer import Scorer
from rimsim.testing import random_log


@pytest.mark.parametrize("delay", [None, "3h"], ids=["clones", "delayed clones"])
def test_hidden_states_hold_the_visible_events_of_what_is_scored(delay, monkeypatch):
    """Each slot takes an event once and none that its next visit does not see; scores are those of whole states."""
    arrivals = ArrivalsConfig(per_round=400, max_visits=6)
    consumer = ConsumerConfig(attraction=5.0, delay=delay)
    platform = PlatformConfig(model="gru-hp(width=8,epochs=2)", retrain=False)
    config = small.small_scenario(rounds=1, arrivals=arrivals, consumer=consumer, platform=platform)
    store = Scorer._store
    catch_up = Scorer.catch_up
    taken = []

    def counted(self, slots, hidden, n_known):
        assert len(set(slots.tolist())) == len(slots)
        taken.append(len(slots))
        store(self, slots, hidden, n_known)

    def checked(self, slots, counts):
        catch_up(self, slots, counts)
        if type(self) is Scorer:  # under a truth, users may keep their hidden states
            assert np.array_equal(self._n_encoded[slots], counts)

    monkeypatch.setattr(Scorer, "_store", counted)
    monkeypatch.setattr(Scorer, "catch_up", checked)
    market = Market(config)
    for arrivals in small.batches(market, 8, in_waves=True):
        histories = market.open.histories
        tick = market.schedule.tick[arrivals.row]
        slots = market.schedule.slot[arrivals.row]
        expected = market.model.score(histories.states(slots, histories.visible_at(slots, tick), tick))
        expected = expected * arrivals.admissible
        expected /= expected.sum(1, keepdim=True)
        torch.testing.assert_close(arrivals.relevance, expected, rtol=1e-3, atol=1e-6)
    assert sum(taken) > 0


class _Remembering(GRU):
    """A model that returns the same memory for the same hidden states, and does not say that its caller owns it."""

    def score_hidden(self, hidden, now):
        self.scores = super().score_hidden(hidden, now)
        self.kept = self.scores.clone()
        return self.scores


def test_scores_that_a_model_keeps_are_not_written_to():
    """The memory of a mark model that does not hand its scores over is what it was after a market has used it."""
    config = small.small_scenario(rounds=1)
    log = Market(config).world.past
    mark = _Remembering(GRUConfig(epochs=1))
    model = RIM(mark=mark, ground=HawkesPoisson()).fit(log)
    for _ in small.batches(Market(config, model=model), 16):
        assert torch.equal(mark.scores, mark.kept)


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
    nowhere = np.zeros(0, np.int64)
    ways = walked(model, hidden, walk), stepped(model, hidden, walk)
    without = dataclasses.replace(walk, row=nowhere, count=nowhere)
    ends = *(after for after, _ in ways), walked(model, hidden, without)[0]
    for user in (0, 1, 5, 69):
        now = tuple(part[[user] * 64] for part in hidden)
        first = walk.offsets[user]
        stop = walk.offsets[user + 1]
        for n_done in range(stop - first + 1):
            points = np.flatnonzero((walk.row == user) & (walk.count == n_done))
            for _, seen in ways:
                assert all((part[points] == state[0]).all() for part, state in zip(seen, now, strict=True))
            if first + n_done < stop:
                item = torch.full((64,), int(walk.items[first + n_done]))
                time = torch.full((64,), walk.times[first + n_done], dtype=torch.float64)
                now = model.step(now, item, time)
        for after in ends:
            assert all(torch.equal(part[user], state[0]) for part, state in zip(after, now, strict=True))


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
    monkeypatch.setattr("rimsim.market.scores.arrivals._MOST_BYTES", 1)
    consumer = ConsumerConfig(kind="replay", delay=delay)
    config = small.small_replay(rounds=3, consumer=consumer, platform=PlatformConfig(model=model))
    ends = []
    for kind in (ReplayedLog, _AsItComes):
        market = Market(config, consumer=kind(config))
        served = small.batches(market, 9)
        rows = [arrival.relevance.numpy() * arrival.ground_intensity.numpy()[:, None] for arrival in served]
        ends.append((np.concatenate(rows), market))
    (first_rows, first), (second_rows, second) = ends
    np.testing.assert_array_equal(first_rows, second_rows)
    for mine, theirs in zip(first.closed, second.closed, strict=True):
        same_arrays(mine.ledger, theirs.ledger, "consumed")
        same_arrays(mine, theirs, "log_counts", "learnt_events")


@pytest.mark.parametrize("blocks", [1, 2, 9])
def test_states_known_beforehand_are_encoded_in_windows_and_forgotten(blocks, monkeypatch):
    """As many whole blocks at once as there is room for; scores of who was served are freed."""
    monkeypatch.setattr(Scorer, "hidden_bytes", lambda _: 1)
    monkeypatch.setattr("rimsim.market.scores.arrivals._MOST_BYTES", blocks * BLOCK + 9)
    monkeypatch.setattr("rimsim.market.scores.arrivals._AHEAD", 1)
    encoded = calls_of(monkeypatch, Scorer, "hidden_at")
    arrivals = ArrivalsConfig(kind="replay", warmup_share=0.8)
    config = small.small_replay(rounds=1, arrivals=arrivals)
    market = Market(config, model=Market(config).model)
    scores = market.open._scores
    n = len(market.schedule)
    while not market.done:
        waiting = market.next_arrivals(20)
        market.serve(waiting, top_k(waiting.relevance, waiting.admissible, config.slate))
        is_held = np.array([block is not None for block in scores._block])
        assert not is_held[: market.served or n].any()
        assert is_held.sum() < BLOCK
    sizes = [min(blocks * BLOCK, n - first) for first in range(0, n, blocks * BLOCK)]
    assert [len(call["slots"]) for call in encoded] == sizes
    assert n > 2 * BLOCK
