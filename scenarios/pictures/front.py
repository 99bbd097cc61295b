"""The picture of a sweep: the relevance-diversity front of each agent, and what it leaves undelivered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rimsim.measures import MEASURES
from rimsim.scenarios.pictures.looks import styles
from rimsim.scenarios.pictures.matrix import matrix_figure
from rimsim.scenarios.pictures.messages import many, per_cent, subject
from rimsim.scenarios.pictures.style import draw, frame, legend, metric_axis, plot_means
from rimsim.scenarios.report.summary import over_seeds, shortfalls
from rimsim.scenarios.report.sweep import sweep_matrix, swept_fields, undrawn_reason

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from rimsim.scenarios.runs.store import Run


def draw_sweep(sweep: Run) -> list[Path]:
    """Draw the front of a sweep over one numeric field into its folder, or the matrix of one over other fields.

    A matrix whose agents tell no difference, or that has one seed and so no interval, is not drawn.

    Args:
        sweep: The sweep, with its table.
    """
    table = sweep.sweep
    unit, fields = sweep.scenario.exposure.unit, swept_fields(table)
    if undrawn_reason(table) is None:
        return draw({"front": lambda: front_figure(table, fields[0], unit)}, sweep.folder / "pictures")
    found = sweep_matrix(table, unit)
    if found.empty or found["n"].max() < 2:
        return []
    return draw({"matrix": lambda: matrix_figure(found, fields)}, sweep.folder / "pictures")


def front_figure(table: pd.DataFrame, field: str, unit: str = "examined") -> Figure:
    """The front of each agent over a numeric field, and what it leaves undelivered.

    Args:
        table: The table of a sweep over that field alone.
        field: Its column.
        unit: The unit of the guarantees.
    """
    kept, _ = shortfalls(unit)
    metrics = ("utility", "perplexity", kept)
    means = over_seeds(table, ["agent", field], metrics)
    looks = styles(table["agent"].unique())
    seeds = int(table["seed"].nunique())
    values = ", ".join(f"{value:g}" for value in sorted(table[field].unique()))
    bars = "bars: 95 % intervals over seeds" if seeds > 1 else "no intervals"
    still = _still(means, field)
    caption = f"Points of a line: {_symbol(field)} = {values}. Late rounds, {many(seeds, 'seed')}; {bars}."
    if still:
        caption += f" Ring: {_symbol(field)} does not move {', '.join(sorted(still))}."
    figure = frame(_message(means, field, still), caption, 5.4)
    left, right, side = figure.subplots(1, 3, width_ratios=(3, 2.4, 1.3))
    for name, look in looks.items():
        curve = means[means["agent"] == name].pivot(index=field, columns="metric").sort_index()
        plot_means(left, curve, "perplexity", "utility", look, ring=name in still)
        owing = (
            curve[curve.index > 0] if field == "beta" and curve.index.max() > 0 else curve
        )  # β = 0 owes nothing
        plot_means(right, owing, None, kept, look)
    left.set_title("Relevance-diversity front", loc="left", pad=9)
    left.set_ylabel(f"{MEASURES['utility'].title.lower()} ({MEASURES['utility'].unit})")
    left.set_xlabel("exposure perplexity (items)")
    left.set_xlim(0, 1.03 * left.get_xlim()[1])
    left.set_ylim(0, 1.04 * left.get_ylim()[1])
    metric_axis(right, MEASURES[kept])
    ends = means[field].min(), means[field].max()
    edge = 0.05 * (ends[1] - ends[0]) or 0.5
    right.set_xlim(ends[0] - edge, ends[1] + edge)
    right.set_xlabel(_symbol(field))
    legend(side, looks)
    return figure


def _still(means: pd.DataFrame, field: str) -> set[str]:
    """Agents whose points on the front are all one: their slates do not depend on the field."""
    names = set()
    for name, curve in means[means["metric"].isin(("utility", "perplexity"))].groupby("agent", observed=True):
        spread = curve.pivot(index=field, columns="metric", values="mean").agg(np.ptp)
        if len(curve) > 2 and (spread <= 1e-6 * curve.groupby("metric", observed=True)["mean"].max()).all():
            names.add(str(name))
    return names


def _symbol(field: str) -> str:
    return {"beta": "β", "cost": "c"}.get(field, field.replace("_", " "))


def _message(means: pd.DataFrame, field: str, still: set[str]) -> str:
    """What the largest value of the field brings and costs the agent of the title, against its smallest."""
    agents = set(means["agent"].unique())
    name = subject(agents - still or agents)
    curve = means[means["agent"] == name].pivot(index=field, columns="metric", values="mean").sort_index()
    if len(curve) == 1:
        return f"{_symbol(field)} = {curve.index[0]:g}"
    first, last = curve.iloc[0], curve.iloc[-1]
    ends = f"{_symbol(field)} from {curve.index[0]:g} to {curve.index[-1]:g}"
    if name in still:
        return f"{ends}: nothing moves, neither exposure nor utility"
    if not (first["perplexity"] > 0 and first["utility"] > 0):
        return f"{name}: {ends}"
    factor = last["perplexity"] / first["perplexity"]
    change = last["utility"] / first["utility"] - 1
    wide = "just" if f"{factor:.1f}" == "1.0" else f"{factor:.1f} times"
    wide = f"With {name}, {ends} makes exposure {wide} as wide"
    if abs(change) < 0.0005:  # less than is written
        return f"{wide} and leaves utility the same"
    return f"{wide} and {'lowers' if change < 0 else 'raises'} utility by {per_cent(abs(change))}"
