"""What is guaranteed, in which unit, and whose prices move for it."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from small_markets import settings_of, small_scenario

from rimsim import measures
from rimsim.agents import make_agent, market_for, play_round, rollout
from rimsim.config import ExposureConfig

PRICED = ("rim-dual", "rim-feedback", "rim-resolve(every=20)", "entropic-dual")


@pytest.mark.parametrize("name", PRICED)
def test_an_item_without_a_guarantee_has_the_price_zero(name):
    """Before, within and after each round v is 0 where nothing is required, and below 0 for some item that is due."""
    agent = make_agent(name)
    market = market_for(agent, small_scenario(rounds=2, exposure=ExposureConfig(items=10, each=25)))
    lower = 0
    while not market.done:
        required = market.round_view().required
        before = market.round
        play_round(market, agent)
        ledger = market.closed[before].ledger.table("a", 0, before)
        free = ledger[required[ledger["item"]] == 0]
        assert len(free) > 100
        assert (free["price"] == 0).all()
        assert (agent.item_price[required == 0] == 0).all()
        lower += np.count_nonzero(agent.item_price[required > 0] < 0)
    assert lower > 0


@pytest.mark.parametrize("name", ["relevance", "rim-feedback"])
def test_an_examined_exposure_counts_as_much_as_its_position_is_looked_at(name):
    """Exposures add up to Σγ^(r−1) to the last bit, whatever the batches, and b is so many average positions."""
    config = small_scenario(rounds=2, exposure=ExposureConfig(unit="examined"))
    positions = small_scenario(rounds=2, exposure=ExposureConfig(unit="shown"))
    weights = measures.position_weights(config.consumer.position_decay, config.slate)
    found = {}
    for batch in (1, 7, None):
        agent = make_agent(name)
        market, shown = market_for(agent, config), market_for(make_agent(name), positions)
        assert (market.open.required == shown.open.required * measures.mean_weight(weights)).all()
        opened = market.open
        play_round(market, agent, batch)
        found[batch] = opened.exposure
        ledger = market.closed[0].ledger
        assert (opened.exposure == measures.weighted_exposure(ledger.item, weights, market.n_items)).all()
    assert (found[1] == found[7]).all()
    assert (found[1] == found[None]).all()


def test_weights_of_positions_lie_on_a_grid_on_which_requirements_are_exact():
    """γ^(r−1) to 2^−21; b times their mean, over their mean, is b."""
    weights = measures.position_weights(0.85, 10)
    assert np.abs(weights - 0.85 ** np.arange(10)).max() <= 2.0**-21
    assert ((weights * 2**20) % 1 == 0).all()
    whole, mean = np.arange(100_000.0), measures.mean_weight(weights)
    assert (whole * mean / mean == whole).all()


def test_a_forecast_is_what_is_promised_and_what_agents_are_told():
    """At one and a half times the arrivals that come, the view says so, and the guarantees are so many times larger."""
    views = []
    for forecast in (1.0, 1.5):
        exposure = ExposureConfig(beta=0.4, forecast=forecast, pace="clock", hard=True)
        market = market_for(make_agent("relevance"), small_scenario(exposure=exposure))
        views.append(market.round_view())
    usual, more = views
    assert more.arrivals == round(1.5 * usual.arrivals)
    assert more.required.sum() == pytest.approx(1.5 * usual.required.sum(), abs=1.0)
    assert more.hard
    assert more.pace == "clock"
    assert more.opens < more.closes


@pytest.mark.parametrize("unit", ["examined", "shown"])
def test_rewards_add_up_to_the_return_in_the_unit_of_the_guarantee(unit):
    """Σ reward = Σ consumed − c·Σ(b − E)₊ + c·Σb over the rounds, and the observed shortfall is what is missing."""
    config = small_scenario(rounds=2, exposure=ExposureConfig(unit=unit))
    env = gymnasium.make("RIMMarket-v0", scenario="closed-loop", settings=settings_of(config))
    reward = rollout(env, make_agent("rim-dual"), seed=3).reward
    market = env.unwrapped.market
    total = 0.0
    for closed in market.closed:
        delivered = measures.weighted_exposure(closed.ledger.item, closed.position_weights, market.n_items)
        missing = measures.shortfall_units(delivered, closed.required)
        total += closed.ledger.consumed.sum() + closed.cost * (closed.required.sum() - missing)
    assert reward == pytest.approx(total)
