"""Arrivals a second of the engine and of the single environment: ``python benchmarks/engine.py``.

Clones of the embedded log's users on one core; CPU seconds, medians of five rounds after one to warm up. Exposures are
asserted, so that a faster engine that does something else fails here.
"""

from __future__ import annotations

import statistics
import time

import gymnasium
import numpy as np

import rimsim  # noqa: F401  # registers the environment
from rimsim.agents import make_agent, play_round
from rimsim.config import ScenarioConfig, find_scenario, override
from rimsim.market import Market

ROUNDS = 6
AGENTS = ("random", "relevance", "rim-dual", "rim-feedback")


def scenario(min_item_events: int) -> ScenarioConfig:
    """closed-loop without retraining, over a larger or smaller catalogue."""
    changes: dict[str, object] = {
        "rounds": ROUNDS,
        "platform.retrain": False,
        "data.min_item_events": min_item_events,
    }
    return override(find_scenario("closed-loop"), changes)


def engine(config: ScenarioConfig, name: str) -> float:
    """Arrivals per CPU second of serving, prices and round ends included."""
    agent, market, rates = make_agent(name), Market(config), []
    while not market.done:
        n, start = market.n_arrivals, time.process_time()
        play_round(market, agent)
        rates.append(n / (time.process_time() - start))
        exposures = int((market.closed.pop().ledger.item >= 0).sum())
        if exposures != n * config.slate:
            message = f"{exposures} exposures for {n} arrivals of {config.slate}"
            raise AssertionError(message)
    return statistics.median(rates[1:])


def environment(config: ScenarioConfig, min_item_events: int) -> float:
    """Steps per CPU second with top-k on the observation's relevance."""
    env = gymnasium.make(
        "RIMMarket-v0",
        scenario="closed-loop",
        rounds=1,
        settings={"platform.retrain": False, "data.min_item_events": min_item_events},
    )
    rates = []
    for seed in range(ROUNDS):
        observation, _ = env.reset(seed=seed)
        done, steps, start = False, 0, time.process_time()
        while not done:
            relevance = observation["relevance"]
            best = np.argpartition(-relevance, config.slate)[: config.slate]
            observation, _, done, _, _ = env.step(best[np.argsort(-relevance[best])])
            steps += 1
        rates.append(steps / (time.process_time() - start))
    return statistics.median(rates[1:])


def main() -> None:
    """Print the table."""
    print("| catalogue | what | arrivals / CPU s |")
    print("|---:|---|---:|")
    for min_item_events in (30, 5):
        config = scenario(min_item_events)
        items = Market(config).n_items
        print(
            f"| {items} | single environment, top-k | {environment(config, min_item_events):,.0f} |",
            flush=True,
        )
        for name in AGENTS:
            print(f"| {items} | engine, {name} | {engine(config, name):,.0f} |", flush=True)


if __name__ == "__main__":
    main()
