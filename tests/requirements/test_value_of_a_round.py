"""Rewards, returns and certificates of rounds with groups, campaigns and caps."""

import dataclasses

import gymnasium
import numpy as np
import pytest
from kit import markets
from kit.markets import facts_of, priced
from kit.problems import relaxed

from rimsim.agents.past_states import joined_states
from rimsim.config import ArrivalsConfig
from rimsim.matching import Rows
from rimsim.measures import find_measure
from rimsim.scenarios.study.certificates import HindsightPrices, certified


def owed_and_beyond(closed):
    """What items, groups and campaigns miss in a closed round, and what was shown above caps."""
    items = closed.required - markets.weighted_exposures(closed)
    rows = closed.promises.min_exposure - closed.delivered
    missing = np.maximum(items, 0).sum() + np.maximum(rows, 0).sum()
    return missing, np.maximum(closed.delivered - closed.promises.max_exposure, 0).sum()


@pytest.mark.parametrize("unit", ["shown", "examined"])
def test_rewards_and_returns_count_groups_campaigns_and_caps(tmp_path, unit):
    """A missing exposure of a row and one above a cap cost c; rewards sum to the return and c × all that is asked."""
    place = markets.in_file(priced(unit=unit), tmp_path)
    env = gymnasium.make("rimsim:RIMMarket-v0", scenario=str(place)).unwrapped
    env.reset(seed=0)
    market = env.market
    totals = []
    states_noted = []
    total = 0.0
    while not market.done:
        number = market.round
        action = np.argsort(-env.arrivals.relevance[0].numpy(), kind="stable")[:5]
        _, reward, _, _, info = env.step(action)
        total += reward
        if market.round == number and not market.done:
            states_noted.append((number, info["market"]["shortfall"], info["market"]["excess"]))
        else:
            totals.append(total)
            total = 0.0
    for number, (closed, rewarded) in enumerate(zip(market.closed, totals, strict=True)):
        missing, beyond = owed_and_beyond(closed)
        assert missing > 0 < beyond
        required = closed.required.sum() + closed.promises.min_exposure.sum()
        expected = closed.ledger.consumed.sum() + closed.cost * (required - missing - beyond)
        assert rewarded == pytest.approx(expected)
        measured = find_measure("return").value(facts_of(market, closed))
        assert measured == pytest.approx(rewarded - closed.cost * required)
        last_note = [note for note in states_noted if note[0] == number][-1]
        assert missing <= last_note[1] + 1e-9
        assert last_note[1] - missing <= 5 * 3 + 1e-9  # the last slate alone came after it
        assert 0 <= beyond - last_note[2] <= 5 + 1e-9


def rows_by_hand(closed):
    """Groups and campaigns of a closed round for the linear programme, and (M,) caps of items."""
    table = closed.promises
    n = len(closed.ledger.item)
    m = len(closed.required)
    first = [0]
    item = []
    floors = []
    row_caps = []
    active = []
    caps = np.full(m, np.inf)
    ticks = closed.ledger.schedule.tick
    audiences = closed.states.audiences
    for row in range(len(table)):
        items = table.items(row)
        if table.name[row].startswith("most of item"):
            caps[items] = table.max_exposure[row]
            continue
        row_caps.append(table.max_exposure[row])
        item += items.tolist()
        first.append(len(item))
        floors.append(table.min_exposure[row])
        is_counted = np.ones(n, bool) if table.audience[row] < 0 else audiences[:, table.audience[row]]
        active.append(is_counted & (ticks >= table.begin[row]) & (ticks < table.end[row]))
    first = np.array(first)
    item = np.array(item, np.int64)
    floors = np.array(floors)
    rows = Rows(
        first, item, floors, np.array(row_caps), np.full(len(floors), closed.cost), np.stack(active, axis=1)
    )
    return rows, np.minimum(caps, n)


SHARES = [
    {"name": "some", "items": {"genres": "Horror"}, "share": 0.1, "stop": 5} | markets.RETURNING,
    {"name": "late", "items": {"genres": "Western"}, "share": 0.2, "start": 2},
]


CAPPED = [
    {"column": "genres", "most": 0.7, "values": ["Drama", "Comedy"]},
    {"column": "genres", "beta": 0.6, "most": 0.9, "values": ["Musical", "Fantasy"]},
]


@pytest.mark.parametrize("groups", [markets.PRICED["groups"], CAPPED])
@pytest.mark.parametrize("unit", ["shown", "examined"])
@pytest.mark.parametrize("name", ["rim-feedback", "hindsight", "relevance"])
def test_the_certificate_of_a_round_is_the_linear_programme_with_all_rows(name, unit, groups):
    """The bound is HiGHS' optimum within caps; V is below it, and there is no gap where a cap is exceeded."""
    config = priced(markets.small_scenario, unit=unit, most=2, campaigns=SHARES, groups=groups)
    arrivals = ArrivalsConfig(per_round=30, max_visits=3)
    market = markets.played(dataclasses.replace(config, slate=3, rounds=1, arrivals=arrivals), name)
    closed = market.closed[0]
    states = joined_states(closed.states, 3)
    rows, caps = rows_by_hand(closed)
    scores = np.maximum(states.scores, 0.0).astype(np.float64)
    problem = scores, states.capacity, closed.position_weights, closed.required
    best = relaxed(*problem, caps, states.scores > -np.inf, closed.cost, rows)
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
