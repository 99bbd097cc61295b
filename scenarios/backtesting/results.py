"""What a back-test says in numbers: means with intervals over seeds, and differences at the same seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.errors import ConfigError
from rimsim.intensity.registry import parts
from rimsim.measures import mean_interval
from rimsim.scenarios.backtesting.tasks import PAYING
from rimsim.scenarios.report.summary import interval_words
from rimsim.scenarios.report.tables import TextTable, cell, folder_places, print_report

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from rimsim.scenarios.backtesting.run import Backtest

__all__ = ["by_seed", "markdown", "parts_or_none", "print_results"]

_FIRST = ("precision", "recall", "ndcg", "perplexity", "coverage")
_FLOORS = ("precision", "recall", "perplexity", "coverage", "shortfall", "items_met")
_CAPS = ("precision", "recall", "perplexity", "coverage", "filled")


def print_results(backtest: Backtest, console: Console) -> None:
    """Print the tables of a back-test and say where everything is."""
    print_report(_tables(backtest), (), folder_places(backtest.folder), console)


def markdown(backtest: Backtest) -> str:
    """The tables of a back-test as Markdown."""
    return "\n".join(table.markdown() for table in _tables(backtest))


def by_seed(
    table: pd.DataFrame,
    task: str,
    model: str,
    metric: str,
    *,
    beta: float | None = None,
    cap: float | None = None,
) -> pd.Series:
    """The value of a metric at each seed (index), ascending; empty where there is none."""
    rows = table[(table["task"] == task) & (table["model"] == model) & (table["metric"] == metric)]
    for column, wanted in (("beta", beta), ("cap", cap)):
        rows = rows[rows[column].isna()] if wanted is None else rows[rows[column] == wanted]
    return rows.set_index("seed")["value"].astype(float).sort_index()


def _cell(values: pd.Series) -> str:
    interval = mean_interval(values.to_numpy(np.float64))
    return cell(interval.mean, interval.low, interval.high, significant=True)


def _tables(backtest: Backtest) -> list[TextTable]:
    """Every table that a back-test prints, without those that would be empty."""
    table, models = backtest.table, backtest.config.models
    seeds = interval_words(table["seed"].nunique())
    tables = [
        _recommendation(table, models, "item-rec", f"Item recommendation, {seeds}"),
        _recommendation(
            table, models, "user-rec", f"User recommendation (perplexity and coverage of users), {seeds}"
        ),
        _online(table, models, "beta", _FLOORS, "Online matching with floors β, prices of past states"),
        _online(
            table,
            models,
            "cap",
            _CAPS,
            "Online matching with caps, cap × k positions a user; precision an exposure",
        ),
        _cost_of_floors(table, models),
        _gain_of_ground(table, models),
        _who_pays(table, models),
    ]
    return [table for table in tables if table.rows]


def _recommendation(table: pd.DataFrame, models: tuple[str, ...], task: str, title: str) -> TextTable:
    rows = [
        (model, *(_cell(by_seed(table, task, model, metric)) for metric in _FIRST))
        for model in models
        if len(by_seed(table, task, model, "precision"))
    ]
    return TextTable(title, ("model", *_FIRST), tuple(rows))


def _online(
    table: pd.DataFrame, models: tuple[str, ...], level: str, metrics: tuple[str, ...], title: str
) -> TextTable:
    rows = []
    for model in models:
        for value in _levels(table, model, level):
            cells = [_cell(by_seed(table, "online", model, metric, **{level: value})) for metric in metrics]
            rows.append((model, f"{value:g}", *cells))
    return TextTable(title, ("model", level, *(metric.replace("_", " ") for metric in metrics)), tuple(rows))


def _levels(table: pd.DataFrame, model: str, level: str) -> list[float]:
    rows = table[(table["task"] == "online") & (table["model"] == model)]
    return sorted(float(value) for value in rows[level].dropna().unique())


def _cost_of_floors(table: pd.DataFrame, models: tuple[str, ...]) -> TextTable:
    """Perplexity's factor and precision's relative change against β = 0, at the same seeds."""
    rows: list[tuple[str, ...]] = []
    for model in models:
        if 0.0 not in (betas := _levels(table, model, "beta")):
            continue
        free = {
            metric: by_seed(table, "online", model, metric, beta=0.0)
            for metric in ("precision", "perplexity")
        }
        for beta in betas:
            if beta == 0:
                continue
            ratio = {
                metric: by_seed(table, "online", model, metric, beta=beta)
                / free[metric].where(free[metric] > 0)
                for metric in free
            }
            change = 100 * (ratio["precision"] - 1)
            rows.append((model, f"{beta:g}", _cell(ratio["perplexity"].dropna()), _cell(change.dropna())))
    return TextTable(
        "What floors cost: against β = 0, at the same seeds",
        ("model", "beta", "perplexity ×", "precision, %"),
        tuple(rows),
    )


def _gain_of_ground(table: pd.DataFrame, models: tuple[str, ...]) -> TextTable:
    """Precision with λ(x) minus precision of the same mark model without, at the same seeds."""
    rows: list[tuple[str, ...]] = []
    for model in models:
        joined = parts_or_none(model)
        if joined is None or joined[1] is None or joined[0] not in models:
            continue
        mark = joined[0]

        def difference(
            task: str, metric: str, *, beta: float | None = None, ours: str = model, theirs: str = mark
        ) -> str:
            one = by_seed(table, task, ours, metric, beta=beta)
            both = (one - by_seed(table, task, theirs, metric, beta=beta)).dropna()
            return _cell(both)

        cells = [difference("item-rec", "precision"), difference("user-rec", "precision")]
        betas = [beta for beta in _levels(table, model, "beta") if beta in (0.7, 1.0)]
        cells += [
            difference("online", "precision", beta=beta) if beta in betas else "–" for beta in (0.7, 1.0)
        ]
        rows.append((f"{model} − {mark}", *cells))
    return TextTable(
        "What λ(x) adds to precision, at the same seeds",
        ("difference", "item-rec", "user-rec", "online, β .7", "online, β 1"),
        tuple(rows),
    )


def parts_or_none(model: str) -> tuple[str, str | None] | None:
    """The mark and the ground of a name; None for a model that is not known here, such as somebody's own."""
    try:
        return parts(model)
    except ConfigError:
        return None


def _who_pays(table: pd.DataFrame, models: tuple[str, ...]) -> TextTable:
    """Positions a slate that go to guaranteed items, by decile of λ(x)."""
    rows = []
    numbers = range(1, 11)
    for model in models:
        for beta in _levels(table, model, "beta"):
            difference = by_seed(table, "online", model, "guaranteed_lowest_minus_highest", beta=beta)
            if not len(difference):
                continue
            cells = [
                by_seed(table, "online", model, f"{PAYING}{number}", beta=beta).mean() for number in numbers
            ]
            rows.append((model, f"{beta:g}", *(f"{cell:.1f}" for cell in cells), _cell(difference)))
    return TextTable(
        "Who pays: positions a slate held by items that would else be below their floor, by decile of λ(x)",
        ("model", "beta", *(str(number) for number in numbers), "lowest − highest"),
        tuple(rows),
    )
