"""Picture of groups of items: delivery and revenue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim import measures
from rimsim.errors import plural
from rimsim.scenarios.report import charts
from rimsim.scenarios.report.group_figures import GroupFigures
from rimsim.scenarios.report.numbers import per_cent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def picture(figures: GroupFigures | None) -> Figure | None:
    """Delivery of each group, and change of its revenue."""
    if figures is None or figures.agent is None:
        return None
    shown = figures.shown()
    # Without prices of items, there is no revenue.
    change = next(metric for metric in ("revenue", "consumptions") if not figures.changes(metric).empty)
    height = 1.2 + 0.24 * len(shown)
    is_narrow = charts.columns(2) == 1
    figure = charts.frame(_title(figures), _caption(figures, change), (2 if is_narrow else 1) * height)
    if is_narrow:
        delivery, changes = figure.subplots(2, 1)
    else:
        delivery, changes = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    _draw_ratios(delivery, figures, shown)
    _draw_changes(changes, figures, shown, change)
    return figure


def _title(figures: GroupFigures) -> str:
    """Finding of the picture."""
    agent = str(figures.agent)
    if figures.guaranteed:
        shares = [per_cent(float(figures.undelivered(name).mean())) for name in (agent, figures.base)]
        return (
            f"{agent} leaves {shares[0]} of the exposure guaranteed to {plural(figures.column)} undelivered, "
            f"{figures.base} {shares[1]}"
        )
    gained = int((figures.changes("exposures").mean(axis=1) > 0).sum())
    groups = len(figures.values(agent, "exposures"))
    return f"{gained} of {groups} {plural(figures.column)} get more exposure from {agent} than from {figures.base}"


def _caption(figures: GroupFigures, change: str) -> str:
    """Explanation of both panels."""
    reference = (
        "the guaranteed exposure" if figures.guaranteed else "the uniform exposure of the group's items"
    )
    seeds = figures.late["seed"].nunique()
    lines = "Bars: 95% intervals over seeds." if seeds > 1 else "One seed: no intervals."
    return f"First: exposure as a share of {reference}. Second: change of the {change} ({figures.words}). {lines}"


def _interval(values: pd.Series) -> tuple[float, float]:
    """Ends of the interval over seeds, else the mean."""
    interval = measures.mean_interval(np.asarray(values, np.float64))
    mean = float(values.mean())
    low = mean if interval.low is None else interval.low
    high = mean if interval.high is None else interval.high
    return low, high


def _share_interval(values: pd.Series) -> tuple[float, float]:
    """Ends of the interval of a ratio, at least 0."""
    low, high = _interval(values)
    return max(low, 0.0), high


def _long(table: pd.DataFrame, shown: Sequence[str]) -> pd.DataFrame:
    """Columns group and value, a row per group and seed."""
    rows = table.loc[list(shown)].rename_axis("group").reset_index()
    return rows.melt(id_vars="group", var_name="seed")


def _draw_ratios(ax: Axes, figures: GroupFigures, shown: Sequence[str]) -> None:
    """Draw the delivered share of each group, by agent."""
    import seaborn as sns  # noqa: PLC0415  # slow to import

    looks = charts.styles(figures.agents)
    table = pd.concat(
        [_long(figures.ratio(agent), shown).assign(agent=agent) for agent in figures.agents],
        ignore_index=True,
    )
    errorbar: Callable[[pd.Series], tuple[float, float]] = _share_interval
    sns.pointplot(
        table,
        x="value",
        y="group",
        hue="agent",
        order=list(shown),
        hue_order=list(figures.agents),
        palette={agent: looks[agent].colour for agent in figures.agents},
        markers=[looks[agent].marker for agent in figures.agents],
        errorbar=errorbar,
        linestyle="none",
        err_kws={"linewidth": 1},
        markersize=6,
        ax=ax,
    )
    ax.axvline(1.0, color=charts.GREY, linewidth=1.2, linestyle=":")
    ax.set_xscale("symlog", linthresh=1.0)  # linear up to 1, logarithmic above
    largest_value = table["value"].max()
    ticks = [
        tick for tick in (0.0, 0.5, 1.0, 3.0, 10.0, 30.0, 100.0) if tick <= 1.2 * largest_value or tick <= 1
    ]
    ax.set_xticks(ticks, [f"{100 * tick:.0f}%" for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlim(-0.05, max(1.3, 1.3 * float(largest_value)))
    ax.set(
        xlabel="of the guarantee" if figures.guaranteed else "of the uniform exposure", ylabel=figures.column
    )
    ax.legend(loc="best", frameon=True, framealpha=0.9, title=None)


def _draw_changes(ax: Axes, figures: GroupFigures, shown: Sequence[str], change: str) -> None:
    """Draw the change of each group's revenue or consumptions."""
    import seaborn as sns  # noqa: PLC0415  # slow to import

    looks = charts.styles(figures.agents)
    errorbar: Callable[[pd.Series], tuple[float, float]] = _interval
    sns.barplot(
        _long(figures.changes(change), shown),
        x="value",
        y="group",
        order=list(shown),
        color=looks[str(figures.agent)].colour,
        errorbar=errorbar,
        err_kws={"linewidth": 1, "color": "#333333"},
        ax=ax,
    )
    ax.axvline(0.0, color=charts.GREY, linewidth=1.2)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,g}".replace("-", "−"))
    ax.set(xlabel=f"{change} per round, change", ylabel="")
