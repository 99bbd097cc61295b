"""Agents that price groups, campaigns and caps: what they deliver, never do, and what that is worth."""

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
from test_matching_weighted import relaxed
from test_online_agents import arrivals_of, skewed, view_of

from rimsim.agents import make_agent, market_for, play_round, rollout
from rimsim.agents.pacing import Pacing
from rimsim.agents.prices import joined_states, solved_prices, solved_promises, spread_prices
from rimsim.config import ArrivalsConfig, Seeds, scenario_from, to_plain
from rimsim.matching import Rows
from rimsim.measures import find_measure
from rimsim.requirements.rows import NO_REQUIREMENTS, Requirements, Row
from rimsim.scenarios.study import facts
from rimsim.scenarios.study.facts import AdoptionCount, HindsightPrices, certified, shared_facts

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


def facts_of(market, closed, proof=None):
    """The record of a closed round."""
    adoption = AdoptionCount(market.world.release)
    adoption.enter(closed)
    shared = shared_facts(market.world, market.config, 0)
    return facts.facts_of(shared, closed, np.zeros(market.n_items, np.int64), adoption, proof, None)


def owed_and_beyond(closed):
    """What items, groups and campaigns miss in a closed round, and what was shown above caps, row by row."""
    missing = beyond = 0.0
    weights, slates = closed.position_weights, closed.ledger.item
    for item, asked in enumerate(closed.required):
        missing += max(asked - float(((slates == item) * weights).sum()), 0.0)
    for row in range(len(closed.promises)):
        missing += max(closed.promises.least[row] - closed.delivered[row], 0.0)
        beyond += max(closed.delivered[row] - closed.promises.most[row], 0.0)
    return missing, beyond


@pytest.mark.parametrize("unit", ["shown", "examined"])
def test_rewards_and_returns_count_groups_campaigns_and_caps(tmp_path, unit):
    """A missing exposure of a row and one above a cap cost c; rewards sum to the return and c × all that is asked."""
    path = tmp_path / "promising.yaml"
    path.write_text(yaml.safe_dump(to_plain(promising(unit=unit))))
    env = gymnasium.make("rimsim:RIMMarket-v0", scenario=str(path)).unwrapped
    env.reset(seed=0)
    market, totals, notes, total = env.market, [], [], 0.0
    while not market.done:
        number = market.round
        action = np.argsort(-env.arrivals.relevance[0].numpy(), kind="stable")[:5]
        _, reward, _, _, info = env.step(action)
        total += reward
        if market.round == number and not market.done:
            notes.append((number, info["market"]["shortfall"], info["market"]["excess"]))
        else:
            totals.append(total)
            total = 0.0
    for number, (closed, rewarded) in enumerate(zip(market.closed, totals, strict=True)):
        missing, beyond = owed_and_beyond(closed)
        assert missing > 0 < beyond
        asked = closed.required.sum() + closed.promises.least.sum()
        expected = closed.ledger.consumed.sum() + closed.cost * (asked - missing - beyond)
        assert rewarded == pytest.approx(expected)
        found = find_measure("return").value(facts_of(market, closed))
        assert found == pytest.approx(rewarded - closed.cost * asked)
        last = [note for note in notes if note[0] == number][-1]
        assert missing <= last[1] + 1e-9
        assert last[1] - missing <= 5 * 3 + 1e-9  # the last slate alone came after it
        assert 0 <= beyond - last[2] <= 5 + 1e-9


def test_snapshots_know_what_rows_have():
    """An environment that goes on from a snapshot gives the same rewards, promises counted."""
    campaigns = [{"name": "some", "items": {"genres": "Horror"}, "share": 0.1}]
    settings = {f"exposure.{name}": value for name, value in to_plain(promising())["exposure"].items()}
    settings |= {"platform.model": "popularity-hp", "data.min_item_events": 120, "arrivals.per_round": 40}
    settings |= {"slate": 5, "exposure.campaigns": campaigns}
    env = gymnasium.make("rimsim:RIMMarket-v0", scenario="closed-loop", rounds=1, settings=settings).unwrapped
    env.reset(seed=0)
    slates = np.random.default_rng(0)

    def rest():
        return [env.step(slates.permutation(env.n_items)[:5])[1] for _ in range(8)]

    rest()
    kept, slates = env.state, np.random.default_rng(1)
    first, slates = rest(), np.random.default_rng(1)
    env.load_state(kept)
    assert rest() == first


def rows_by_hand(closed):
    """Groups and campaigns of a closed round for the linear programme, and (M,) caps of items."""
    table, n, m = closed.promises, len(closed.ledger.item), len(closed.required)
    first, item, least, active, most = [0], [], [], [], np.full(m, np.inf)
    ticks, audiences = closed.ledger.schedule.tick, closed.states.audiences
    for row in range(len(table)):
        mine = table.items(row)
        if np.isfinite(table.most[row]):
            most[mine] = table.most[row]
            continue
        item += mine.tolist()
        first.append(len(item))
        least.append(table.least[row])
        who = np.ones(n, bool) if table.audience[row] < 0 else audiences[:, table.audience[row]]
        active.append(who & (ticks >= table.begin[row]) & (ticks < table.end[row]))
    first, item, least = np.array(first), np.array(item, np.int64), np.array(least)
    none = np.full(len(least), np.inf)
    rows = Rows(first, item, least, none, np.full(len(least), closed.cost), np.stack(active, axis=1))
    return rows, np.minimum(most, n)


SHARES = [
    {"name": "some", "items": {"genres": "Horror"}, "share": 0.1, "stop": 5}
    | {"audience": {"visits": "returning"}},
    {"name": "late", "items": {"genres": "Western"}, "share": 0.2, "start": 2},
]


@pytest.mark.parametrize("unit", ["shown", "examined"])
@pytest.mark.parametrize("name", ["rim-feedback", "hindsight", "relevance"])
def test_the_certificate_of_a_round_is_the_linear_programme_with_all_rows(name, unit):
    """The bound is HiGHS' optimum within caps; V is below it, and there is no gap where a cap is exceeded."""
    config = promising(small_scenario, unit=unit, most=2, campaigns=SHARES)
    arrivals = ArrivalsConfig(per_round=30, max_visits=3)
    agent = make_agent(name)
    market = market_for(agent, dataclasses.replace(config, slate=3, rounds=1, arrivals=arrivals))
    play_round(market, agent)
    closed = market.closed[0]
    states, (rows, most) = joined_states(closed.states, 3), rows_by_hand(closed)
    problem = states.scores.astype(np.float64), states.capacity, closed.position_weights, closed.required
    best = relaxed(*problem, most, states.admissible, closed.cost, rows)
    proof = certified(closed, HindsightPrices())
    assert best - 1e-9 <= proof.bound <= best + 2e-3 * abs(best)
    missing, beyond = owed_and_beyond(closed)
    assert (proof.shortfall, proof.excess) == pytest.approx((missing, beyond), abs=1e-9)
    facts = facts_of(market, closed, proof)
    assert facts.value_model == pytest.approx(proof.score - closed.cost * (missing + beyond))
    assert (beyond > 0) == (name == "relevance") == (facts.gap is None)
    if not beyond:
        assert facts.value_model == proof.value <= best + 1e-9
        assert facts.gap == proof.gap >= 0


@pytest.mark.parametrize("forecast", [0.5, 1.5])
def test_a_plan_of_the_whole_round_keeps_caps_whatever_was_forecast(forecast):
    """Caps are numbers of exposures: who plans for those who come exceeds none, though others were expected."""
    config = promising(small_cold_start, most=1.5, campaigns=[], forecast=forecast)
    closed = played("hindsight(tol=0.02)", dataclasses.replace(config, rounds=1))[0][0]
    assert (closed.delivered <= closed.promises.most).all()
