"""What a back-test says in numbers: means with intervals over seeds, and differences at the same seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from rimsim.intensity.registry import mark_and_ground
from rimsim.scenarios.backtesting.answer import backtest_sentences
from rimsim.scenarios.backtesting.tasks import PAYING
from rimsim.scenarios.report.console import folder_places, print_report
from rimsim.scenarios.report.record import TextTable
from rimsim.scenarios.report.tables import cell, interval_words, over_seeds, pivoted

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.scenarios.backtesting.run import Backtest


_FIRST = ("precision", "recall", "ndcg", "perplexity", "coverage")
_FLOORS = ("precision", "recall", "perplexity", "coverage", "shortfall", "items_met")
_CAPS = ("precision", "recall", "perplexity", "coverage", "filled")


def print_results(backtest: Backtest, console: Console) -> None:
    """Print what a back-test found, its tables, and where everything is."""
    console.print()
    for sentence in backtest_sentences(backtest.table):
        console.print(sentence.replace("`", ""), soft_wrap=True, highlight=False)
    print_report(result_tables(backtest), (), folder_places(backtest.folder), console)


def result_tables(backtest: Backtest) -> list[TextTable]:
    """Every table that a back-test prints, without those that would be empty."""
    table = backtest.table
    overlap = backtest.config.split.overlap
    seeds = interval_words(table["seed"].nunique())
    if overlap:
        seeds += ", wider for splits that overlap"
    floors = table[table["beta"].notna()].sort_values("beta", kind="stable")
    caps = table[table["cap"].notna()].sort_values("cap", kind="stable")
    titles = {
        "item-rec": f"Item recommendation, {seeds}",
        "user-rec": f"User recommendation (perplexity and coverage of users), {seeds}",
    }
    tables = [
        _means(title, table[table["task"] == task], ["model"], _FIRST, overlap)
        for task, title in titles.items()
    ]
    tables += [
        _means(
            "Online matching with floors β, prices of past states",
            floors,
            ["model", "beta"],
            _FLOORS,
            overlap,
        ),
        _means(
            "Online matching with caps, cap × k positions a user; precision an exposure",
            caps,
            ["model", "cap"],
            _CAPS,
            overlap,
        ),
        _cost_of_floors(floors, overlap),
        _gain_of_ground(table, backtest.config.models, overlap),
        _who_pays(floors, overlap),
    ]
    return [table for table in tables if table.rows]


def _means(
    title: str, table: pd.DataFrame, labels: list[str], metrics: tuple[str, ...], overlap: float
) -> TextTable:
    return pivoted(title, over_seeds(table, labels, metrics, overlap), labels, metrics, significant=True)


def _cost_of_floors(floors: pd.DataFrame, overlap: float) -> TextTable:
    """Perplexity's factor and precision's relative change against β = 0, at the same seeds."""
    free = floors.loc[floors["beta"] == 0, ["model", "metric", "seed", "value"]]
    both = floors[floors["beta"] > 0].merge(free, on=["model", "metric", "seed"], suffixes=("", "_free"))
    ratio = both["value"] / both["value_free"].where(both["value_free"] > 0)
    names = {"perplexity": "perplexity ×", "precision": "precision, %"}
    changes = both.assign(
        metric=both["metric"].map(names), value=ratio.where(both["metric"] == "perplexity", 100 * (ratio - 1))
    )
    title = "What floors cost: against β = 0, at the same seeds"
    return _means(title, changes, ["model", "beta"], tuple(names.values()), overlap)


def _gain_of_ground(table: pd.DataFrame, models: tuple[str, ...], overlap: float) -> TextTable:
    """Precision with λ(x) minus precision of the same mark model without, at the same seeds."""
    precise = table[(table["metric"] == "precision") & table["cap"].isna()]
    online = precise["beta"].map({0.7: "online, β .7", 1.0: "online, β 1"})
    tasks = precise.assign(metric=precise["task"].where(precise["beta"].isna(), online))
    by_model = tasks.pivot_table(index=["metric", "seed"], columns="model", values="value")
    gains = []
    for model in models:
        mark, ground = mark_and_ground(model)
        if ground is not None and mark in models:
            gain = (by_model[model] - by_model[mark]).rename("value").reset_index()
            gains.append(gain.assign(difference=f"{model} − {mark}"))
    title = "What λ(x) adds to precision, at the same seeds"
    columns = ("item-rec", "user-rec", "online, β .7", "online, β 1")
    if not gains:
        return TextTable(title, (), ())
    return _means(title, pd.concat(gains), ["difference"], columns, overlap)


def _who_pays(floors: pd.DataFrame, overlap: float) -> TextTable:
    """Positions a slate that go to guaranteed items, by decile of λ(x)."""
    deciles = [f"{PAYING}{number}" for number in range(1, 11)]
    difference = "guaranteed_lowest_minus_highest"
    means = over_seeds(floors, ["model", "beta"], (*deciles, difference), overlap)
    rows = []
    for (model, beta), point in means.groupby(["model", "beta"], sort=False):
        *cells, last = point[["mean", "low", "high"]].to_numpy().tolist()
        shares = (f"{mean:.1f}" for mean, _, _ in cells)
        rows.append((str(model), f"{beta:g}", *shares, cell(*last, significant=True)))
    return TextTable(
        "Who pays: positions a slate held by items that would else be below their floor, by decile of λ(x)",
        ("model", "beta", *(str(number) for number in range(1, 11)), "lowest − highest"),
        tuple(rows),
    )
