"""How pictures look: a frame with a message, panels, lines with bands, a legend that covers no data."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter

from rimsim.measures import FEW_SEEDS, mean_interval
from rimsim.scenarios.pictures.looks import WIDE
from rimsim.system import draft_file

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from rimsim.measures import Measure
    from rimsim.scenarios.pictures.looks import AgentStyle


WIDTH, DPI = 10.0, 120  # inches and dots an inch: 1,200 pixels wide
_MANY = 4  # agents whose bands can still be distinguished
_INK = "#333333"


_LOOK: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 11,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.linewidth": 0.6,
}


@contextmanager
def style() -> Iterator[None]:
    """The look of all pictures, without touching the caller's settings."""
    with sns.axes_style("whitegrid"), mpl.rc_context(_LOOK):
        yield


def draw(figures: Mapping[str, Callable[[], Figure | None]], folder: Path) -> list[Path]:
    """Draw figures in the style of all pictures, each as a PNG file that is replaced as a whole.

    Args:
        figures: Name of a file → what makes its figure; None: there is nothing to draw.
        folder: Made if missing.

    Returns:
        The files written.
    """
    written = []
    for name, make in figures.items():
        with style():
            figure = make()
            if figure is None:
                continue
            path = folder / f"{name}.png"
            with draft_file(path) as draft:
                figure.savefig(
                    draft, metadata={"Software": None}
                )  # no version: the same run gives the same file
        written.append(path)
    return written


def frame(message: str, caption: str, height: float) -> Figure:
    """An empty figure, 1,200 pixels wide, with a message as title and a line that says what is drawn.

    Args:
        message: A sentence; long ones are broken.
        caption: What lines, points and bands are.
        height: Inches below the title.
    """
    title = _balanced(message, 84)
    below = textwrap.wrap(caption, 128)
    head = 0.3 + 0.27 * len(title) + 0.2 * len(below)
    total = height + head
    engine = ConstrainedLayoutEngine(
        rect=(0.008, 0.01, 0.984, 1 - head / total - 0.01), w_pad=0.08, h_pad=0.06
    )
    figure = Figure(figsize=(WIDTH, total), dpi=DPI, layout=engine)
    figure.text(0.012, 1 - 0.14 / total, "\n".join(title), fontsize=14, fontweight="bold", va="top")
    under = 1 - (0.22 + 0.27 * len(title)) / total
    figure.text(0.012, under, "\n".join(below), fontsize=10, va="top", color="#666666")
    return figure


def _balanced(text: str, width: int) -> list[str]:
    """Lines of about equal length, as few as the width allows."""
    lines = textwrap.wrap(text, width)
    while width > 1 and len(narrower := textwrap.wrap(text, width - 1)) == len(lines):
        lines, width = narrower, width - 1
    return lines


def plot_bands(ax: Axes, table: pd.DataFrame, x: str, looks: Mapping[str, AgentStyle]) -> None:
    """A line an agent: means over seeds, with their intervals as bands, or the seeds as thin lines where they are few.

    Args:
        ax: Where to draw.
        table: Columns agent, value, and ``x``; a row a seed.
        x: Column along the x axis.
        looks: Agent → style.
    """
    few = 1 < table["seed"].nunique() < FEW_SEEDS
    for name, look in looks.items():
        mine = table[table["agent"] == name]
        if few:
            plot_threads(ax, mine, x, look)
        sns.lineplot(
            data=mine,
            x=x,
            y="value",
            errorbar=None if few else _bounds,
            color=look.colour,
            marker=look.marker,
            markersize=6,
            markeredgewidth=0,
            linewidth=2,
            clip_on=False,  # a marker on the edge, as at 0 %, is drawn whole; bands are cut
            err_kws={"alpha": 0.15 if len(looks) <= _MANY else 0.07, "linewidth": 0, "clip_on": True},
            ax=ax,
        )


def plot_threads(ax: Axes, table: pd.DataFrame, x: str, look: AgentStyle) -> None:
    """A thin line a seed, behind the mean of all.

    Args:
        ax: Where to draw.
        table: Columns seed, value and ``x``.
        x: Column along the x axis.
        look: The style of what they are of.
    """
    for _, of_seed in table.groupby("seed"):
        thread = of_seed.groupby(x)["value"].mean()
        ax.plot(thread.index, thread.to_numpy(), color=look.colour, linewidth=1, alpha=0.45, clip_on=False)


def plot_beside(
    ax: Axes, table: pd.DataFrame, x: str, looks: Mapping[str, AgentStyle], linestyle: str
) -> None:
    """A thin line an agent: means over seeds, beside what the panel is about.

    Args:
        ax: Where to draw.
        table: As for :func:`plot_bands`.
        x: Column along the x axis.
        looks: Agent → style.
        linestyle: Matplotlib's name of it.
    """
    for name, look in looks.items():
        means = table[table["agent"] == name].groupby(x)["value"].mean()
        ax.plot(
            means.index,
            means.to_numpy(),
            color=look.colour,
            linestyle=linestyle,
            linewidth=1.4,
            clip_on=False,
        )


def _bounds(values: pd.Series[float]) -> tuple[float, float]:
    interval = mean_interval(values.to_numpy(np.float64))
    nothing = float("nan")
    return (
        nothing if interval.low is None else interval.low,
        nothing if interval.high is None else interval.high,
    )


def plot_means(
    ax: Axes,
    means: pd.DataFrame,
    x: str | None,
    y: str,
    look: AgentStyle,
    *,
    line: str = "-",
    size: int = 6,
    ring: bool = False,
) -> None:
    """A line through means, with bars that are their intervals.

    Args:
        ax: Where to draw.
        means: A row a point; columns (mean, metric), (low, metric), (high, metric).
        x: Metric along the x axis; None: the index, without bars.
        y: Metric along the y axis.
        look: Colour and marker.
        line: Style of the line.
        size: Of the markers.
        ring: Draw a ring around what the point would hide, or hide behind.
    """
    drawn = ax.errorbar(
        means.index.to_numpy() if x is None else means["mean", x],
        means["mean", y],
        xerr=None if x is None else bars(means, x),
        yerr=bars(means, y),
        color=look.colour,
        marker=look.marker,
        markersize=15 if ring else size,
        markerfacecolor="none" if ring else look.colour,
        markeredgecolor=look.colour if ring else "white",  # points one over another stay apart
        markeredgewidth=2 if ring else 1,
        linestyle=line,
        linewidth=2,
        elinewidth=1,
        capsize=2,
    )
    drawn.lines[0].set_clip_on(False)


def bars(means: pd.DataFrame, metric: str) -> list[list[float]]:
    """Lengths below and above; 0 where there is no interval."""
    mean, low, high = (means[name, metric].to_numpy(np.float64) for name in ("mean", "low", "high"))
    return [np.nan_to_num(mean - low).tolist(), np.nan_to_num(high - mean).tolist()]


def legend(ax: Axes, looks: Mapping[str, AgentStyle], extra: Mapping[str, str] | None = None) -> None:
    """Fill an axes of its own with the legend, so that it never covers data.

    Args:
        ax: Becomes the legend.
        looks: Agent → style.
        extra: Agent → what to write behind its name.
    """
    ax.set_axis_off()
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, markersize=7, linewidth=2)
        for look in looks.values()
    ]
    labels = [f"{name}  {extra[name]}" if extra and name in extra else name for name in looks]
    crowded = len(labels) > 9
    ax.legend(
        handles,
        labels,
        loc="center left",
        frameon=False,
        labelspacing=0.35 if crowded else 0.8,
        handlelength=2.4,
        fontsize=10 if crowded else 11,
    )


def panel_rows(count: int, least: int = 2) -> int:
    """Rows of three for so many panels and a legend.

    Args:
        count: Of the panels.
        least: Rows that there are at least.
    """
    return max(least, count // 3 + 1)


def panels(figure: Figure, count: int, looks: Mapping[str, AgentStyle], least: int = 2) -> list[Axes]:
    """Panels in rows of three, with the legend behind the last.

    Args:
        figure: An empty one.
        count: Of the panels.
        looks: Agent → style.
        least: Rows that there are at least.
    """
    axes = figure.subplots(panel_rows(count, least), 3).ravel()
    legend(axes[count], looks)
    for ax in axes[count + 1 :]:
        ax.set_axis_off()
    return list(axes[:count])


def metric_axis(ax: Axes, measure: Measure, *, difference: bool = False) -> None:
    """Title and y axis of a panel that shows a measure: its title, its unit, shares in per cent.

    Args:
        ax: The panel, with its data.
        measure: What it shows.
        difference: Whether it shows differences of the measure: shares in percentage points, 0 anywhere.
    """
    ax.set_title(measure.title, loc="left", pad=9)
    if measure.unit == "items" and not difference and _spread(ax) > WIDE:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(lambda value, _: _number(value))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_ylabel("items (log scale)")
        keep_lines_in_view(ax)
        return
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    if measure.unit == "share":
        ax.yaxis.set_major_formatter(lambda value, _: _number(100 * value) + ("" if difference else " %"))
        unit = "percentage points" if difference else ""
    else:
        ax.yaxis.set_major_formatter(lambda value, _: _number(value))
        unit = measure.unit
    ax.set_ylabel("\n".join(textwrap.wrap(unit, 24)))
    keep_lines_in_view(ax)
    if not difference and measure.unit != "index":
        top = ax.get_ylim()[1]
        ax.set_ylim(0, min(top, 1) if measure.unit == "share" else top)
    elif not difference:
        low, high = ax.get_ylim()
        ax.set_ylim(max(low, 0), min(high, 1))


def keep_lines_in_view(ax: Axes) -> None:
    """Let bands take at most the lines' own height above and below them: two seeds have bands without end."""
    least, most = _extent(ax)
    low, high = ax.get_ylim()
    if ax.get_yscale() == "log":
        ax.set_ylim(least / 2, most * 2)
        return
    room = most - least or abs(most) or 1.0
    ax.set_ylim(max(low, least - room), min(high, most + room))


def _extent(ax: Axes) -> tuple[float, float]:
    """Lowest and highest point of all lines."""
    heights = np.concatenate([np.asarray(line.get_ydata(), np.float64).ravel() for line in ax.lines])
    return float(np.nanmin(heights)), float(np.nanmax(heights))


def _spread(ax: Axes) -> float:
    """How many times the lowest point of all lines goes into the highest; 0 where it is not positive."""
    least, most = _extent(ax)
    return most / least if least > 0 else 0.0


def _number(value: float) -> str:
    return f"{round(value, 10):g}".replace("-", "−")


def integer_rounds(ax: Axes) -> None:
    """Whole numbers of rounds on the x axis."""
    ax.set_xlabel("round")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
