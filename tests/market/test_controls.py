"""Controls: what a platform learns from instead of its own rounds."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from kit import markets, refused

from rimsim.agents import make_agent, market_for, play_round
from rimsim.arrays import ticks
from rimsim.config import ArrivalsConfig, ConsumerConfig, LogWindow, PlatformConfig, Seeds
from rimsim.errors import ConfigError, MarketError
from rimsim.market import MarketState, build_world
from rimsim.market.controls import AsLogged, Shadowed, replica_seeds
from rimsim.market.histories import LoggedPast
from rimsim.scenarios.study.controls import replicas, shadow_of

SEEDS = Seeds.all(3)


def _config(learning="impressions", **changes):
    """A small market whose platform depends on the states, and whose consumers take more than in others."""
    window = LogWindow(rounds=2, size=600)
    platform = PlatformConfig(model="ease-hp", learning=learning, log_window=window)
    usual = {"platform": platform, "consumer": ConsumerConfig(attraction=3.0)}
    return markets.small_scenario(**(usual | changes))


def _played(config, agent, control=None, batch=None):
    market = market_for(make_agent(agent), config, seeds=SEEDS, control=control)
    acting = make_agent(agent)
    return markets.play_out(market, acting, batch)


def _sizes(market):
    return [closed.learnt_events for closed in market.closed]


def _shadow(config, folder):
    return shadow_of(config, 3, folder, lambda _: None)


def _control(kind, config, sizes, folder):
    if kind == "random":
        return Shadowed(_shadow(config, folder), sizes)
    return AsLogged(config, build_world(config), SEEDS, sizes)


@pytest.mark.parametrize("learning", ["impressions", "consumed", "ips"])
def test_an_arm_that_is_random_is_its_own_control_to_the_last_bit(learning, tmp_path):
    """What the platform's model says in every later round, and its log, are those of the arm itself."""
    config = _config(learning)
    arm = _played(config, "random")
    control = _played(config, "random", Shadowed(_shadow(config, tmp_path), _sizes(arm)))
    pd.testing.assert_frame_equal(markets.ledgers(control), markets.ledgers(arm), check_exact=True)
    for control_round, arm_round in zip(control.closed, arm.closed, strict=True):
        np.testing.assert_array_equal(control_round.log_counts, arm_round.log_counts)


@pytest.mark.parametrize("kind", ["random", "organic"])
@pytest.mark.parametrize("market", ["clones", "users", "broadcast", "no-history"])
def test_a_controls_log_is_as_large_as_the_arms(market, kind, tmp_path):
    """In every round as many events as the arm had, and so the same number of events in the whole log."""
    config = {
        "clones": _config(),
        "users": _config(arrivals=ArrivalsConfig(per_round=80, draw="users")),
        "broadcast": markets.small_broadcast(consumer=ConsumerConfig(attraction=3.0)),
        "no-history": _config(arrivals=ArrivalsConfig(per_round=80, history="none")),
    }[market]
    arm = _played(config, "relevance")
    control = _played(config, "relevance", _control(kind, config, _sizes(arm), tmp_path))
    assert min(_sizes(arm)) > 0
    assert _sizes(control) == _sizes(arm)
    # Warm-up users top both logs up to a number of events: the same users, since they lack the same number.
    sums = [[closed.log_counts.sum() for closed in market.closed] for market in (control, arm)]
    assert sums[0] == sums[1]
    later = control.closed[1].ledger.intensity
    of_arm = arm.closed[1].ledger.intensity
    assert not np.array_equal(later, of_arm, equal_nan=True)


def test_events_of_random_slates_are_taken_in_order(tmp_path):
    """The first n of all replicas one after the other, and the slates up to the last of them."""
    config = _config()
    replica = _shadow(config, tmp_path)
    pasts = [replica(number)[1] for number in range(3)]
    counts = [int(past.histories.events.size[0]) for past in pasts]
    n_events = counts[0] + counts[1] // 2
    learnt = Shadowed(replica, [0, n_events]).learnt(pasts[0])
    expected = []
    for number, past in enumerate(pasts[:2]):
        slots, tick, items = (column.tolist() for column in past.histories.all_events())
        events = sorted(zip(tick, slots, items, strict=True), key=lambda event: event[:2])
        events = [
            (number, event_tick, item, past.schedule.log_user[slot]) for event_tick, slot, item in events
        ]
        expected += events[: n_events - len(expected)]
    slots, tick, items = learnt.histories.all_events()
    assert len(items) == n_events
    learnt_events = zip(tick.tolist(), items.tolist(), learnt.schedule.log_user[slots].tolist(), strict=True)
    assert sorted(learnt_events) == sorted((event_tick, item, user) for _, event_tick, item, user in expected)
    assert learnt.shown.taken.sum() == n_events
    last = max(event_tick for number, event_tick, _, _ in expected if number == 1)
    rows = len(pasts[0].schedule) + int((pasts[1].shown.settled <= last).sum())
    assert len(learnt.schedule) == len(learnt.shown.item) == rows
    assert (np.diff(learnt.schedule.tick) >= 0).all()
    assert len(np.unique(learnt.schedule.id)) == rows
    _no_consumption_becomes_a_refusal(learnt, pasts[:2])


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_control_without_impressions_takes_the_first_events(share, tmp_path):
    """Where a platform learns from consumption alone, a replica gives as many events as are asked for, in order."""
    consumer = ConsumerConfig(attraction=3.0, own_choice=share)
    replica = replicas(_config("consumed", consumer=consumer), "relevance", 3, tmp_path, lambda _: None)
    past = replica(0)[1]
    slots, tick, items = past.histories.all_events()
    n_events = len(items) // 2
    assert n_events > 20
    learnt = Shadowed(replica, [0, n_events]).learnt(past)
    assert learnt.shown is None
    first = np.lexsort((slots, tick))[:n_events]
    expected = sorted(zip(tick[first].tolist(), slots[first].tolist(), items[first].tolist(), strict=True))
    slots, tick, items = (column.tolist() for column in learnt.histories.all_events())
    assert sorted(zip(tick, slots, items, strict=True)) == expected


def _no_consumption_becomes_a_refusal(learnt, replicas):
    """Items consumed beyond the wanted number are no impressions at all, rather than impressions without success."""
    shown = {}
    for past in replicas:
        for slate, taken, user, tick in _slates(past):
            shown.setdefault((user, tick, slate), []).append(taken)
    for slate, taken, user, tick in _slates(learnt):
        filled = [item for item in slate if item >= 0]
        origins = [
            dict(zip(items, consumed, strict=True))
            for (shown_user, shown_tick, items), outcomes in shown.items()
            for consumed in outcomes
            if (shown_user, shown_tick) == (user, tick) and set(filled) <= set(items)
        ]
        mine = {item: bool(took) for item, took in zip(slate, taken, strict=True) if item >= 0}
        assert any(all(origin[item] == took for item, took in mine.items()) for origin in origins)


def _slates(past):
    """Slates of a round, each with what was taken, and the visitor and the tick that it was shown to."""
    schedule = past.schedule
    users = schedule.log_user[schedule.slot]
    for row in range(len(schedule)):
        slate = tuple(past.shown.item[row].tolist())
        yield slate, past.shown.taken[row].tolist(), int(users[row]), int(schedule.tick[row])


def test_each_replica_of_the_organic_control_has_sessions_of_its_own():
    """Where the visits' own sessions do not suffice, every further replica samples other sessions of the log."""
    config = _config()
    past = _played(config, "relevance").closed[1].learnt
    control = AsLogged(config, build_world(config), SEEDS, [0, 10**9])
    users = [control._logged(past, replica, 10**6).schedule.log_user for replica in range(4)]
    for first, second in itertools.combinations(users, 2):
        assert not np.array_equal(first, second)


def test_organic_events_are_those_of_the_visitors_logged_sessions():
    """Events are drawn alike from the sessions that visits stand for; beyond the round they are known at its end."""
    config = _config(arrivals=ArrivalsConfig(per_round=120, max_visits=3, round_length="1h"))
    arm = _played(config, "relevance")
    world = build_world(config)
    past = arm.closed[1].learnt
    learnt = AsLogged(config, world, SEEDS, [0, 150]).learnt(past)
    slots, tick, items = learnt.histories.all_events()
    assert len(slots) == 150 == len(set(zip(slots.tolist(), items.tolist(), strict=True)))
    assert (tick > learnt.schedule.tick[0]).all()
    assert tick.max() == learnt.schedule.stop - 1
    assert slots.mean() == pytest.approx(learnt.schedule.slot.max() / 2, rel=0.3)
    log = LoggedPast.of(world.past)
    sessions = world.past_sessions
    for slot, item in zip(slots.tolist(), items.tolist(), strict=True):
        user = learnt.schedule.log_user[slot]
        before = learnt.schedule.logged[slot]
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
    config = _config(rounds=4)
    name = "rim-feedback"
    sizes = _sizes(_played(config, name))
    agents = [make_agent(name) for _ in range(3)]
    controls = [_control(kind, config, sizes, tmp_path) for _ in agents]
    pairs = zip(agents, controls, strict=True)
    uninterrupted, first, continued = (
        market_for(agent, config, seeds=SEEDS, control=control) for agent, control in pairs
    )
    markets.play_out(uninterrupted, agents[0])
    for _ in range(2):
        play_round(first, agents[1])
    first.state.save(tmp_path / "kept")
    continued.load_state(MarketState.load(tmp_path / "kept"))
    markets.play_out(continued, agents[2], 7)
    continued.closed[:0] = first.closed
    pd.testing.assert_frame_equal(
        markets.ledgers(continued), markets.ledgers(uninterrupted), check_exact=True
    )


def test_a_control_is_refused_where_visitors_stay_processes_act_or_nothing_is_taken(tmp_path):
    """Replicas of a replay are alike, processes answer to slates, and without consumptions no log can be filled."""
    config = markets.small_replay()
    control = AsLogged(config, build_world(config), SEEDS, [9, 9])
    message = "has the same visitors in every round"
    refused(ConfigError, message, market_for, make_agent("relevance"), config, control=control)
    config = dataclasses.replace(_config(rounds=1), processes=("stock(units=5)",))
    refused(
        ConfigError,
        "may change the market by what an arm shows",
        market_for,
        make_agent("relevance"),
        config,
        control=control,
    )
    past = _shadow(_config(rounds=1), tmp_path)(0)[0]
    empty = dataclasses.replace(past, histories=past.histories.copy())
    empty.histories.events.size[0] = 0
    empty.histories.events.counts[:] = 0
    refused(MarketError, "0 of the 5 events that the arm has", Shadowed(lambda _: [empty], [5]).learnt, past)
    assert replica_seeds(SEEDS, 0) == SEEDS
    assert len({replica_seeds(SEEDS, number) for number in range(20)}) == 20
