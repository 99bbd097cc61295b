"""What consumers of one's own answer is checked at once, and what agents write into arrivals stays with them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from kit import refused
from small_markets import play_out, small_replay, small_scenario

from rimsim.agents import Relevance
from rimsim.config import ConsumerConfig, ExposureConfig
from rimsim.errors import AgentError, MarketError
from rimsim.market import Market, Needs
from rimsim.market.consumers import Intensity
from rimsim.market.consumers.contract import organic_of, relevant_items, response_of, true_intensity_of
from rimsim.scenarios.study.play import opening_utilities


@pytest.fixture(scope="module")
def market():
    """A market whose first arrivals wait."""
    return Market(small_scenario(rounds=1, consumer=ConsumerConfig(truth="factors")))


class Made(Intensity):
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


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (lambda usual: None, "a NoneType; allowed: a Response"),
        (lambda usual: (usual.consumed, usual.probability), "a tuple; allowed: a Response"),
        (changed(consumed=lambda part: part.astype(int)), "consumed int64"),
        (
            changed(probability=lambda part: part[:, :1]),
            r"consumed bool \(3, 5\), probability float64 \(3, 1\)",
        ),
        (changed(intensity=lambda part: part.astype(int)), r"consumed .* intensity int64 \(3, 5\)"),
        (changed(probability=put(1.01)), "item 12 at position 3 .*probability 1.01 .*allowed: .*from 0 to 1"),
        (changed(probability=put(-0.1)), "item 12 at position 3 .*probability -0.1"),
        (changed(probability=put(np.nan)), "item 12 at position 3 .*probability nan"),
        (changed(intensity=put(np.inf)), "item 12 at position 3 .*intensity inf"),
        (changed(intensity=put(-1.0)), "item 12 at position 3 .*intensity -1.0"),
        (changed(consumed=put(value=True, row=2, position=4)), "item -1 at position 5 consumed"),
    ],
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


@pytest.mark.parametrize(
    ("method", "answer", "found"),
    [
        ("organic", lambda usual: None, "a NoneType"),
        ("organic", lambda usual: usual._replace(row=np.array([0])), "1 rows, 0 ticks, 0 items"),
        ("true_intensity", lambda usual: usual.numpy(), r"a ndarray of shape \(3, "),
        ("true_intensity", lambda usual: usual[:, :2], r"a Tensor of shape \(3, 2\)"),
        ("true_intensity", lambda usual: usual * torch.nan, NONE),
        ("true_intensity", lambda usual: usual - 1.0, "a number that is negative"),
        ("relevant", lambda usual: usual[:-1], r"shape \(2,\)"),
        ("relevant", lambda usual: usual * np.nan, rf"shape \(3,\), or {NONE}"),
    ],
)
def test_other_answers_that_are_none_are_refused_likewise(market, method, answer, found):
    """What visitors do by themselves, want of the catalogue, and would consume of it shown whole."""
    visits, n = market.open.visits(np.arange(3)), market.n_items
    ASKED[method](Intensity(market.config), visits, n)
    made = Made(market, method, answer)
    refused(MarketError, f"^Made.{method}: found {found}", ASKED[method], made, visits, n)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("respond", changed(probability=lambda part: part + 2.0)),
        ("organic", lambda usual: None),
        ("relevant", lambda usual: usual - 9.0),
        ("true_intensity", lambda usual: usual * torch.nan),
    ],
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
        for column in ("item", "consumed", "intensity", "ground"):
            np.testing.assert_array_equal(getattr(one.ledger, column), getattr(other.ledger, column))


def test_an_agent_that_makes_items_admissible_is_refused_all_the_same():
    """Whether an item may be shown is the market's to say, whatever the agent wrote."""
    market = Market(small_scenario(rounds=1))
    arrivals = market.next_arrivals(20)
    row, item = np.argwhere(~arrivals.admissible.numpy())[0]
    arrivals.admissible[:] = True
    slates = arrivals.relevance.topk(5).indices.numpy()
    slates[row, 0] = item
    refused(AgentError, f"inadmissible item {item}", market.serve, arrivals, slates)
