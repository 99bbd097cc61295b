"""Retraining: which consumptions are in the log of each round, window and fold."""

import numpy as np
import pytest
from kit import markets as small

from rimsim.agents import make_agent
from rimsim.config import ArrivalsConfig, ConsumerConfig, LogWindow, PlatformConfig
from rimsim.intensity import Popularity
from rimsim.market import Market, build_world, platform
from rimsim.market.scores.past import StateScores

WEEK = 7 * 86_400
DAY = 86_400


class Recorder(Popularity):
    """A popularity that keeps every log it is retrained on, for all copies of itself."""

    def __init__(self):
        super().__init__()
        self.logs = []

    def __deepcopy__(self, memo):
        return self

    def update(self, log):
        """Keep the log too."""
        self.logs.append(log)
        return super().update(log)


def _retrained(config, recorder, name="random"):
    """The played market, its ledgers and the (item, time in ms) of the target events of each retraining, sorted."""
    world = build_world(config)
    market = small.play_out(Market(config, world=world, model=recorder.fit(world.past)), make_agent(name))
    tables = [closed.ledger.table("a", 0, closed.number) for closed in market.closed]
    return market, tables, [_pairs(log.item[log.targets], log.time[log.targets]) for log in recorder.logs]


def _pairs(items, times):
    return sorted(zip(np.asarray(items).tolist(), np.rint(np.asarray(times) * 1e3).astype(int), strict=True))


def _platform(rounds, calibration="seen"):
    return PlatformConfig(log_window=LogWindow(rounds=rounds, warmup="none"), calibration=calibration)


@pytest.mark.parametrize("delay", [None, "1d"])
@pytest.mark.parametrize("rounds", [1, 2, None])
def test_the_platform_retrains_on_what_clones_consumed_in_the_window_and_is_known(rounds, delay):
    """Each retraining sees the consumptions of the window's rounds that have become known by the round's end."""
    consumer = ConsumerConfig(attraction=3.0, delay=delay)
    config = small.small_scenario(rounds=4, platform=_platform(rounds), consumer=consumer)
    market, tables, events = _retrained(config, Recorder())
    assert len(events) == 3
    for now, learnt in enumerate(events):
        first = 0 if rounds is None else max(0, now - rounds + 1)
        expected = []
        for table in tables[first : now + 1]:
            taken = table[table["consumed"]]
            due = taken["time"] + (DAY if delay else 0)
            is_known = due <= market.world.opening + WEEK * (now + 1)
            expected += _pairs(taken["item"][is_known], due[is_known])
        assert learnt == sorted(expected)


@pytest.mark.parametrize("rounds", [1, 2, None])
def test_the_platform_retrains_on_what_users_of_a_replay_did_in_the_window(rounds):
    """Each retraining sees the events of sessions that ended in the window's rounds, shown or not, each at that end."""
    per_round = 40
    arrivals = ArrivalsConfig(kind="replay", per_round=per_round, warmup_share=0.9)
    config = small.small_replay(rounds=4, arrivals=arrivals, platform=_platform(rounds))
    market, _, events = _retrained(config, Recorder())
    log = market.world.log
    sessions = market.world.sessions
    served = np.flatnonzero(sessions.start >= market.world.opening)[: 4 * per_round]
    edges = [market.world.opening, *sessions.start[served[per_round::per_round]]]
    assert len(events) == 3
    for now, learnt in enumerate(events):
        first = 0 if rounds is None else max(0, now - rounds + 1)
        expected = []
        for session in served[: (now + 1) * per_round]:
            if edges[first] <= sessions.stop[session] <= edges[now + 1]:
                items = log.item[sessions.of_event == session]
                expected += _pairs(items, np.full(len(items), sessions.stop[session]))
        assert learnt == sorted(expected)


class Rememberer(Recorder):
    """As if it knew users, so that prices are cross-fitted."""

    depends_on_state = True


@pytest.mark.parametrize("rounds", [1, 2, None])
def test_models_of_two_folds_share_out_the_last_round(rounds):
    """Each fold's log has all earlier rounds of the window, and what one lacks of the last round the other has."""
    platform = _platform(rounds, "cross-fitted")
    config = small.small_scenario(rounds=4, platform=platform, consumer=ConsumerConfig(attraction=3.0))
    _, tables, logs = _retrained(config, Rememberer(), "rim-dual")
    consumed = [_pairs(*table[table["consumed"]][["item", "time"]].to_numpy().T) for table in tables]
    assert len(logs) == 9
    if rounds == 1:  # a model that cannot know users has seen nothing of them, and is trained once a round
        assert len(_retrained(config, Recorder(), "rim-dual")[2]) == 3
    for now in range(3):
        all_events, *folds = logs[3 * now : 3 * now + 3]
        first = 0 if rounds is None else max(0, now - rounds + 1)
        earlier = [pair for past in consumed[first:now] for pair in past]
        assert all_events == sorted(earlier + consumed[now])
        assert sorted(folds[0] + folds[1]) == sorted(earlier + earlier + consumed[now])
        assert all(len(earlier) < len(fold) < len(all_events) for fold in folds)


def test_warm_up_states_are_scored_by_models_that_have_not_seen_what_their_users_did(monkeypatch):
    """The log of the model of a fold of users lacks their events in those sessions, and has those of others.

    The states' period is from the first to the last session.
    """
    as_fitted = PlatformConfig(model="ease-hp", calibrate_opening=False)
    past = Market(small.small_replay(platform=as_fitted)).round_view().past
    visits = past.past.visits
    tick = past.past.tick
    assert (visits.start, visits.stop) == (tick[0], tick[-1] + 1)
    first = past.past.tick.min() / 1e6
    users = []
    monkeypatch.setattr(platform, "initial_model", lambda config, log, *_: log)
    monkeypatch.setattr(StateScores, "_scored", lambda self, log, rows: [(log, self.past.user[rows])])
    for log, mine in past:
        seen = np.unique(log.user[log.time >= first])
        assert len(seen)
        assert not np.isin(mine, seen).any()
        users += mine.tolist()
    assert sorted(users) == sorted(past.past.user)
