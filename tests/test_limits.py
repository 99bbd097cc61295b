"""Rounds with more scores than are held at once: samples stand for them, and bounds stay bounds."""

from __future__ import annotations

import numpy as np
import pytest
from small_markets import small_replay, small_scenario

from rimsim.agents import make_agent, market_for, play_round
from rimsim.agents.prices import joined_states, solved_prices
from rimsim.config import ExposureConfig
from rimsim.errors import AgentError
from rimsim.market import Market, scores
from rimsim.matching import certificate
from rimsim.scenarios.study.facts import HindsightPrices, certified


def _held(monkeypatch, config, states):
    """Hold so many states of a scenario's catalogue at once."""
    monkeypatch.setattr(scores, "MOST_CELLS", states * Market(config).n_items)


@pytest.mark.parametrize("scenario", [small_scenario, small_replay])
def test_a_sample_of_past_states_is_even_and_scored_as_before(scenario, monkeypatch):
    """Agents see every so many-th state, with the scores that it has among all, and how many it stands for."""
    market = Market(scenario())
    every = {
        who: row
        for chunk in market.round_view().past
        for who, row in zip(chunk.id, chunk.intensity, strict=True)
    }
    _held(monkeypatch, scenario(), 40)
    view = market.round_view()
    assert len(view.past) == 40
    assert view.came == len(every)
    seen = [(who, row) for chunk in view.past for who, row in zip(chunk.id, chunk.intensity, strict=True)]
    assert len({who for who, _ in seen}) == 40
    for who, row in seen:
        assert (row == every[who]).all()


@pytest.mark.parametrize("unit", ["shown", "examined"])
def test_a_round_that_is_certified_on_a_sample_has_a_bound_no_lower(unit, monkeypatch):
    """V is that of all states, and D(w) at prices of a sample is a bound: none lies below the least one."""
    config = small_scenario(rounds=1, exposure=ExposureConfig(unit=unit))
    market, agent = Market(config), make_agent("rim-dual")
    play_round(market, agent, 32)
    whole = certified(market.closed[0], HindsightPrices())
    _held(monkeypatch, config, 50)
    found = certified(market.closed[0], HindsightPrices())
    assert found.value == pytest.approx(whole.value, rel=1e-9)
    assert found.bound >= whole.bound * (1 - 2e-3)
    assert found.bound <= whole.bound * 1.1


def test_prices_of_a_sample_deliver_nearly_as_much(monkeypatch):
    """Floors are scaled to the sample: what prices of two thirds of the states ask in all is near that of all."""
    config = small_scenario()
    view = Market(config).round_view()
    price, _ = solved_prices(view, 1e-3)
    _held(monkeypatch, config, 80)
    fewer, _ = solved_prices(Market(config).round_view(), 1e-3)
    assert fewer.sum() == pytest.approx(price.sum(), rel=0.3)
    assert np.corrcoef(price, fewer)[0, 1] > 0.8


@pytest.mark.parametrize("states", [20, 30])
def test_a_sample_with_less_than_an_exposure_for_an_item_has_prices_too(states, monkeypatch):
    """Prices of a few states bound all states' value nearly as well as their own, and far better than no prices."""
    config = small_scenario(exposure=ExposureConfig(unit="shown", beta=0.3))
    view = Market(config).round_view()
    every = joined_states(view.past, view.k)
    floor = view.required * (len(every.scores) / view.arrivals)
    assert floor.mean() * states / len(every.scores) < 1.5
    slates = np.full((len(every.scores), view.k), -1)

    def bound(price):
        own = (every.scores, slates, every.capacity, floor, price, view.cost)
        return certificate(*own, admissible=every.admissible, position_weights=view.position_weights).bound

    best, none = bound(solved_prices(view, 1e-3)[0]), bound(0.0)
    _held(monkeypatch, config, states)
    found = bound(solved_prices(Market(config).round_view(), 1e-3)[0])
    assert best * 0.999 <= found <= best + 0.2 * (none - best)


def test_hindsight_of_too_large_a_round_is_refused_with_the_figure(monkeypatch):
    """A plan of a whole round holds all of its scores; the refusal says how many arrivals there may be."""
    config = small_replay()
    agent = make_agent("hindsight")
    market = market_for(agent, config)
    _held(monkeypatch, config, 30)
    with pytest.raises(AgentError, match=r"allowed over so many items: at most 30 arrivals"):
        agent.begin_round(market.round_view())
