"""Responses and what moves them: frequencies against closed forms, signs, and nothing while all is off."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from kit import refused
from small_markets import play_out, small_scenario

from rimsim import rng
from rimsim.agents import make_agent, market_for, play_round
from rimsim.config import ArrivalsConfig, ConsumerConfig, DynamicsConfig, Seeds, override
from rimsim.errors import ConfigError
from rimsim.market.consumers import (
    BUILT_IN,
    Cascade,
    CascadeOptions,
    Intensity,
    Logit,
    LogitOptions,
    make_consumer,
)
from rimsim.measures import genre_weights, gini, paired_difference
from rimsim.testing import ConsumerTests

MOVED = DynamicsConfig(satiation=0.5, drift=1.0, conformity=0.5)


class TestLogit(ConsumerTests):
    """The logit keeps what a consumer promises."""

    def make(self):
        """The built-in one, with a weak outside option."""
        return Logit(LogitOptions(outside=0.3), self.scenario())


class TestMoved(ConsumerTests):
    """The Poisson response keeps it while wants move."""

    def scenario(self):
        """All dynamics are on."""
        return dataclasses.replace(super().scenario(), consumer=ConsumerConfig(dynamics=MOVED))

    def make(self):
        """The built-in one."""
        return Intensity(self.scenario())


class TestMovedCascade(TestMoved):
    """The cascade keeps it too."""

    def make(self):
        """The built-in one."""
        return Cascade(CascadeOptions(), self.scenario())


@pytest.fixture(scope="module")
def visited():
    """Visits of the last round of a small market in which nothing moves, who have yet to come, and slates for them."""
    config = small_scenario(arrivals=ArrivalsConfig(kind="hawkes", per_round=150))
    market = market_for(agent := make_agent("random"), config)
    while market.round < 2:
        play_round(market, agent)
    _, rows = np.unique(market.schedule.slot, return_index=True)
    lot = rng.uniform(1, rng.Purpose.MEASURE, rows[:, None], np.arange(market.n_items))
    slates = np.argsort(lot, axis=1)[:, : config.slate].copy()
    slates[:, 3] = -1
    return market, market.open.visits(rows), slates


def frequencies(consumer, visits, slates, seeds=400):
    """(n, k) how often each position is consumed over seeds, and the same for pairs of neighbours."""
    counts, pairs = np.zeros(slates.shape), np.zeros((len(slates), slates.shape[1] - 1))
    for seed in range(seeds):
        keys = rng.bits(seed, rng.Purpose.CHOICE, visits.schedule.id)
        consumed = consumer.respond(dataclasses.replace(visits, keys=keys), slates).consumed
        counts += consumed
        pairs += consumed[:, 1:] & consumed[:, :-1]
    return counts / seeds, pairs / seeds


def require_frequencies(found, chance, seeds=400):
    """Sums over visits, position by position, and all together, are within four standard errors."""
    spread = np.sqrt((chance * (1 - chance)).sum(0) / seeds)
    assert (np.abs(found.sum(0) - chance.sum(0)) <= 4 * spread + 1e-12).all()


def test_a_logit_takes_one_item_as_often_as_its_weight(visited):
    """P = u_r / (u₀ + Σ u) by hand, never two items, and the frequencies are those."""
    market, visits, slates = visited
    consumer = Logit(LogitOptions(outside=0.5), market.config)
    response = consumer.respond(visits, slates)
    wanted = Intensity(market.config).respond(visits, slates).intensity * 0.85 ** np.arange(5)
    expected = wanted / (0.5 + wanted.sum(1, keepdims=True))
    np.testing.assert_allclose(response.probability, expected, rtol=1e-12)
    found, pairs = frequencies(consumer, visits, slates)
    assert not pairs.any()
    assert not found[:, 3].any()
    require_frequencies(found, response.probability)


def test_a_logit_keeps_its_choice_when_another_item_goes(visited):
    """Gumbels belong to items: what is taken of a slate is taken of a part of it that holds it."""
    market, visits, slates = visited
    flat = override(market.config, {"consumer.position_decay": 1.0})
    consumer = Logit(LogitOptions(outside=0.05), flat)
    whole = consumer.respond(visits, slates).consumed
    part = slates.copy()
    part[:, 0] = -1
    kept = consumer.respond(visits, part).consumed
    rows = whole[:, 1:].any(1)
    assert rows.any()
    np.testing.assert_array_equal(kept[rows], whole[rows])


@pytest.mark.parametrize("stop", [0.0, 0.6, 1.0])
def test_a_cascade_stops(visited, stop):
    """P(take at r) = e_r·q_r, by enumeration of all that can happen; with stop 1 at most one item is taken."""
    market, visits, slates = visited
    config = override(market.config, {"consumer.attraction": 8.0})
    consumer = Cascade(CascadeOptions(stop=stop), config)
    response = consumer.respond(visits, slates)
    chance = 1 - np.exp(-8 * response.intensity)
    looked, by_hand = np.ones(len(slates)), []
    for position in range(5):
        by_hand.append(looked * chance[:, position])
        looked = looked * 0.85 * (chance[:, position] * (1 - stop) + 1 - chance[:, position])
    np.testing.assert_allclose(response.probability, np.stack(by_hand, 1), rtol=1e-12)
    found, pairs = frequencies(consumer, visits, slates)
    require_frequencies(found, response.probability)
    joint = response.probability[:, :-1] * 0.85 * (1 - stop) * chance[:, 1:]
    require_frequencies(pairs, joint)


def genres_of(market):
    """(M, genres) shares of genres of items."""
    return genre_weights([str(text) for text in market.world.log.items["genres"]])[0]


def consumed_genres(visits, weights):
    """(n, genres) what visitors consumed in the market, and the visitors who did."""
    row, item = visits.in_market()
    taste = np.zeros((len(visits), weights.shape[1]))
    np.add.at(taste, row, weights[item])
    return taste, np.flatnonzero(taste.any(1))


def test_what_moves_is_multiplied(visited):
    """Intensities under all dynamics are those of the truth times factors that are counted one by one."""
    market, visits, slates = visited
    moved = Intensity(override(market.config, {"consumer.dynamics": dataclasses.asdict(MOVED)}))
    plain = Intensity(market.config).of_catalogue(visits)
    weights, histories = genres_of(market), visits.histories
    logged = np.bincount(market.world.past.item, minlength=market.n_items)
    others = (1.0 + visits.popularity) ** 0.5
    others *= logged.sum() / (others * logged).sum()
    whole = moved.of_catalogue(visits)
    ratio, there = whole / np.maximum(plain, 1e-300), plain > 0
    consumers = 0
    for n, (slot, tick) in enumerate(zip(visits.slot, visits.schedule.tick[visits.row], strict=True)):
        known, items = histories.between(np.array([slot]), np.array([0]), histories.events.counts[[slot]])
        consumers += len(items) > 0
        age = (tick - (known - 1)) / 1e6 / 86_400
        assert (age > 0).all()
        sated = (weights[items] * 2 ** (-age / 7)[:, None]).sum(0)
        drifted = weights[items].sum(0) / (len(items) + 1)
        expected = np.exp(-0.5 * weights @ sated + (weights - weights.mean(0)) @ drifted) * others
        np.testing.assert_allclose(ratio[n, there[n]], expected[there[n]], rtol=1e-9)
    assert consumers > 20
    some = moved.respond(visits, slates)
    rows = np.arange(len(slates))[:, None]
    filled = (slates >= 0) & there[rows, slates]  # the market shows nothing else
    np.testing.assert_allclose(some.intensity[filled], whole[rows, slates][filled], rtol=1e-9)
    weight = 0.85 ** np.arange(5)
    np.testing.assert_allclose(some.probability, -np.expm1(-some.intensity * weight), rtol=1e-12)


def test_satiation_makes_diverse_slates_worth_more(visited):
    """Of what a slate is worth, satiation leaves more where it is not of the genres that were consumed last."""
    market, visits, _ = visited
    sated = Intensity(override(market.config, {"consumer.dynamics.satiation": 1.0}))
    plain, weights = Intensity(market.config), genres_of(market)
    taste, some = consumed_genres(visits, weights)
    left = []
    for sign in (1, -1):
        slates = np.argsort(sign * taste @ weights.T, axis=1, kind="stable")[:, :5]
        worth = [consumer.respond(visits, slates).probability.sum(1) for consumer in (sated, plain)]
        left.append((worth[0] / worth[1])[some])
    assert paired_difference(*left).low > 0.05


def test_drift_leads_towards_what_was_consumed(visited):
    """The genres that a visitor consumed have a larger share of what it wants than without drift."""
    market, visits, _ = visited
    drifting = Intensity(override(market.config, {"consumer.dynamics.drift": 2.0}))
    weights = genres_of(market)
    taste, some = consumed_genres(visits, weights)
    shares = []
    for consumer in (drifting, Intensity(market.config)):
        wanted = consumer.of_catalogue(visits)[some]
        mass = (wanted / wanted.sum(1, keepdims=True)) @ weights
        shares.append((mass * taste[some]).sum(1) / taste[some].sum(1))
    assert paired_difference(*shares).low > 0


def test_conformity_narrows_the_log():
    """Under conformity what is consumed of random slates is more unequal, over seeds; popularity is the barrier's."""
    found = []
    for strength in (1.0, 0.0):
        config = small_scenario(consumer=ConsumerConfig(dynamics=DynamicsConfig(conformity=strength)))
        ginis = []
        for seed in range(4):
            market = market_for(agent := make_agent("random"), config, seeds=Seeds.all(seed))
            before, n = market.open.visits(np.arange(2)).popularity, market.n_items
            play_out(market, agent)
            np.testing.assert_array_equal(before, np.bincount(market.world.past.item, minlength=n))
            sold = [closed.ledger.item[closed.ledger.consumed] for closed in market.closed]
            ginis.append(gini(np.bincount(np.concatenate(sold), minlength=n)))
        found.append(ginis)
    assert paired_difference(*found).low > 0


def test_what_is_off_changes_no_bit(visited):
    """With every strength 0 the response is the compiled one to the last bit, also by the way of what moves."""
    market, visits, slates = visited
    off = make_consumer(override(market.config, {"consumer.dynamics.satiation_half_life": "1d"}))
    plain, found = make_consumer(market.config).respond(visits, slates), [off.respond(visits, slates)]
    off.dynamics.__class__ = type("On", (type(off.dynamics),), {"moves": True})
    found.append(off.respond(visits, slates))
    for field in dataclasses.fields(plain):
        for one in found:
            np.testing.assert_array_equal(getattr(one, field.name), getattr(plain, field.name))


def test_slips_are_told():
    """Dynamics need a consumer that heeds them, and options are checked."""
    replay = override(small_scenario(), {"consumer.kind": "replay", "consumer.dynamics.drift": 1})
    refused(ConfigError, "consumer.dynamics with consumer.kind 'replay'", make_consumer, replay)
    for kind, option, near in (("logit", "outsid", "outside"), ("cascade", "stopp", "stop")):
        wrong = override(small_scenario(), {"consumer.kind": kind, f"consumer.options.{option}": 1})
        refused(ConfigError, f"'{option}'.*Did you mean '{near}'", make_consumer, wrong)
    assert set(BUILT_IN) == {"intensity", "logit", "cascade", "observed", "replay"}
