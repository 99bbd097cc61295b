"""Answers of a consumer that the market refuses by the consumer's name."""

import dataclasses

import numpy as np
import pytest
import torch
from kit import cases, refused
from kit.markets import play_out, small_scenario

from rimsim.agents import Relevance
from rimsim.config import ConsumerConfig
from rimsim.errors import MarketError
from rimsim.market import Market, Needs
from rimsim.market import consumers as kinds
from rimsim.market.consumers import contract
from rimsim.market.consumers.contract import Hits, Law, organic_of, response_of
from rimsim.scenarios.study.play import opening_utilities


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
