"""Whose prices move: only items with a guarantee, whatever else is delivered."""

from __future__ import annotations

import numpy as np
import pytest
from small_markets import small_scenario

from rimsim.agents import make_agent, market_for, play_round
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
