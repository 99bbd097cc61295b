"""Chart of a round by hour."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from rimsim.house_style import INK
from rimsim.scenarios.report import charts
from rimsim.scenarios.report.happenings import CHANGES, RoundHours, amount, heights
from rimsim.scenarios.report.picture_tables import PictureTables

_HOUR = 3600.0
_BINS = (
    (600.0, "10 minutes"),
    (_HOUR, "hour"),
    (6 * _HOUR, "6 hours"),
    (24 * _HOUR, "day"),
    (168 * _HOUR, "week"),
)
_MOST_BINS = 240  # largest number of bins of a round that readers can distinguish
_FEWEST_BINS = 12  # smallest number of bins of an hour
_TITLE_PARTS = 3  # largest number of processes in the title
_SHADE = "#fbe3a8"
_ROW = 0.52  # height of a row of changes in inches


def by_hour(data: PictureTables) -> Figure | None:
    """Changes by processes, visits and consumptions of a round."""
    if data.hours is None:
        return None
    return hours_figure(data.hours)


def hours_figure(hours: RoundHours) -> Figure:
    """Changes, visits and consumptions of a round by hour."""
    # The opening may lie a moment before a full hour, so times are rounded to seconds.
    changes = hours.changes.assign(time=hours.changes["time"].round())
    hours = dataclasses.replace(hours, visits=np.round(hours.visits), changes=changes)
    times = np.concatenate([hours.visits, changes["time"]])
    width, unit = _bin_width(float(times.max() - times.min()))
    opening = width * np.floor(times.min() / width)
    edges = opening + width * np.arange(2 + int((times.max() - opening) // width))
    is_long = edges[-1] - edges[0] > 96 * _HOUR
    scale = 24 * _HOUR if is_long else _HOUR
    rows = _rows(changes)
    upper = 2.0
    figure = charts.frame(_title(hours), _caption(hours, unit), upper + 0.5 + _ROW * len(rows))
    axes = figure.subplots(1 + len(rows), 1, sharex=True, height_ratios=[upper, *[_ROW] * len(rows)])
    _draw_visits(axes[0], hours, (edges - opening) / scale, edges, unit)
    for begin, end in hours.stopped:
        axes[0].axvspan(
            (begin - opening) / scale, (end - opening) / scale, color=_SHADE, linewidth=0, zorder=0
        )
    for ax, (process, label, change, of_row) in zip(axes[1:], rows, strict=True):
        counts, _ = np.histogram(of_row["time"], edges, weights=heights(change, of_row["items"]))
        _draw_row(ax, (edges - opening) / scale, counts, f"{process}: {label}")
    axes[-1].set_xlabel(f"{'days' if is_long else 'hours'} since the beginning of round {hours.round}")
    axes[-1].set_xlim(0, (edges[-1] - opening) / scale)
    if not is_long:
        axes[-1].xaxis.set_major_locator(MultipleLocator(6 if edges[-1] - edges[0] > 24 * _HOUR else 3))
    return figure


def _bin_width(length: float) -> tuple[float, str]:
    """Width of bins in seconds, and its name."""
    fitting = [(width, unit) for width, unit in _BINS if length <= _MOST_BINS * width]
    if len(fitting) == len(_BINS) and length >= _FEWEST_BINS * _HOUR:
        fitting = fitting[1:]
    return fitting[0] if fitting else _BINS[-1]


def _rows(changes: pd.DataFrame) -> list[tuple[str, str, str, pd.DataFrame]]:
    """Process, label, change and table of each row."""
    order = list(CHANGES)
    rows = []
    for process, of_process in changes.groupby("process", sort=False):
        groups = {str(change): table for change, table in of_process.groupby("what")}
        rows += [
            (str(process), amount(change, groups[change]["items"]), change, groups[change])
            for change in sorted(groups, key=order.index)
        ]
    return rows


def _title(hours: RoundHours) -> str:
    """Changes of the round in numbers, by process."""
    changes: dict[str, list[str]] = {}
    for process, label, *_ in _rows(hours.changes):
        changes.setdefault(process, []).append(label)
    parts = [f"{process}: {', '.join(labels)}" for process, labels in changes.items()]
    more = len(parts) - _TITLE_PARTS
    named = "; ".join(parts[:_TITLE_PARTS])
    return f"Round {hours.round}. {named}" + (f"; {more} more" if more > 0 else "")


def _caption(hours: RoundHours, unit: str) -> str:
    """Explanation of the chart."""
    taken = "" if hours.consumptions is None else "; line: items taken"
    shaded = " Shaded: the model is stopped." if hours.stopped else ""
    return (
        f"Market of {hours.agent}, seed {hours.seed}. Bars: visits per {unit}{taken}.{shaded} Rows: changes by "
        f"processes in the same {unit}."
    )


def _draw_visits(ax: Axes, hours: RoundHours, x: np.ndarray, edges: np.ndarray, unit: str) -> None:
    """Draw visits as bars and consumptions as a line."""
    look = charts.styles([hours.agent])[hours.agent]
    visits, _ = np.histogram(hours.visits, edges)
    ax.stairs(visits, x, fill=True, color="#9a9a9a", alpha=0.55)
    if hours.consumptions is not None:
        taken, _ = np.histogram(hours.visits, edges, weights=hours.consumptions)
        ax.stairs(taken, x, color=look.colour, linewidth=1.6)
    ax.set_ylim(0, None)
    ax.set_ylabel(f"per {unit}")
    ax.grid(visible=False, axis="x")


def _draw_row(ax: Axes, x: np.ndarray, counts: np.ndarray, label: str) -> None:
    """Draw a row of changes as bars."""
    ax.stairs(counts, x, fill=True, color=INK)
    ax.set_ylim(0, max(1.0, float(counts.max())))
    ax.set_yticks([])
    ax.set_title(label, loc="left", fontsize=10, fontweight="normal", pad=2)
    ax.grid(visible=False)
