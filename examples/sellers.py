"""A learner keeps sellers whose needs are hidden, and draws the needs that it learned beside the true ones.

    pip install "rimsim[rl]"
    python examples/sellers.py

It learns in two stages, on market seeds from 1,000 up. First it ranks by relevance, and learns the five needs from
the sellers who leave and stay. Then it searches four numbers of its plan for the largest return. TensorBoard shows the
curves: ``tensorboard --logdir runs/sellers-learner``. ``learned`` below makes an agent of the saved result:
``rimsim compare sellers-hidden --agents adaptive-floors,examples/sellers.py:learned``.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise, permutations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from rich.progress import track
from torch.utils.tensorboard import SummaryWriter

from rimsim.agents import FloorsAgent, make_agent, play_round
from rimsim.agents.floors import affordable, item_floors, natural_exposure, uniform_exposure
from rimsim.config import find_scenario
from rimsim.envs.rounds import TRAINING_SEEDS, market_seeds, objective
from rimsim.market import Market, Needs
from rimsim.measures import mean_interval, paired_difference

SAVED = Path(os.environ.get("RIMSIM_SELLERS", "sellers-learner.json"))
"""File of what was learned, read only by ``learned``."""
DECAY = 0.8
"""Share of satisfaction that remains after a round, by the public rule of the market."""
START = 1.5
"""Satisfaction at the opening, by the same rule."""
TRIAL_ROUND = 1
"""First round at whose end sellers may leave, because satisfaction at the opening lasts for one round."""
CERTAIN = 0.9
"""Share of the training markets with one order of needs from which the learner relies on this order at once."""


@dataclass(frozen=True)
class Plan:
    """Numbers that the search learns. The defaults are the middle of each range, where the search begins."""

    rank: float = 2.0
    """Rank of the need against which sellers are kept in the trial round, from 0 to the number of classes − 1."""
    tests: int = 2
    """Sellers per class who get an exposure between two needs in the trial round, for each such gap."""
    trial_share: float = 0.5
    """Share of positions that floors may add in the trial round."""
    share: float = 0.5
    """Share of positions that floors may add in later rounds."""

    @classmethod
    def of(cls, numbers: np.ndarray, n_classes: int) -> Plan:
        """Plan of four numbers from −1 to 1."""
        rank, tests, trial_share, share = np.clip(numbers, -1.0, 1.0).tolist()
        return cls(
            rank=(n_classes - 1) / 2 * (1.0 + rank),
            tests=round(2.0 + 2.0 * tests),
            trial_share=0.5 + 0.4 * trial_share,
            share=0.5 + 0.4 * share,
        )


@dataclass
class Bounds:
    """Bounds of each class's need, from exposures, exits and the public rule of the market."""

    n_classes: int
    n_sellers: int
    low: np.ndarray = field(init=False)
    high: np.ndarray = field(init=False)
    mean: np.ndarray = field(init=False)
    """Discounted mean of each seller's exposures, as a multiple of the uniform exposure."""

    def __post_init__(self) -> None:
        self.low = np.zeros(self.n_classes)
        self.high = np.full(self.n_classes, np.inf)
        self.mean = np.zeros(self.n_sellers)

    def observe(self, view) -> None:
        """Take the exposures and exits of the last round into account."""
        sellers = view.providers
        was_there = sellers.there | (sellers.left == view.round - 1)
        exposure = sellers.exposure / uniform_exposure(view)
        self.mean = np.where(was_there, DECAY * self.mean + (1.0 - DECAY) * exposure, self.mean)
        missing = 1.0 - DECAY**view.round * START
        if missing <= 0.0:
            return
        need = self.mean / missing  # the need at which the seller's satisfaction is exactly 1
        stays = sellers.there
        leaves = was_there & ~stays
        np.minimum.at(self.high, sellers.classes[stays], need[stays])
        np.maximum.at(self.low, sellers.classes[leaves], need[leaves])


@dataclass(frozen=True)
class Knowledge:
    """Needs that training markets have shown."""

    levels: tuple[float, ...]
    """Needs in ascending order, as multiples of the uniform exposure."""
    orders: tuple[tuple[tuple[int, ...], float], ...]
    """Orders of the needs over the classes, each with its share of the training markets."""

    @classmethod
    def of(cls, bounds: list[np.ndarray]) -> Knowledge:
        """Knowledge from the upper bounds of each training market's classes."""
        levels = np.min([np.sort(bound) for bound in bounds], axis=0)
        ranks = [tuple(np.argsort(np.argsort(bound)).tolist()) for bound in bounds]
        shares = {order: count / len(ranks) for order, count in Counter(ranks).items()}
        return cls(tuple(levels.tolist()), tuple(shares.items()))

    def belief(self, bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
        """(P, G) possible needs of the classes, and their (P,) probabilities."""
        orders = list(permutations(range(len(self.levels))))
        seen = dict(self.orders)
        weight = np.array([seen.get(order, 0.0) + 0.1 / len(orders) for order in orders])
        needs = np.array(self.levels)[np.array(orders)]
        rounding = 1e-6
        fits = (needs > bounds.low - rounding) & (needs <= bounds.high + rounding)
        weight = weight * fits.all(1)
        return needs, weight / max(weight.sum(), 1e-12)


class Observer(FloorsAgent):
    """Relevance ranking, which observes bounds of the needs."""

    name = "observer"

    def floors(self, view) -> np.ndarray:
        """(M,) floor of each item in the coming round: none."""
        if view.round == 0:
            self.bounds = Bounds(view.providers.n_classes, len(view.providers.classes))
        else:
            self.bounds.observe(view)
        return np.zeros(len(view.required))


class SellersLearner(Observer):
    """Planner with learned needs, which finds out in the trial round which class has which need."""

    name = "learned"

    def __init__(self, knowledge: Knowledge, plan: Plan) -> None:
        self.knowledge = knowledge
        self.plan = plan

    def floors(self, view) -> np.ndarray:
        """(M,) floor of each item in the coming round."""
        sellers = view.providers
        if view.round == 0:
            self.bounds = Bounds(sellers.n_classes, len(sellers.classes))
        else:
            self.bounds.observe(view)
        if view.round <= TRIAL_ROUND and self.order is None:
            need = self._trial_needs(view)
            floor = self._floor_now(view, need)
            share = self.plan.trial_share
            is_kept = affordable(view, np.where(view.round == TRIAL_ROUND, floor, 0.0), share)
        else:
            need = self.needs()[sellers.classes]
            floor = self._floor_now(view, need)
            is_kept = affordable(view, need * uniform_exposure(view), self.plan.share)
        return item_floors(view, np.where(is_kept, floor, 0.0))

    @property
    def order(self) -> np.ndarray | None:
        """Needs of the classes if they were the same in training; None: they differ between markets."""
        needs, probability = self.knowledge.belief(Bounds(len(self.knowledge.levels), 0))
        return needs[probability.argmax()] if probability.max() > CERTAIN else None

    @property
    def _trial_level(self) -> float:
        """Need against which sellers are kept in the trial round."""
        levels = np.log(self.knowledge.levels)
        return float(np.exp(np.interp(self.plan.rank, np.arange(len(levels)), levels)))

    def needs(self) -> np.ndarray:
        """(G,) need of each class: the median of the belief, or a bound if no order of learned needs fits."""
        cautious = np.where(np.isfinite(self.bounds.high), self.bounds.high, self._trial_level)
        needs, probability = self.knowledge.belief(self.bounds)
        if probability.sum() == 0.0:
            return cautious
        ranks = np.argsort(needs, axis=0)
        at_least_half = np.cumsum(probability[ranks], axis=0) >= 0.5 - 1e-9
        return np.take_along_axis(np.take_along_axis(needs, ranks, 0), at_least_half.argmax(0)[None], 0)[0]

    def _trial_needs(self, view) -> np.ndarray:
        """(G,) need against which each seller is kept in the trial round."""
        sellers = view.providers
        need = np.full(len(sellers.classes), self._trial_level)
        natural = np.bincount(sellers.of_item, natural_exposure(view), len(need)) / uniform_exposure(view)
        expected = DECAY * self.bounds.mean + (1.0 - DECAY) * natural
        between = [float(np.sqrt(low * high)) for low, high in pairwise(self.knowledge.levels)]
        tested = [level for level in between if level < self._trial_level]
        for number in range(sellers.n_classes):
            members = np.flatnonzero(sellers.classes == number)
            # Sellers with few exposures are tested, because those with many would stay anyway.
            members = members[np.argsort(expected[members], kind="stable")]
            for level, seller in zip(np.repeat(tested, self.plan.tests), members, strict=False):
                need[seller] = level
        return need

    def _floor_now(self, view, need: np.ndarray) -> np.ndarray:
        """(G,) exposures of the coming round that keep sellers with given needs."""
        satisfaction = DECAY**view.round * START + self.bounds.mean / need
        now = need * (1.0 - DECAY * satisfaction) / (1.0 - DECAY)
        return np.maximum(now, 0.0) * uniform_exposure(view)


def returns(make: Callable, scenario: str, seeds) -> np.ndarray:
    """Return of an agent in each market."""
    return np.array([played(make(), scenario, seed) for seed in seeds])


def played(agent, scenario: str, seed: int) -> float:
    """Return of an agent in one market: consumptions plus two per seller who stays, over 20 rounds."""
    config = find_scenario(scenario)
    market = Market(config, seeds=market_seeds(seed), needs=Needs.of(agent))
    total = 0.0
    while not market.done:
        play_round(market, agent)
        total += objective(market.closed.pop(), config)
    return total


@dataclass(frozen=True)
class Stage:
    """Result of a stage of training."""

    rounds: int
    """Rounds that were played so far."""
    mean_return: float
    knowledge: Knowledge
    plan: Plan

    def agent(self) -> SellersLearner:
        """Agent with all that was learned."""
        return SellersLearner(self.knowledge, self.plan)


def train(scenario: str, seed: int, first: int = 10, iterations: int = 4) -> Iterator[Stage]:
    """Learn from market seeds from 1,000 up, and report each stage.

    The search is the cross-entropy method (Rubinstein 1999): in each iteration it plays eight candidates from a normal
    distribution in the same two markets, and moves the distribution to the best three. It sees returns only.

    Args:
        first: Markets from which the needs are learned.
        iterations: Steps of the search.
    """
    random = np.random.default_rng(seed)
    markets = iter(range(TRAINING_SEEDS + 100_000 * seed, TRAINING_SEEDS + 100_000 * (seed + 1)))
    n_rounds = find_scenario(scenario).rounds
    bounds = []
    values = []
    for _ in range(first):
        observer = Observer()
        values.append(played(observer, scenario, next(markets)))
        bounds.append(observer.bounds.high)
    knowledge = Knowledge.of(bounds)
    n_classes = len(knowledge.levels)
    rounds = first * n_rounds
    yield Stage(rounds, float(np.mean(values)), knowledge, Plan())
    mean = np.zeros(4)
    spread = np.full(4, 0.5)
    for _ in range(iterations):
        seeds = [next(markets), next(markets)]
        candidates = np.clip(random.normal(mean, spread, (8, 4)), -1.0, 1.0)
        candidates[0] = mean
        agents = [SellersLearner(knowledge, Plan.of(numbers, n_classes)) for numbers in candidates]
        values = [np.mean([played(agent, scenario, market) for market in seeds]) for agent in agents]
        best = candidates[np.argsort(values)[-3:]]
        mean = 0.3 * mean + 0.7 * best.mean(0)
        spread = np.maximum(0.3 * spread + 0.7 * best.std(0), 0.05)
        rounds += len(candidates) * len(seeds) * n_rounds
        yield Stage(rounds, float(np.mean(values)), knowledge, Plan.of(mean, n_classes))


def save(stage: Stage, path: Path = SAVED) -> None:
    """Write the result of a stage to a file."""
    path.write_text(
        json.dumps({"knowledge": asdict(stage.knowledge), "plan": asdict(stage.plan)}), encoding="utf-8"
    )


def learned(path: Path = SAVED) -> SellersLearner:
    """Agent with the result in a file."""
    saved = json.loads(path.read_text(encoding="utf-8"))
    orders = tuple((tuple(order), share) for order, share in saved["knowledge"]["orders"])
    return SellersLearner(Knowledge(tuple(saved["knowledge"]["levels"]), orders), Plan(**saved["plan"]))


def draw(stages: list[Stage], scenario: str, path: Path) -> None:
    """Draw the learning curve, and the learned needs next to the true needs."""
    true_needs = sorted(dict(find_scenario(scenario).providers.options)["needs"])
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.plot([stage.rounds for stage in stages], [stage.mean_return for stage in stages], marker="o")
    left.set(title="Learning curve", xlabel="rounds of training", ylabel="mean return of the candidates")
    places = np.arange(len(true_needs))
    right.bar(places - 0.2, true_needs, 0.4, label="true")
    right.bar(places + 0.2, stages[-1].knowledge.levels, 0.4, label="learned")
    right.set(title="Needs of the classes", xlabel="rank", ylabel="multiple of the uniform exposure")
    right.legend()
    figure.savefig(path)


def main() -> None:
    """Train, draw, and compare with the rule at test seeds."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--scenario", default="sellers-hidden", choices=("sellers", "sellers-hidden"))
    options.add_argument("--seed", type=int, default=0, help="training seed")
    options.add_argument("--iterations", type=int, default=4, help="steps of the search")
    options.add_argument("--tested", type=int, default=5, help="number of test seeds, from 0")
    options.add_argument("--picture", type=Path, default=Path("sellers-learner.png"))
    chosen = options.parse_args()
    stages = []
    training = train(chosen.scenario, chosen.seed, iterations=chosen.iterations)
    with SummaryWriter("runs/sellers-learner") as board:
        for stage in track(training, "training", total=chosen.iterations + 1):
            stages.append(stage)
            board.add_scalar("return", stage.mean_return, stage.rounds)
            for name, number in asdict(stage.plan).items():
                board.add_scalar(f"plan/{name}", number, stage.rounds)
    save(stage)
    draw(stages, chosen.scenario, chosen.picture)
    print("learned needs:", np.round(stage.knowledge.levels, 2).tolist())
    print(stage.plan)
    seeds = range(chosen.tested)
    values = returns(learned, chosen.scenario, seeds)
    rule = returns(lambda: make_agent("adaptive-floors"), chosen.scenario, seeds)
    gain = paired_difference(values, rule)
    print(
        f"learned {mean_interval(values).mean:.0f}, adaptive-floors {mean_interval(rule).mean:.0f}, ", end=""
    )
    print(f"difference {gain.mean:+.0f} ±{gain.half:.0f}")


if __name__ == "__main__":
    main()
