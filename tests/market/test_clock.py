"""The market's clock: a SimPy environment that is right whenever anyone looks."""

from datetime import UTC, datetime

import pandas as pd
import pytest
import simpy
from kit import refused
from kit.environments import make_env
from kit.markets import settings_of, small_replay, small_scenario

from rimsim.agents import make_agent, play_round
from rimsim.config import ArrivalsConfig
from rimsim.errors import MarketError
from rimsim.market import Market

MINUTE = 60.0


def finished(batch, *, wakes=False):
    """Ledgers of a small market, with a process that wakes each minute, and its wakes."""
    market = Market(small_scenario(rounds=2))
    log = []

    def minute():
        while True:
            yield market.env.timeout(MINUTE)
            log.append((market.env.now, market.served))

    if wakes:
        market.env.process(minute())
    while not market.done:
        play_round(market, make_agent("rim-feedback"), batch)
    return [closed.ledger.table("rim-feedback", 0, closed.number) for closed in market.closed], log


@pytest.mark.parametrize("scenario", [small_scenario, small_replay])
def test_the_clock_is_right_at_each_step(scenario):
    """At each of 2,000 steps, the clock has the time of the arrival that waits, and the info has it as well."""
    config = scenario(rounds=2)
    env = make_env(scenario="closed-loop", settings=settings_of(config)).unwrapped
    _, info = env.reset(seed=0)
    for _ in range(1000):
        market = env.market
        assert isinstance(market.env, simpy.Environment)
        assert market.env.now == info["market"]["time"] == float(env.arrivals.time[0])
        assert abs(market.now - datetime.fromtimestamp(market.env.now, UTC)).total_seconds() < 1e-5
        *_, is_over, _, info = env.step(env.observation()["relevance"].argsort()[::-1][: config.slate])
        if is_over:
            _, info = env.reset()


def test_a_process_that_does_nothing_changes_no_table():
    """A process that wakes each minute changes no ledger in batches of 1, 7 and all, and wakes at equal states."""
    plain, _ = finished(None)
    states = []
    for batch in (1, 7, None):
        ledgers, log = finished(batch, wakes=True)
        for before, after in zip(plain, ledgers, strict=True):
            pd.testing.assert_frame_equal(before, after, check_exact=True)
        assert len(log) > 1000
        states.append(log)
    assert states[0] == states[1] == states[2]


def test_a_process_sees_all_earlier_visits_and_no_later_one():
    """When a process wakes at an arrival's own time, the visits before it are served, and the arrival is not."""
    market = Market(small_scenario(rounds=1, arrivals=ArrivalsConfig(per_round=60)))
    time = market.schedule.tick / 1e6
    seen = []

    def at(number):
        yield market.env.timeout(time[number] - market.env.now)
        seen.append((number, market.served, market.env.now == time[number]))

    for number in (5, 20, 41):
        market.env.process(at(number))
    play_round(market, make_agent("relevance"))
    assert seen == [(number, number, True) for number in (5, 20, 41)]
    assert market.env.now == market.schedule.stop / 1e6


def test_a_timeout_from_outside_ends_the_open_stretch():
    """A timeout that is set while an arrival waits goes off before later arrivals."""
    market = Market(small_scenario(rounds=1, arrivals=ArrivalsConfig(per_round=60)))
    time = market.schedule.tick / 1e6
    first = market.next_arrivals(10)
    timeout = market.env.timeout(time[30] - market.env.now)
    market.serve(first, first.relevance.topk(market.config.slate).indices)
    second = market.next_arrivals()
    assert not timeout.processed
    assert second.row.tolist() == list(range(10, 10 + len(second)))
    assert second.row[-1] < 30
    while second.row[-1] < 29:
        market.serve(second, second.relevance.topk(market.config.slate).indices)
        second = market.next_arrivals()
    market.serve(second, second.relevance.topk(market.config.slate).indices)
    market.next_arrivals()
    assert timeout.processed


def test_nobody_else_advances_the_clock():
    """While an arrival waits for its slate, a step of the clock is refused."""
    market = Market(small_scenario(rounds=1))
    market.next_arrivals(1)
    refused(MarketError, "the market must serve arrivals first", market.env.step)
    refused(MarketError, "the delay is -1", market.env.schedule, market.env.event(), delay=-1)
