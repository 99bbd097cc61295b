"""What groups, campaigns and caps are worth: returns, rewards and certificates, against plain sums and HiGHS."""

from __future__ import annotations

import dataclasses

import gymnasium
import numpy as np
import pytest
import yaml
from small_markets import small_cold_start, small_scenario
from test_matching_weighted import relaxed
from test_promised_prices import played, promising

from rimsim.agents import make_agent, market_for, play_round
from rimsim.agents.prices import joined_states
from rimsim.config import ArrivalsConfig, to_plain
from rimsim.matching import Rows
from rimsim.measures import find_measure
from rimsim.scenarios.study import facts
from rimsim.scenarios.study.facts import AdoptionCount, HindsightPrices, certified, shared_facts


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


CAMPAIGNS = [
    {"name": "some", "items": {"genres": "Horror"}, "share": 0.1, "stop": 5}
    | {"audience": {"visits": "returning"}},
    {"name": "late", "items": {"genres": "Western"}, "share": 0.2, "start": 2},
]


@pytest.mark.parametrize("unit", ["shown", "examined"])
@pytest.mark.parametrize("name", ["rim-feedback", "hindsight", "relevance"])
def test_the_certificate_of_a_round_is_the_linear_programme_with_all_rows(name, unit):
    """The bound is HiGHS' optimum within caps; V is below it, and there is no gap where a cap is exceeded."""
    config = promising(small_scenario, unit=unit, most=2, campaigns=CAMPAIGNS)
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
