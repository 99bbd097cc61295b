"""Responses and what moves them: frequencies against closed forms, signs, and the checks of what consumers answer."""

import dataclasses

import numpy as np
import pytest
import torch
from kit import cases, refused, same_arrays
from small_markets import play_out, small_replay, small_scenario

from rimsim import rng
from rimsim.agents import Relevance, make_agent, market_for, play_round
from rimsim.config import ArrivalsConfig, ConsumerConfig, DynamicsConfig, ExposureConfig, override
from rimsim.errors import AgentError, ConfigError, MarketError
from rimsim.market import Market, Needs
from rimsim.market import consumers as kinds
from rimsim.market.consumers.contract import organic_of, relevant_items, response_of, true_intensity_of
from rimsim.measures import genre_weights
from rimsim.scenarios.study.play import opening_utilities
from rimsim.testing import ConsumerTests

MOVED = DynamicsConfig(satiation=0.5, drift=1.0, conformity=0.5)


CONSUMERS = {
    "logit": (None, lambda config: kinds.Logit(kinds.LogitOptions(outside=0.3), config)),
    "moved": (ConsumerConfig(dynamics=MOVED), kinds.Intensity),
    "moved cascade": (
        ConsumerConfig(dynamics=MOVED),
        lambda config: kinds.Cascade(kinds.CascadeOptions(), config),
    ),
}


class TestConsumer(ConsumerTests):
    """The logit keeps what a consumer promises, and the others keep it while wants move."""

    @pytest.fixture(autouse=True, params=CONSUMERS)
    def _called(self, request):
        self.changed, self.made = CONSUMERS[request.param]

    def scenario(self):
        """The scenario with a consumer."""
        usual = super().scenario()
        return usual if self.changed is None else dataclasses.replace(usual, consumer=self.changed)

    def make(self):
        """The consumer of the name."""
        return self.made(self.scenario())


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
    consumer = kinds.Logit(kinds.LogitOptions(outside=0.5), market.config)
    response = consumer.respond(visits, slates)
    wanted = kinds.Intensity(market.config).respond(visits, slates).intensity * 0.85 ** np.arange(5)
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
    consumer = kinds.Logit(kinds.LogitOptions(outside=0.05), flat)
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
    consumer = kinds.Cascade(kinds.CascadeOptions(stop=stop), config)
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


def test_what_moves_is_multiplied(visited):
    """Intensities under all dynamics are those of the truth times factors that are counted one by one."""
    market, visits, slates = visited
    moved = kinds.Intensity(override(market.config, {"consumer.dynamics": dataclasses.asdict(MOVED)}))
    plain = kinds.Intensity(market.config).of_catalogue(visits)
    weights = genre_weights([str(text) for text in market.world.log.items["genres"]])[0]
    histories, logged = visits.histories, np.bincount(market.world.past.item, minlength=market.n_items)
    opening = Market(market.config).open.visits(np.arange(2)).popularity  # of the barrier, not of the round
    np.testing.assert_array_equal(opening, logged)
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


def test_what_is_off_changes_no_bit(visited):
    """With every strength 0 the response is the compiled one to the last bit, also by the way of what moves."""
    market, visits, slates = visited
    off = kinds.make_consumer(override(market.config, {"consumer.dynamics.satiation_half_life": "1d"}))
    plain, found = kinds.make_consumer(market.config).respond(visits, slates), [off.respond(visits, slates)]
    off.dynamics.__class__ = type("On", (type(off.dynamics),), {"moves": True})
    found.append(off.respond(visits, slates))
    for one in found:
        same_arrays(one, plain, *(field.name for field in dataclasses.fields(plain)))


def test_slips_are_told():
    """Dynamics need a consumer that heeds them, and options are checked."""
    replay = override(small_scenario(), {"consumer.kind": "replay", "consumer.dynamics.drift": 1})
    refused(ConfigError, "consumer.dynamics with consumer.kind 'replay'", kinds.make_consumer, replay)
    for kind, option, near in (("logit", "outsid", "outside"), ("cascade", "stopp", "stop")):
        wrong = override(small_scenario(), {"consumer.kind": kind, f"consumer.options.{option}": 1})
        refused(ConfigError, f"'{option}'.*Did you mean '{near}'", kinds.make_consumer, wrong)
    assert set(kinds.BUILT_IN) == {"intensity", "logit", "cascade", "observed", "replay"}


@pytest.fixture(scope="module")
def market():
    """A market whose first arrivals wait."""
    return Market(small_scenario(rounds=1, consumer=ConsumerConfig(truth="factors")))


class Made(kinds.Intensity):
    """The usual consumer, but for one answer."""

    def __init__(self, market, method, answer):
        super().__init__(market.config)
        usual = getattr(super(), method)
        setattr(self, method, lambda *given: answer(usual(*given)))


def changed(**parts):
    """A response with some of its arrays changed."""
    return lambda usual: dataclasses.replace(
        usual, **{name: change(getattr(usual, name)) for name, change in parts.items()}
    )


def put(value, row=1, position=2):
    """An array with a value put in at one place."""

    def change(array):
        array = array.copy()
        array[row, position] = value
        return array

    return change


@cases(
    "answer found",
    (lambda usual: None, "a NoneType; allowed: a Response"),
    (lambda usual: (usual.consumed, usual.probability), "a tuple; allowed: a Response"),
    (changed(consumed=lambda part: part.astype(int)), "consumed int64"),
    (changed(probability=lambda part: part[:, :1]), r"consumed bool \(3, 5\), probability float64 \(3, 1\)"),
    (changed(intensity=lambda part: part.astype(int)), r"consumed .* intensity int64 \(3, 5\)"),
    (changed(probability=put(1.01)), "item 12 at position 3 .*probability 1.01 .*allowed: .*from 0 to 1"),
    (changed(probability=put(-0.1)), "item 12 at position 3 .*probability -0.1"),
    (changed(probability=put(np.nan)), "item 12 at position 3 .*probability nan"),
    (changed(intensity=put(np.inf)), "item 12 at position 3 .*intensity inf"),
    (changed(intensity=put(-1.0)), "item 12 at position 3 .*intensity -1.0"),
    (changed(consumed=put(value=True, row=2, position=4)), "item -1 at position 5 consumed"),
)
def test_a_response_that_is_none_is_refused_by_the_consumer_s_name(market, answer, found):
    """The error names the consumer's method, the first place that is wrong, what was found and what is allowed."""
    visits, slates = market.open.visits(np.arange(3)), np.tile(np.arange(10, 15), (3, 1))
    slates[2, 4] = -1
    made = Made(market, "respond", answer)
    refused(MarketError, f"^Made.respond: found {found}", response_of, made, visits, slates)
    for kind in (np.float64, np.float32):
        kept = changed(probability=lambda part, kind=kind: part.astype(kind))
        usual = response_of(Made(market, "respond", kept), visits, slates)
        assert usual.probability.dtype == kind


NONE = "a number that is negative, infinite or none"
ASKED = {"organic": organic_of, "true_intensity": true_intensity_of, "relevant": relevant_items}


@cases(
    "method answer found",
    ("organic", lambda usual: None, "a NoneType"),
    ("organic", lambda usual: usual._replace(row=np.array([0])), "1 rows, 0 ticks, 0 items"),
    ("true_intensity", lambda usual: usual.numpy(), r"a ndarray of shape \(3, "),
    ("true_intensity", lambda usual: usual[:, :2], r"a Tensor of shape \(3, 2\)"),
    ("true_intensity", lambda usual: usual * torch.nan, NONE),
    ("true_intensity", lambda usual: usual - 1.0, "a number that is negative"),
    ("relevant", lambda usual: usual[:-1], r"shape \(2,\)"),
    ("relevant", lambda usual: usual * np.nan, rf"shape \(3,\), or {NONE}"),
)
def test_other_answers_that_are_none_are_refused_likewise(market, method, answer, found):
    """What visitors do by themselves, want of the catalogue, and would consume of it shown whole."""
    visits, n = market.open.visits(np.arange(3)), market.n_items
    ASKED[method](kinds.Intensity(market.config), visits, n)
    made = Made(market, method, answer)
    refused(MarketError, f"^Made.{method}: found {found}", ASKED[method], made, visits, n)


@cases(
    "method answer",
    ("respond", changed(probability=lambda part: part + 2.0)),
    ("organic", lambda usual: None),
    ("relevant", lambda usual: usual - 9.0),
    ("true_intensity", lambda usual: usual * torch.nan),
)
def test_a_market_asks_through_these_checks(market, method, answer):
    """A wrong answer of each kind ends a round with the method's name; the look at the opening has no wrong one."""
    consumer = Made(market, method, answer)
    playing = Market(market.config, consumer=consumer, needs=Needs(truth=True))
    refused(MarketError, f"Made.{method}: found", play_out, playing, Relevance())
    if method == "respond":
        assert opening_utilities(market.config, 0)["utility"].gt(0).all()


class Scribbler(Relevance):
    """Shows what relevance does, and then writes into all that it was told, through torch and through NumPy."""

    name = "scribbler"

    def act(self, arrivals):
        """Items of highest intensity, and scribbles."""
        slates = super().act(arrivals)
        arrivals.relevance.mul_(0.5)
        arrivals.ground_intensity.numpy()[:] = 7.0
        arrivals.admissible[:] = True
        return slates


@pytest.mark.parametrize("scenario", [small_scenario, small_replay])
def test_what_an_agent_writes_into_arrivals_stays_with_it(scenario):
    """Ledgers, exposures and γ̂ are those of the agent that shows the same and writes nothing."""
    exposure = ExposureConfig(examination="harvested" if scenario is small_scenario else "known")
    config = scenario(rounds=2, exposure=exposure)
    markets = [play_out(Market(config), agent, 16) for agent in (Relevance(), Scribbler())]
    for one, other in zip(*(market.closed for market in markets), strict=True):
        assert one.decay == other.decay
        same_arrays(one.ledger, other.ledger, "item", "consumed", "intensity", "ground")


def test_an_agent_that_makes_items_admissible_is_refused_all_the_same():
    """Whether an item may be shown is the market's to say, whatever the agent wrote."""
    market = Market(small_scenario(rounds=1))
    arrivals = market.next_arrivals(20)
    row, item = np.argwhere(~arrivals.admissible.numpy())[0]
    arrivals.admissible[:] = True
    slates = arrivals.relevance.topk(5).indices.numpy()
    slates[row, 0] = item
    refused(AgentError, f"inadmissible item {item}", market.serve, arrivals, slates)
