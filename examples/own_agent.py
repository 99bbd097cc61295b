"""
2. Your own agent
=================

This agent shows relevant items, but stops showing an item that has had three times its guarantee. Returns are those of
the environment: consumptions minus c for every missing exposure, up to a constant.
"""

from __future__ import annotations

import gymnasium
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

import rimsim  # noqa: F401  registers the environment
from rimsim.agents import make_agent, rollout
from rimsim.scenarios.report.charts import style


class Sharing:
    """Ranks by relevance among items below three times their requirement."""

    name = "sharing"
    order_free = False
    barrier_every = None

    def begin_round(self, view):
        """Read the guarantees of the round."""
        self.most = 3 * view.required
        self.shown = np.zeros(len(view.required))
        self.k = view.k

    def act(self, arrivals):
        """Slates of the k most relevant admissible items below their limit."""
        slates = []
        for relevance, admissible in zip(
            arrivals.relevance.numpy(), arrivals.admissible.numpy(), strict=True
        ):
            score = np.where(admissible & (self.shown < self.most), relevance, relevance - 2)
            slates.append(np.argsort(-score, kind="stable")[: self.k])
            self.shown[slates[-1]] += 1
        return np.array(slates)


small = {"platform.model": "popularity-hp", "data.min_item_events": 120, "arrivals.per_round": 60}
env = gymnasium.make("RIMMarket-v0", scenario="closed-loop", rounds=2, settings=small)
returns = {}
for agent in (make_agent("relevance"), Sharing(), make_agent("rim-feedback")):
    returns[agent.name] = [rollout(env, agent, seed=seed).reward for seed in range(5)]
    print(f"{agent.name:13} {np.mean(returns[agent.name]):6.1f}, by seed {np.round(returns[agent.name], 1)}")

# %%
# The same seeds bring the same arrivals to each agent. A grey line joins the returns at one seed.

table = pd.DataFrame(returns)
with style():
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    axes.plot(table.columns, table.to_numpy().T, color="0.75", linewidth=1, zorder=1)
    sns.stripplot(table, size=8, jitter=False, ax=axes)
    axes.set(title="Return of two rounds at five seeds", ylabel="return", ylim=(0, None))
plt.show()
