"""Curves made from tables: means over seeds with 95 % intervals, or the seeds themselves where they are few."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rimsim.measures import FEW_SEEDS, mean_interval
from rimsim.scenarios.page.chart import Axis, Curve
from rimsim.scenarios.pictures.looks import WIDE
from rimsim.scenarios.runs.status import is_control, subject_of

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.measures import Measure
    from rimsim.scenarios.pictures.looks import AgentStyle


def axis_of(measure: Measure, *, difference: bool = False) -> Axis:
    """The axis of a measure; its label is the unit, as the chart's title is the measure.

    Args:
        measure: What is drawn.
        difference: Whether it is a difference, whose share is in points.
    """
    share = measure.unit == "share"
    unit = "points" if share and difference else "" if share or measure.unit == "index" else measure.unit
    return Axis(unit, share=share, zero=not difference and (share or measure.unit == "index"))


def widened(axis: Axis, values: pd.Series[float]) -> Axis:
    """The axis, logarithmic where a plain one would show the largest of some counts alone."""
    least, most = float(values.min()), float(values.max())
    return replace(axis, scale="log") if not axis.share and least > 0 and most > WIDE * least else axis


def over(table: pd.DataFrame, x: str, looks: Mapping[str, AgentStyle]) -> tuple[Curve, ...]:
    """A curve a name: means over seeds.

    Args:
        table: Columns agent, seed, ``x``, value; one row a seed.
        x: Column along the x axis.
        looks: Name, or agent of a control, → its look; also the order.
    """
    curves = []
    present = list(dict.fromkeys(table["agent"]))
    for agent, look in looks.items():
        for name in (
            name for name in present if name == agent or (is_control(name) and subject_of(name) == agent)
        ):
            wide = table[table["agent"] == name].pivot(index=x, columns="seed", values="value").sort_index()
            found = [mean_interval(row[np.isfinite(row)]) for row in wide.to_numpy(np.float64)]
            few = 1 < wide.shape[1] < FEW_SEEDS
            threads = tuple(tuple(map(float, wide[seed])) for seed in wide) if few else ()
            curve = Curve(
                name,
                look.colour,
                look.marker,
                tuple(map(float, wide.index)),
                tuple(_or_nan(one.mean) for one in found),
                tuple(_or_nan(one.low) for one in found),
                tuple(_or_nan(one.high) for one in found),
                threads=threads,
                dashed=name != agent,
            )
            curves.append(curve)
    return tuple(curves)


def front_points(
    means: pd.DataFrame, x: str, y: str, looks: Mapping[str, AgentStyle], along: str | None = None
) -> tuple[Curve, ...]:
    """A curve or point a name in the plane of two metrics, with the intervals of both.

    Args:
        means: Columns agent, metric, mean, low, high, and ``along``.
        x: Metric across.
        y: Metric up.
        looks: Name → its look; also the order.
        along: Column whose values follow each other along a curve; None: one point a name.
    """
    curves = []
    for name, look in looks.items():
        mine = means[means["agent"] == name].assign(along=0.0 if along is None else means[along])
        wide = mine.pivot(index="along", columns="metric", values=["mean", "low", "high"]).sort_index()
        if x not in set(mine["metric"]) or y not in set(mine["metric"]):
            continue
        ends = {
            (end, metric): tuple(map(float, wide[end, metric]))
            for end in ("mean", "low", "high")
            for metric in (x, y)
        }
        curve = Curve(
            name,
            look.colour,
            look.marker,
            ends["mean", x],
            ends["mean", y],
            ends["low", y],
            ends["high", y],
            ends["low", x],
            ends["high", x],
            line=along is not None,
        )
        curves.append(curve)
    return tuple(curves)


def spread_words(seeds: int) -> str:
    """What bands or thin lines are, by how many seeds there are."""
    if seeds == 1:
        return "One seed: no intervals."
    if seeds < FEW_SEEDS:
        return f"Thick: mean of {seeds} seeds; thin: each seed."
    return f"Mean of {seeds} seeds; bands and bars: 95 % intervals (Student t)."


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
