"""Rules of habit: slates counted by hand, the half-life of a made-up log, and markets where they play."""

import numpy as np
import pytest
from kit import cases, refused
from kit.logs import arrivals_of, view_of
from kit.markets import market_of, play_out, resumed, same_ledgers, small_scenario

from rimsim.agents import make_agent
from rimsim.agents.habits import likeliest_half_life
from rimsim.errors import AgentError, ConfigError
from rimsim.intensity.habits.local_rate import HALF_LIVES, SMOOTHING
from rimsim.intensity.states import UserStates
from rimsim.market.records import LogEvents

DAY = 86_400.0


def _arrivals(history, n_items):
    """Arrivals to which everything is admissible, with the given pasts [(item, day), …]."""
    arrivals = arrivals_of(np.ones((len(history), n_items)))
    offsets = np.cumsum([0, *(len(past) for past in history)])
    items = np.array([item for past in history for item, _ in past], np.int64)
    times = np.array([DAY * day for past in history for _, day in past])
    states = UserStates(offsets, items, times, np.full(len(history), 100 * DAY))
    return arrivals.__class__(**{**vars(arrivals), "history": states})


def _acted(name, view, arrivals):
    agent = make_agent(name)
    agent.begin_round(view)
    return np.asarray(agent.act(arrivals)).tolist()


def test_own_items_come_first_by_count_then_popular_items():
    """The first visitor took item 3 twice and item 1 once; the second took nothing."""
    view = view_of(2, 5, 4, popularity=np.array([5, 1, 9, 0, 7]))
    arrivals = _arrivals([[(3, 1), (1, 2), (3, 3)], []], 5)
    assert _acted("own", view, arrivals) == [[3, 1, 2, 4], [2, 4, 0, 1]]


@cases("half_life best", (1.0, 1), (1000.0, 3))
def test_a_half_life_decides_between_a_late_event_and_two_early_ones(half_life, best):
    """By hand: 2^(−9) + 2^(−8) is below 1, but 2^(−0.009) + 2^(−0.008) is above."""
    view = view_of(1, 5, 1, popularity=np.ones(5, np.int64))
    arrivals = _arrivals([[(3, 1), (3, 2), (1, 10)]], 5)
    assert _acted(f"own(half_life={half_life})", view, arrivals) == [[best]]


def test_recent_ranks_by_decayed_events_of_the_log():
    """Item 0 has three old events, item 2 two new ones, item 1 one new one."""
    log = LogEvents(item=np.array([0, 2, 0, 1, 0, 2]), time=DAY * np.array([1.0, 98.0, 2.0, 99.0, 3.0, 97.0]))
    view = view_of(1, 3, 3, popularity=np.array([3, 1, 2]), log=log, opens=100 * DAY)
    arrivals = arrivals_of(np.ones((1, 3)))
    assert _acted("recent(half_life=5.0)", view, arrivals) == [[2, 1, 0]]
    assert _acted("recent(half_life=100000.0)", view, arrivals) == [[0, 2, 1]]


@cases("days", (1,), (28,))
def test_the_half_life_of_a_made_up_log_is_found(days):
    """Each event takes the item of an earlier event that is chosen with weight 2^(−age/half-life)."""
    draw = np.random.default_rng(days)
    n_events = 4_000
    time = np.sort(draw.uniform(0, 60 * days * DAY, n_events))
    item = np.empty(n_events, np.int64)
    for event in range(n_events):
        weight = np.exp2(-(time[event] - time[:event]) / (days * DAY))
        is_new = draw.random() < 0.05 or event == 0
        item[event] = draw.integers(50) if is_new else item[draw.choice(event, p=weight / weight.sum())]
    assert likeliest_half_life(item, time, 50) / DAY == pytest.approx(days, rel=1.01)


@cases("seed", (0,), (2,), (5,), (7,))
def test_the_half_life_is_chosen_by_what_was_known_before_each_event(seed):
    """Brute force: likelihood of the last fifth, smoothed by the popularity of the earlier events alone."""
    draw = np.random.default_rng(seed)
    n_items = 12
    shares = 1 / np.arange(1.0, n_items + 1)
    shares /= shares.sum()
    time = np.sort(draw.uniform(0, 20 * DAY, 60))
    # The items of the last events are others than before, so their own popularity would tell them.
    item = draw.choice(n_items, size=60, p=shares)
    item[48:] = draw.choice(n_items, size=12, p=shares[::-1])
    events = np.bincount(item[:48], minlength=n_items) + SMOOTHING
    added = SMOOTHING * n_items * events / events.sum()
    nats = {}
    for half_life in HALF_LIVES:
        nats[half_life] = 0.0
        for late in range(48, 60):
            counts = added.copy()
            for event in range(late):
                counts[item[event]] += 2.0 ** (-(time[late] - time[event]) / half_life)
            nats[half_life] += np.log(counts[item[late]] / counts.sum())
    assert likeliest_half_life(item, time, n_items) == max(nats, key=nats.get)


def test_a_log_without_events_has_no_half_life():
    """All events count alike, as there are none."""
    assert likeliest_half_life(np.zeros(0, np.int64), np.zeros(0), 3) == np.inf


def test_the_log_of_a_view_is_what_the_platform_was_trained_on():
    """Its counts are the popularity of the view, in the first round and after retraining; only its agent gets it."""
    agent, market = market_of("recent", small_scenario(rounds=3))
    counts = []
    while not market.done:
        view = market.round_view()
        counts.append(np.bincount(view.log.item, minlength=market.n_items))
        np.testing.assert_array_equal(counts[-1], view.popularity)
        assert (view.log.time < view.opens).all()
        agent.begin_round(view)
        before = market.round
        while not market.done and market.round == before:
            arrivals = market.next_arrivals()
            market.serve(arrivals, agent.act(arrivals))
    assert not np.array_equal(counts[0], counts[1])
    assert market_of("popularity", small_scenario())[1].round_view().log is None


@cases("name", ("own",), ("recent",))
def test_an_interrupted_run_goes_on_alike(name, tmp_path):
    """The rules keep nothing from round to round, and batches do not matter."""
    config = small_scenario(rounds=3)
    agent, market = market_of(name, config)
    uninterrupted = play_out(market, agent)
    agent, market = market_of(name, config)
    same_ledgers(uninterrupted, play_out(market, agent, batch_size=7))
    same_ledgers(uninterrupted, resumed(config, name, tmp_path))


@cases("name missing", ("own", "histories"), ("recent", "no log"))
def test_a_market_that_does_not_give_what_a_rule_needs_is_refused(name, missing):
    """The message says how to make the market."""
    agent = make_agent(name)

    def play():
        agent.begin_round(view_of(1, 3, 2))
        agent.act(arrivals_of(np.ones((1, 3))))

    refused(AgentError, missing, play)


@cases("name", ("own(half_life=0)",), ("recent(half_life=-1.0)",))
def test_a_half_life_is_positive(name):
    """The message names the option."""
    refused(ConfigError, "half_life", make_agent, name)
