"""States that no slate can move: encoded beforehand, they are what they are when events come one by one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_markets import small_replay

from rimsim.agents import top_k
from rimsim.config import ConsumerConfig, PlatformConfig
from rimsim.intensity import GRUConfig
from rimsim.intensity.contract import Walk, stepped, walked
from rimsim.intensity.registry import make
from rimsim.intensity.sets.bag import Bag, BagConfig
from rimsim.intensity.states import UserStates
from rimsim.market import Market
from rimsim.market import scores as module
from rimsim.market.consumers.replay import ReplayedLog
from rimsim.market.scores import ScoreRows
from rimsim.testing import random_log


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


@pytest.mark.parametrize(("model", "delay"), [("bag-visits", None), ("bag-visits", "3h"), ("hp", None)])
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


@pytest.mark.parametrize(("room", "encoded"), [(1, [4, 4, 2]), (39, [4, 4, 2]), (80, [8, 2]), (999, [10])])
def test_blocks_are_encoded_in_windows_and_forgotten_once_they_are_served(room, encoded, monkeypatch):
    """As many whole blocks at once as there is room for, one at least; each is scored once, and freed at its end."""
    monkeypatch.setattr(module, "BLOCK", 4)
    monkeypatch.setattr(module, "_MOST_BYTES", room)
    n, scorer = np.arange(10), _Counting(10)
    histories = _Ten(id=range(7), visible_at=lambda slot, _: slot % 3)
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
