"""What a back-test says in numbers: means with intervals over seeds, and differences at the same seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table

from rimsim import measures
from rimsim.intensity.registry import parts
from rimsim.scenarios.backtesting.tasks import PAYING
from rimsim.scenarios.report.results import spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Shown", "as_markdown", "as_table", "by_seed", "front", "mean_and_bounds", "shown"]

_FIRST = ("precision", "recall", "ndcg", "perplexity", "coverage")
_FLOORS = ("precision", "recall", "perplexity", "coverage", "shortfall", "items_met")
_CAPS = ("precision", "recall", "perplexity", "coverage", "filled")


class Shown:
    """One table to print: a title, column names, rows of text."""

    def __init__(self, title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        self.title = title
        self.columns = columns
        self.rows = rows


def by_seed(
    table: pd.DataFrame,
    task: str,
    model: str,
    metric: str,
    *,
    beta: float | None = None,
    cap: float | None = None,
) -> pd.Series:
    """The value of a metric at each seed (index), NaN-free; empty where there is none."""
    rows = table[(table["task"] == task) & (table["model"] == model) & (table["metric"] == metric)]
    for column, wanted in (("beta", beta), ("cap", cap)):
        rows = rows[rows[column].isna()] if wanted is None else rows[rows[column] == wanted]
    return rows.set_index("seed")["value"].astype(float).sort_index()


def mean_and_bounds(values: pd.Series | NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean, low and high of the 95 % interval over seeds; NaN where there is none."""
    found = measures.mean_interval(np.asarray(values, np.float64))
    none = float("nan")
    return tuple(none if x is None else x for x in (found.mean, found.low, found.high))  # type: ignore[return-value]


def front(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """The relevance-diversity front of a model.

    Returns:
        Columns beta, precision, precision_low, precision_high, perplexity, perplexity_low, perplexity_high.
    """
    betas = sorted(
        table.loc[(table["task"] == "online") & (table["model"] == model), "beta"].dropna().unique()
    )
    rows = []
    for beta in betas:
        row: dict[str, float] = {"beta": float(beta)}
        for metric in ("precision", "perplexity"):
            mean, low, high = mean_and_bounds(by_seed(table, "online", model, metric, beta=float(beta)))
            row |= {metric: mean, f"{metric}_low": low, f"{metric}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def _number(value: float) -> str:
    size = abs(value)
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    return f"{value:.4f}" if size < 0.1 else f"{value:.3f}"


def _cell(values: pd.Series | NDArray[np.float64]) -> str:
    if not len(values):
        return "–"
    mean, low, high = mean_and_bounds(values)
    if np.isnan(low):
        return _number(mean)
    return f"{_number(mean)} ±{_number((high - low) / 2)}"


def shown(table: pd.DataFrame, models: tuple[str, ...]) -> list[Shown]:
    """Every table that a back-test prints, without those that would be empty."""
    over_seeds = spread(table["seed"].nunique())
    found = [
        _recommendation(table, models, "item-rec", f"Item recommendation, {over_seeds}"),
        _recommendation(
            table, models, "user-rec", f"User recommendation (perplexity and coverage of users), {over_seeds}"
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
    return [one for one in found if one.rows]


def _recommendation(table: pd.DataFrame, models: tuple[str, ...], task: str, title: str) -> Shown:
    rows = [
        (model, *(_cell(by_seed(table, task, model, metric)) for metric in _FIRST))
        for model in models
        if len(by_seed(table, task, model, "precision"))
    ]
    return Shown(title, ("model", *_FIRST), rows)


def _online(
    table: pd.DataFrame, models: tuple[str, ...], level: str, metrics: tuple[str, ...], title: str
) -> Shown:
    rows = []
    for model in models:
        for value in _levels(table, model, level):
            cells = [_cell(by_seed(table, "online", model, metric, **{level: value})) for metric in metrics]
            rows.append((model, f"{value:g}", *cells))
    return Shown(title, ("model", level, *(metric.replace("_", " ") for metric in metrics)), rows)


def _levels(table: pd.DataFrame, model: str, level: str) -> list[float]:
    rows = table[(table["task"] == "online") & (table["model"] == model)]
    return sorted(float(value) for value in rows[level].dropna().unique())


def _cost_of_floors(table: pd.DataFrame, models: tuple[str, ...]) -> Shown:
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
    return Shown(
        "What floors cost: against β = 0, at the same seeds",
        ("model", "beta", "perplexity ×", "precision, %"),
        rows,
    )


def _gain_of_ground(table: pd.DataFrame, models: tuple[str, ...]) -> Shown:
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
    return Shown(
        "What λ(x) adds to precision, at the same seeds",
        ("difference", "item-rec", "user-rec", "online, β .7", "online, β 1"),
        rows,
    )


def parts_or_none(model: str) -> tuple[str, str | None] | None:
    """The mark and the ground of a name; None for a model that is not known here, such as somebody's own."""
    from rimsim.errors import ConfigError  # noqa: PLC0415

    try:
        return parts(model)
    except ConfigError:
        return None


def _who_pays(table: pd.DataFrame, models: tuple[str, ...]) -> Shown:
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
    return Shown(
        "Who pays: positions a slate held by items that would else be below their floor, by decile of λ(x)",
        ("model", "beta", *(str(number) for number in numbers), "lowest − highest"),
        rows,
    )


def as_table(one: Shown) -> Table:
    """For the terminal."""
    table = Table(
        title=one.title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1)
    )
    for number, name in enumerate(one.columns):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=number == 0)
    for row in one.rows:
        table.add_row(*row)
    return table


def as_markdown(one: Shown) -> str:
    """For a page."""
    lines = ["| " + " | ".join(one.columns) + " |", "|---|" + "---:|" * (len(one.columns) - 1)]
    lines += [f"| `{row[0]}` | " + " | ".join(row[1:]) + " |" for row in one.rows]
    return f"**{one.title}**\n\n" + "\n".join(lines) + "\n"
