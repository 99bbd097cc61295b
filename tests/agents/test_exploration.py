"""Uniform draws, epsilon-greedy, and the spread of slates over visitors who are alike."""

import numpy as np
from kit.markets import small_scenario

from rimsim import measures
from rimsim.agents import EpsilonGreedy, make_agent, play_round
from rimsim.agents.exploration import uniform_slates
from rimsim.config import ArrivalsConfig
from rimsim.market import Market
from rimsim.market.records import as_slates


def test_uniform_slates_are_uniform():
    """Each admissible item is in a share k/A of the rows, within four standard errors; too few are all shown."""
    admissible = np.ones((20_000, 12), bool)
    admissible[:, [3, 7]] = False
    slates = uniform_slates(admissible, 4, 1, np.arange(20_000))
    included = np.bincount(slates.ravel(), minlength=12) / 20_000
    spread = np.sqrt(0.4 * 0.6 / 20_000)
    assert included[[3, 7]].tolist() == [0, 0]
    assert np.abs(np.delete(included, [3, 7]) - 0.4).max() < 4 * spread
    assert (np.diff(np.sort(slates, 1)) > 0).all()
    two_items = np.isin(np.arange(500), [5, 250])[None]
    assert sorted(uniform_slates(two_items, 3, 0, np.array([9]))[0].tolist()) == [-1, 5, 250]


def test_epsilon_zero_is_relevance_and_one_is_uniform():
    """At ε = 0 the slates are those of relevance, at ε = 1 those of uniform draws."""
    market = Market(small_scenario(rounds=1))
    arrivals = market.next_arrivals(30)
    view = market.round_view()
    agents = make_agent("relevance"), EpsilonGreedy(0.0), EpsilonGreedy(1.0)
    for agent in agents:
        agent.begin_round(view)
    relevance, greedy, uniform = (as_slates(agent.act(arrivals)).items for agent in agents)
    assert (greedy == relevance).all()
    assert (uniform == uniform_slates(arrivals.admissible.numpy(), 5, view.key, arrivals.id)).all()


def test_identical_states_are_spread_over_the_items():
    """Clones without history get many different slates from frozen prices, not all one."""
    arrivals = ArrivalsConfig(per_round=300, max_visits=1, history="none")
    market = Market(small_scenario(rounds=1, arrivals=arrivals))
    agent = make_agent("rim-dual(spend=False)")
    play_round(market, agent)
    ledger = market.closed[0].ledger
    assert measures.coverage(ledger.exposure(market.n_items)) > 3 * 5 / market.n_items
    assert len(np.unique(np.sort(ledger.item, 1), axis=0)) > 30
