"""Rules of the market: one cost of a missing exposure, who is handed out next, what consumers make of a slate."""

import itertools
import random
import re

import numpy as np
import pytest
from kit import DOCS, cases, refused
from small_markets import SMALL, small_scenario

from rimsim.agents import make_agent, market_for, play_round, top_k
from rimsim.config import (
    ArrivalsConfig,
    ConsumerConfig,
    ExposureConfig,
    PlatformConfig,
    Seeds,
    find_scenario,
    override,
)
from rimsim.errors import MarketError
from rimsim.market import Market, Needs
from rimsim.market.scores import median_kth_score

MODELS = ("hp", "popularity")
AGENTS = ("random", "relevance", "rim-feedback")


def small(model, **changes):
    """Three rounds of 60 clones."""
    arrivals, platform = ArrivalsConfig(per_round=60), PlatformConfig(model=model)
    return small_scenario(**({"arrivals": arrivals, "platform": platform} | changes))


def costs(market, name):
    """The cost c as the market, its view and its closed rounds say it, while an agent plays all rounds."""
    agent, found = make_agent(name), [market.cost]
    while not market.done:
        found += [market.cost, market.round_view().cost]
        play_round(market, agent)
    return [*found, market.cost, *(closed.cost for closed in market.closed)]


@pytest.mark.parametrize("model", MODELS)
def test_all_arms_rounds_and_seeds_share_one_cost(model):
    """Retrained or frozen, under any agent, in any round and whatever is chosen, c is one positive number."""
    found = set()
    for name, retrain in itertools.product(AGENTS, (True, False)):
        found |= {*costs(market_for(make_agent(name), small(model), retrain=retrain), name)}
    found |= {Market(small(model), seeds=seeds).cost for seeds in (Seeds(choice=5), Seeds(agent=5))}
    assert len(found) == 1
    assert found.pop() > 0


@pytest.mark.parametrize("model", MODELS)
def test_a_model_that_grows_sure_of_itself_does_not_move_the_cost(model):
    """After retraining the model's own k-th scores are others than at the opening, and c is what it was."""
    market = market_for(make_agent("relevance"), small(model))

    def kth():
        return median_kth_score(market.round_view().past, market.model, market.config.slate)

    opening, multiple = market.cost, market.config.exposure.cost
    assert opening == multiple * kth()
    play_round(market, make_agent("relevance"))
    assert market.cost == opening
    assert abs(multiple * kth() / opening - 1) > 0.01


@pytest.mark.parametrize("agent_name", AGENTS)
def test_a_market_that_goes_on_from_a_state_has_the_cost_of_its_opening(agent_name):
    """Loaded into a new market, each round's state brings the same c, and the rounds after it keep it."""
    market, agent = Market(small("hp")), make_agent(agent_name)
    opening = market.cost
    while not market.done:
        again = Market(small("hp"))
        again.load_state(market.state)
        assert again.round == market.round
        assert set(costs(again, agent_name)) == {opening}
        play_round(market, agent)


@pytest.mark.parametrize("model", MODELS)
def test_the_cost_is_what_it_says(model):
    """It is ``exposure.cost`` times the median over the opening's states of the k-th best admissible intensity."""
    platform = PlatformConfig(model=model, calibration="seen")
    market = Market(small(model, platform=platform, exposure=ExposureConfig(cost=2.5)))
    best = []
    for chunk in market.round_view().calibration:
        scores = (chunk.relevance * chunk.ground_intensity[:, None]).cpu().numpy()
        for row, admissible in zip(scores, chunk.admissible.cpu().numpy(), strict=True):
            wanted = np.sort(row[admissible])[::-1][: market.config.slate]
            best += [wanted[-1]] if len(wanted) else []
    assert market.cost == pytest.approx(2.5 * float(np.median(best)), rel=1e-6)


def test_a_round_with_numbers_is_that_of_the_page():
    """What is guaranteed, what it costs and what the first visitor is expected to take are as docs/market.md says."""
    page = (DOCS / "market.md").read_text(encoding="utf-8")
    told = " ".join(page.partition("## A round, with numbers")[2].partition("\n## ")[0].split())
    changes = {"platform.model": "popularity-hp", "data.min_item_events": 120, "arrivals.per_round": 60}
    config = override(find_scenario("closed-loop"), changes)
    agent = make_agent("rim-feedback")
    market = market_for(agent, config, seeds=Seeds.all(0))
    agent.begin_round(market.round_view())
    first = market.next_arrivals(1)
    item = int(agent.act(first).items[0, 0])
    seen = {
        r"([\d.]+) exposures that are looked at": market.required[0],
        r"Σb = ([\d.]+\d)": market.required.sum(),
        r"costs c = ([\d.]+\d)": market.cost,
        r"expects λ\(x\) = ([\d.]+\d)": float(first.ground_intensity[0]),
        rf"top item {item}, λ\(x,y\) = ([\d.]+\d)": float(first.intensity[0, item]),
    }
    for pattern, value in seen.items():
        number = re.search(pattern, told)
        assert number, pattern
        decimals = len(number[1].partition(".")[2])
        assert value == pytest.approx(float(number[1]), abs=0.51 * 10.0**-decimals), pattern


class _Plain:
    """The rule itself: the earliest visits first, none while its user waits for a slate."""

    def __init__(self, slots):
        self.slots, self.held, self.come, self.busy = slots, [], 0, set()

    def next(self, limit, *, in_waves):
        """The rows that are handed out, at most so many."""
        chosen, waiting, held = [], [], list(self.held)
        while len(chosen) < limit:
            if held:
                row = held.pop(0)
            elif self.come < len(self.slots):
                row, self.come = self.come, self.come + 1
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
    draw, market = random.Random(seed), Market(small_scenario(rounds=1))
    plain, waiting = _Plain(market.schedule.slot.tolist()), []
    while not market.done:
        in_waves = draw.random() < 0.5 if waves is None else waves
        limit = draw.randint(1, 12)
        wanted = plain.next(limit, in_waves=in_waves)
        if wanted:
            waiting.append(market.next_arrivals(limit, in_waves=in_waves))
            assert waiting[-1].row.tolist() == wanted
        else:
            refused(MarketError, "Serve them first", market.next_arrivals, limit, in_waves=in_waves)
        draw.shuffle(waiting)
        for _ in range(draw.randint(0 if wanted else 1, len(waiting))):
            served = waiting.pop()
            plain.busy -= {plain.slots[row] for row in served.row.tolist()}
            market.serve(served, top_k(served.relevance, served.admissible, market.config.slate))
    assert plain.come == len(plain.slots)
    assert not plain.held


@cases("decay attraction", (0.4, 1.0), (0.85, 2.5), (1.0, 1.0))
@pytest.mark.parametrize("kind", ["clones", "broadcast", "cold-start"])
@pytest.mark.parametrize("batch_size", [1, 50])
def test_positions_are_examined_with_probability_gamma_to_r_minus_one(kind, decay, attraction, batch_size):
    """P(consume at position r) = 1 − exp(−λ*(x,y)·γ^(r−1)·a): the first position is always examined."""
    config = SMALL[kind](rounds=1, consumer=ConsumerConfig(position_decay=decay, attraction=attraction))
    market, agent = Market(config, needs=Needs(truth=True)), make_agent("random")
    agent.begin_round(market.round_view())
    while not market.done and market.served < 100:
        arrivals = market.next_arrivals(batch_size)
        items = agent.act(arrivals).items
        market.serve(arrivals, items)
        intensity = np.take_along_axis(arrivals.true_intensity.numpy(), np.maximum(items, 0), 1)
        rate = intensity * (items >= 0) * decay ** np.arange(items.shape[1]) * attraction
        assert market.ledger.probability[arrivals.row] == pytest.approx(1 - np.exp(-rate), rel=1e-5)


def test_an_empty_position_has_no_intensity_and_no_chance():
    """Where a user's cap leaves a position empty, the ledger holds NaN for λ(x,y) and 0 for the probability."""
    market, agent = Market(SMALL["capped"](rounds=1)), make_agent("random")
    play_round(market, agent)
    ledger = market.closed[0].ledger
    empty = ledger.item < 0
    assert empty.any()
    assert np.isnan(ledger.intensity[empty]).all()
    assert (ledger.intensity[~empty] >= 0).all()
    assert (ledger.probability[empty] == 0).all()
    assert not ledger.consumed[empty].any()
