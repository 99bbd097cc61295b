"""The cost of a missing exposure: one number in all arms, rounds and seeds, and the page's example."""

import itertools
import re

import numpy as np
import pytest
from kit import DOCS
from kit.markets import market_of, small_scenario

from rimsim import config as records
from rimsim.agents import make_agent, market_for, play_round
from rimsim.config import Seeds
from rimsim.market import Market

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
    platform = records.PlatformConfig(model=model, calibration="seen", calibrate_opening=False)
    market = Market(small(model, platform=platform, exposure=records.ExposureConfig(cost=2.5)))
    best = []
    for chunk in market.round_view().calibration:
        scores = (chunk.relevance * chunk.ground_intensity[:, None]).cpu().numpy()
        for row, admissible in zip(scores, chunk.admissible.cpu().numpy(), strict=True):
            best_intensities = np.sort(row[admissible])[::-1][: market.config.slate]
            best += [best_intensities[-1]] if len(best_intensities) else []
    assert market.cost == pytest.approx(2.5 * float(np.median(best)), rel=1e-6)


def test_a_round_with_numbers_is_that_of_the_page():
    """What is guaranteed, what it costs and what the first visitor is expected to take are as docs/matching.md says."""
    section = " ".join((DOCS / "matching.md").read_text(encoding="utf-8").split())
    changes = {"platform.model": "popularity-hp", "data.min_item_events": 120, "arrivals.per_round": 60}
    changes |= {"consumer.truth": "gru"}
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
