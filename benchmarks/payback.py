"""When does a guarantee pay back? ``python benchmarks/payback.py TABLE.csv [--seeds N] [--rounds N] [--only POINTS]``.

Markets whose items are worth, in part, what the log does not say (``consumer.hidden``) are played under guarantees of
several sizes, under exploration without one, and under the plain recommender, with paired seeds; each seed draws its
own hidden worth. One axis at a time moves from the base point. Rows that TABLE.csv holds already are not played again.
The command ``rimsim payback`` compares learners at the base point; this script has the other points and agents.

``--write AGENT LOG.csv`` asks whether a log can show it: visitors without a past meet an agent in the base market, and
what they consume is written as a log. ``--refit LOG.csv`` then plays the arms in a market whose truth is fitted to that
log alone; its point is called after the file.

Columns: ``discounted`` utility per arrival (weight .95 a round) and ``late`` utility per arrival (last third of
rounds). ``--print`` shows the map instead of playing.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from rimsim.agents import Agent, closed_rounds, make_agent, market_for
from rimsim.agents.rim_feedback import RimFeedback
from rimsim.config import Seeds, find_scenario, override
from rimsim.data import write
from rimsim.measures import mean_interval
from rimsim.scenarios.report.console import markdown
from rimsim.scenarios.report.record import TextTable

if TYPE_CHECKING:
    from rimsim.market import RoundView
    from rimsim.measures import Interval

BASE = {"arrivals.per_round": 1000, "consumer.truth": "factors", "consumer.hidden.seed": "seed"}
POINTS: dict[str, dict[str, object]] = {
    "hidden 1 (base)": {"consumer.hidden.rho": 0.0},
    "hidden .5": {"consumer.hidden.rho": 0.5},
    "hidden 0": {"consumer.hidden.rho": 1.0},
    "300 arrivals": {"consumer.hidden.rho": 0.0, "arrivals.per_round": 300},
    "3,000 arrivals": {"consumer.hidden.rho": 0.0, "arrivals.per_round": 3000},
    "new items, a third": {
        "consumer.hidden.rho": 0.0,
        "consumer.hidden.of": "new",
        "releases.share": 0.33,
        "releases.last_round": 20,
    },
    "new items, a tenth": {
        "consumer.hidden.rho": 0.0,
        "consumer.hidden.of": "new",
        "releases.share": 0.1,
        "releases.last_round": 20,
    },
    "factors-visits": {"consumer.hidden.rho": 0.0, "platform.model": "factors-visits"},
    "ease-visits": {"consumer.hidden.rho": 0.0, "platform.model": "ease-visits"},
    "bag truth": {"consumer.hidden.rho": 0.0, "consumer.truth": "bag"},
}
"""Points of the map by name: hidden is 1 − ρ."""
EARLY = "rim-feedback, early"
EARLY_ROUNDS = 0.2
ARMS: dict[str, tuple[str, float]] = {
    "relevance": ("relevance", 0.0),
    "epsilon-greedy": ("epsilon-greedy", 0.0),
    "rim-ucb": ("rim-ucb", 0.0),
    **{f"rim-feedback, {beta:g}": ("rim-feedback", beta) for beta in (0.05, 0.1, 0.25, 0.5)},
    "rim-ucb, 0.1": ("rim-ucb", 0.1),
    EARLY: ("rim-feedback", 0.5),
}
"""Arms by name: agent and β. The early one has the guarantee of β = .1 in the first fifth of the rounds."""
_DISCOUNT = 0.95


class Early(RimFeedback):
    """Keeps its guarantee in the first rounds alone."""

    rounds = 0

    def begin_round(self, view: RoundView) -> None:
        """Begin a round, without floors if it is late."""
        asked = view.required * (view.round < self.rounds)
        super().begin_round(dataclasses.replace(view, required=asked))


def arm_of(name: str, rounds: int) -> Agent:
    """Agent of an arm."""
    if name != EARLY:
        return make_agent(ARMS[name][0])
    agent = Early()
    agent.rounds = round(EARLY_ROUNDS * rounds)
    return agent


def written(agent_name: str, place: Path, rounds: int) -> None:
    """Log of what visitors without a past consume in the base market."""
    no_history = {"arrivals.kind": "hawkes", "arrivals.history": "none", "platform.log_window.warmup": "none"}
    changes = (
        BASE | POINTS["hidden 1 (base)"] | no_history | {"rounds": rounds, "platform.log_window.rounds": None}
    )
    agent = make_agent(agent_name)
    market = market_for(agent, override(find_scenario("closed-loop"), changes), seeds=Seeds.all(0))
    for _ in closed_rounds(market, agent):
        pass
    write(market.platform.log()(), place)


def refit_point(place: Path) -> dict[str, object]:
    """Point of a market whose truth is fitted to a written log."""
    return {"data.source": str(place), "data.min_item_events": 5, "consumer.hidden.seed": 0}


def played(point: str, arm: str, seed: int, rounds: int) -> dict[str, object]:
    """Row of the table."""
    changes = BASE | POINTS[point] | {"rounds": rounds, "exposure.beta": ARMS[arm][1]}
    config = override(find_scenario("closed-loop"), changes)
    agent = arm_of(arm, rounds)
    market = market_for(agent, config, seeds=Seeds.all(seed))
    utility = np.empty(rounds)
    for closed in closed_rounds(market, agent):
        utility[closed.number] = closed.ledger.probability.sum(1).mean()
    weight = _DISCOUNT ** np.arange(rounds)
    return {
        "point": point,
        "arm": arm,
        "seed": seed,
        "rounds": rounds,
        "discounted": float(utility @ weight / weight.sum()),
        "late": float(utility[-(rounds // 3) :].mean()),
    }


def gain_of(table: pd.DataFrame, point: str, arm: str, column: str) -> Interval:
    """Gain of an arm over ``relevance``, in per cent, over paired seeds."""
    by_arm = table[table["point"] == point].pivot_table(index="seed", columns="arm", values=column)
    return mean_interval(list((100 * (by_arm[arm] / by_arm["relevance"] - 1)).dropna()))


def payback_map(table: pd.DataFrame) -> pd.DataFrame:
    """Gain over the plain recommender, in per cent, by point and arm.

    Cells have the mean and its 95% interval over paired seeds.
    """
    cells: dict[str, dict[str, str]] = {}
    for point, arm in table[table["arm"] != "relevance"].groupby(["point", "arm"], sort=False).groups:
        for column in ("discounted", "late"):
            gain = gain_of(table, point, arm, column)
            if gain.low is None:  # one seed
                continue
            interval = f"{gain.mean:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}]"
            cells.setdefault(f"{point}, {column}", {})[arm] = interval
    return pd.DataFrame(cells).T


def as_markdown(title: str, table: pd.DataFrame) -> str:
    """Markdown of a table of texts."""
    rows = tuple(
        (str(name), *("" if pd.isna(cell) else cell for cell in row))
        for name, row in zip(table.index, table.to_numpy(), strict=True)
    )
    return markdown([TextTable(title, ("point", *map(str, table.columns)), rows)])


def main() -> None:
    """Play what is missing, or print the map."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", default="; ".join(POINTS), help="points, separated by '; '")
    parser.add_argument("--arms", default="; ".join(ARMS), help="arms, separated by '; '")
    parser.add_argument("--print", action="store_true", dest="shows")
    parser.add_argument("--write", nargs=2, metavar=("AGENT", "LOG"), help="write a log instead of playing")
    parser.add_argument("--refit", type=Path, help="play the arms on a written log")
    options = parser.parse_args()
    if options.write:
        written(options.write[0], Path(options.write[1]), options.rounds)
        return
    if options.refit:
        options.only = options.refit.stem
        POINTS[options.only] = refit_point(options.refit)
    if options.shows:
        table = pd.read_csv(options.table)
        print(as_markdown("Gain over relevance, per cent, and its 95% interval", payback_map(table)))
        return
    torch.set_num_threads(1)
    finished = set()
    if options.table.exists():
        finished = set(
            pd.read_csv(options.table)[["point", "arm", "seed", "rounds"]].itertuples(index=False, name=None)
        )
    for seed in map(int, options.seeds.split(",")):
        for point in options.only.split("; "):
            for arm in options.arms.split("; "):
                if (point, arm, seed, options.rounds) not in finished:
                    row = pd.DataFrame([played(point, arm, seed, options.rounds)])
                    row.to_csv(options.table, mode="a", header=not options.table.exists(), index=False)


if __name__ == "__main__":
    main()
