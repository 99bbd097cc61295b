"""Prices and delivery in a round that was promised for a wrong number of arrivals.

``python benchmarks/wrong_forecast.py`` prints what is missing in the scenario closed-loop, ``rim-feedback`` paced by
the clock, in the last of some rounds. ``tools/pictures.py`` draws the prices. Set OMP_NUM_THREADS=1 for one core.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rimsim import measures
from rimsim.agents import RimFeedback, market_for, play_round
from rimsim.config import Seeds, find_scenario

if TYPE_CHECKING:
    from rimsim.market import Arrivals, Slates

FORECASTS = (0.5, 1.0, 1.5)
BATCH = 20


class Course(NamedTuple):
    """A round as it went."""

    bonus: NDArray[np.float64]
    """Mean bonus −v of the guaranteed items after each batch, in units of c."""
    delivered: NDArray[np.float64]
    """Share of what is guaranteed that is delivered by then."""
    missing: float
    """Share that is missing at the end."""


def course(forecast: float, *, hard: bool, rounds: int = 2, seed: int = 0, beta: float = 0.5) -> Course:
    """Prices and delivery in the last of some rounds."""
    config = find_scenario("closed-loop")
    exposure = dataclasses.replace(config.exposure, beta=beta, pace="clock", forecast=forecast, hard=hard)
    config = dataclasses.replace(config, rounds=rounds, exposure=exposure)
    agent = Watched()
    market = market_for(agent, config, seeds=Seeds.all(seed))
    while not market.done:
        view = market.round_view()
        agent.bonus = []
        agent.delivered = []
        play_round(market, agent, BATCH)
    due = view.required
    delivered = np.array(agent.delivered)
    return Course(
        bonus=np.array([bonus[due > 0].mean() for bonus in agent.bonus]) / view.cost,
        delivered=np.minimum(delivered, due).sum(1) / due.sum(),
        missing=measures.shortfall(delivered[-1], due),
    )


class Watched(RimFeedback):
    """``rim-feedback`` that keeps its prices and what was delivered after each batch."""

    bonus: list[NDArray[np.float64]]
    delivered: list[NDArray[np.float64]]

    def act(self, arrivals: Arrivals) -> Slates:
        """Serve, and note prices and delivery."""
        slates = super().act(arrivals)
        self.bonus.append(-self.item_price)
        self.delivered.append(self._delivery.exposure.copy())
        return slates


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beta", type=float, default=0.5)
    args = parser.parse_args()
    print("| promised for | guarantees | missing % | mean bonus at the end, in c |\n|---:|---|---:|---:|")
    for hard in (False, True):
        for forecast in FORECASTS:
            means = course(forecast, hard=hard, **vars(args))
            kind = "hard" if hard else "soft"
            print(
                f"| {forecast:g} N | {kind} | {100 * means.missing:.2f} | {means.bonus[-1]:.2f} |", flush=True
            )


if __name__ == "__main__":
    main()
