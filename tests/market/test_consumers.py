"""Built-in consumers: how visitors choose, by closed forms, enumeration and frequencies."""

import dataclasses

import numpy as np
import pytest
from kit import refused, same_arrays
from kit.markets import market_of, small_scenario

from rimsim import rng
from rimsim.agents import play_round
from rimsim.config import ArrivalsConfig, ConsumerConfig, DynamicsConfig, override
from rimsim.errors import ConfigError
from rimsim.market import Market
from rimsim.market import consumers as kinds
from rimsim.measures import genre_weights
from rimsim.testing import ConsumerTests

MOVED = DynamicsConfig(satiation=0.5, drift=1.0, conformity=0.5)
CONSUMERS = {
    "intensity": ({}, kinds.BUILT_IN["intensity"]),
    "replay": ({"arrivals": ArrivalsConfig(kind="replay", per_round=60)}, kinds.BUILT_IN["replay"]),
    "logit": ({}, lambda config: kinds.Logit(kinds.LogitOptions(outside=0.3), config)),
    "moved": ({"consumer": ConsumerConfig(dynamics=MOVED)}, kinds.Intensity),
    "moved cascade": (
        {"consumer": ConsumerConfig(dynamics=MOVED)},
        lambda config: kinds.Cascade(kinds.CascadeOptions(), config),
    ),
}


class TestConsumer(ConsumerTests):
    """Built-in consumers keep what a consumer promises, also while wants move; of tables see below."""

    @pytest.fixture(autouse=True, params=CONSUMERS)
    def _called(self, request):
        self.changed, self.made = CONSUMERS[request.param]

    def scenario(self):
        """The scenario with what the consumer needs."""
        return dataclasses.replace(super().scenario(), **self.changed)

    def make(self):
        """The consumer of the name."""
        return self.made(self.scenario())


@pytest.fixture(scope="module")
def visited():
    """Visits of the last round of a small market in which nothing moves, who have yet to come, and slates for them."""
    config = small_scenario(arrivals=ArrivalsConfig(kind="hawkes", per_round=150))
    agent, market = market_of("random", config)
    while market.round < 2:
        play_round(market, agent)
    _, rows = np.unique(market.schedule.slot, return_index=True)
    lot = rng.uniform(1, rng.Purpose.MEASURE, rows[:, None], np.arange(market.n_items))
    slates = np.argsort(lot, axis=1)[:, : config.slate].copy()
    slates[:, 3] = -1
    return market, market.open.visits(rows), slates


def frequencies(consumer, visits, slates, seeds=400):
    """(n, k) how often each position is consumed over seeds, and the same for pairs of neighbours."""
    counts = np.zeros(slates.shape)
    pairs = np.zeros((len(slates), slates.shape[1] - 1))
    for seed in range(seeds):
        keys = rng.bits(seed, rng.Purpose.CHOICE, visits.schedule.id)
        consumed = consumer.respond(dataclasses.replace(visits, keys=keys), slates).consumed
        counts += consumed
        pairs += consumed[:, 1:] & consumed[:, :-1]
    return counts / seeds, pairs / seeds


def require_frequencies(counts, chance, seeds=400):
    """Sums over visits, position by position, and all together, are within four standard errors."""
    spread = np.sqrt((chance * (1 - chance)).sum(0) / seeds)
    assert (np.abs(counts.sum(0) - chance.sum(0)) <= 4 * spread + 1e-12).all()


def test_a_logit_takes_one_item_as_often_as_its_weight(visited):
    """P = u_r / (u₀ + Σ u) by hand, never two items, and the frequencies are those."""
    market, visits, slates = visited
    consumer = kinds.Logit(kinds.LogitOptions(outside=0.5), market.config)
    response = consumer.respond(visits, slates)
    weights = kinds.Intensity(market.config).respond(visits, slates).intensity * 0.85 ** np.arange(5)
    expected = weights / (0.5 + weights.sum(1, keepdims=True))
    np.testing.assert_allclose(response.probability, expected, rtol=1e-12)
    counts, pairs = frequencies(consumer, visits, slates)
    assert not pairs.any()
    assert not counts[:, 3].any()
    require_frequencies(counts, response.probability)


def test_a_logit_keeps_its_choice_when_another_item_goes(visited):
    """Gumbels belong to items: what is taken of a slate is taken of a part of it that holds it."""
    market, visits, slates = visited
    flat = override(market.config, {"consumer.position_decay": 1.0})
    consumer = kinds.Logit(kinds.LogitOptions(outside=0.05), flat)
    of_slates = consumer.respond(visits, slates).consumed
    part = slates.copy()
    part[:, 0] = -1
    of_parts = consumer.respond(visits, part).consumed
    rows = of_slates[:, 1:].any(1)
    assert rows.any()
    np.testing.assert_array_equal(of_parts[rows], of_slates[rows])


@pytest.mark.parametrize("stop", [0.0, 0.6, 1.0])
def test_a_cascade_stops(visited, stop):
    """P(take at r) = e_r·q_r, by enumeration of all that can happen; with stop 1 at most one item is taken."""
    market, visits, slates = visited
    config = override(market.config, {"consumer.attraction": 8.0})
    consumer = kinds.Cascade(kinds.CascadeOptions(stop=stop), config)
    response = consumer.respond(visits, slates)
    chance = 1 - np.exp(-8 * response.intensity)
    looked = np.ones(len(slates))
    by_hand = []
    for position in range(5):
        by_hand.append(looked * chance[:, position])
        looked = looked * 0.85 * (chance[:, position] * (1 - stop) + 1 - chance[:, position])
    np.testing.assert_allclose(response.probability, np.stack(by_hand, 1), rtol=1e-12)
    counts, pairs = frequencies(consumer, visits, slates)
    require_frequencies(counts, response.probability)
    joint = response.probability[:, :-1] * 0.85 * (1 - stop) * chance[:, 1:]
    require_frequencies(pairs, joint)


def test_a_cascade_that_never_stops_takes_what_the_plain_response_takes(visited):
    """Where all positions are looked at and nobody stops, items are the same; chances are, but for the last bits."""
    market, visits, slates = visited
    flat = override(market.config, {"consumer.position_decay": 1.0})
    consumers = kinds.Intensity(flat), kinds.Cascade(kinds.CascadeOptions(stop=0.0), flat)
    plain, cascade = (consumer.respond(visits, slates) for consumer in consumers)
    assert plain.consumed.any()
    same_arrays(plain, cascade, "consumed")
    np.testing.assert_allclose(cascade.probability, plain.probability, rtol=1e-12)


def test_what_moves_is_multiplied(visited):
    """Intensities under all dynamics are those of the truth times factors that are counted one by one."""
    market, visits, slates = visited
    moved = kinds.Intensity(override(market.config, {"consumer.dynamics": dataclasses.asdict(MOVED)}))
    plain = kinds.Intensity(market.config).of_catalogue(visits)
    weights = genre_weights([str(text) for text in market.world.log.items["genres"]])[0]
    histories = visits.histories
    logged = np.bincount(market.world.past.item, minlength=market.n_items)
    opening = Market(market.config).open.visits(np.arange(2)).popularity  # of the barrier, not of the round
    np.testing.assert_array_equal(opening, logged)
    popularity_factor = (1.0 + visits.popularity) ** 0.5
    popularity_factor *= logged.sum() / (popularity_factor * logged).sum()
    intensity = moved.of_catalogue(visits)
    ratio = intensity / np.maximum(plain, 1e-300)
    is_possible = plain > 0
    consumers = 0
    for n, (slot, tick) in enumerate(zip(visits.slot, visits.schedule.tick[visits.row], strict=True)):
        visible_from, items = histories.between(
            np.array([slot]), np.array([0]), histories.events.counts[[slot]]
        )
        consumers += len(items) > 0
        age = (tick - (visible_from - 1)) / 1e6 / 86_400
        assert (age > 0).all()
        sated = (weights[items] * 2 ** (-age / 7)[:, None]).sum(0)
        drifted = weights[items].sum(0) / (len(items) + 1)
        expected = np.exp(-0.5 * weights @ sated + (weights - weights.mean(0)) @ drifted) * popularity_factor
        np.testing.assert_allclose(ratio[n, is_possible[n]], expected[is_possible[n]], rtol=1e-9)
    assert consumers > 20
    response = moved.respond(visits, slates)
    rows = np.arange(len(slates))[:, None]
    filled = (slates >= 0) & is_possible[rows, slates]  # the market shows nothing else
    np.testing.assert_allclose(response.intensity[filled], intensity[rows, slates][filled], rtol=1e-9)
    weight = 0.85 ** np.arange(5)
    np.testing.assert_allclose(response.probability, -np.expm1(-response.intensity * weight), rtol=1e-12)


def test_what_is_off_changes_no_bit(visited):
    """With every strength 0 the response is the compiled one to the last bit, also by the way of what moves."""
    market, visits, slates = visited
    off = kinds.make_consumer(override(market.config, {"consumer.dynamics.satiation_half_life": "1d"}))
    plain = kinds.make_consumer(market.config).respond(visits, slates)
    responses = [off.respond(visits, slates)]
    off.dynamics.__class__ = type("On", (type(off.dynamics),), {"moves": True})
    responses.append(off.respond(visits, slates))
    for response in responses:
        same_arrays(response, plain, *(field.name for field in dataclasses.fields(plain)))


def test_slips_are_told():
    """Dynamics need a consumer that heeds them, and options are checked."""
    replay = override(small_scenario(), {"consumer.kind": "replay", "consumer.dynamics.drift": 1})
    refused(ConfigError, "consumer.dynamics is set, but consumer.kind 'replay'", kinds.make_consumer, replay)
    for kind, option, near in (("logit", "outsid", "outside"), ("cascade", "stopp", "stop")):
        wrong = override(small_scenario(), {"consumer.kind": kind, f"consumer.options.{option}": 1})
        refused(ConfigError, f"'{option}'.*Did you mean '{near}'", kinds.make_consumer, wrong)
    assert set(kinds.BUILT_IN) == {"intensity", "logit", "cascade", "observed", "replay"}
