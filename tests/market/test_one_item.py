"""Logs whose sessions have one event: their visitors take one item at most."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from kit.environments import clones_env
from kit.markets import ledgers, play_out, played, same_in_batches, same_ledgers, small_scenario

from rimsim import rng
from rimsim.agents import make_agent, play_round, rollout
from rimsim.config import ConsumerConfig, DataConfig
from rimsim.data import load
from rimsim.intensity.states import session_examples
from rimsim.market import Market
from rimsim.market.agreement import make_cut
from rimsim.market.processes import Demand
from rimsim.scenarios.kinds.validate import checks

DAY = 86_400.0


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    """Place of a log with the events of the embedded log, those of a user a day apart."""
    log = load(min_item_events=120)
    order = np.lexsort((log.time, log.user))
    user = log.user[order]
    nth = np.arange(len(user)) - np.searchsorted(user, user)
    item = log.items["id"].to_numpy()[log.item[order]]
    time = 1.5e9 + (rng.uniform(1, rng.Purpose.MEASURE, user) * 300 + nth) * DAY
    place = tmp_path_factory.mktemp("ratings") / "ratings.csv"
    pd.DataFrame({"user": user, "item": item, "time": time.astype(np.int64)}).to_csv(place, index=False)
    return str(place)


def market_of(ratings, **consumer):
    """Small market of the log; its truth is popularity."""
    config = small_scenario(
        data=DataConfig(source=ratings, min_item_events=120),
        consumer=ConsumerConfig(**({"truth": "popularity"} | consumer)),
        rounds=2,
    )
    return Market(config)


def visits_of(market, n=120):
    """Visits of different users that have yet to come, and slates for them."""
    _, rows = np.unique(market.schedule.slot, return_index=True)
    rows = rows[:n]
    lot = rng.uniform(1, rng.Purpose.MEASURE, rows[:, None], np.arange(market.n_items))
    slates = np.argsort(lot, axis=1)[:, : market.config.slate].copy()
    slates[:, 3] = -1
    return market.open.visits(rows), slates


def choices(market, visits, slates, seeds=400):
    """(n, k) shares of seeds in which each position is taken, and in which a visit chooses freely; never both."""
    taken = np.zeros(slates.shape)
    free = np.zeros(len(slates))
    for seed in range(seeds):
        keys = rng.bits(seed, rng.Purpose.CHOICE, visits.schedule.id)
        own_keys = rng.bits(seed, rng.Purpose.OWN_CHOICE, visits.schedule.id)
        of_seed = dataclasses.replace(visits, keys=keys, own_keys=own_keys)
        consumed = market.consumer.respond(of_seed, slates).consumed
        organic = market.consumer.organic(of_seed)
        chooses = np.isin(visits.row, organic.row)
        assert len(np.unique(organic.row)) == len(organic.row)
        assert (consumed.sum(1) + chooses <= 1).all()
        taken += consumed
        free += chooses
    return taken / seeds, free / seeds


def require_close(share, chance, seeds=400):
    """Sums over visits are within four standard errors of their expectations."""
    spread = np.sqrt((chance * (1 - chance)).sum(0) / seeds)
    assert (np.abs(share.sum(0) - chance.sum(0)) <= 4 * spread + 1e-12).all()


@pytest.mark.parametrize("attraction", [1.0, 4.0])
@pytest.mark.parametrize("own_choice", [0.0, 0.4])
def test_an_item_is_taken_as_often_as_the_law_says(ratings, attraction, own_choice):
    """P = a·v_r / (a·Σ v + 1 − Σ v) by hand, of visitors who do not choose freely; never two items."""
    market = market_of(ratings, attraction=attraction, own_choice=own_choice)
    visits, slates = visits_of(market)
    preference, ground = visits.true_scores
    np.testing.assert_allclose(ground, 1.0, rtol=1e-6)
    seen = np.where(slates >= 0, np.take_along_axis(preference, np.maximum(slates, 0), 1), 0.0)
    seen = seen * ground[:, None] * 0.85 ** np.arange(5)
    expected = attraction * seen / (1 + (attraction - 1) * seen.sum(1, keepdims=True)) * (1 - own_choice)
    response = market.consumer.respond(visits, slates)
    np.testing.assert_allclose(response.probability, expected, rtol=1e-6)
    taken, free = choices(market, visits, slates)
    require_close(taken, expected)
    require_close(free, np.full(len(free), own_choice))


def test_taking_nothing_has_a_random_number_of_its_own(ratings):
    """The item with the largest number is taken as often as the law says if all visitors see it."""
    market = market_of(ratings, attraction=4.0)
    visits, slates = visits_of(market)
    last = market.n_items - 1
    slates[(slates == last).any(1)] = -1
    slates[:, 0] = last
    response = market.consumer.respond(visits, slates)
    assert response.probability[:, 0].sum() > 1
    require_close(choices(market, visits, slates)[0], response.probability)


def test_a_visitor_who_sees_the_whole_catalogue_takes_one_item(ratings):
    """With all items at positions that everybody looks at, each visit takes exactly one."""
    config = dataclasses.replace(market_of(ratings).config, slate=40, user_cap=None)
    config = dataclasses.replace(config, consumer=dataclasses.replace(config.consumer, position_decay=1.0))
    market = Market(config)
    visits, _ = visits_of(market)
    catalogue = np.tile(np.arange(market.n_items), (len(visits), 1))
    consumer = type(market.consumer)(dataclasses.replace(config, slate=market.n_items))
    response = consumer.respond(visits, catalogue)
    assert (response.consumed.sum(1) == 1).all()
    preference, _ = visits.true_scores
    np.testing.assert_allclose(response.probability, preference, rtol=1e-5, atol=1e-12)


def test_no_visit_of_a_market_takes_two_items(ratings):
    """Batches of 1 and 7 and the environment have one ledger, in which nobody takes two items."""
    config = market_of(ratings, attraction=20.0).config
    market = same_in_batches(config, "rim-feedback")
    per_visit = ledgers(market).groupby("arrival")["consumed"].sum()
    assert set(per_visit) == {0, 1}
    env = clones_env(config)
    rollout(env, make_agent("rim-feedback"), seed=0)
    same_ledgers(env.unwrapped.market, market)
    assert play_out(
        Market(config), make_agent("random")
    ).closed  # an agent that ignores the scores plays it too
    poisson = played(small_scenario(consumer=ConsumerConfig(truth="popularity", attraction=20.0)))
    assert ledgers(poisson).groupby("arrival")["consumed"].sum().max() > 1


def test_demand_moves_what_is_taken(ratings):
    """Without demand nothing is taken, and with twice the demand up to twice as much."""
    config = market_of(ratings).config
    utilities = []
    for factor in (0.0, 1.0, 2.0):
        market = Market(config, processes={"demand": Demand(factor=factor)})
        play_round(market, make_agent("random"))
        utilities.append(market.closed[0].ledger.probability.sum())
    assert utilities[0] == 0
    assert utilities[2] == pytest.approx(2 * utilities[1], rel=0.1)


def test_simulated_sessions_of_a_log_of_single_events_have_one_event(ratings):
    """The distance of session sizes is 0 where both laws give one event; for the log of sessions it is not."""
    market = market_of(ratings)
    truth = market.world.truth
    assert truth.takes_one
    assert not Market(small_scenario()).world.truth.takes_one
    cut = make_cut(market.world.log, 0, gap=1800.0, after=0.3)
    figures = checks.simulated(truth, cut, session_examples(market.world.log, 1800.0))
    assert figures["session_size_ks"] == 0.0
    assert figures["session_size_mean"] == 1.0
