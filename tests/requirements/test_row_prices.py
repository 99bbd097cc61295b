"""Agents that price groups, campaigns and caps: deliveries, caps, audiences and prices of rows."""

import dataclasses

import numpy as np
import pytest
from kit import cases, markets, same_arrays
from kit.logs import arrivals_of, skewed, view_of
from kit.markets import priced

from rimsim.agents import make_agent, market_for, play_round
from rimsim.agents.prices import solved_prices, solved_rows
from rimsim.agents.row_table import RowTable, spread_prices
from rimsim.requirements.rows import NO_REQUIREMENTS, Requirements, Row

AGENTS = ("rim-feedback", "rim-resolve(every=30)")


def missed(rounds):
    """Share of what groups, campaigns and caps ask for that closed rounds have not delivered."""
    short = sum(np.maximum(closed.promises.min_exposure - closed.delivered, 0).sum() for closed in rounds)
    return short / sum(closed.promises.min_exposure.sum() for closed in rounds)


@cases(
    "make unit", *((make, "examined") for make in markets.SMALL.values()), (markets.small_scenario, "shown")
)
def test_no_item_is_shown_above_its_cap(make, unit):
    """An agent that keeps promises never exceeds a cap, in any market, unit or batch; relevance does."""
    campaigns = markets.CAMPAIGNS[1:] if make is markets.small_scenario else []
    config = priced(make, unit=unit, most=1.5, campaigns=campaigns)
    for name in AGENTS:
        for closed in markets.played(config, name, 17).closed:
            assert (closed.delivered <= closed.promises.max_exposure).all()
    rounds = markets.played(config).closed
    assert any((closed.delivered > closed.promises.max_exposure).any() for closed in rounds)


@pytest.mark.parametrize("unit", ["shown", "examined"])
@pytest.mark.parametrize("name", AGENTS)
def test_groups_and_campaigns_are_delivered_beside_floors(name, unit):
    """Nearly all that groups, campaigns and floors ask for is delivered, where relevance leaves much of it."""
    config = priced(unit=unit)
    rounds = markets.played(config, name).closed
    assert missed(rounds) < 0.03
    assert missed(markets.played(config).closed) > 0.15
    floors = sum(closed.required.sum() for closed in rounds)
    deficits = [
        np.maximum(closed.required - markets.weighted_exposures(closed), 0).sum() for closed in rounds
    ]
    assert sum(deficits) / floors < 0.05


@pytest.mark.parametrize("pace", ["arrivals", "clock"])
@pytest.mark.parametrize("name", AGENTS)
def test_batches_change_no_bit(name, pace):
    """Slates, prices and the prices of rows are the same for every batch size."""
    config = priced(pace=pace, unit="examined")
    agent, at_once = markets.played_by(name, config)
    for size in (1, 23):
        second_agent, in_batches = markets.played_by(name, config, size)
        markets.same_ledgers(at_once, in_batches)
        same_arrays(agent, second_agent, "row_price")


def test_prices_of_a_campaign_are_for_its_audience_alone():
    """The bonus of a campaign's items is paid at arrivals that count for it, and at no others."""
    config = priced(beta=0.0, most=None, groups=[], campaigns=markets.CAMPAIGNS[:1], items=None)
    agent, market = markets.market_of("rim-feedback", config)
    is_counted = market.open.requirements.counted[:, 0]
    table = market.round_view().promises
    play_round(market, agent)
    ledger = market.closed[0].ledger
    in_campaign = np.isin(ledger.item, table.items(0))
    assert (ledger.price[~is_counted] == 0).all()
    assert (ledger.price[~in_campaign] == 0).all()
    assert (ledger.price[in_campaign & is_counted[:, None]] < 0).any()


@cases(
    "unit hard of",
    *(
        (unit, hard, of)
        for unit in ("shown", "examined")
        for hard, of in ((False, "items"), (True, "groups"))
    ),
)
def test_no_group_is_shown_above_its_cap_and_capped_groups_are_still_shown(unit, hard, of):
    """Agents with prices never exceed a cap, where relevance does; agents that adapt or know who comes keep floors."""
    groups = [
        {"column": "genres", "most": 0.5, "values": ["Drama", "Comedy"], "of": of},
        {"column": "genres", "beta": 0.5, "most": 0.8, "values": ["Horror"]},
    ]
    config = priced(unit=unit, hard=hard, most=None, groups=groups, campaigns=[], beta=0.0)
    alone = markets.played(config).closed
    assert all((closed.delivered[:2] > closed.promises.max_exposure[:2]).all() for closed in alone)
    for name in (*AGENTS, "rim-dual", "flat-budget", "hindsight"):
        for closed in markets.played(config, name, 17).closed:
            promises = closed.promises
            assert (closed.delivered <= promises.max_exposure).all()
            assert (closed.delivered[:2] > 0.25 * promises.max_exposure[:2]).all()
            # The popularity model ranks alike for everyone, so a frozen price shows a group to all or to nobody.
            if name != "rim-dual":
                assert closed.delivered[2] >= 0.9 * promises.min_exposure[2] > 0


@pytest.mark.parametrize("unit", ["shown", "examined"])
def test_the_optimum_in_hindsight_keeps_promises(unit):
    """Who knows who comes delivers all that is asked for in a broadcast, within every cap."""
    config = priced(markets.small_broadcast, unit=unit, campaigns=[], items=None, beta=0.2)
    for name in ("hindsight", "offline-match"):
        for closed in markets.played(config, name).closed:
            missing = np.maximum(closed.promises.min_exposure - closed.delivered, 0).sum()
            assert missing <= 0.02 * closed.promises.min_exposure.sum() + 1.0
            assert (closed.delivered <= closed.promises.max_exposure).all()


def test_frozen_prices_of_rows_move_slates():
    """Prices of rows that are solved once bring groups and campaigns more than they get without."""
    config = priced(most=None)
    agent, market = markets.played_by("rim-dual(spend=False)", config)
    assert missed(market.closed) < 0.7 * missed(markets.played(config).closed)
    assert (agent.row_price <= 0).all()


def test_solved_prices_of_rows_are_those_of_the_audience_problem():
    """A row of one item that everyone counts for has the price that the item's own floor would have."""
    base = {"beta": 0.0, "most": None, "groups": [], "campaigns": []}
    campaign = {"name": "one", "items": {"genres": "Western"}, "share": 0.1}
    view = market_for(make_agent("rim-dual"), priced(**base | {"campaigns": [campaign]})).round_view()
    table = RowTable.of(view)
    item_price, row_price = table.split(solved_rows(view, table, 1e-4)[0])
    item = int(view.promises.items(0)[0])
    required = np.zeros(len(view.required))
    required[item] = view.promises.min_exposure[0]
    alone = dataclasses.replace(view, required=required, promises=NO_REQUIREMENTS, delivered=np.zeros(0))
    item_floor_price, _ = solved_prices(alone, 1e-4)
    assert row_price[0] == pytest.approx(item_floor_price[item], abs=0.05 * view.cost)
    assert row_price[0] < 0 == item_price.min()
    spread = spread_prices(view, row_price, next(iter(view.past)))
    assert (spread[:, item] == row_price[0]).all()
    assert np.count_nonzero(spread) == len(spread)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("unit", ["shown", "examined"])
@pytest.mark.parametrize("name", AGENTS)
def test_promised_rows_of_one_item_are_floors(name, unit, hard):
    """Floors asked for as rows of one item give the same slates and prices to the bit, and prices of rows."""
    n = 60
    m = 12
    k = 3
    past = arrivals_of(skewed(n, m, 1))
    arrivals = arrivals_of(skewed(n, m, 2), first=500)
    decay = 0.7 if unit == "examined" else 1.0
    view = view_of(n, m, k, past=past, unit=unit, decay=decay, hard=hard)
    item_floors = [(item, b) for item, b in enumerate(view.required) if b > 0]
    table = Requirements.of([Row(f"row {item}", np.array([item]), b, arrivals=n) for item, b in item_floors])
    promised = dataclasses.replace(
        view, required=np.zeros(m), promises=table, delivered=np.zeros(len(item_floors))
    )
    floors = []
    agents = [make_agent(name), make_agent(name)]
    for agent, agent_view in zip(agents, (view, promised), strict=True):
        agent.begin_round(agent_view)
        floors.append([agent.act(arrivals.rows(slice(start, start + 30))) for start in (0, 30)])
    for of_floors, of_rows in zip(*floors, strict=True):
        same_arrays(of_floors, of_rows, "items", "price")
    assert np.array_equal(agents[1].row_price, agents[0].item_price[table.item])
    assert (agents[1].item_price == 0).all()


@pytest.mark.parametrize("forecast", [0.5, 1.5])
def test_a_plan_of_the_whole_round_keeps_caps_whatever_was_forecast(forecast):
    """Caps are numbers of exposures: who plans for those who come exceeds none, though others were expected."""
    config = priced(markets.small_cold_start, most=1.5, campaigns=[], forecast=forecast)
    closed = markets.played(dataclasses.replace(config, rounds=1), "hindsight(tol=0.02)").closed[0]
    assert (closed.delivered <= closed.promises.max_exposure).all()
