"""The pictures of a validation: real against simulated worth of models, and λ by decile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from rimsim.scenarios.report.charts import AgentStyle, draw, frame, label_points, legend, styles
from rimsim.scenarios.report.tables import signed
from rimsim.scenarios.validating.evidence import ORACLE
from rimsim.scenarios.validating.rates import rate_curves
from rimsim.scenarios.validating.tables import figures_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rimsim.scenarios.validating.run import Validation


_ACROSS = 2
"""Panels beside each other."""


def draw_validation(validation: Validation, folder: Path) -> list[Path]:
    """Draw both pictures, as far as the tables hold what they show.

    Args:
        validation: The validation.
        folder: Made if missing; pictures of the same name are replaced.

    Returns:
        The files written.
    """
    figures = {
        "agreement": partial(real_against_simulated, validation.intervals, validation.agreement),
        "calibration": partial(calibration, validation.table),
    }
    return draw(figures, folder)


def _panels(figure: Figure, number: int) -> list[Axes]:
    """So many axes, two beside each other; none is left empty."""
    rows = -(-number // _ACROSS)
    grid = np.ravel(figure.subplots(rows, min(number, _ACROSS), squeeze=False)).tolist()
    for spare in grid[number:]:
        spare.remove()
    return grid[:number]


def real_against_simulated(intervals: pd.DataFrame, agreement: pd.DataFrame) -> Figure | None:
    """A panel a truth: real precision of each model against its utility under the truth.

    Args:
        intervals: Columns model, truth, metric, mean, low, high, users.
        agreement: Columns truth, metric, value.
    """
    intervals = intervals.assign(  # no bar where there is no interval
        low=intervals["low"].fillna(intervals["mean"]), high=intervals["high"].fillna(intervals["mean"])
    )
    real = intervals[(intervals["truth"] == "") & (intervals["metric"] == "precision")].set_index("model")
    truths = list(dict.fromkeys(agreement["truth"]))
    of_truths = figures_of(agreement)
    rows = -(-len(truths) // _ACROSS)
    figure = frame(
        _message(truths, of_truths),
        "Precision of recommended items at users' held-out later sessions against expected consumptions of the "
        "same slates under a truth. Bars: 95 % intervals over users. Up and to the right together: the truth agrees.",
        4.9 * rows,
    )
    looks = styles(real.index)
    for ax, truth in zip(_panels(figure, len(truths)), truths, strict=True):
        worth = intervals[(intervals["truth"] == truth) & (intervals["model"] != ORACLE)].set_index("model")
        _panel(ax, real, worth.loc[real.index], looks)
        ax.set_title(_title(truth, of_truths[truth]), loc="left", pad=9)
    return figure


def _panel(ax: Axes, real: pd.DataFrame, worth: pd.DataFrame, looks: dict[str, AgentStyle]) -> None:
    for name, look in looks.items():
        here, there = real.loc[name], worth.loc[name]
        ax.errorbar(
            here["mean"],
            there["mean"],
            xerr=[[here["mean"] - here["low"]], [here["high"] - here["mean"]]],
            yerr=[[there["mean"] - there["low"]], [there["high"] - there["mean"]]],
            color=look.colour,
            marker=look.marker,
            markersize=8,
            markeredgecolor="white",
            elinewidth=1,
            capsize=2,
            linestyle="none",
        )
    ax.set_xlim(0, 1.12 * (float(real["high"].max()) or 1.0))
    ax.set_ylim(0, 1.1 * (float(worth["high"].max()) or 1.0))
    ax.set_xlabel("real: precision")
    ax.set_ylabel("simulated: utility (consumptions a slate)")
    across, up = real["mean"].to_dict(), worth["mean"].to_dict()
    points = {name: (float(across[name]), float(up[name])) for name in looks}
    label_points(ax, points, looks, _bars(ax, real, worth, list(looks)))


def _bars(ax: Axes, real: pd.DataFrame, worth: pd.DataFrame, names: Sequence[str]) -> list[Bbox]:
    """Boxes around the error bars, in pixels."""
    figure = ax.get_figure(root=True)
    if figure is not None:
        figure.draw_without_rendering()
    boxes = []
    for name in names:
        here, there = real.loc[name], worth.loc[name]
        for corners in (
            [(here["low"], there["mean"]), (here["high"], there["mean"])],
            [(here["mean"], there["low"]), (here["mean"], there["high"])],
        ):
            (x0, y0), (x1, y1) = ax.transData.transform(np.array(corners, np.float64))
            boxes.append(Bbox.from_extents(x0 - 1, y0 - 1, x1 + 1, y1 + 1))
    return boxes


def _title(truth: str, figures: Mapping[str, float]) -> str:
    chosen = ", chosen" if figures["chosen"] else ""
    unfit = ", unfit" if figures["unfit"] else ""
    return f"Truth {truth}{chosen}{unfit}: τ = {signed(figures['kendall'])}"


def _message(truths: Sequence[str], agreement: Mapping[str, Mapping[str, float]]) -> str:
    """How the chosen truth, or the best one, orders the pairs that reality settles."""
    chosen = [truth for truth in truths if agreement[truth]["chosen"]]
    settled_of = {name: agreement[name]["kendall_settled"] for name in truths}
    truth = (
        chosen[0]
        if chosen
        else max(truths, key=lambda name: -np.inf if np.isnan(settled_of[name]) else settled_of[name])
    )
    figures = agreement[truth]
    settled, right = int(figures["settled_pairs"]), int(figures["concordant_pairs"])
    if not settled:
        return "Held-out later sessions settle no pair of models on this log"
    verb = "puts only" if figures["unfit"] else "puts"
    return f"The truth {truth} {verb} {right} of the {settled} pairs of models that reality settles in reality's order"


def calibration(table: pd.DataFrame) -> Figure | None:
    """Mean λ of each tenth of held-out sessions against the mean number of events that came.

    Args:
        table: Columns model, truth, draw, metric, value.
    """
    curves = rate_curves(table)
    if not curves:
        return None
    figure = frame(
        _calibration_message(curves),
        "Each point is a tenth of the log's sessions, by λ, fitted without them. On the line, λ is the mean number of "
        "events that came.",
        4.6,
    )
    ax, side = figure.subplots(1, 2, width_ratios=(3.4, 1.3))
    looks = styles(curves)
    ends: list[float] = []
    for name, look in looks.items():
        mean = curves[name]
        tenths = [number for number in range(1, 11) if f"rate_predicted_{number}" in mean]
        x = [mean[f"rate_predicted_{number}"] for number in tenths]
        y = [mean[f"rate_realised_{number}"] for number in tenths]
        ax.plot(
            x, y, color=look.colour, marker=look.marker, markersize=7, markeredgecolor="white", linewidth=1.5
        )
        ends += [*x, *y]
    low, high = min(ends) / 1.2, max(ends) * 1.2
    ax.plot([low, high], [low, high], color="#999999", linewidth=1, linestyle="--", zorder=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis, limits in ((ax.xaxis, ax.set_xlim), (ax.yaxis, ax.set_ylim)):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(NullFormatter())
        limits(low, high)
    ax.set_xlabel("expected events a session, λ")
    ax.set_ylabel("events that came")
    legend(side, looks)
    return figure


def _calibration_message(curves: Mapping[str, Mapping[str, float]]) -> str:
    """How many times the events that came each λ expects."""
    parts = [f"{name} expects {signed(figures['rate_ratio'])}" for name, figures in curves.items()]
    return f"{', '.join(parts)} times the events that came"
