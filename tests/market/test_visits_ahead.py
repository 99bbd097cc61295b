"""Visits after the next wake of a process, answered at once by an agent that is free of their order."""

import numpy as np
import pytest
from kit import refused
from kit.markets import same_ledgers, small_scenario

from rimsim.agents import make_agent, play_round, top_k
from rimsim.arrays import TICKS
from rimsim.errors import MarketError, ProcessError
from rimsim.market import Market

DAY = 86_400


class Wakes:
    """Process that wakes each day, and acts at the first wake."""

    def __init__(self, act):
        self.act = act

    def run(self, env, market):
        """Wake each day."""
        yield env.timeout(DAY)
        self.act(market)
        while True:
            yield env.timeout(DAY)


def idle(market):
    """Change nothing."""


def stop(market):
    """Take the model out of service."""
    market.stop_model("random")


CHANGES = {
    "end": lambda market: market.end([0]),
    "demand": lambda market: market.scale_demand([0, 1], 2.0),
    "stop": stop,
}


def market_with(act):
    """Market of one round with a process."""
    return Market(small_scenario(rounds=1), processes={"wakes": Wakes(act)})


def serve(market, arrivals):
    """Most relevant items for arrivals."""
    return market.serve(arrivals, top_k(arrivals.relevance, arrivals.admissible, market.config.slate))


def n_before_wake(market, number=1):
    """Number of visits before one of the wakes; call it before any visit."""
    return int((market.schedule.tick < (market.env.now + number * DAY) * TICKS).sum())


def test_visits_ahead_are_those_before_a_second_visit_of_a_user():
    """Without ``ahead`` a batch ends at the wake; with it, at the first visit of a user who has come before."""
    slots = market_with(idle).schedule.slot
    second = next(row for row in range(len(slots)) if slots[row] in slots[:row])
    market = market_with(idle)
    n = n_before_wake(market)
    assert 0 < n < second
    assert market.next_arrivals(in_waves=True).row.tolist() == list(range(n))
    arrivals = market_with(idle).next_arrivals(ahead=True)
    assert arrivals.row.tolist() == list(range(second))
    assert market_with(idle).next_arrivals(n + 1, ahead=True).row.tolist() == list(range(n + 1))


def test_all_visits_ahead_are_served_if_nothing_changes():
    """One call serves the visits of several stretches, in which the process wakes."""
    market = market_with(idle)
    arrivals = market.next_arrivals(ahead=True)
    feedback = serve(market, arrivals)
    assert feedback.arrivals is arrivals
    assert market.served == len(arrivals) == len(feedback.slates)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_sends_later_visits_back(change):
    """If a process changes the round, the visits after it are not served, and the next call returns them again."""
    market = market_with(CHANGES[change])
    n = n_before_wake(market)
    n_before_second_wake = n_before_wake(market, 2)
    arrivals = market.next_arrivals(ahead=True)
    feedback = serve(market, arrivals)
    assert market.served == n < len(arrivals)
    assert feedback.arrivals.row.tolist() == list(range(n))
    assert len(feedback.slates) == len(feedback.consumed) == n
    assert (market.ledger.item[n:] == -1).all()
    again = market.next_arrivals(ahead=True)
    assert again.row[0] == n
    if change == "stop":  # a fallback answers, from what it knows in each stretch
        assert again.row[-1] < n_before_second_wake
    else:
        assert again.row[-1] >= arrivals.row[-1]
        assert (again.admissible[:, 0].numpy().any()) == (change != "end")


def test_no_price_is_kept_of_a_visit_that_a_fallback_answers():
    """An agent's prices of visits that were sent back do not enter the ledger."""
    market = market_with(stop)
    n = n_before_wake(market)
    ledger = market.ledger
    play_round(market, make_agent("rim-dual(spend=False)"))
    assert np.isfinite(ledger.price[:n][ledger.item[:n] >= 0]).all()
    assert np.isnan(ledger.price[n:]).all()


def test_visits_ahead_are_served_as_they_were_taken():
    """Visits ahead that are left out, or that no call has returned, are refused."""
    market = market_with(idle)
    n = n_before_wake(market)
    arrivals = market.next_arrivals(ahead=True)
    refused(MarketError, "not waiting", serve, market, arrivals.rows(slice(n + 1)))
    refused(MarketError, "not waiting", serve, market, arrivals.rows(slice(n, None)))
    assert market.served == 0
    serve(market, arrivals.rows(slice(n)))
    assert market.served == n
    other = market_with(idle)
    other.next_arrivals()
    refused(MarketError, "not waiting", serve, other, arrivals)


def test_an_error_of_a_process_leaves_the_visits_before_it_served():
    """The visits before a process fails are recorded; those after it are not."""

    def fail(market):
        raise ValueError("out of stock")

    market = market_with(fail)
    n = n_before_wake(market)
    refused(ProcessError, "out of stock", serve, market, market.next_arrivals(ahead=True))
    assert market.served == n


@pytest.mark.parametrize("agent", ["relevance", "rim-dual(spend=False)"])
def test_ahead_or_not_a_round_is_the_same(agent):
    """A round that is answered ahead has the tables of one that is answered visit by visit."""
    markets = [market_with(CHANGES["demand"]) for _ in range(2)]
    for market, batch in zip(markets, (None, 1), strict=True):
        play_round(market, make_agent(agent), batch)
    same_ledgers(*markets)
