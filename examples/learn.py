"""
5. Reinforcement learning
=========================

A learner sees fifteen numbers and sets one: the bonus for items that still lack exposure. Here a policy with two
parameters is learned by trial (the cross-entropy method). ``examples/ppo.py`` gives the same task to PPO.
"""

from __future__ import annotations

import gymnasium
import matplotlib.pyplot as plt
import numpy as np

import rimsim  # noqa: F401  registers the environment
from rimsim.agents import PolicyAgent, make_agent, rollout
from rimsim.envs import COMPACT, BonusAction, CompactObservation

small = {"platform.model": "popularity-hp", "data.min_item_events": 120, "arrivals.per_round": 60}
market = gymnasium.make("RIMMarket-v0", scenario="closed-loop", rounds=2, settings=small)
task = CompactObservation(BonusAction(market, by="shortfall"))


def policy(weights):
    """Policy that moves the bonus in a line from the beginning to the end of a round, in shares of c."""

    def decide(seen):
        begin, end = np.clip(weights, 0, 1)
        return np.array([2 * (begin + (end - begin) * seen[COMPACT.index("gone")]) - 1], np.float32)

    return decide


def episode(decide, seed):
    """Return of an episode."""
    seen, _ = task.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        seen, reward, over, _, _ = task.step(decide(seen))
        total += float(reward)
    return total


rng = np.random.default_rng(0)
mean, spread, curve = np.array([0.0, 0.0]), np.array([0.5, 0.5]), []
for generation in range(5):
    tried = mean + spread * rng.standard_normal((10, 2))
    found = [np.mean([episode(policy(weights), seed) for seed in range(3)]) for weights in tried]
    best = tried[np.argsort(found)[-3:]]
    mean, spread = best.mean(0), best.std(0) + 0.05
    curve.append(np.mean(found))
    print(f"generation {generation}: mean return {curve[-1]:.1f}, now {np.clip(mean, 0, 1).round(2)} of c")

# %%
# The policy is tested at new seeds, against agents of rimsim.

judged = {}
for agent in (make_agent("relevance"), PolicyAgent(policy(mean), name="learned"), make_agent("rim-feedback")):
    judged[agent.name] = np.mean([rollout(market, agent, seed=seed).reward for seed in range(100, 105)])
    print(f"{agent.name:13} {judged[agent.name]:.1f}")

figure, axes = plt.subplots()
axes.plot(curve, marker="o", label="candidates of each generation")
for (name, value), style in zip(judged.items(), (":", "-", "--"), strict=True):
    axes.axhline(value, color="black", linestyle=style, label=name)
axes.set(title="A policy with two parameters", xlabel="generation", ylabel="return", xticks=range(5))
axes.legend()
plt.show()
