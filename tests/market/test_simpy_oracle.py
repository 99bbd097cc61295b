"""The engine against the market in plain SimPy, row by row, and the order of happenings at one instant."""

import pytest
from kit.plain_simpy import EXAMPLE, assert_same, ledger_of, opened, played, scenarios, slow_ledger

from rimsim.agents import make_agent, play_round
from rimsim.market import Market


def closed_rounds(name, batch):
    """Rounds of the engine, closed."""
    scenario, world, model, arrivals = opened(name)
    market = Market(scenario, world=world, model=model, arrivals=arrivals)
    agent = make_agent("relevance")
    while not market.done:
        play_round(market, agent, batch)
    return market.closed


def engine_ledger(name, batch):
    """Ledger of the engine."""
    return ledger_of(closed_rounds(name, batch), slow_ledger(name).columns)


@pytest.mark.parametrize("name", list(scenarios()))
def test_the_engine_equals_plain_simpy(name):
    """In batches of 1, 7 and all visitors, the engine writes the ledger of the market in plain SimPy."""
    slow = slow_ledger(name)
    assert slow.consumed.any()
    for batch in (1, 7, None):
        assert_same(slow, engine_ledger(name, batch))


@pytest.mark.parametrize(
    "order",
    [
        ("retrain", "feedback", "arrival", "offer"),
        ("offer", "feedback", "retrain", "arrival"),
        ("offer", "retrain", "arrival", "feedback"),
    ],
)
def test_another_order_at_one_instant_gives_another_ledger(order):
    """If one kind of happening changes its place at an instant, the ledger in plain SimPy is not the engine's."""
    with pytest.raises(AssertionError):
        assert_same(slow_ledger("ties", order), slow_ledger("ties"))


@pytest.mark.parametrize("name", ["several visits", "ties", "replay"])
def test_visitors_come_again_within_a_round(name):
    """Some visitors come twice within a round, so that second visits wait in the engine's batches."""
    visits = slow_ledger(name).groupby(["round", "user"]).arrival.nunique()
    assert visits.max() > 1


def test_exposures_of_campaigns_are_those_of_plain_simpy():
    """Campaigns that open and close within a round count the exposures that they count in plain SimPy."""
    slow, _ = played("campaigns")
    delivered = {
        (closed.number, name): exposures
        for closed in closed_rounds("campaigns", None)
        for name, exposures in zip(closed.promises.name, closed.delivered.tolist(), strict=True)
    }
    assert delivered == slow.delivered
    assert len(delivered) == 3


def test_the_example_is_short():
    """The whole market takes at most 200 lines."""
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 200
