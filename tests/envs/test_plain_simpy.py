"""Environments against the market in plain SimPy, row by row."""

import gymnasium
import numpy as np
import pytest
from kit.markets import settings_of
from kit.plain_simpy import assert_same, ledger_of, scenarios, slow_ledger

from rimsim.agents import top_k
from rimsim.envs import MarketEnv

NAMES = [name for name in scenarios() if not name.startswith("replay")]


def best(observations, k):
    """Actions of pure relevance; −1 leaves a position empty."""
    return top_k(observations["relevance"], observations["admissible"].astype(bool), k)


@pytest.mark.parametrize("name", NAMES)
def test_an_environment_equals_plain_simpy(name):
    """Stepped one visitor at a time, an environment writes the ledger of the market in plain SimPy."""
    scenario = scenarios()[name]
    env = MarketEnv("closed-loop", settings=settings_of(scenario), invalid_items="empty")
    observation, _ = env.reset(seed=0)
    is_over = False
    while not is_over:
        batch = {part: observation[part][None] for part in ("relevance", "admissible")}
        observation, _, is_over, _, _ = env.step(best(batch, scenario.slate)[0])
    slow = slow_ledger(name)
    assert_same(slow, ledger_of(env.market.closed, slow.columns))


@pytest.mark.parametrize("name", NAMES)
def test_a_vector_of_environments_equals_plain_simpy(name):
    """Of two markets that a vector steps together, the one with the example's seeds writes the example's ledger."""
    scenario = scenarios()[name]
    options = {"scenario": "closed-loop", "settings": settings_of(scenario), "invalid_items": "empty"}
    envs = gymnasium.make_vec("RIMMarket-v0", num_envs=2, **options)
    observation, _ = envs.reset(seed=[0, 1])
    ends = np.zeros(2, bool)
    while not ends[0]:
        observation, _, ends, _, _ = envs.step(best(observation, scenario.slate))
    slow = slow_ledger(name)
    first, second = (ledger_of(env.market.closed, slow.columns) for env in envs.envs)
    assert_same(slow, first)
    assert not second.equals(first)
