"""A policy by hand in the small action of learners: pay more for exposure the later it gets.

The same wrappers that PPO learns on (``examples/ppo.py``); the policy sees fifteen numbers and says one.
"""

from __future__ import annotations

import gymnasium
import numpy as np

import rimsim  # noqa: F401  registers the environment
from rimsim.agents import PolicyAgent, make_agent, rollout
from rimsim.envs import COMPACT, BonusAction, CompactObservation

small = {"platform.model": "popularity-hp", "data.min_item_events": 120, "arrivals.per_round": 60}
market = gymnasium.make("RIMMarket-v0", scenario="closed-loop", rounds=2, settings=small)
task = CompactObservation(BonusAction(market, by="shortfall"))


def later(seen):
    """A tenth of c when the round begins, all of it at its end."""
    share = 0.1 + 0.9 * seen[COMPACT.index("gone")]
    return np.array([2 * share - 1], np.float32)


seen, _ = task.reset(seed=0)
total, over = 0.0, False
while not over:
    seen, reward, over, _, _ = task.step(later(seen))
    total += float(reward)
print(f"in the environment       {total:.1f}")
print(f"the same as an agent     {rollout(market, PolicyAgent(later), seed=0).reward:.1f}")
print(f"rim-feedback             {rollout(market, make_agent('rim-feedback'), seed=0).reward:.1f}")
