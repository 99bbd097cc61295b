import importlib.util
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from rimsim.agents import play_round
from rimsim.config import find_scenario
from rimsim.envs.rounds import market_seeds
from rimsim.market import Market, Needs

ROOT = Path(__file__).resolve().parents[2]
NEEDS = (0.3, 0.8, 1.5, 2.5, 4.0)


@pytest.fixture(scope="module")
def example():
    """Module of the example."""
    spec = importlib.util.spec_from_file_location("sellers_example", ROOT / "examples" / "sellers.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def true_needs(market):
    """Need of each class, as a multiple of the uniform exposure."""
    lasting = market.providers.needs(market.world.roster, market._offer, market.seeds.arrivals).lasting
    uniform = market.config.arrivals.per_round * market.config.slate / len(lasting)
    return np.array([lasting[market.world.roster.of_class == number].max() for number in range(5)]) / uniform


def test_bounds_contain_the_true_needs_in_each_round(example):
    """Each class's need is above the bound of those who left, and at most the bound of those who stayed."""
    agent = example.Observer()
    market = Market(find_scenario("sellers-hidden"), seeds=market_seeds(1003), needs=Needs.of(agent))
    needs = true_needs(market)
    assert sorted(needs) == pytest.approx(NEEDS)
    for _ in range(6):
        play_round(market, agent)
        assert (agent.bounds.low < needs + 1e-9).all()
        assert (needs <= agent.bounds.high + 1e-9).all()
    assert (agent.bounds.low > 0).sum() >= 3


def test_knowledge_takes_the_least_bound_of_each_rank(example):
    """Levels are the least bounds by rank, and orders are counted over markets."""
    knowledge = example.Knowledge.of(
        [np.array([2.0, 1.0, np.inf]), np.array([1.5, 1.2, 4.0]), np.array([1.1, 5.0, 3.0])]
    )
    assert knowledge.levels == (1.0, 1.5, 4.0)
    assert dict(knowledge.orders) == pytest.approx({(1, 0, 2): 2 / 3, (0, 2, 1): 1 / 3})


def test_the_belief_holds_exactly_the_orders_that_fit_the_bounds(example):
    """The belief is positive for the orders of needs within the bounds, as a loop over all orders finds."""
    random = np.random.default_rng(0)
    knowledge = example.Knowledge(NEEDS, ())
    for _ in range(20):
        bounds = example.Bounds(5, 0)
        needs = random.permutation(NEEDS)
        bounds.low = needs * random.uniform(0.2, 0.99, 5)
        bounds.high = needs * random.uniform(1.0, 3.0, 5)
        possible, probability = knowledge.belief(bounds)
        believed = {tuple(row) for row in possible[probability > 0]}
        fitting = {
            order
            for order in permutations(NEEDS)
            if all(low < need <= high for low, need, high in zip(bounds.low, order, bounds.high, strict=True))
        }
        assert believed == fitting
        assert probability.sum() == pytest.approx(1.0)


def test_orders_that_are_equal_in_training_are_used_at_once(example):
    """The learner relies on one order if all training markets had it, and on none if they differ."""
    equal = example.Knowledge(NEEDS, (((4, 3, 2, 1, 0), 1.0),))
    mixed = example.Knowledge(NEEDS, (((4, 3, 2, 1, 0), 0.5), ((0, 1, 2, 3, 4), 0.5)))
    assert example.SellersLearner(equal, example.Plan()).order.tolist() == list(reversed(NEEDS))
    assert example.SellersLearner(mixed, example.Plan()).order is None


def test_the_search_finds_the_best_numbers_of_a_known_return(example, monkeypatch):
    """Training moves the plan to the largest return, here that of a share of 0.3 and a rank of 3."""

    def known_return(agent, scenario, seed):
        if isinstance(agent, example.SellersLearner):
            return -abs(agent.plan.share - 0.3) - abs(agent.plan.rank - 3.0)
        agent.bounds = example.Bounds(5, 7)
        agent.bounds.high = np.array(NEEDS)
        return 0.0

    monkeypatch.setattr(example, "played", known_return)
    *_, last = example.train("sellers-hidden", 0, first=1, iterations=25)
    assert last.plan.share == pytest.approx(0.3, abs=0.05)
    assert last.plan.rank == pytest.approx(3.0, abs=0.3)


def test_a_saved_learner_plays_as_before(example, tmp_path):
    """The file of a result gives the same agent: equal needs, numbers and slates."""
    knowledge = example.Knowledge(NEEDS, (((0, 1, 2, 3, 4), 1.0),))
    stage = example.Stage(20, 1.0, knowledge, example.Plan(share=0.4))
    example.save(stage, tmp_path / "learner.json")
    loaded = example.learned(tmp_path / "learner.json")
    assert loaded.plan == stage.plan
    assert loaded.order.tolist() == stage.agent().order.tolist()
    totals = []
    for agent in (stage.agent(), loaded):
        market = Market(find_scenario("sellers"), seeds=market_seeds(1001), needs=Needs.of(agent))
        for _ in range(3):
            play_round(market, agent)
        totals.append([closed.ledger.item for closed in market.closed])
    assert np.array_equal(totals[0], totals[1])
