"""Learners in the markets of sellers: ``python benchmarks/sellers_learning.py --train sellers-hidden --seed 0``.

A training writes one file of results into a folder. It plays the first ten test seeds of the scenario after training.
Instead of the learner of ``examples/sellers.py``, ``--learner ppo`` trains PPO of Stable-Baselines3 to adjust a rule in
each round, and ``--learner ppo-plan`` trains it to choose a plan once per market. Without ``--train`` the script writes
``benchmarks/log/sellers-learning.md`` from the files of the folder.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from log_pages import LOG, ROOT, head
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor

from rimsim.agents import AdaptiveFloors, RoundPolicyAgent, make_agent, play_round
from rimsim.envs import RoundEnv
from rimsim.envs.rounds import TRAINING_SEEDS
from rimsim.market.records import NO_NEEDS
from rimsim.measures import mean_interval, paired_difference

if TYPE_CHECKING:
    from rimsim.agents import Agent
    from rimsim.arrays import Array, Floats
    from rimsim.market import Market
    from rimsim.market.providers import Roster

sys.path.insert(0, str(ROOT / "examples"))  # before this folder, which has a script of the same name
import sellers

PAGE = LOG / "sellers-learning.md"
SCENARIOS = ("sellers-hidden", "sellers")
TESTED = range(10)
PPO_ROUNDS = 8000
"""Rounds of training for PPO in each round: the second class of the leaderboard."""
PLAN_MARKETS = 192
"""Markets of training for PPO that chooses plans, after those that show the needs."""
RULES = ("adaptive-floors", "rim-resolve", "rim-feedback", "floors", "relevance", "triage")
"""Agents of the table: the rule that infers needs, the two best others, one floor for all, and two references."""


class AdjustedFloors(AdaptiveFloors):
    """``adaptive-floors``, whose estimates and share of positions an action adjusts."""

    name = "adjusted-floors"

    def adjust(self, action: Array) -> None:
        """Set the factors on the estimates, and the share, for the coming round."""
        self._factor = np.exp(0.5 * np.clip(action[:-1], -1.0, 1.0))
        self.share = 0.45 + 0.3 * float(np.clip(action[-1], -1.0, 1.0))

    @property
    def needs(self) -> Floats:
        """Adjusted estimates."""
        return super().needs * self._factor


class AdjustedAction:
    """Action of G + 1 numbers around the rule; zeros are the rule itself."""

    needs = NO_NEEDS

    def __init__(self) -> None:
        self._agent = AdjustedFloors()

    def space(self, roster: Roster) -> spaces.Space[Array]:
        """Box of G + 1 numbers."""
        return spaces.Box(-1.0, 1.0, (int(roster.of_class.max(initial=0)) + 2,), np.float32)

    def agent(self, action: Array) -> Agent:
        """Rule with an action, whose memory lasts from round to round."""
        self._agent.adjust(action)
        return self._agent

    def play(self, market: Market, action: Array) -> None:
        """Serve the open round with an action."""
        play_round(market, self.agent(action))


class Curve(BaseCallback):
    """Mean return of the last twenty episodes, every 400 rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        """Note a point of the curve."""
        if self.n_calls % 400 == 0 and self.model.ep_info_buffer:
            last = [episode["r"] for episode in list(self.model.ep_info_buffer)[-20:]]
            self.points.append((self.n_calls, 100.0 * float(np.mean(last))))
        return True


def train_ppo(scenario: str, seed: int, rounds: int) -> tuple[Agent, dict[str, object]]:
    """PPO with small exploration around the rule."""
    env = Monitor(RoundEnv(scenario, action=AdjustedAction()))
    learner = PPO(
        "MlpPolicy",
        env,
        n_steps=400,
        batch_size=100,
        learning_rate=1e-3,
        gamma=1.0,
        gae_lambda=0.95,
        policy_kwargs={"net_arch": [32], "log_std_init": -2.0},
        seed=seed,
        device="cpu",
    )
    curve = Curve()
    learner.learn(rounds, callback=curve)

    def policy(seen: Array) -> Array:
        return np.asarray(learner.predict(seen, deterministic=True)[0])

    return RoundPolicyAgent(policy, action=AdjustedAction(), name="ppo"), {
        "curve": curve.points,
        "rounds": rounds,
    }


class PlanTask(gymnasium.Env):
    """Task of one step: the action is the plan of a whole market, and the reward is its return.

    So exploration lasts for a whole market. Needs are learned before, as in ``examples/sellers.py``.
    """

    def __init__(self, scenario: str, seed: int) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.scenario = scenario
        stage = next(sellers.train(scenario, seed))
        self.knowledge = stage.knowledge
        self.level = stage.mean_return
        self.rounds = stage.rounds
        self._market = TRAINING_SEEDS + 100_000 * seed + 50_000
        self.returns: list[float] = []

    def agent(self, action: Array) -> sellers.SellersLearner:
        """Agent of an action."""
        return sellers.SellersLearner(
            self.knowledge, sellers.Plan.of(np.asarray(action), len(self.knowledge.levels))
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[Array, dict]:
        """Constant observation of a new market."""
        super().reset(seed=seed, options=options)
        return np.ones(1, np.float32), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict]:
        """Play a market, and return its return above relevance, in hundreds."""
        self._market += 1
        value = sellers.played(self.agent(action), self.scenario, self._market)
        self.returns.append(value)
        return np.ones(1, np.float32), (value - self.level) / 100.0, True, False, {}


def train_ppo_plan(scenario: str, seed: int) -> tuple[Agent, dict[str, object]]:
    """PPO that chooses a plan once per market."""
    task = PlanTask(scenario, seed)
    learner = PPO(
        "MlpPolicy",
        task,
        n_steps=16,
        batch_size=16,
        learning_rate=5e-3,
        gamma=1.0,
        policy_kwargs={"net_arch": [], "log_std_init": -0.7},
        seed=seed,
        device="cpu",
    )
    learner.learn(PLAN_MARKETS)
    n_rounds = sellers.find_scenario(scenario).rounds
    blocks = np.reshape(task.returns, (-1, 32)).mean(1)
    curve = [
        (task.rounds + 32 * n_rounds * (number + 1), float(value)) for number, value in enumerate(blocks)
    ]
    action, _ = learner.predict(np.ones(1, np.float32), deterministic=True)
    return task.agent(action), {"curve": curve, "rounds": task.rounds + n_rounds * len(task.returns)}


def train_planner(scenario: str, seed: int) -> tuple[Agent, dict[str, object]]:
    """Learner of ``examples/sellers.py``."""
    stages = []
    for stage in sellers.train(scenario, seed):
        stages.append(stage)
        print(scenario, seed, stage.rounds, round(stage.mean_return), stage.plan, flush=True)
    facts = {
        "curve": [(stage.rounds, stage.mean_return) for stage in stages],
        "rounds": stage.rounds,
        "levels": stage.knowledge.levels,
    }
    return stage.agent(), facts


def train(scenario: str, learner: str, seed: int, out: Path) -> None:
    """Train with one seed, test, and write the result."""
    torch.set_num_threads(1)
    began = time.process_time()
    if learner == "planner":
        agent, facts = train_planner(scenario, seed)
    elif learner == "ppo-plan":
        agent, facts = train_ppo_plan(scenario, seed)
    else:
        agent, facts = train_ppo(scenario, seed, PPO_ROUNDS)
    facts["cpu"] = time.process_time() - began
    facts["test"] = sellers.returns(lambda: agent, scenario, TESTED).tolist()
    write(out / f"{scenario}-{learner}-{seed}.json", facts)


def write(path: Path, facts: dict[str, object]) -> None:
    """Write facts to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts), encoding="utf-8")
    print(path, np.mean(facts["test"]), flush=True)


def play_rules(scenario: str, out: Path) -> None:
    """Play the agents of the table at the test seeds."""
    for name in RULES:
        path = out / f"{scenario}-{name}.json"
        if not path.is_file():
            write(
                path, {"test": sellers.returns(lambda name=name: make_agent(name), scenario, TESTED).tolist()}
            )


HEAD = """\
# Learners that keep sellers

{made}

Each row is one training. It learns on market seeds from 1,000 up, and plays the test seeds 0 to 9. The objective is the
sum over 20 rounds of consumptions plus two for each seller who stays. Differences are paired by seed, and ± is half a
95% interval over seeds. The learner is `examples/sellers.py`. PPO is that of
Stable-Baselines3: in each round it adjusts `adaptive-floors`, or it chooses the plan of the learner once per market.
Each training ran `python benchmarks/sellers_learning.py --train SCENARIO --seed SEED`, with `--learner ppo` or
`--learner ppo-plan` for PPO.
`triage` knows the needs, so it is a bound of this kind of plan and not a contestant."""


def gain(values: Floats, base: Floats) -> str:
    """Difference from other values in percent of their mean, with half its interval."""
    difference = paired_difference(values, base)
    scale = 100.0 / float(np.mean(base))
    return f"{difference.mean * scale:+.1f}% ±{difference.half * scale:.1f}"


def table(scenario: str, out: Path) -> str:
    """Tables of a scenario: objectives, and curves of training."""
    tests = {
        path.stem.removeprefix(f"{scenario}-"): json.loads(path.read_text()) for path in files(scenario, out)
    }
    rule = np.array(tests["adaptive-floors"]["test"])
    others = [np.array(tests[name]["test"]) for name in RULES if name not in {"adaptive-floors", "triage"}]
    other = max(others, key=np.mean)
    lines = ["| policy | objective | minus `adaptive-floors` | minus the best other rule | rounds, CPU s |"]
    lines.append("|---|---:|---:|---:|---:|")
    for name, facts in sorted(tests.items(), key=lambda entry: -np.mean(entry[1]["test"])):
        values = np.array(facts["test"])
        spent = f"{facts['rounds']:,}, {facts['cpu']:.0f}" if "cpu" in facts else ""
        lines.append(row(title(name), values, rule, other, spent))
    curves = ["| training | mean return at rounds of training |", "|---|---|"]
    for name, facts in tests.items():
        points = ", ".join(f"{rounds:,}: {value:.0f}" for rounds, value in facts.get("curve", []))
        if points:
            curves.append(f"| {title(name)} | {points} |")
    return "\n".join(
        [
            *lines,
            "",
            "Curves: mean return of the candidates of an iteration, or of PPO's last 20 or 32 markets.",
            "",
            *curves,
        ]
    )


def files(scenario: str, out: Path) -> list[Path]:
    """Files of results of a scenario."""
    return [
        path
        for path in sorted(out.glob(f"{scenario}-*.json"))
        if scenario == "sellers-hidden" or not path.stem.startswith("sellers-hidden")
    ]


def title(name: str) -> str:
    """Name of a policy in a table."""
    kind, _, seed = name.rpartition("-")
    learners = {"planner": "learner", "ppo": "PPO in each round", "ppo-plan": "PPO of plans"}
    return f"{learners[kind]}, training seed {seed}" if kind in learners else f"`{name}`"


def row(name: str, values: Floats, rule: Floats, other: Floats, spent: str) -> str:
    """Row of a table."""
    interval = mean_interval(values)
    cells = [gain(values, base) if not np.array_equal(values, base) else "" for base in (rule, other)]
    return f"| {name} | {interval.mean:.0f} ±{interval.half:.0f} | {cells[0]} | {cells[1]} | {spent} |"


def main() -> None:
    """Train with a seed, play the rules, or write the page."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--train", choices=SCENARIOS)
    options.add_argument("--learner", choices=("planner", "ppo", "ppo-plan"), default="planner")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=Path("runs/sellers-learning"))
    chosen = options.parse_args()
    if chosen.train:
        train(chosen.train, chosen.learner, chosen.seed, chosen.out)
        return
    parts = [HEAD.format(made=head("python benchmarks/sellers_learning.py"))]
    for scenario in SCENARIOS:
        play_rules(scenario, chosen.out)
        parts += [f"## `{scenario}`", table(scenario, chosen.out)]
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
