"""Consumers and rules of the market: how visitors choose, answers that are known, costs and turns."""

import dataclasses
import itertools
import random
import re
from io import StringIO

import numpy as np
import pandas as pd
import pytest
import torch
from kit import DOCS, cases, refused, same_arrays, write_events
from kit.markets import market_of, play_out, small_replay, small_scenario
from rich.console import Console

from rimsim import config as records
from rimsim import rng
from rimsim.agents import Relevance, make_agent, market_for, play_round, top_k
from rimsim.config import ArrivalsConfig, ConsumerConfig, DynamicsConfig, ExposureConfig, Seeds, override
from rimsim.errors import AgentError, ConfigError, DataError, MarketError
from rimsim.intensity.contract import BLOCK
from rimsim.market import Market, Needs
from rimsim.market import consumers as kinds
from rimsim.market.consumers import contract, make_consumer
from rimsim.market.consumers.contract import Hits, Law, organic_of, response_of
from rimsim.measures import genre_weights
from rimsim.scenarios.study.notes import print_notes
from rimsim.scenarios.study.play import opening_utilities
from rimsim.scenarios.study.repetition import digests
from rimsim.testing import ConsumerTests
from rimsim.testing.intensity import random_log
from rimsim.testing.market import small_market
from rimsim.testing.market import small_scenario as tiny_scenario

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


@pytest.fixture(scope="module")
def market():
    """A market whose first arrivals wait."""
    return Market(small_scenario(rounds=1, consumer=ConsumerConfig(truth="factors")))


class Made(kinds.Intensity):
    """The usual consumer, but for one answer."""

    def __init__(self, market, method, answer):
        super().__init__(market.config)
        usual = getattr(super(), method)
        setattr(self, method, lambda *arguments: answer(usual(*arguments)))


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
    "answer problem",
    (lambda usual: None, "a NoneType. Expected a Response"),
    (lambda usual: (usual.consumed, usual.probability), "a tuple. Expected a Response"),
    (changed(consumed=lambda part: part.astype(int)), "consumed int64"),
    (changed(probability=lambda part: part[:, :1]), r"consumed bool \(3, 5\), probability float64 \(3, 1\)"),
    (changed(intensity=lambda part: part.astype(int)), r"consumed .* intensity int64 \(3, 5\)"),
    (changed(probability=put(1.01)), "item 12 at position 3 .*probability 1.01 .*Expected .*from 0 to 1"),
    (changed(probability=put(-0.1)), "item 12 at position 3 .*probability -0.1"),
    (changed(probability=put(np.nan)), "item 12 at position 3 .*probability nan"),
    (changed(intensity=put(np.inf)), "item 12 at position 3 .*intensity inf"),
    (changed(intensity=put(-1.0)), "item 12 at position 3 .*intensity -1.0"),
    (changed(consumed=put(value=True, row=2, position=4)), "item -1 at position 5 is consumed"),
)
def test_a_response_that_is_none_is_refused_by_the_consumer_s_name(market, answer, problem):
    """The error names the consumer's method, the first place that is wrong, what was found and what is allowed."""
    visits = market.open.visits(np.arange(3))
    slates = np.tile(np.arange(10, 15), (3, 1))
    slates[2, 4] = -1
    consumer = Made(market, "respond", answer)
    refused(MarketError, f"^Made.respond: (found )?{problem}", response_of, consumer, visits, slates)
    for kind in (np.float64, np.float32):
        converted = changed(probability=lambda part, kind=kind: part.astype(kind))
        usual = response_of(Made(market, "respond", converted), visits, slates)
        assert usual.probability.dtype == kind


def hits(*offsets):
    """An answer of nine hits with some offsets."""
    return lambda usual: Hits(np.array(offsets), np.arange(9))


NONE = "a number that is negative, infinite or NaN"
ASKED = {
    "organic": organic_of,
    "true_intensity": contract.true_intensity_of,
    "relevant": contract.relevant_items,
    "law": lambda consumer, visits, n: contract.law_of(consumer, visits.world, 5, np.arange(3)),
}


@cases(
    "method answer problem",
    ("organic", lambda usual: None, "a NoneType"),
    ("organic", lambda usual: usual._replace(row=np.array([0])), "1 rows, 0 ticks and 0 items"),
    ("true_intensity", lambda usual: usual.numpy(), r"a ndarray of shape \(3, "),
    ("true_intensity", lambda usual: usual[:, :2], r"a Tensor of shape \(3, 2\)"),
    ("true_intensity", lambda usual: usual * torch.nan, NONE),
    ("true_intensity", lambda usual: usual - 1.0, "a number that is negative"),
    ("relevant", lambda usual: usual[:-1], r"shape \(2,\)"),
    ("relevant", lambda usual: usual * np.nan, rf"shape \(3,\), or {NONE}"),
    ("law", lambda usual: Law(np.ones(4), 1.0), "4 examinations. Expected one per position, 5"),
    ("law", hits(0, 1, 2), "3 offsets for 9 items. .* for 3 sessions"),
    ("law", hits(0, 2, 1, 9), "4 offsets for 9 items. Expected ascending"),
    ("law", hits(0, 2, 3, 10), "4 offsets for 9 items. .* to the number"),
)
def test_other_answers_that_are_none_are_refused_likewise(market, method, answer, problem):
    """What visitors do by themselves, want of the catalogue, would consume of it, and the law of it all."""
    visits = market.open.visits(np.arange(3))
    n = market.n_items
    ASKED[method](kinds.Intensity(market.config), visits, n)
    consumer = Made(market, method, answer)
    refused(MarketError, f"^Made.{method}: found {problem}", ASKED[method], consumer, visits, n)


@cases(
    "method answer",
    ("respond", changed(probability=lambda part: part + 2.0)),
    ("organic", lambda usual: None),
    ("relevant", lambda usual: usual - 9.0),
    ("true_intensity", lambda usual: usual * torch.nan),
    ("law", lambda usual: Law(np.ones(1), 1.0)),
)
def test_a_market_asks_through_these_checks(market, method, answer):
    """A wrong answer of each kind ends a round with the method's name; the look at the opening has no wrong one."""
    consumer = Made(market, method, answer)

    def play():
        play_out(Market(market.config, consumer=consumer, needs=Needs(truth=True)), Relevance())

    refused(MarketError, f"Made.{method}: (found|item)", play)
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
    for closed, other_closed in zip(*(market.closed for market in markets), strict=True):
        assert closed.decay == other_closed.decay
        same_arrays(closed.ledger, other_closed.ledger, "item", "consumed", "intensity", "ground")


def test_an_agent_that_makes_items_admissible_is_refused_all_the_same():
    """Whether an item may be shown is the market's to say, whatever the agent wrote."""
    market = Market(small_scenario(rounds=1))
    arrivals = market.next_arrivals(20)
    row, item = np.argwhere(~arrivals.admissible.numpy())[0]
    arrivals.admissible[:] = True
    slates = arrivals.relevance.topk(5).indices.numpy()
    slates[row, 0] = item
    refused(AgentError, f"inadmissible item {item}", market.serve, arrivals, slates)


USERS = 200
ITEMS = 40


def law() -> np.ndarray:
    """(users, items) probabilities with two tastes and uneven items, as made-up as can be."""
    user = np.arange(USERS)[:, None]
    item = np.arange(ITEMS)[None, :]
    return np.where(user % 2 == item % 2, 0.9, 0.3) / (1 + item / 10)


def write_table(path, values, is_known=None):
    """Write a table of values (users, items), of which some pairs are known; its path."""
    user, item = np.nonzero(np.ones(values.shape) if is_known is None else is_known)
    pd.DataFrame({"user": user, "item": item, "value": values[user, item]}).to_parquet(path)
    return str(path)


def observed(table, gamma=1.0, **options):
    """A small scenario whose consumers answer from a table."""
    consumer = ConsumerConfig(kind="observed", options={"table": table} | options, position_decay=gamma)
    return dataclasses.replace(tiny_scenario(), consumer=consumer)


def opened(config, log=None):
    """A market of the scenario over a log, and all visits of its first round."""
    market = small_market(random_log(n_users=USERS) if log is None else log, config)
    return market, market.open.visits(np.arange(market.n_arrivals))


@pytest.fixture
def table(tmp_path):
    """The law itself, as a table of probabilities."""
    return write_table(tmp_path / "law.parquet", law())


class TestObserved(ConsumerTests):
    """Consumers with known answers keep what a consumer promises."""

    @pytest.fixture(autouse=True)
    def written(self, tmp_path):
        """A table of probabilities of two thirds of all pairs."""
        is_known = rng.uniform(3, rng.Purpose.MEASURE, np.arange(USERS)[:, None], np.arange(ITEMS)) < 2 / 3
        self.table = write_table(tmp_path / "law.parquet", law(), is_known)

    def make(self):
        """The built-in one."""
        return make_consumer(observed(self.table, gamma=0.85, value="probability"))


def test_probabilities_of_a_law_come_out_to_the_digit(table):
    """Each shown item has the law's times its position's examination; intensities are 0 for what was consumed."""
    for gamma in (1.0, 0.85):
        market, visits = opened(observed(table, gamma, value="probability"))
        rows = np.arange(market.n_arrivals)[:, None]
        slates = np.argsort(rng.uniform(1, rng.Purpose.MEASURE, rows, np.arange(ITEMS)), 1)[:, :4]
        response = market.consumer.respond(visits, slates)
        expected = law()[visits.log_user[:, None], slates] * gamma ** np.arange(4)
        np.testing.assert_array_equal(response.probability, expected)
        np.testing.assert_array_equal(response.consumed, visits.uniform(slates) < expected)
        expected = law()[visits.log_user].astype(np.float32)
        expected[visits.consumed()] = 0
        np.testing.assert_array_equal(market.consumer.true_intensity(visits).numpy(), expected)


def test_answers_above_a_threshold_are_taken_as_often_as_the_table_says(tmp_path):
    """With all positions examined the share of consumptions over every pair is the table's own, without any error."""
    value = law()
    path = write_table(tmp_path / "values.parquet", value)
    market, visits = opened(observed(path, taken_at=0.3))
    all_slates = [np.tile(np.arange(first, first + 4), (len(visits), 1)) for first in range(0, ITEMS, 4)]
    taken = np.hstack([market.consumer.respond(visits, slates).consumed for slates in all_slates])
    np.testing.assert_array_equal(taken, value[visits.log_user] >= 0.3)


def test_what_is_not_observed_is_not_taken_and_is_counted(tmp_path):
    """Unknown pairs have probability 0, the consumer says which they are, and the report has their share."""
    is_known = (np.arange(USERS)[:, None] + np.arange(ITEMS)) % 2 == 0
    is_known[50:] = False
    path = write_table(tmp_path / "some.parquet", np.ones((USERS, ITEMS)), is_known)
    log = random_log(n_users=USERS)
    market, visits = opened(observed(path), log)
    slates = np.tile([0, 1, 2, -1], (len(visits), 1))
    expected = is_known[visits.log_user[:, None], slates] & (slates >= 0)
    np.testing.assert_array_equal(market.consumer.observed(visits, slates), expected)
    np.testing.assert_array_equal(market.consumer.respond(visits, slates).consumed, expected)
    report = market.consumer.report(log)
    assert (report.users, report.items, report.answered, report.taken) == (50, 40, 0.125, 1.0)
    assert not report.shown_at_random
    met = np.zeros((USERS, ITEMS), bool)
    met[log.user, log.item] = True
    assert report.left == 1 - (is_known & met).sum() / is_known.sum()
    assert "answers 12.5% of all pairs" in market.consumer.note(log)


def test_what_is_relevant_stays_so_when_it_was_consumed(tmp_path):
    """It is what the table says yes to of what is not in the logged past, before and after a round was played."""
    taken = law() >= 0.3
    path = write_table(tmp_path / "taken.parquet", taken.astype(float))
    market, visits = opened(observed(path))
    expected = taken[visits.log_user].copy()
    expected[visits.consumed()] = False
    often = market.open.visits(np.tile(np.arange(market.n_arrivals), BLOCK))
    np.testing.assert_array_equal(market.consumer.true_intensity(often), np.tile(expected, (BLOCK, 1)))
    consumed = 0
    while market.round == 0 and market.served < market.n_arrivals - 1:
        arrivals = market.next_arrivals(1)
        consumed += market.serve(arrivals, arrivals.relevance.topk(4).indices).consumed.sum()
    assert consumed
    np.testing.assert_array_equal(market.consumer.relevant(visits), expected.sum(1))


def test_bad_options_are_refused(tmp_path, table):
    """A missing table, an unknown meaning, values that are no probabilities and an attraction have errors of ours."""
    none = dataclasses.replace(tiny_scenario(), consumer=ConsumerConfig(kind="observed"))
    stars = observed(write_table(tmp_path / "stars.parquet", 5 * law()), value="probability")
    attractive = override(observed(table), {"consumer.attraction": 2.0})
    for error, message, config in (
        (ConfigError, "table", none),
        (ConfigError, "no option 'tabel'", observed(table, tabel="x")),  # codespell:ignore tabel
        (ConfigError, "value", observed(table, value="stars")),
        (DataError, "no such file", observed(str(tmp_path / "none.csv"))),
        (DataError, "no such file", observed("t")),
        (ConfigError, "has a value of 4.5. Expected values from 0 to 1", stars),
        (ConfigError, "attraction is 2, .* Set attraction to 1", attractive),
    ):
        refused(error, message, make_consumer, config)


@pytest.fixture
def known_market(tmp_path, table):
    """The config of a market over a log in a file, answered by the law."""
    events = random_log(n_users=60)
    log = write_events(tmp_path / "log.csv", events.user, events.item, events.time)
    return override(observed(table, 0.85, value="probability"), {"data.source": str(log), "rounds": 1})


def test_nobody_does_better_than_the_oracle(known_market):
    """On a table that is known, the oracle's slates have the largest expected consumption there is, exactly."""
    market = Market(known_market, seeds=Seeds.all(0), needs=Needs(truth=True))
    arrivals = market.next_arrivals(20)
    visits = market.open.visits(arrivals.row)
    best = make_agent("oracle")
    best.begin_round(market.round_view())
    slates = np.asarray(best.act(arrivals))
    p = law()[visits.log_user]
    p[visits.consumed()] = 0
    expected = (-np.sort(-p, axis=1)[:, :4] * 0.85 ** np.arange(4)).sum()
    assert market.consumer.respond(visits, slates).probability.sum() == pytest.approx(expected)


def test_a_run_says_what_the_table_knows_and_keeps_its_digest(known_market, table):
    """A note tells the share of pairs that are answered; a table that changes, changes what the run hangs on."""
    console = Console(file=StringIO(), width=500)
    print_notes([known_market], console)
    assert f"note: {table}: the table answers 100.0% of all pairs" in console.file.getvalue()
    before = digests(known_market, [])["consumer"]
    assert digests(known_market, [])["consumer"] == before
    pd.read_parquet(table).assign(value=0.5).to_parquet(table)
    assert digests(known_market, [])["consumer"] != before


def test_nobody_takes_an_item_twice_while_the_platform_does_not_know(table):
    """With a delay the platform may show again what was taken, but it is not taken again."""
    config = observed(table, value="probability")
    config = dataclasses.replace(config, consumer=dataclasses.replace(config.consumer, delay="30d"), rounds=1)
    market = small_market(random_log(n_users=8), config)
    play_round(market, make_agent("popularity"))
    ledger = market.closed[0].ledger
    slot = np.broadcast_to(ledger.schedule.slot[:, None], ledger.item.shape)[ledger.consumed]
    pairs = np.column_stack([slot, ledger.item[ledger.consumed]])
    assert len(np.unique(pairs, axis=0)) == len(pairs) > 10


MODELS = ("hp", "popularity")
AGENTS = ("random", "relevance", "rim-feedback")


def small(model, **changes):
    """Three rounds of 60 clones."""
    arrivals = records.ArrivalsConfig(per_round=60)
    platform = records.PlatformConfig(model=model)
    return small_scenario(**({"arrivals": arrivals, "platform": platform} | changes))


def costs(market, name):
    """The cost c as the market, one that goes on from its state, view and closed rounds say it, in all rounds."""
    agent = make_agent(name)
    values = [market.cost]
    while not market.done:
        continued = Market(market.config)
        continued.load_state(market.state)
        assert continued.round == market.round
        values += [market.cost, market.round_view().cost, continued.cost]
        play_round(market, agent)
    return [*values, market.cost, *(closed.cost for closed in market.closed)]


@pytest.mark.parametrize("model", MODELS)
def test_all_arms_rounds_and_seeds_share_one_cost(model):
    """Retrained or frozen, under any agent, in any round and whatever is chosen, c is one positive number."""
    values = set()
    for name, retrain in itertools.product(AGENTS, (True, False)):
        values |= {*costs(market_for(make_agent(name), small(model), retrain=retrain), name)}
    for seeds in (Seeds(choice=5), Seeds(agent=5)):
        values.add(Market(small(model), seeds=seeds).cost)
    assert len(values) == 1
    assert values.pop() > 0


@pytest.mark.parametrize("model", MODELS)
def test_the_cost_is_what_it_says(model):
    """It is ``exposure.cost`` times the median over the opening's states of the k-th best admissible intensity."""
    platform = records.PlatformConfig(model=model, calibration="seen")
    market = Market(small(model, platform=platform, exposure=records.ExposureConfig(cost=2.5)))
    best = []
    for chunk in market.round_view().calibration:
        scores = (chunk.relevance * chunk.ground_intensity[:, None]).cpu().numpy()
        for row, admissible in zip(scores, chunk.admissible.cpu().numpy(), strict=True):
            best_intensities = np.sort(row[admissible])[::-1][: market.config.slate]
            best += [best_intensities[-1]] if len(best_intensities) else []
    assert market.cost == pytest.approx(2.5 * float(np.median(best)), rel=1e-6)


def test_a_round_with_numbers_is_that_of_the_page():
    """What is guaranteed, what it costs and what the first visitor is expected to take are as docs/market.md says."""
    page = (DOCS / "market.md").read_text(encoding="utf-8")
    section = " ".join(page.partition("## A round, with numbers")[2].partition("\n## ")[0].split())
    changes = {"platform.model": "popularity-hp", "data.min_item_events": 120, "arrivals.per_round": 60}
    config = records.override(records.find_scenario("closed-loop"), changes)
    agent, market = market_of("rim-feedback", config, seeds=records.Seeds.all(0))
    agent.begin_round(market.round_view())
    first = market.next_arrivals(1)
    item = int(agent.act(first).items[0, 0])
    seen = {
        r"([\d.]+) examined exposures": market.required[0],
        r"Σb = ([\d.]+\d)": market.required.sum(),
        r"costs c = ([\d.]+\d)": market.cost,
        r"expects λ\(x\) = ([\d.]+\d)": float(first.ground_intensity[0]),
        rf"Item {item} ranks first, with λ\(x,y\) = ([\d.]+\d)": float(first.intensity[0, item]),
    }
    for pattern, value in seen.items():
        number = re.search(pattern, section)
        assert number, pattern
        decimals = len(number[1].partition(".")[2])
        assert value == pytest.approx(float(number[1]), abs=0.51 * 10.0**-decimals), pattern


class _Plain:
    """The rule itself: the earliest visits first, none while its user waits for a slate."""

    def __init__(self, slots):
        self.slots = slots
        self.held = []
        self.come = 0
        self.busy = set()

    def next(self, limit, *, in_waves):
        """The rows that are handed out, at most so many."""
        chosen = []
        waiting = []
        held = list(self.held)
        while len(chosen) < limit:
            if held:
                row = held.pop(0)
            elif self.come < len(self.slots):
                row = self.come
                self.come = self.come + 1
            else:
                break
            if self.slots[row] not in self.busy:
                self.busy.add(self.slots[row])
                chosen.append(row)
                continue
            waiting.append(row)
            if not in_waves:
                break
        self.held = waiting + held
        return chosen


@pytest.mark.parametrize("waves", [True, False, None], ids=["waves", "in order", "now this, now that"])
@pytest.mark.parametrize("seed", range(3))
def test_the_earliest_visits_come_first_and_no_user_waits_twice(waves, seed):
    """Whatever is served when, rows are handed out as by a look through all that have come and wait."""
    draw = random.Random(seed)
    market = Market(small_scenario(rounds=1))
    plain = _Plain(market.schedule.slot.tolist())
    waiting = []
    while not market.done:
        in_waves = draw.random() < 0.5 if waves is None else waves
        limit = draw.randint(1, 12)
        expected = plain.next(limit, in_waves=in_waves)
        if expected:
            waiting.append(market.next_arrivals(limit, in_waves=in_waves))
            assert waiting[-1].row.tolist() == expected
        else:
            refused(MarketError, "Serve them first", market.next_arrivals, limit, in_waves=in_waves)
        draw.shuffle(waiting)
        for _ in range(draw.randint(0 if expected else 1, len(waiting))):
            served = waiting.pop()
            plain.busy -= {plain.slots[row] for row in served.row.tolist()}
            market.serve(served, top_k(served.relevance, served.admissible, market.config.slate))
    assert plain.come == len(plain.slots)
    assert not plain.held
