"""The picture of a sweep: the relevance-diversity front of each agent, and what it leaves undelivered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim import measures
from rimsim.measures import MEASURES
from rimsim.scenarios.pictures.messages import many, per_cent, subject
from rimsim.scenarios.pictures.style import frame, legend, metric_axis, style, styles

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rimsim.scenarios.pictures.style import AgentStyle
    from rimsim.scenarios.store.run_folder import Run

__all__ = ["draw_sweep", "front_figure", "front_table", "not_drawn", "swept_fields"]


def swept_fields(sweep: pd.DataFrame) -> list[str]:
    """Names of the fields that vary, which are columns of the table of a sweep."""
    return [name for name in sweep.columns if name not in ("agent", "seed", "metric", "value")]


def not_drawn(sweep: pd.DataFrame) -> str | None:
    """Why a sweep has no picture; None where it has one.

    Args:
        sweep: The table of a sweep.
    """
    fields = swept_fields(sweep)
    if len(fields) > 1:
        return f"{len(fields)} fields vary ({', '.join(fields)}); the front is drawn over one"
    if not pd.api.types.is_numeric_dtype(sweep[fields[0]]) or pd.api.types.is_bool_dtype(sweep[fields[0]]):
        return f"{fields[0]} is no number; the front is drawn over numbers"
    return None


def front_table(sweep: pd.DataFrame, fields: list[str], metrics: tuple[str, ...]) -> pd.DataFrame:
    """Means over seeds with intervals.

    Args:
        sweep: The table of a sweep: agent, seed, the fields, metric, value.
        fields: Names of the swept fields.
        metrics: Which metrics; those that the table lacks are left out.

    Returns:
        Columns agent, the fields, metric, mean, low, high, n; by agent, then metric, then point.
    """
    rows = []
    chosen = sweep[sweep["metric"].isin(metrics)]
    for key, group in chosen.groupby(["agent", *fields, "metric"], sort=False, observed=True):
        found = measures.mean_interval(group["value"].to_numpy(np.float64))
        rows.append((*key, found.mean, found.low, found.high, found.n))
    table = pd.DataFrame(rows, columns=["agent", *fields, "metric", "mean", "low", "high", "n"])
    agents = list(dict.fromkeys(table["agent"]))
    rank = table["agent"].map(agents.index) * len(metrics) + table["metric"].map(metrics.index)
    return table.iloc[np.argsort(rank.to_numpy(), kind="stable")].reset_index(drop=True)


def draw_sweep(run: Run) -> Path | None:
    """Draw the front of a sweep over one numeric field into its folder; None for another sweep.

    Args:
        run: The sweep.
    """
    table = run.sweep
    if not_drawn(table) is not None:
        return None
    folder = run.folder / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    with style():
        figure = front_figure(table, swept_fields(table)[0])
        path = folder / "front.png"
        figure.savefig(path, metadata={"Software": None})
    return path


def front_figure(table: pd.DataFrame, field: str) -> Figure:
    """The front of each agent over a numeric field, and what it leaves undelivered.

    Args:
        table: The table of a sweep over that field alone.
        field: Its column.
    """
    metrics = ("utility", "perplexity", "shortfall")
    means = front_table(table, [field], metrics)
    looks = styles(table["agent"].unique())
    seeds = int(table["seed"].nunique())
    values = ", ".join(f"{value:g}" for value in sorted(table[field].unique()))
    bars = "bars: 95 % intervals over seeds" if seeds > 1 else "no intervals"
    still = _still(means, field)
    caption = f"Points of a line: {_symbol(field)} = {values}. Late rounds, {many(seeds, 'seed')}; {bars}."
    if still:
        caption += f" Ring: {_symbol(field)} does not move {', '.join(sorted(still))}."
    figure = frame(_message(means, field), caption, 5.4)
    left, right, side = figure.subplots(1, 3, width_ratios=(3, 2.4, 1.3))
    for name, look in looks.items():
        own = means[means["agent"] == name].pivot(index=field, columns="metric").sort_index()
        _points(
            left,
            (own["mean", "perplexity"], own["mean", "utility"]),
            (_bars(own, "perplexity"), _bars(own, "utility")),
            look,
            ring=name in still,
        )
        owing = own[own.index > 0] if field == "beta" and own.index.max() > 0 else own  # β = 0 owes nothing
        _points(
            right,
            (owing.index.to_series(), owing["mean", "shortfall"]),
            (None, _bars(owing, "shortfall")),
            look,
        )
    _label_axis(left, "utility")
    left.set_xlabel("exposure perplexity (items)")
    left.set_xlim(0, 1.03 * left.get_xlim()[1])
    left.set_ylim(0, 1.04 * left.get_ylim()[1])
    metric_axis(right, MEASURES["shortfall"])
    ends = means[field].min(), means[field].max()
    edge = 0.05 * (ends[1] - ends[0]) or 0.5
    right.set_xlim(ends[0] - edge, ends[1] + edge)
    right.set_xlabel(_symbol(field))
    legend(side, looks)
    return figure


def _points(
    ax: Axes,
    at: tuple[pd.Series[float], pd.Series[float]],
    bars: tuple[list[list[float]] | None, list[list[float]]],
    look: AgentStyle,
    *,
    ring: bool = False,
) -> None:
    """A line with bars; as a ring around what it would hide, or hide behind, where all its points are one."""
    drawn = ax.errorbar(
        *at,
        xerr=bars[0],
        yerr=bars[1],
        color=look.colour,
        marker=look.marker,
        markersize=15 if ring else 6,
        markerfacecolor="none" if ring else look.colour,
        markeredgewidth=2 if ring else 1,
        linewidth=2,
        elinewidth=1,
        capsize=2,
    )
    drawn.lines[0].set_clip_on(False)


def _still(means: pd.DataFrame, field: str) -> set[str]:
    """Agents whose points on the front are all one: their slates do not depend on the field."""
    found = set()
    for name, own in means[means["metric"].isin(("utility", "perplexity"))].groupby("agent", observed=True):
        spread = own.pivot(index=field, columns="metric", values="mean").agg(np.ptp)
        if len(own) > 2 and (spread <= 1e-6 * own.groupby("metric", observed=True)["mean"].max()).all():
            found.add(str(name))
    return found


def _label_axis(ax: Axes, metric: str) -> None:
    ax.set_title("Relevance-diversity front", loc="left", pad=9)
    ax.set_ylabel(f"{MEASURES[metric].title.lower()} ({MEASURES[metric].unit})")


def _bars(own: pd.DataFrame, metric: str) -> list[list[float]]:
    """Lengths below and above; 0 where there is no interval."""
    mean = own["mean", metric].to_numpy(np.float64)
    low, high = (own[bound, metric].to_numpy(np.float64) for bound in ("low", "high"))
    return [np.nan_to_num(mean - low).tolist(), np.nan_to_num(high - mean).tolist()]


def _symbol(field: str) -> str:
    return {"beta": "β", "cost": "c"}.get(field, field.replace("_", " "))


def _message(means: pd.DataFrame, field: str) -> str:
    """What the largest value of the field brings and costs the agent of the title, against its smallest."""
    name = subject(means["agent"].unique())
    own = means[means["agent"] == name].pivot(index=field, columns="metric", values="mean").sort_index()
    if len(own) == 1:
        return f"{_symbol(field)} = {own.index[0]:g}"
    first, last = own.iloc[0], own.iloc[-1]
    ends = f"{_symbol(field)} from {own.index[0]:g} to {own.index[-1]:g}"
    if not (first["perplexity"] > 0 and first["utility"] > 0):
        return f"{name}: {ends}"
    factor = last["perplexity"] / first["perplexity"]
    change = last["utility"] / first["utility"] - 1
    verb = "lowers" if change < 0 else "raises"
    wide = f"With {name}, {ends} makes exposure {factor:.1f} times as wide"
    return f"{wide} and {verb} utility by {per_cent(abs(change))}"
