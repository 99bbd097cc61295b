"""How calibrated a platform stays that learns from consumptions, from impressions, or by inverse propensities.

    python benchmarks/learning.py --seeds 2 --model gru-hp

Plays ``closed-loop`` once for each way of learning, agent and seed, and prints by round the ratio of predicted to
actual consumptions of shown items, utility, coverage, shortfall and the CPU seconds of the round with its retraining.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from rimsim.agents import make_agent, market_for, play_round
from rimsim.config import Seeds, find_scenario, override
from rimsim.measures import MEASURES
from rimsim.scenarios.study.facts import AdoptionCount, facts_of, shared_facts

METRICS = ("calibration_ratio", "utility", "coverage", "shortfall")


def rounds_of(learning: str, model: str, agent_name: str, seed: int, rounds: int) -> np.ndarray:
    """(rounds, metrics + 1) figures of an arm, and CPU seconds of the whole round."""
    changes = {"platform.learning": learning, "platform.model": model, "rounds": rounds}
    config = override(find_scenario("closed-loop"), changes)
    agent = make_agent(agent_name)
    market = market_for(agent, config, seeds=Seeds.all(seed))
    shared = shared_facts(market.world, config, seed)
    first = None
    figures = []
    adoption = AdoptionCount(market.world.release)
    while not market.done:
        begun = time.process_time()
        play_round(market, agent)
        spent = time.process_time() - begun
        closed = market.closed.pop()
        first = closed.ledger.exposure(market.n_items) if first is None else first
        adoption.enter(closed)
        facts = facts_of(shared, closed, first, adoption, None, None)
        figures.append([*(MEASURES[name].value(facts) for name in METRICS), spent])
    return np.array(figures, np.float64)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--model", default="gru-hp")
    parser.add_argument("--learning", default="consumed,impressions")
    parser.add_argument("--agents", default="relevance,rim-feedback,random")
    options = parser.parse_args()
    print(f"`closed-loop`, {options.model}, mean of {options.seeds} seeds; figures by round.\n")
    print("| agent | learning | metric | " + " | ".join(map(str, range(options.rounds))) + " |")
    print("|---|---|---|" + "---:|" * options.rounds)
    for agent in options.agents.split(","):
        for learning in options.learning.split(","):
            arms = [
                rounds_of(learning, options.model, agent, seed, options.rounds)
                for seed in range(options.seeds)
            ]
            for name, row in zip((*METRICS, "CPU s"), np.mean(arms, 0).T, strict=True):
                cells = " | ".join(f"{value:.3f}" for value in row)
                print(f"| {agent} | {learning} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
