"""
5. Reinforcement learning
=========================

A learner keeps the prices of ``rim-feedback`` as its base action, and learns what they weigh at each visit. It is a
contextual bandit: four numbers describe a visit, the answer to each shown item is the reward, and the learned factor on
λ(x), which divides the prices, makes the answers most likely. Over 20 seeds its return does not differ significantly
from that of ``rim-feedback``. ``examples/ppo.py`` gives the prices themselves to PPO.
"""

from __future__ import annotations

import dataclasses

import gymnasium
import matplotlib.pyplot as plt
import numpy as np
import scipy.optimize
import torch

import rimsim  # noqa: F401  registers the environment
from rimsim.agents import Delivery, make_agent, rollout
from rimsim.measures import mean_interval, paired_difference
from rimsim.scenarios.report.charts import style

small = {"platform.model": "popularity-hp", "data.min_item_events": 120, "arrivals.per_round": 60}
market = gymnasium.make("RIMMarket-v0", scenario="closed-loop", rounds=2, settings=small)


class LearnedWeight:
    """The price controller, where λ(x) is times exp(w·φ), with w of each round."""

    name = "learned"
    order_free = False
    barrier_every = None

    def __init__(self):
        self.weights = np.zeros((2, 4))
        self.answers = ([], [])

    def numbers(self, arrivals):
        """φ of n visits: 1, log λ(x), log of 1 + the items consumed before, and 1 for a new user."""
        consumed = (~arrivals.admissible).sum(1).numpy()
        level = np.log(arrivals.ground_intensity.numpy())
        return np.stack([np.ones(len(arrivals)), level, np.log1p(consumed), consumed == 0], 1)

    def weighted(self, arrivals):
        """Visits with λ(x) as learned."""
        factor = np.exp(self.numbers(arrivals) @ self.weights[self.round])
        learned = arrivals.ground_intensity * torch.from_numpy(factor.astype(np.float32))
        return dataclasses.replace(arrivals, ground_intensity=learned)

    def begin_round(self, view):
        """Solve the prices of last round's states, weighted as those to come will be."""
        self.round = view.round
        self.examined = view.position_weights
        states = [self.weighted(chunk) for chunk in view.past]
        view = dataclasses.replace(view, calibration=states)
        self.delivery = Delivery.solved(view, tol=1e-3, gain=0.1, closing=0.02)

    def act(self, arrivals):
        """Slates of the controller."""
        return self.delivery.serve(self.weighted(arrivals))

    def learn(self, feedback):
        """Keep the answer to a slate, with the expected number of each item."""
        items = feedback.slates[0]
        expected = feedback.arrivals.intensity[0, items].numpy() * self.examined
        self.answers[self.round].append((self.numbers(feedback.arrivals)[0], expected, feedback.consumed[0]))

    def fit(self):
        """Weights under which all answers so far are most likely."""
        for number, answers in enumerate(self.answers):
            phi, expected, taken = (np.array(part) for part in zip(*answers, strict=True))

            def loss(weights, phi=phi, expected=expected, taken=taken):
                mean = np.minimum(expected * np.exp(phi @ weights)[:, None], 20) + 1e-12
                return np.where(taken, -np.log(-np.expm1(-mean)), mean).sum() + weights @ weights

            self.weights[number] = scipy.optimize.minimize(loss, self.weights[number]).x


def returns(agent, seeds):
    """Return of an agent at each seed."""
    return np.array([rollout(market, agent, seed=seed).reward for seed in seeds])


# %%
# It learns on seeds from a million on, and is tested on seeds 100 to 119, as all agents are. Untrained, it is
# ``rim-feedback`` itself.

tested = range(100, 120)
base = returns(make_agent("rim-feedback"), tested)
learner = LearnedWeight()
curve = []
played = 0
print(f"rim-feedback: {base.mean():.1f}")
for episodes in (0, 10, 20, 40, 80):
    returns(learner, range(1_000_000 + played, 1_000_000 + episodes))
    played = episodes
    if episodes:
        learner.fit()
    policy = LearnedWeight()  # without the answers, so that it does not learn from tests
    policy.weights = learner.weights
    values = returns(policy, tested)
    gain = paired_difference(values, base)
    curve.append((episodes, gain))
    spread = "in all seeds" if gain.equal else f"±{gain.half:.1f}"
    print(f"{episodes:3} episodes: {values.mean():.1f}, rim-feedback {gain.mean:+.1f} {spread}", flush=True)
print("weights of each round:", learner.weights.round(2).tolist())

# %%
# The learning curve: return less that of ``rim-feedback`` at the same seeds.

others = {name: returns(make_agent(name), tested) for name in ("relevance", "oracle")}
for name, values in others.items():
    mean = mean_interval(values - base)
    print(f"{name:10} {values.mean():.1f}, rim-feedback {mean.mean:+.1f} ±{mean.half:.1f}")

means = [gain.mean for _, gain in curve]
halves = [0.0 if gain.equal else gain.half for _, gain in curve]
with style():
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    episodes = [episodes for episodes, _ in curve]
    axes.errorbar(episodes, means, yerr=halves, marker="o", capsize=3, label="learned")
    axes.axhline(0, color="black", linestyle="--", label="rim-feedback")
    axes.axhline((others["oracle"] - base).mean(), color="black", linestyle=":", label="oracle")
    axes.set(title="Prices of a controller, weighted by a learner", xlabel="training episodes")
    axes.set(ylabel="gain of return")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()
