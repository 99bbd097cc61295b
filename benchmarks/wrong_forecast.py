"""Prices and delivery in a round that was promised for a wrong number of arrivals.

``python benchmarks/wrong_forecast.py`` draws docs/pictures/wrong-forecast.png and prints what is missing, in the
scenario closed-loop, ``rim-feedback`` paced by the clock, in the last of some rounds. Set OMP_NUM_THREADS=1 for one
core.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rimsim import measures
from rimsim.agents import RimFeedback, market_for, play_round
from rimsim.config import ExposureConfig, Seeds, find_scenario

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


def course(exposure: ExposureConfig, rounds: int, seed: int) -> Course:
    """How prices and delivery went in the last of some rounds."""
    config = dataclasses.replace(find_scenario("closed-loop"), rounds=rounds, exposure=exposure)
    agent = Watched()
    market = market_for(agent, config, seeds=Seeds.all(seed))
    while not market.done:
        view = market.round_view()
        agent.bonus, agent.delivered = [], []
        play_round(market, agent, BATCH)
    due, got = view.required, np.array(agent.delivered)
    return Course(
        bonus=np.array([bonus[due > 0].mean() for bonus in agent.bonus]) / view.cost,
        delivered=np.minimum(got, due).sum(1) / due.sum(),
        missing=measures.shortfall(got[-1], due),
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
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beta", type=float, default=0.5)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/wrong-forecast.png"))
    args = parser.parse_args()
    base = dataclasses.replace(find_scenario("closed-loop").exposure, beta=args.beta, pace="clock")
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    print("| promised for | guarantees | missing % | mean bonus at the end, in c |\n|---:|---|---:|---:|")
    for column, hard in enumerate((False, True)):
        above, below = panels[:, column]
        for forecast in FORECASTS:
            exposure = dataclasses.replace(base, forecast=forecast, hard=hard)
            found = course(exposure, args.rounds, args.seed)
            gone = np.linspace(0, 100, len(found.bonus))
            label = f"{forecast:g} N: {100 * found.missing:.1f} % missing"
            above.plot(gone, found.bonus, label=label)
            below.plot(gone, 100 * found.delivered)
            kind = "hard" if hard else "soft"
            print(
                f"| {forecast:g} N | {kind} | {100 * found.missing:.2f} | {found.bonus[-1]:.2f} |", flush=True
            )
        above.set_title("hard guarantees" if hard else "soft guarantees: no bonus above c", loc="left")
        above.set_yscale("log")
        above.legend(title="promised for", frameon=False)
        below.set_xlabel("share of the round's arrivals gone, %")
    panels[0, 0].set_ylabel("mean bonus of an item, in c")
    panels[1, 0].set_ylabel("delivered of what is promised, %")
    FigureCanvasAgg(figure).print_figure(args.out, dpi=120)


if __name__ == "__main__":
    main()
