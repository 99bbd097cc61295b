"""Prices that are solved again when a model goes live within a round."""

import dataclasses

import numpy as np
import pytest
from kit.environments import clones_env
from kit.markets import ledgers, play_out, priced, same_ledgers, small_scenario

from rimsim.agents import RepricingAgent, make_agent, market_for, play_round, rollout
from rimsim.agents.own_scores import Rescored
from rimsim.agents.prices import solved_prices
from rimsim.config import ExposureConfig, PlatformConfig
from rimsim.market import Market, Needs
from rimsim.market.processes import TrainingTimes

REPRICING = (
    "rim-dual",
    "rim-dual(spend=False)",
    "rim-feedback",
    "rim-resolve(every=50)",
    "rim-ucb",
    "entropic-dual",
)
TRAININGS = {"training": TrainingTimes(visits=40)}


def scenario(**changes):
    """Two rounds in which every item has a floor, of a platform that learns from its own slates."""
    platform = PlatformConfig(model="popularity-hp", learning="consumed")
    return small_scenario(**({"platform": platform, "rounds": 2} | changes))


def market_with_trainings(agent, config):
    """Market whose model changes every 40 visits."""
    return Market(config, needs=Needs.of(agent), processes=TRAININGS)


class Heard:
    """Agent that keeps the views of the agent that it asks."""

    def __init__(self, agent):
        self.agent = agent
        self.name = agent.name
        self.order_free = agent.order_free
        self.barrier_every = agent.barrier_every
        self.heard = []
        self.first_rows = []  # the first arrival after each of the views

    def begin_round(self, view):
        """Begin the round of the agent that is asked."""
        self.agent.begin_round(view)

    def reprice(self, view):
        """Keep the view, and the prices after it."""
        self.agent.reprice(view)
        self.heard.append((view, self.agent.item_price))
        self.first_rows.append(None)

    def act(self, arrivals):
        """Slates of the agent that is asked."""
        if self.first_rows and self.first_rows[-1] is None:
            self.first_rows[-1] = int(arrivals.row[0])
        return self.agent.act(arrivals)


@pytest.mark.parametrize("name", REPRICING)
def test_no_result_depends_on_the_batch(name):
    """Prices are solved again at the same visits in batches of 1, 7 and all."""
    agent = Heard(make_agent(name))
    assert isinstance(agent.agent, RepricingAgent)
    expected = play_out(market_with_trainings(agent, scenario()), agent)
    # The 120 visits of a round end three stretches of 40; the last model serves the next round.
    assert [view.round for view, _ in agent.heard] == [0, 0, 1, 1]
    assert agent.first_rows == [40, 80, 40, 80]
    for batch in (1, 7):
        agent = make_agent(name)
        same_ledgers(play_out(market_with_trainings(agent, scenario()), agent, batch), expected)


def test_prices_are_those_of_the_model_that_serves():
    """Fixed prices are the optimum for the last round's states, scored by the model that went live."""
    agent = Heard(make_agent("rim-dual(spend=False)"))
    market = market_with_trainings(agent, scenario(rounds=1))
    play_round(market, agent)
    solved = [solved_prices(view, 1e-3)[0] for view, _ in agent.heard]
    for (_, price), expected in zip(agent.heard, solved, strict=True):
        np.testing.assert_array_equal(price, expected)
    assert np.abs(solved[1] - solved[0]).max() > 1e-3 * np.abs(solved[0]).max() > 0


@pytest.mark.parametrize("name", ["rim-dual", "rim-feedback", "rim-ucb", "entropic-dual"])
def test_an_unchanged_model_leaves_the_prices(name):
    """If a view has the scores of the round's beginning, prices and errors of delivery stay as they are."""
    config = priced() if name == "rim-feedback" else scenario()
    agent = make_agent(name)
    market = market_for(agent, config)
    view = market.round_view()
    agent.begin_round(view)
    arrivals = market.next_arrivals(30)
    market.serve(arrivals, agent.act(arrivals))
    before = agent.item_price, getattr(agent, "row_price", None)
    agent.reprice(view)
    np.testing.assert_array_equal(agent.item_price, before[0])
    if before[1] is not None:
        np.testing.assert_array_equal(agent.row_price, before[1])


def test_prices_forget_the_states_of_the_former_model():
    """If a new model scores all states a fifth as high, prices fall, whatever the former model scored."""
    agent = make_agent("rim-resolve(every=50)")
    market = market_for(agent, scenario())
    view = market.round_view()
    agent.begin_round(view)
    arrivals = market.next_arrivals(30)
    market.serve(arrivals, agent.act(arrivals))
    agent.reprice(view)
    former_sum = np.abs(agent.item_price).sum()
    lower = Rescored(view.past, lambda chunk: dataclasses.replace(chunk, relevance=chunk.relevance / 5))
    agent.reprice(dataclasses.replace(view, calibration=lower))
    assert 0 < np.abs(agent.item_price).sum() < former_sum / 2


@pytest.mark.parametrize("name", ["rim-feedback", "rim-dual(spend=False)"])
def test_an_environment_tells_the_agent_as_the_engine_does(name):
    """A rollout through Gymnasium with trainings has the ledger of the batch engine."""
    config = scenario(processes=("training(visits=40)",))
    agent = Heard(make_agent(name))
    env = clones_env(config)
    rollout(env, agent, seed=0)
    assert len(agent.heard) == 4
    other = make_agent(name)
    same_ledgers(env.unwrapped.market, play_out(market_for(other, config), other))


def test_hard_floors_are_delivered_with_models_that_change():
    """With hard floors, which can be delivered, nothing is missing though prices are solved again in the round."""
    config = scenario(exposure=ExposureConfig(items=10, each=12, hard=True), rounds=1)
    agent = make_agent("rim-feedback")
    market = play_out(market_with_trainings(agent, config), agent)
    counts = np.bincount(ledgers(market)["item"], minlength=market.n_items)
    required = market.closed[0].required
    assert required.sum() > 0
    assert (counts >= required).all()
