"""Agents that price groups, campaigns and caps: what they deliver, and what they never do."""

from __future__ import annotations

import dataclasses

import gymnasium
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from small_markets import (
    play_out,
    small_broadcast,
    small_capped,
    small_cold_start,
    small_replay,
    small_scenario,
    weighted_exposures,
)
from test_online_agents import arrivals_of, skewed, view_of

from rimsim.agents import make_agent, market_for, play_round, rollout
from rimsim.agents.pacing import Pacing
from rimsim.agents.prices import solved_prices, solved_promises, spread_prices
from rimsim.config import Seeds, scenario_from, to_plain
from rimsim.requirements.rows import NO_REQUIREMENTS, Requirements, Row

AGENTS = ("rim-feedback", "rim-resolve(every=30)")
CAMPAIGNS = [
    {"name": "some", "items": {"genres": "Horror"}, "exposures": 120, "start": 0, "stop": 14}
    | {"audience": {"visits": "returning"}},
    {"name": "share", "items": {"genres": "Western"}, "share": 0.02, "start": 2},
]
PROMISES = {
    "unit": "shown",
    "beta": 0.3,
    "most": 4,
    "groups": [{"column": "genres", "beta": 0.6, "values": ["Musical", "Fantasy"]}],
    "campaigns": CAMPAIGNS,
}


def promising(make=small_scenario, **changes):
    """Two rounds of a small market with groups, campaigns and caps."""
    return make(exposure=scenario_from({"exposure": PROMISES | changes}).exposure, rounds=2)


def played(name, config, batch_size=None, seed=0):
    """The closed rounds of an agent, and the agent."""
    agent = make_agent(name)
    market = market_for(agent, config, seeds=Seeds.all(seed))
    play_out(market, agent, batch_size)
    return market.closed, agent


def missed(rounds):
    """Share of what groups, campaigns and caps ask for that closed rounds have not delivered."""
    short = sum(np.maximum(closed.promises.least - closed.delivered, 0).sum() for closed in rounds)
    return short / sum(closed.promises.least.sum() for closed in rounds)


@pytest.mark.parametrize("unit", ["shown", "examined"])
@pytest.mark.parametrize(
    "make", [small_scenario, small_replay, small_cold_start, small_capped, small_broadcast]
)
def test_no_item_is_shown_above_its_cap(make, unit):
    """An agent that keeps promises never exceeds a cap, in any market, unit or batch; relevance does."""
    campaigns = CAMPAIGNS[1:] if make is small_scenario else []
    config = promising(make, unit=unit, most=1.5, campaigns=campaigns)
    for name in AGENTS:
        for closed in played(name, config, 17)[0]:
            assert (closed.delivered <= closed.promises.most).all()
    rounds = played("relevance", config)[0]
    assert any((closed.delivered > closed.promises.most).any() for closed in rounds)


@pytest.mark.parametrize("unit", ["shown", "examined"])
@pytest.mark.parametrize("name", AGENTS)
def test_groups_and_campaigns_are_delivered_beside_floors(name, unit):
    """Nearly all that groups, campaigns and floors ask for is delivered, where relevance leaves much of it."""
    config = promising(unit=unit)
    rounds, _ = played(name, config)
    assert missed(rounds) < 0.03
    assert missed(played("relevance", config)[0]) > 0.15
    floors = sum(closed.required.sum() for closed in rounds)
    short = sum(np.maximum(closed.required - weighted_exposures(closed), 0).sum() for closed in rounds)
    assert short / floors < 0.05


@pytest.mark.parametrize("pace", ["arrivals", "clock"])
@pytest.mark.parametrize("name", AGENTS)
def test_batches_change_no_bit(name, pace):
    """Slates, prices and the prices of rows are the same for every batch size."""
    config = promising(pace=pace, unit="examined")
    whole, agent = played(name, config)
    for size in (1, 23):
        rounds, other = played(name, config, size)
        for one, two in zip(whole, rounds, strict=True):
            assert np.array_equal(one.ledger.item, two.ledger.item)
            assert np.array_equal(one.ledger.price, two.ledger.price, equal_nan=True)
        assert np.array_equal(agent.row_price, other.row_price)


def test_the_environment_shows_the_same_slates(tmp_path):
    """An agent that keeps promises does the same through the environment as in the batch engine."""
    config = promising()
    agent = make_agent("rim-feedback")
    path = tmp_path / "promising.yaml"
    path.write_text(yaml.safe_dump(to_plain(config)))
    env = gymnasium.make("rimsim:RIMMarket-v0", scenario=str(path))
    rollout(env, agent, seed=0)
    rounds, _ = played("rim-feedback", config)
    for one, two in zip(env.unwrapped.market.closed, rounds, strict=True):
        assert np.array_equal(one.ledger.item, two.ledger.item)


def test_prices_of_a_campaign_are_for_its_audience_alone():
    """The bonus of a campaign's items is paid at arrivals that count for it, and at no others."""
    config = promising(beta=0.0, most=None, groups=[], campaigns=CAMPAIGNS[:1], items=None)
    agent = make_agent("rim-feedback")
    market = market_for(agent, config)
    counted = market.open.promised.counted[:, 0]
    table = market.round_view().promises
    play_round(market, agent)
    ledger = market.closed[0].ledger
    mine = np.isin(ledger.item, table.items(0))
    assert (ledger.price[~counted] == 0).all()
    assert (ledger.price[~mine] == 0).all()
    assert (ledger.price[mine & counted[:, None]] < 0).any()


@settings(max_examples=200, deadline=None)
@given(
    share=st.floats(0, 1.5),
    delivered=st.floats(0, 200),
    least=st.floats(0, 100),
    most=st.one_of(st.just(np.inf), st.floats(100, 200)),
    start=st.floats(-2, 2),
    closing=st.sampled_from([0.0, 0.02]),
)
def test_the_price_of_a_row_is_its_formula(share, delivered, least, most, start, closing):
    """A price is at least −c, at most 0 without a cap, at least 0 without a floor, and rises with delivery."""
    row, none = np.array([0]), np.zeros(1)
    pacing = Pacing(
        *(none + start, none + least / 50.0, none + 0.1, 1.0, closing, none + 50.0),
        *(none + most, np.array([0, 1]), row, row),
    )
    price = pacing.price(50 * share, none + delivered)[0]
    gone = min(share, 1.0)
    pull = 0.1 / (1 - gone + closing) if closing else 0.1
    cap = max(max(start, 0) + pull * (delivered - most * gone), 0) if most < np.inf else 0.0
    floor = min(max(pull * (least * gone - delivered) - min(start, 0), 0), 1.0)
    assert price == pytest.approx(cap - floor, abs=1e-9)
    assert price >= -1.0
    assert pacing.price(50 * share, none + delivered + 1)[0] >= price - 1e-9


@pytest.mark.parametrize("unit", ["shown", "examined"])
def test_the_optimum_in_hindsight_keeps_promises(unit):
    """Who knows who comes delivers all that is asked for in a broadcast, within every cap."""
    config = promising(small_broadcast, unit=unit, campaigns=[], items=None, beta=0.2)
    for name in ("hindsight", "offline-match"):
        for closed in played(name, config)[0]:
            missing = np.maximum(closed.promises.least - closed.delivered, 0).sum()
            assert missing <= 0.02 * closed.promises.least.sum() + 1.0
            assert (closed.delivered <= closed.promises.most).all()


def test_frozen_prices_of_rows_move_slates():
    """Prices of rows that are solved once bring groups and campaigns more than they get without."""
    config = promising(most=None)
    rounds, agent = played("rim-dual", config)
    assert missed(rounds) < 0.7 * missed(played("relevance", config)[0])
    assert (agent.row_price <= 0).all()


def test_solved_prices_of_rows_are_those_of_the_audience_problem():
    """A row of one item that everyone counts for has the price that the item's own floor would have."""
    base = {"beta": 0.0, "most": None, "groups": [], "campaigns": []}
    campaign = {"name": "one", "items": {"genres": "Western"}, "share": 0.1}
    view = market_for(make_agent("rim-dual"), promising(**base | {"campaigns": [campaign]})).round_view()
    prices = solved_promises(view, 1e-4)
    item = int(view.promises.items(0)[0])
    required = np.zeros(len(view.required))
    required[item] = view.promises.least[0]
    alone = dataclasses.replace(view, required=required, promises=NO_REQUIREMENTS, delivered=np.zeros(0))
    own, _ = solved_prices(alone, 1e-4)
    assert prices.row[0] == pytest.approx(own[item], abs=0.05 * view.cost)
    assert prices.row[0] < 0 == prices.item.min()
    spread = spread_prices(view, prices.row, next(iter(view.past)))
    assert (spread[:, item] == prices.row[0]).all()
    assert np.count_nonzero(spread) == len(spread)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("unit", ["shown", "examined"])
@pytest.mark.parametrize("name", AGENTS)
def test_promised_rows_of_one_item_are_floors(name, unit, hard):
    """Floors asked for as rows of one item give the same slates and prices to the bit, and prices of rows."""
    n, m, k = 60, 12, 3
    past, now = arrivals_of(skewed(n, m, 1)), arrivals_of(skewed(n, m, 2), first=500)
    decay = 0.7 if unit == "examined" else 1.0
    view = view_of(n, m, k, past=past, unit=unit, decay=decay, hard=hard)
    asked = [(item, b) for item, b in enumerate(view.required) if b > 0]
    table = Requirements.of([Row(f"row {item}", np.array([item]), b, arrivals=n) for item, b in asked])
    promised = dataclasses.replace(view, required=np.zeros(m), promises=table, delivered=np.zeros(len(asked)))
    floors, agents = [], [make_agent(name), make_agent(name)]
    for agent, one in zip(agents, (view, promised), strict=True):
        agent.begin_round(one)
        floors.append([agent.act(now.rows(slice(start, start + 30))) for start in (0, 30)])
    for one, two in zip(*floors, strict=True):
        assert np.array_equal(one.items, two.items)
        assert np.array_equal(one.price, two.price, equal_nan=True)
    assert np.array_equal(agents[1].row_price, agents[0].item_price[table.item])
    assert (agents[1].item_price == 0).all()
