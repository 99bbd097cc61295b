"""Write the tables of the site's pictures: ``python benchmarks/picture_tables.py [NAME ...] [--runs FOLDER]``.

A table is a file ``benchmarks/log/pictures/NAME.csv``, from which ``tools/pictures.py`` draws. It comes from a
run, which is a folder in ``runs``, or is played here.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import gymnasium
import log_pages
import numpy as np
import pandas as pd

import rimsim  # noqa: F401  registers the environment
from rimsim.agents import RimFeedback, market_for, play_round
from rimsim.config import Seeds, find_scenario
from rimsim.measures import mean_interval
from rimsim.scenarios import compare, load_run
from rimsim.scenarios.report import items, loop, prices
from rimsim.scenarios.report.picture_tables import picture_tables

if TYPE_CHECKING:
    from rimsim.arrays import Floats
    from rimsim.market import Arrivals, Slates

FOLDER = log_pages.LOG / "pictures"
FORECASTS = (0.5, 1.0, 1.5)
"""Promised numbers of arrivals, as multiples of the expected number."""
BATCH = 20
"""Arrivals between two prices of the picture of wrong forecasts."""


def by_round(rounds: pd.DataFrame, lines: Sequence[str], panels: Sequence[str], line: str) -> pd.DataFrame:
    """Means over seeds with 95% intervals: panel (metric), line, round, mean, low, high."""
    rows = []
    chosen = rounds[rounds[line].isin(lines) & rounds["metric"].isin(panels)]
    for (metric, name, number), values in chosen.groupby(["metric", line, "round"], observed=True)["value"]:
        interval = mean_interval(values.to_numpy(np.float64))
        rows.append((metric, name, number, interval.mean, interval.low, interval.high))
    return pd.DataFrame(rows, columns=["panel", "line", "round", "mean", "low", "high"])


def coverage(runs: Path) -> pd.DataFrame:
    """Catalogue that is shown and items that are taken, by round."""
    arms = ("relevance-frozen", "rim-feedback", "relevance")
    return by_round(load_run(runs / "retraining").rounds, arms, ("coverage", "utility"), "agent")


def retraining(runs: Path) -> pd.DataFrame:
    """Parts of retraining's effect on relevance, by round."""
    run = load_run(runs / "retraining")
    metrics = ("utility", "coverage", "effective_items", "log_gini", "examined_shortfall", "shortfall")
    parts = loop.parts_by_seed(run.rounds, run.agents, metrics)
    parts = parts[parts["agent"] == "relevance"]
    return by_round(parts, [*loop.PARTS, loop.ALL], metrics, "part")


def two_sides(runs: Path) -> pd.DataFrame:
    """Providers, users and items by round."""
    rounds = load_run(runs / "two-sides" / "factors-bag-visits").rounds
    agents = ("relevance", "rim-dual(spend=False)", "rim-feedback")
    return by_round(rounds, agents, ("providers_alive", "user_welfare", "items_sold"), "agent")


def campaigns(runs: Path) -> pd.DataFrame:
    """Delivered share of groups and campaigns so far, by round, at most 2."""
    table = load_run(runs / "campaigns").promises
    table = table[table["due"] > 0].sort_values("round")
    sums = table.groupby(["name", "agent"], observed=True)[["delivered", "due"]].cumsum()
    share = (sums["delivered"] / sums["due"]).clip(upper=2)
    named = table.assign(delivered=share).rename(columns={"name": "panel", "agent": "line"})
    return named[["panel", "line", "round", "delivered"]]


class WatchedPrices(RimFeedback):
    """``rim-feedback`` that keeps its prices after each batch."""

    bonuses: list[Floats]

    def act(self, arrivals: Arrivals) -> Slates:
        """Serve, and keep the bonuses −v."""
        slates = super().act(arrivals)
        self.bonuses.append(-self.item_price)
        return slates


def mean_bonuses(forecast: float, *, hard: bool) -> Floats:
    """Mean bonus −v of the guaranteed items after each batch of the second round, in units of c."""
    config = find_scenario("closed-loop")
    exposure = dataclasses.replace(config.exposure, beta=0.5, pace="clock", forecast=forecast, hard=hard)
    agent = WatchedPrices()
    market = market_for(agent, dataclasses.replace(config, rounds=2, exposure=exposure), seeds=Seeds.all(0))
    while not market.done:
        view = market.round_view()
        agent.bonuses = []
        play_round(market, agent, BATCH)
    guaranteed = view.required > 0
    return np.array([bonus[guaranteed].mean() for bonus in agent.bonuses]) / view.cost


def wrong_forecast(_: Path) -> pd.DataFrame:
    """Mean bonus over a round under forecasts, in units of c: some minutes."""
    parts = []
    for hard in (False, True):
        for forecast in FORECASTS:
            bonus = mean_bonuses(forecast, hard=hard)
            share = np.linspace(0, 100, len(bonus))
            parts.append(
                pd.DataFrame({"hard": hard, "forecast": forecast, "arrivals": share, "bonus": bonus})
            )
    return pd.concat(parts)


def who_pays(runs: Path) -> pd.DataFrame:
    """Positions of guaranteed items by tenth of the arrivals."""
    table = items.guaranteed_by_decile(picture_tables(load_run(runs / "demo" / "closed-loop")))
    return table[table["agent"].isin(("relevance", "rim-feedback"))]


def bonuses(runs: Path) -> pd.DataFrame:
    """Mean bonus at exposures by decile of popularity."""
    return prices.bonus_deciles(picture_tables(load_run(runs / "demo" / "closed-loop")))


def delivery(runs: Path) -> pd.DataFrame:
    """Delivery and bonus of two items over a round."""
    return prices.item_courses(picture_tables(load_run(runs / "demo" / "closed-loop")))


def environment(_: Path) -> pd.DataFrame:
    """Exposure and requirement of each item after 45 slates of an environment."""
    small = {"platform.model": "popularity-hp", "data.min_item_events": 120, "arrivals.per_round": 60}
    market = gymnasium.make("RIMMarket-v0", scenario="closed-loop", rounds=2, settings=small)
    seen, _ = market.reset(seed=100)
    state = market.unwrapped.market
    for _ in range(45):
        bonus = 0.25 * state.cost * (seen["shortfall"] > 0)
        value = np.where(
            seen["admissible"] > 0, seen["ground_intensity"] * seen["relevance"] + bonus, -np.inf
        )
        seen, *_ = market.step(np.argsort(-value, kind="stable")[: market.unwrapped.config.slate])
    return pd.DataFrame({"exposure": state.exposure, "required": state.required})


def happenings(_: Path) -> pd.DataFrame:
    """Visits of a week and changes by three processes, in the order of time."""
    processes = (
        "outage(after=2d, lasts=12h, every=None)",
        "stock(units=40, lead=1d)",
        "demand(factor=3, after=4d, lasts=2d)",
    )
    settings = {"platform.model": "popularity-hp", "processes": processes}
    with TemporaryDirectory() as folder:
        run = compare(
            "closed-loop",
            ["relevance"],
            rounds=1,
            seeds=1,
            frozen=[],
            certify=False,
            settings=settings,
            workers=1,
            out=Path(folder) / "run",
        )
        hours = picture_tables(run).hours
    visits = pd.DataFrame({"time": hours.visits, "taken": hours.consumptions})
    table = pd.concat([visits, hours.changes]).sort_values("time", kind="stable")
    return table.assign(time=table["time"] - table["time"].min() // 3600 * 3600)


TABLES: dict[str, Callable[[Path], pd.DataFrame]] = {
    "coverage": coverage,
    "retraining": retraining,
    "two-sides": two_sides,
    "campaigns": campaigns,
    "wrong-forecast": wrong_forecast,
    "who-pays": who_pays,
    "prices": bonuses,
    "delivery": delivery,
    "environment": environment,
    "happenings": happenings,
}


def main() -> None:
    """Write the named tables, or all."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("names", nargs="*", choices=[*TABLES, []], metavar="NAME", help=", ".join(TABLES))
    options.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    asked = options.parse_args()
    for name in asked.names or TABLES:
        path = FOLDER / f"{name}.csv"
        TABLES[name](asked.runs).round(5).to_csv(path, index=False)
        print(path)


if __name__ == "__main__":
    main()
