"""PPO learns when to pay for exposure, and is judged beside rimsim's own agents at the same seeds.

    pip install "rimsim[rl]"
    python examples/ppo.py --steps 50000 --seeds 3

With ``--residual``, the prices of ``rim-feedback`` are its base action, and it sets the factor of their bonuses.

It learns on seeds from 1,000,000 on, and is judged on seeds 100 to 119. ``learnt`` below makes an agent of the policy
that was saved last: ``rimsim compare --agents relevance,rim-feedback,examples/ppo.py:learnt``.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import rimsim
from rimsim.agents import Delivery, PolicyAgent, make_agent, price_slates, rollout
from rimsim.envs import BonusAction, CompactObservation, MeasuredEpisode
from rimsim.envs.learning import MeasuresCallback
from rimsim.envs.market import market_env
from rimsim.measures import mean_interval, paired_difference

SMALL = {"platform.model": "popularity-hp", "data.min_item_events": 120, "arrivals.per_round": 60}
SAVED = Path(os.environ.get("RIMSIM_PPO", "ppo-rimsim.zip"))
"""Where the policy is kept; opened by ``learnt`` alone, which is code of this file and none of rimsim's."""
AGENTS = ("random", "relevance", "rim-dual(spend=False)", "rim-feedback", "rim-resolve", "oracle")


class Training(gymnasium.Wrapper):
    """Every episode has a seed of its own, far from those that policies are judged on."""

    def __init__(self, env: gymnasium.Env, first: int) -> None:
        super().__init__(env)
        self._next = first

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:  # noqa: ARG002  # its own
        """The next episode."""
        self._next += 1
        return self.env.reset(seed=self._next, options=options)


def market() -> gymnasium.Env:
    """The market of docs/environment.md: 100 items, two rounds of 60 arrivals."""
    return gymnasium.make("RIMMarket-v0", scenario="closed-loop", rounds=2, settings=SMALL)


def small_task(env: gymnasium.Env) -> gymnasium.Env:
    """One bonus for what still lacks exposure, decided by fifteen numbers."""
    return CompactObservation(BonusAction(MeasuredEpisode(env), by="shortfall"))


class PriceFactor(gymnasium.Wrapper):
    """The bonuses of ``rim-feedback`` times 4^a, a in [−1, 1]; a = 0 is that agent."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self._market = market_env(env)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:
        """The next episode."""
        opened = self.env.reset(seed=seed, options=options)
        self._open()
        return opened

    def _open(self) -> None:
        self._view = self._market.round_view()
        self._delivery = Delivery.solved(self._view, tol=1e-3, gain=0.1, closing=0.02)

    def step(self, action: np.ndarray) -> tuple:
        """Rank by the controller's prices times the factor, and tell the controller what was shown."""
        view = self._view
        arrival = self._market.arrivals
        price = self._delivery.item_price * 4.0 ** float(np.clip(action[0], -1.0, 1.0))
        slate = price_slates(
            arrival.intensity,
            np.maximum(price, -view.cost),
            view.k,
            admissible=arrival.admissible,
            tie_seed=view.key,
            row_keys=arrival.id,
        )[0]
        shown = np.zeros(len(price))
        shown[slate[slate >= 0]] = view.position_weights[slate >= 0]
        self._delivery.note(shown, arrival)
        result = self.env.step(slate)
        if not result[2] and self._market.market.round != view.round:
            self._open()
        return result


def residual_task(env: gymnasium.Env) -> gymnasium.Env:
    """A factor on the controller's bonuses, decided by fifteen numbers."""
    return PriceFactor(CompactObservation(MeasuredEpisode(env)))


def residual_returns(learner: PPO, seeds: range) -> np.ndarray:
    """The return of a policy of factors at each seed."""
    env = residual_task(market())
    totals = []
    for seed in seeds:
        seen, _ = env.reset(seed=seed)
        total = 0.0
        over = False
        while not over:
            seen, reward, over, _, _ = env.step(learner.predict(seen, deterministic=True)[0])
            total += float(reward)
        totals.append(total)
    return np.array(totals)


def train(seed: int, steps: int, task: Callable = small_task, copies: int = 4) -> PPO:
    """PPO on so many steps; rewards are scaled by their own spread and hardly discounted."""
    makers = [
        lambda first=1_000_000 * (seed + 1) + 100_000 * copy: Training(task(market()), first)
        for copy in range(copies)
    ]
    markets = VecNormalize(DummyVecEnv(makers), norm_obs=False, gamma=0.99)
    network = {"net_arch": [32, 32], "log_std_init": -1.0, "activation_fn": torch.nn.Tanh}
    learner = PPO(
        "MlpPolicy",
        markets,
        n_steps=240,
        batch_size=240,
        n_epochs=10,
        learning_rate=1e-3,
        gamma=0.99,
        gae_lambda=0.95,
        policy_kwargs=network,
        seed=seed,
        device="cpu",
    )
    return learner.learn(steps, callback=MeasuresCallback())


def agent_of(learner: PPO, name: str = "ppo") -> PolicyAgent:
    """The learnt policy, without its exploration, as an agent of rimsim."""
    return PolicyAgent(lambda seen: learner.predict(seen, deterministic=True)[0], name=name)


def learnt() -> PolicyAgent:
    """For ``rimsim compare``: the policy that was saved last."""
    return agent_of(PPO.load(SAVED, device="cpu"))


def constant(bonus: float) -> PolicyAgent:
    """The same bonus for all that lacks exposure, whatever is seen: what learning has to beat."""
    return PolicyAgent(lambda _: np.array([2 * bonus - 1]), name=f"constant c×{bonus:g}")


def returns(agent: object, seeds: range) -> np.ndarray:
    """The return of an agent at each seed."""
    env = market()
    return np.array([rollout(env, agent, seed=seed).reward for seed in seeds])


def row(name: str, values: np.ndarray, base: np.ndarray | None) -> str:
    """A line of the table: mean and half its 95% interval, and the same minus rim-feedback at the same seeds."""
    mean = mean_interval(values)
    text = f"| `{name}` | {mean.mean:.1f} ±{mean.half:.1f} |"
    if base is None or base is values:
        return f"{text} |"
    paired = paired_difference(values, base)
    return f"{text} {paired.mean:+.1f} ±{paired.half:.1f} |"


def main() -> None:
    """Train with each seed, judge all, print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, default=50_000)
    options.add_argument("--seeds", type=int, default=3, help="how many policies are trained; 0: none")
    options.add_argument("--first", type=int, default=0, help="the first of their seeds")
    options.add_argument("--judged", type=int, default=20, help="seeds from 100 on that all are judged on")
    options.add_argument("--residual", action="store_true", help="learn a factor on rim-feedback's bonuses")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    seeds = range(100, 100 + chosen.judged)
    base = returns(make_agent("rim-feedback"), seeds)
    print(f"rimsim {rimsim.__version__}; {len(seeds)} seeds; ± half a 95% interval over them")
    print("| policy | return | minus `rim-feedback` |\n|---|---:|---:|")
    for name in AGENTS:
        print(
            row(name, base if name == "rim-feedback" else returns(make_agent(name), seeds), base), flush=True
        )
    for bonus in (0.1, 0.25, 0.5, 1.0):
        print(row(f"constant, {bonus:g} c", returns(constant(bonus), seeds), base), flush=True)
    policies = []
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        if chosen.residual:
            policies.append(residual_returns(train(seed, chosen.steps, residual_task), seeds))
        else:
            learner = train(seed, chosen.steps)
            learner.save(SAVED)
            policies.append(returns(agent_of(learner), seeds))
        print(row(f"ppo, training seed {seed}", policies[-1], base), flush=True)
    if policies:
        print(row(f"ppo, mean of {chosen.seeds}", np.mean(policies, axis=0), base))


if __name__ == "__main__":
    main()
