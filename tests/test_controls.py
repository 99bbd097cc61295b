"""Controls: what a platform learns from in place of its own rounds, against its own, brute force and the log."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from kit import refused
from small_markets import play_out, small_broadcast, small_replay, small_scenario

from rimsim.agents import make_agent, market_for, play_round
from rimsim.arrays import ticks
from rimsim.config import ArrivalsConfig, ConsumerConfig, LogWindow, PlatformConfig, Seeds
from rimsim.errors import ConfigError, MarketError
from rimsim.market import MarketState, build_world
from rimsim.market.controls import AsLogged, Shadowed, replica_seeds
from rimsim.market.histories import LoggedPast
from rimsim.scenarios.study.controls import shadow_of

SEEDS = Seeds.all(3)


def _config(learning="impressions", **changes):
    """A small market whose platform depends on the states, and whose consumers take more than in others."""
    window = LogWindow(rounds=2, size=600)
    platform = PlatformConfig(model="ease-hp", learning=learning, log_window=window)
    return small_scenario(**({"platform": platform, "consumer": ConsumerConfig(attraction=3.0)} | changes))


def _played(config, agent, control=None, batch=None):
    market, acting = market_for(make_agent(agent), config, seeds=SEEDS, control=control), make_agent(agent)
    return play_out(market, acting, batch)


def _sizes(market):
    return [closed.learnt_events for closed in market.closed]


def _shadow(config, folder):
    return shadow_of(config, 3, folder, lambda _: None)


def _control(kind, config, sizes, folder):
    if kind == "random":
        return Shadowed(_shadow(config, folder), sizes)
    return AsLogged(config, build_world(config), SEEDS, sizes)


def _ledgers(market):
    tables = [closed.ledger.table("any", 3, closed.number) for closed in market.closed]
    return pd.concat(tables, ignore_index=True)


@pytest.mark.parametrize("learning", ["impressions", "consumed", "ips"])
def test_an_arm_that_is_random_is_its_own_control_to_the_last_bit(learning, tmp_path):
    """What the platform's model says in every later round, and its log, are those of the arm itself."""
    config = _config(learning)
    own = _played(config, "random")
    control = _played(config, "random", Shadowed(_shadow(config, tmp_path), _sizes(own)))
    pd.testing.assert_frame_equal(_ledgers(control), _ledgers(own), check_exact=True)
    for one, other in zip(control.closed, own.closed, strict=True):
        np.testing.assert_array_equal(one.log_counts, other.log_counts)


@pytest.mark.parametrize("kind", ["random", "organic"])
@pytest.mark.parametrize("market", ["clones", "users", "broadcast", "no-history"])
def test_a_controls_log_is_as_large_as_the_arms(market, kind, tmp_path):
    """In every round as many events as the arm had, and so the same number of events in the whole log."""
    config = {
        "clones": _config(),
        "users": _config(arrivals=ArrivalsConfig(per_round=80, draw="users")),
        "broadcast": small_broadcast(consumer=ConsumerConfig(attraction=3.0)),
        "no-history": _config(arrivals=ArrivalsConfig(per_round=80, history="none")),
    }[market]
    own = _played(config, "relevance")
    control = _played(config, "relevance", _control(kind, config, _sizes(own), tmp_path))
    assert min(_sizes(own)) > 0
    assert _sizes(control) == _sizes(own)
    # Warm-up users top both logs up to a number of events: the same users, since they lack the same number.
    sums = [[closed.log_counts.sum() for closed in market.closed] for market in (control, own)]
    assert sums[0] == sums[1]
    later, same = control.closed[1].ledger.intensity, own.closed[1].ledger.intensity
    assert not np.array_equal(later, same, equal_nan=True)


def test_events_of_random_slates_are_taken_in_order(tmp_path):
    """The first n of all replicas one after the other, and the slates up to the last of them."""
    config = _config()
    replica = _shadow(config, tmp_path)
    whole = [replica(number)[1] for number in range(3)]
    counts = [int(past.histories.events.size[0]) for past in whole]
    wanted = counts[0] + counts[1] // 2
    learnt = Shadowed(replica, [0, wanted]).learnt(whole[0])
    expected = []
    for number, past in enumerate(whole[:2]):
        slots, tick, items = (column.tolist() for column in past.histories.all_events())
        events = sorted(zip(tick, slots, items, strict=True), key=lambda event: event[:2])
        events = [(number, when, item, past.schedule.log_user[slot]) for when, slot, item in events]
        expected += events[: wanted - len(expected)]
    slots, tick, items = learnt.histories.all_events()
    assert len(items) == wanted
    found = zip(tick.tolist(), items.tolist(), learnt.schedule.log_user[slots].tolist(), strict=True)
    assert sorted(found) == sorted((when, item, who) for _, when, item, who in expected)
    assert learnt.shown.taken.sum() == wanted
    last = max(when for number, when, _, _ in expected if number == 1)
    rows = len(whole[0].schedule) + int((whole[1].shown.settled <= last).sum())
    assert len(learnt.schedule) == len(learnt.shown.item) == rows
    assert (np.diff(learnt.schedule.tick) >= 0).all()
    assert len(np.unique(learnt.schedule.id)) == rows


def test_organic_events_are_those_of_the_visitors_logged_sessions():
    """Each event is one that the visitor's user did in the session that the visit stands for, in its state then.

    All such events are drawn alike, and what a session holds beyond the round's end is known at its last tick.
    """
    config = _config(arrivals=ArrivalsConfig(per_round=120, max_visits=3, round_length="1h"))
    own, world = _played(config, "relevance"), build_world(config)
    past = own.closed[1].learnt
    learnt = AsLogged(config, world, SEEDS, [0, 150]).learnt(past)
    slots, tick, items = learnt.histories.all_events()
    assert len(slots) == 150 == len(set(zip(slots.tolist(), items.tolist(), strict=True)))
    assert (tick > learnt.schedule.tick[0]).all()
    assert tick.max() == learnt.schedule.stop - 1
    assert slots.mean() == pytest.approx(learnt.schedule.slot.max() / 2, rel=0.3)
    log, sessions = LoggedPast.of(world.past), world.past_sessions
    for slot, item in zip(slots.tolist(), items.tolist(), strict=True):
        user, before = learnt.schedule.log_user[slot], learnt.schedule.logged[slot]
        mine = np.flatnonzero(sessions.user == user)
        mine = mine[np.argsort(sessions.start[mine])]
        sizes = sessions.count[mine]
        (at,) = np.flatnonzero(np.cumsum(sizes) - sizes == before)
        first = log.offsets[user] + before
        assert item in log.items[first : first + sizes[at]]
        begin = ticks(sessions.start[mine[at]] + learnt.schedule.shift[slot])
        assert begin == pytest.approx(learnt.schedule.tick[learnt.schedule.slot == slot].min(), abs=1)


@pytest.mark.parametrize("kind", ["random", "organic"])
def test_a_control_goes_on_from_its_saved_state(kind, tmp_path):
    """Saved between rounds and loaded into a new market, it ends with the same ledger, bit for bit."""
    config, name = _config(rounds=4), "rim-feedback"
    sizes = _sizes(_played(config, name))
    whole = _ledgers(_played(config, name, _control(kind, config, sizes, tmp_path)))
    agent, other = make_agent(name), make_agent(name)
    first, again = (
        market_for(agent, config, seeds=SEEDS, control=_control(kind, config, sizes, tmp_path))
        for _ in range(2)
    )
    for _ in range(2):
        play_round(first, agent)
    first.state.save(tmp_path / "kept")
    again.load_state(MarketState.load(tmp_path / "kept"))
    play_out(again, other, 7)
    again.closed[:0] = first.closed
    pd.testing.assert_frame_equal(_ledgers(again), whole, check_exact=True)


def test_a_control_is_refused_where_visitors_stay_or_yield_nothing(tmp_path):
    """In a replay replicas could not be told apart; consumers who take nothing at random cannot fill a log."""
    config = small_replay()
    control = AsLogged(config, build_world(config), SEEDS, [9, 9])
    said = "visitors are the same in every round"
    refused(ConfigError, said, market_for, make_agent("relevance"), config, control=control)
    past = _shadow(_config(rounds=1), tmp_path)(0)[0]
    empty = dataclasses.replace(past, histories=past.histories.copy())
    empty.histories.events.size[0] = 0
    empty.histories.events.counts[:] = 0
    refused(MarketError, "hold 5 events fewer", Shadowed(lambda _: [empty], [5]).learnt, past)
    assert replica_seeds(SEEDS, 0) == SEEDS
    assert len({replica_seeds(SEEDS, number) for number in range(20)}) == 20
