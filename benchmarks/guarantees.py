"""What guarantees deliver and cost over many rounds: ``python benchmarks/guarantees.py [--rounds N] [--seeds N] …``.

Prints a markdown table for each platform model, in the scenario closed-loop: what is undelivered in the worst and in
the last round, counted as examined and in positions, and expected consumptions a slate in the later half of the rounds
over those of ``relevance``. Set OMP_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1 for one core.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from rimsim import measures
from rimsim.agents import RimFeedback, make_agent, market_for, play_round
from rimsim.config import Seeds, find_scenario

if TYPE_CHECKING:
    from rimsim.agents import Agent
    from rimsim.config import ScenarioConfig
    from rimsim.market import RoundView

ARMS = (
    ("relevance", "shown", False),
    ("rim-feedback", "shown", False),
    ("rim-feedback in order of λ − v", "shown", False),
    ("rim-feedback", "shown", True),
    ("rim-feedback", "examined", False),
    ("rim-feedback", "examined", True),
    ("rim-dual", "examined", False),
    ("hindsight", "examined", False),
)


class ByValue(RimFeedback):
    """``rim-feedback`` whose slates stand in order of λ − v, whatever the unit."""

    def begin_round(self, view: RoundView) -> None:
        """Take positions to count alike, and to be examined."""
        super().begin_round(dataclasses.replace(view, unit="examined"))


def agent_of(name: str) -> Agent:
    """An agent of the table."""
    return ByValue() if name.endswith("λ − v") else make_agent(name)


def played(name: str, config: ScenarioConfig, seed: int) -> np.ndarray:
    """(rounds, 3) examined shortfall, shortfall in positions and expected consumptions a slate."""
    agent = agent_of(name)
    market = market_for(agent, config, seeds=Seeds(arrivals=seed, choice=seed, model=seed, agent=seed))
    weights = measures.position_weights(config.consumer.position_decay, config.slate)
    rows = []
    while not market.done:
        play_round(market, agent)
        closed = market.closed[-1]
        promised = closed.required / measures.mean_weight(closed.position_weights)
        examined = measures.weighted_exposure(closed.ledger.item, weights, market.n_items)
        rows.append(
            (
                measures.shortfall(examined, promised * measures.mean_weight(weights)),
                measures.shortfall(closed.ledger.exposure(market.n_items), promised),
                closed.ledger.probability.sum() / len(closed.ledger.item),
            )
        )
    return np.array(rows)


def table(model: str, base: ScenarioConfig, seeds: int, forecast: float, pace: str) -> None:
    """Print the table of a platform model."""
    print(f"\n**{model}: {base.rounds} rounds, {seeds} seeds, N̂ = {forecast:g} N, paced by {pace}**\n")
    print(
        "| agent | counted as | hard | examined, worst | last | positions, worst | last | utility, % of relevance |"
    )
    print("|---|---|---|---:|---:|---:|---:|---:|")
    plain = np.nan
    for name, unit, hard in ARMS:
        exposure = dataclasses.replace(base.exposure, unit=unit, hard=hard, forecast=forecast, pace=pace)
        config = dataclasses.replace(
            base, exposure=exposure, platform=dataclasses.replace(base.platform, model=model)
        )
        runs = np.array([played(name, config, seed) for seed in range(seeds)])
        utility = runs[:, base.rounds // 2 :, 2].mean(1)
        plain = utility if name == "relevance" else plain
        cells = [f"{value:.4f}" for j in (0, 1) for value in (runs[:, :, j].max(), runs[:, -1, j].mean())]
        share = 100 * (utility / plain).mean()
        print(
            f"| `{name}` | {unit} | {'yes' if hard else 'no'} | {' | '.join(cells)} | {share:.1f} |",
            flush=True,
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--platforms", default="bag-visits,als-hp,gru-hp", help="models, split by commas")
    parser.add_argument("--forecast", type=float, default=1.0, help="arrivals expected over those that come")
    parser.add_argument("--pace", choices=("arrivals", "clock"), default="arrivals")
    args = parser.parse_args()
    base = dataclasses.replace(find_scenario("closed-loop"), rounds=args.rounds)
    for model in args.platforms.split(","):
        table(model, base, args.seeds, args.forecast, args.pace)


if __name__ == "__main__":
    main()
