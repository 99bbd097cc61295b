"""Consumers that replace the truth of their visits' world: responses, bounds and the memory of a round follow it."""

import dataclasses

import numpy as np
import pytest
from kit import DOCS, cases, documented, refused
from kit.markets import play_out, small_scenario

from rimsim.agents import make_agent, market_for
from rimsim.config import ConsumerConfig
from rimsim.errors import MarketError
from rimsim.market import Market, build_world
from rimsim.market.consumers import Intensity
from rimsim.market.consumers.preference import Appeal, RoundTruths


class Moved(Intensity):
    """Responds under another truth, made once or in each call."""

    def __init__(self, scenario, truth, *, is_made_anew=False):
        super().__init__(scenario)
        self.truth = truth
        self.is_made_anew = is_made_anew

    def _moved(self, visits):
        truth = dataclasses.replace(self.truth) if self.is_made_anew else self.truth
        return visits.under(dataclasses.replace(visits.world, truth=truth))

    def respond(self, visits, slates):
        """Response under the other truth."""
        return super().respond(self._moved(visits), slates)

    def true_intensity(self, visits):
        """Intensities under the other truth."""
        return super().true_intensity(self._moved(visits))


def _other_truth(world):
    """The truth with factors of items that popularity does not say."""
    bias = np.random.default_rng(0).normal(0, 1, world.log.n_items)
    return dataclasses.replace(world.truth, item_bias=bias)


@pytest.mark.parametrize("kind", ["factors", "bag"])
@cases("agent is_made_anew", ("relevance", False), ("oracle", False), ("informed", False), ("oracle", True))
def test_a_consumer_with_another_truth_is_a_market_with_that_truth(kind, agent, is_made_anew):
    """Ledgers equal those of a market whose world has the other truth from the start, and differ from the usual."""
    config = small_scenario(consumer=ConsumerConfig(truth=kind), rounds=2)
    world = build_world(config)
    truth = _other_truth(world)
    consumer = Moved(config, truth, is_made_anew=is_made_anew)
    needs = market_for(make_agent(agent), config).needs
    moved = Market(config, world=world, consumer=consumer, needs=needs)
    native = Market(config, world=dataclasses.replace(world, truth=truth), needs=needs)
    usual = Market(config, world=world, needs=needs)
    ledgers = []
    for market in (moved, native, usual):
        closed = play_out(market, make_agent(agent)).closed
        ledgers.append([np.stack([served.ledger.probability, served.ledger.consumed]) for served in closed])
    for ours, theirs in zip(ledgers[0], ledgers[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (ledgers[0][0] != ledgers[2][0]).any()


def test_a_round_keeps_few_truths_and_its_own_always():
    """Of many truths the first stays, whose columns compiled code reads; the others go in their order."""
    market = Market(small_scenario(rounds=1))
    opened = market.open
    truths = RoundTruths(opened.histories, opened.schedule, 0, Appeal(market.world.times, normalised=False))
    first_scores = truths.scores(market.world.truth)
    others = [dataclasses.replace(market.world.truth) for _ in range(5)]
    later_scores = [truths.scores(truth) for truth in others]
    assert truths.scores(market.world.truth) is first_scores
    assert truths.scores(others[-1]) is later_scores[-1]
    assert truths.scores(others[0]) is not later_scores[0]
    rows = np.arange(4)
    for share, again in zip(truths.of(others[2], rows), first_scores.of(rows), strict=True):
        np.testing.assert_array_equal(share, again)


def test_scores_without_a_truth_are_refused():
    """A consumer that declares to need no truth has none to ask."""
    market = Market(small_scenario(rounds=1))
    visits = market.open.visits(np.arange(2))
    without = visits.under(dataclasses.replace(visits.world, truth=None))
    refused(MarketError, "needs_truth", lambda: without.true_scores)


@pytest.mark.skipif(not DOCS.is_dir(), reason="not a source checkout")
def test_the_consumer_of_the_page_makes_popular_items_worth_less(tmp_path):
    """Its expected consumptions of bestsellers fall; of all the catalogue they stay, by the sum of p*."""
    (tmp_path / "my_worth.py").write_text(documented("my_worth.py", "your-own-market"))
    kind = f"{tmp_path / 'my_worth.py'}:Overrated"
    config = small_scenario(rounds=2)
    taken = {}
    for name, consumer in {"usual": ConsumerConfig(), "moved": ConsumerConfig(kind=kind)}.items():
        market = market_for(make_agent("popularity"), dataclasses.replace(config, consumer=consumer))
        closed = play_out(market, make_agent("popularity")).closed
        taken[name] = np.mean([served.ledger.probability.sum(1).mean() for served in closed])
        total = market.consumer.true_intensity(closed_visits(market)).sum(1)
        taken[f"{name} in all"] = float(total.mean())
    assert taken["moved"] < 0.9 * taken["usual"]
    assert taken["moved in all"] == pytest.approx(taken["usual in all"], rel=0.05)


def closed_visits(market):
    """Visits of the last round."""
    return market.open.visits(np.arange(20))
