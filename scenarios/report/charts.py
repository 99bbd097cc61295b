"""Charts in one style: figures, panels, lines with intervals, files.

All pictures of runs are drawn here, as PNG for a folder and as SVG for a page. A chart is a function that returns a
figure of :func:`frame`, :func:`chart` or :func:`panels`. Each takes a title and a caption: a PNG has both above the
chart, while a page sets them as text of its own. A page draws each chart twice, once for the width of a phone, so a
chart never says how wide it is.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import offset_copy

from rimsim.agents.registry import agent_styles
from rimsim.arrays import Floats
from rimsim.house_style import FONT, GREY, INK, WIDTH, missing_letters, style
from rimsim.measures import FEW_SEEDS, MEASURES, Interval, Measure, mean_interval, number_interval
from rimsim.scenarios.report.happenings import RoundMark, marks_caption
from rimsim.scenarios.report.record import Plot
from rimsim.scenarios.runs.arms import subject_of
from rimsim.system import draft_file

__all__ = ["GREY", "style"]  # modules with other charts import these two from here
NARROW = 4.2
"""Width, in inches, of a chart on a phone. Its letters then have about the size of the page's text."""
# Largest number of agents with bands in full colour. With more agents, bands are paler, because they overlap.
_MANY = 4
_LETTERS = 11.5  # number of letters of a label that fit into an inch
_MARK_ROW = 10.0  # height of a row of marks below a panel, in points
_WIDE = 20.0  # ratio of the largest to the smallest count from which on an axis is logarithmic


@dataclass(frozen=True)
class AgentStyle:
    """Colour and marker of an agent; each alone identifies it."""

    colour: str
    marker: str


_BUILT_IN = {name: AgentStyle(*look) for name, look in agent_styles().items()}
_OWN = tuple(map(AgentStyle, ("#7b4ba6", "#a50f4a", "#3f6b1f", "#00798c", "#8c564b", "#e377a2"), "d>HpXP"))


def styles(agents: Iterable[str]) -> dict[str, AgentStyle]:
    """Style of each agent, in drawing order.

    Controls have the style of their agent. Built-in agents have fixed styles. Other names get one of six styles,
    chosen by checksum.
    """
    names = {subject_of(name) for name in agents}
    style_of = {name: _BUILT_IN[name] for name in _BUILT_IN if name in names}
    taken: set[int] = set()
    for name in sorted(names - set(_BUILT_IN)):
        # The first free style after that of the checksum; if none is free, two names share a style.
        checksum = zlib.crc32(name.encode())
        preferred = [(checksum + step) % len(_OWN) for step in range(len(_OWN))]
        index = next((index for index in preferred if index not in taken), preferred[0])
        taken.add(index)
        style_of[name] = _OWN[index]
    return style_of


def figure(plot: Plot) -> Figure | None:
    """Figure of a plot, for a notebook; None without data."""
    with style():
        return plot.make()


def draw(plots: Iterable[Plot], folder: Path) -> list[Path]:
    """Write the PNG files of plots and return their paths."""
    paths = (write_png(plot, folder) for plot in plots if plot.png)
    return [path for path in paths if path is not None]


def draw_first(plots: Iterable[Plot], folder: Path) -> list[Path]:
    """Write the PNG file of the first plot with data."""
    paths = (write_png(plot, folder) for plot in plots)
    return list(islice((path for path in paths if path is not None), 1))


def write_png(plot: Plot, folder: Path) -> Path | None:
    """Path of a plot's PNG file, if it has data."""
    path = folder / f"{plot.name}.png"
    with style():
        made = plot.make()
        if made is None:
            return None
        wrap_labels(made)
        title = made.heading.message if isinstance(made, ChartFigure) else plot.name
        with draft_file(path) as draft:
            # By default, Matplotlib writes its version into the file. Without it, equal runs have equal files.
            made.savefig(draft, metadata={"Software": None, "Title": title})
    letters = "".join(text.get_text() for text in made.findobj(Text))
    if missing := missing_letters(letters):
        message = f"no installed font has {missing[:5]!r}; such letters are boxes. Install a font such as Noto Sans CJK"
        warnings.warn_explicit(message, UserWarning, str(path), 1)
    return path


@dataclass(frozen=True)
class PageChart:
    """Chart of a page: texts and drawings in two widths."""

    title: str
    caption: str
    wide: Markup
    narrow: Markup
    """Drawing of the chart for a phone."""


def page_chart(plot: Plot) -> PageChart | None:
    """Chart of a page; None without data."""
    drawings = []
    heading = Heading(plot.name, "")
    for width in (WIDTH, NARROW):
        # Letters stay text in the drawing, so the browser needs a font that is installed.
        with style(width), mpl.rc_context({"font.family": FONT}):
            made = plot.make()
            if made is None:
                return None
            if isinstance(made, ChartFigure):
                heading = made.heading
                made.drop_heading()
            wrap_labels(made)
            drawings.append(_svg(made, f"{plot.name}-{width}", heading.message))
    return PageChart(heading.message, heading.caption, *drawings)


def _svg(made: Figure, name: str, label: str) -> Markup:
    """Labelled ``<svg>`` element that scales and takes the page's background."""
    text = io.StringIO()
    # Names of clip paths and markers are hashes. The salt makes those of two drawings on a page different.
    with mpl.rc_context({"svg.hashsalt": name}):
        made.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawing = text.getvalue()
    element = f'<svg role="img" aria-label="{escape(label)}"{drawing[drawing.index("<svg") + 4 :]}'
    for part in (r"<metadata>.*?</metadata>\s*", r'(?<=<g) id="[^"]*"', r' (?:width|height)="[\d.]+pt"'):
        element = re.sub(part, "", element, flags=re.DOTALL)
    return Markup(element)  # noqa: S704  Matplotlib escapes the texts of a drawing


@dataclass(frozen=True)
class Heading:
    """Title and caption of a figure."""

    message: str
    caption: str


class ChartFigure(Figure):
    """Figure with title and caption, which notebooks show."""

    heading: Heading
    _body: tuple[float, float]  # width and height in inches without the heading

    def _repr_png_(self) -> bytes:
        """PNG that a notebook shows."""
        content = io.BytesIO()
        with style():
            self.savefig(content, format="png")
        return content.getvalue()

    def set_heading(self, message: str, caption: str) -> None:
        """Write title and caption above the chart."""
        self.heading = Heading(message, caption)
        width, height = self.get_size_inches()
        self._body = (float(width), float(height))
        # An inch holds 8.4 letters of the title, and 12.8 of the caption. Their lines are 0.27 and 0.2 inches high.
        title_lines = _balanced(message, int(8.4 * width))
        caption_lines = textwrap.wrap(caption, int(12.8 * width))
        heading_height = 0.3 + 0.27 * len(title_lines) + 0.2 * len(caption_lines)
        total = height + heading_height
        self.set_size_inches(width, total)
        self.set_layout_engine(_layout(1 - heading_height / total))
        title_top = 1 - 0.14 / total
        self.text(0.012, title_top, "\n".join(title_lines), fontsize=14, fontweight="bold", va="top")
        caption_top = 1 - (0.22 + 0.27 * len(title_lines)) / total
        self.text(0.012, caption_top, "\n".join(caption_lines), fontsize=10, va="top", color="#666666")

    def drop_heading(self) -> None:
        """Remove title and caption, which a page writes itself."""
        for text in self.texts[:2]:
            text.remove()
        self.set_size_inches(*self._body)
        self.set_layout_engine(_layout(1.0))


def wrap_labels(made: Figure) -> None:
    """Break titles and labels that are longer than their axes."""
    width, height = made.get_size_inches()
    for ax in made.axes:
        panel = ax.get_subplotspec()
        if panel is None:
            continue
        grid = panel.get_gridspec()
        # Numbers of letters that fit along the two axes; the numbers of the axes take the rest of the panel.
        letters_across = int(_LETTERS * (width / grid.ncols - 0.5))
        letters_up = int(_LETTERS * max(height / grid.nrows - 0.7, 1.0))
        title = ax.get_title(loc="left")
        if (wrapped := _wrapped(title, int(0.85 * letters_across))) != title:
            ax.set_title(wrapped, loc="left")
        ax.set_xlabel(_wrapped(ax.get_xlabel(), letters_across))
        ax.set_ylabel(_wrapped(ax.get_ylabel(), letters_up))


def _wrapped(text: str, width: int) -> str:
    """Text whose lines are broken at a width."""
    return "\n".join(textwrap.fill(line, width) for line in text.split("\n"))


def _layout(top: float) -> ConstrainedLayoutEngine:
    """Layout of a chart in a figure's lower share."""
    return ConstrainedLayoutEngine(rect=(0.008, 0.01, 0.984, top - 0.02), w_pad=0.08, h_pad=0.06)


def _balanced(text: str, width: int) -> list[str]:
    """Wrap a text into few lines of about equal length."""
    lines = textwrap.wrap(text, width)
    while width > 1 and len(narrower := textwrap.wrap(text, width - 1)) == len(lines):
        lines = narrower
        width -= 1
    return lines


def columns(n_panels: int, width: float = 3.0) -> int:
    """Number of panels that fit next to each other.

    It is at most ``n_panels``. A panel is at least ``width`` inches wide.
    """
    return max(1, min(n_panels, int(mpl.rcParams["figure.figsize"][0] // width)))


def frame(message: str, caption: str, height: float) -> Figure:
    """Empty figure with a message as title and a caption.

    ``height`` is that of the chart in inches, without title and caption.
    """
    figure = ChartFigure(figsize=(mpl.rcParams["figure.figsize"][0], height), layout="constrained")
    figure.set_heading(message, caption)
    return figure


def chart(
    message: str,
    caption: str,
    height: float,
    looks: Mapping[str, AgentStyle],
    extra: Mapping[str, str] | None = None,
) -> tuple[Figure, Axes]:
    """Figure and its only axes, with a legend.

    The legend stands beside the axes, or below on a phone. ``extra`` has texts that follow the names of agents in the
    legend.
    """
    is_narrow = columns(2) == 1
    below = 0.25 * len(looks) if is_narrow else 0.0
    figure = frame(message, caption, (0.75 if is_narrow else 1) * height + below)
    legend(figure, looks, extra, place="lower" if is_narrow else "right")
    return figure, figure.subplots()


def panels(
    message: str,
    caption: str,
    count: int,
    looks: Mapping[str, AgentStyle],
    height: float = 3.1,
    marks: Sequence[RoundMark] = (),
) -> tuple[Figure, list[Axes]]:
    """Figure and axes of panels in rows, with a legend.

    The legend takes the place after the last panel, or stands below if the last row is full. Without ``looks`` there is
    no legend. Panels by round have ``marks`` below, which the caption explains.
    """
    caption += marks_caption(marks)
    height += _MARK_ROW * len(marks) / 72
    n_columns = columns(3)
    n_rows = -(-count // n_columns)
    has_legend_below = count % n_columns == 0 and bool(looks)
    figure = frame(message, caption, height * n_rows + (0.4 if has_legend_below else 0.0))
    axes = list(figure.subplots(n_rows, n_columns, squeeze=False).ravel())
    for ax in axes[count:]:
        ax.set_axis_off()
    if has_legend_below:
        legend(figure, looks, place="lower")
    elif looks:
        legend(axes[count], looks)
    for ax in axes[:count]:
        _mark_rounds(ax, marks)
    return figure, axes[:count]


def plot_bands(
    ax: Axes, table: pd.DataFrame, x: str, looks: Mapping[str, AgentStyle], n_items: int | None = None
) -> None:
    """Draw each agent's mean over seeds with its uncertainty.

    The uncertainty is a band, or a thin line per seed where seeds are few. The table has columns agent, seed, ``x`` and
    value. ``n_items`` is the largest value of a number of items, if the column metric names one.
    """
    metrics = set(table["metric"].unique()) if "metric" in table else set()
    is_number = bool(metrics) and all(
        name in MEASURES and MEASURES[name].is_number_of_items for name in metrics
    )
    ends = partial(
        _bounds, interval_of=partial(number_interval, most=n_items) if is_number else mean_interval
    )
    has_few_seeds = 1 < table["seed"].nunique() < FEW_SEEDS
    draw_lines = lineplot(ax, table, x, looks)
    if has_few_seeds:
        draw_lines(estimator=None, units="seed", linewidth=1, alpha=0.45)
    draw_lines(
        style="agent",
        markers={name: look.marker for name, look in looks.items()},
        dashes=False,
        errorbar=None if has_few_seeds else ends,
        err_kws={"alpha": 0.15 if len(looks) <= _MANY else 0.07, "linewidth": 0, "clip_on": True},
        markersize=6,
        markeredgewidth=0,
        linewidth=2,
    )


def plot_secondary(
    ax: Axes, table: pd.DataFrame, x: str, looks: Mapping[str, AgentStyle], linestyle: str
) -> None:
    """Draw a thin line of means over seeds per agent."""
    if table.empty:
        return
    lineplot(ax, table, x, looks)(errorbar=None, linestyle=linestyle, linewidth=1.4)


def lineplot(ax: Axes, table: pd.DataFrame, x: str, looks: Mapping[str, AgentStyle]) -> partial[Axes]:
    """Seaborn's ``lineplot`` of a table, one colour per agent.

    Call the result with further options of ``lineplot``. The table has columns agent, ``x`` and value. Markers on the
    edge, as at 0%, are drawn in full.
    """
    import seaborn as sns  # noqa: PLC0415  # slow to import, and only pictures need it

    return partial(
        sns.lineplot,
        table,
        x=x,
        y="value",
        hue="agent",
        hue_order=list(looks),
        palette=[look.colour for look in looks.values()],
        legend=False,
        clip_on=False,
        ax=ax,
    )


def _bounds(values: pd.Series[float], interval_of: Callable[[Floats], Interval]) -> tuple[float, float]:
    """Ends of a mean's 95% interval; NaN without one."""
    interval = interval_of(np.asarray(values, np.float64))
    low = float("nan") if interval.low is None else interval.low
    high = float("nan") if interval.high is None else interval.high
    return low, high


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
    """Draw a line through means, with bars for their intervals.

    ``means`` has a row per point and columns (mean, metric), (low, metric), (high, metric). Without ``x``, the index is
    the horizontal axis. With ``ring``, markers are rings, so that points below them stay visible.
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
        markeredgecolor=look.colour if ring else "white",  # a white edge keeps overlapping points apart
        markeredgewidth=2 if ring else 1,
        linestyle=line,
        linewidth=2,
        elinewidth=1,
        capsize=2,
    )
    drawn.lines[0].set_clip_on(False)


def bars(means: pd.DataFrame, metric: str) -> list[list[float]]:
    """Lengths of error bars below and above; 0 without interval."""
    mean, low, high = (means[name, metric].to_numpy(np.float64) for name in ("mean", "low", "high"))
    return [np.nan_to_num(mean - low).tolist(), np.nan_to_num(high - mean).tolist()]


def handles(looks: Mapping[str, AgentStyle]) -> list[Line2D]:
    """Lines with markers for a legend."""
    return [
        Line2D([], [], color=look.colour, marker=look.marker, markersize=7, linewidth=2)
        for look in looks.values()
    ]


def legend(
    target: Axes | Figure,
    looks: Mapping[str, AgentStyle],
    extra: Mapping[str, str] | None = None,
    *,
    place: Literal["right", "lower"] = "right",
) -> None:
    """Draw a legend on empty axes or beside axes."""
    labels = [f"{name}  {extra[name]}" if extra and name in extra else name for name in looks]
    is_crowded = len(labels) > 9
    width = mpl.rcParams["figure.figsize"][0]
    # An inch holds nine letters, and an entry needs eight letters in addition to its label.
    n_columns = 1 if place == "right" else max(1, int(width * 9) // (8 + max(map(len, labels))))
    look: dict[str, Any] = {
        "ncols": min(n_columns, len(labels)),
        "labelspacing": 0.35 if is_crowded or place == "lower" else 0.8,
        "handlelength": 2.4,
        "fontsize": 10 if is_crowded else 11,
    }
    if isinstance(target, Axes):
        target.set_axis_off()
        target.legend(handles(looks), labels, loc="center left", **look)
    elif place == "right":
        target.legend(handles(looks), labels, loc="outside right center", **look)
    else:
        target.legend(handles(looks), labels, loc="outside lower center", **look)


def log_axis(axis: Axis) -> None:
    """Label a logarithmic axis at 1, 2 and 5.

    On a phone, an axis of several powers of ten is labelled at these alone.
    """
    low, high = axis.get_view_interval()
    is_crowded = columns(2) == 1 and high > 100 * low
    axis.set_major_locator(LogLocator(subs=(1,) if is_crowded else (1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def metric_axis(ax: Axes, measure: Measure, *, difference: bool = False) -> None:
    """Set title and y axis of a panel with data.

    Shares are in percent, differences of shares in percentage points.
    """
    ax.set_title(measure.title, loc="left")
    lowest, highest = extent(ax)
    if measure.unit == "items" and not difference and lowest > 0 and highest > _WIDE * lowest:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(lambda value, _: _number(value))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_ylabel("items (log scale)")
        keep_lines_in_view(ax)
        return
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    scale = 1
    sign = ""
    unit = measure.unit
    if measure.unit == "share":
        scale = 100
        sign = "" if difference else "%"
        unit = "percentage points" if difference else ""
    ax.yaxis.set_major_formatter(lambda value, _: _number(scale * value) + sign)
    ax.set_ylabel(unit)
    keep_lines_in_view(ax)
    low, high = ax.get_ylim()
    if not difference and measure.unit == "index":
        ax.set_ylim(max(low, 0), min(high, 1))
    elif not difference:
        ax.set_ylim(0, min(high, 1) if measure.unit == "share" else high)


def reach_zero(ax: Axes) -> None:
    """Begin the y axis at 0 or near its points.

    It begins at 0 unless all points would then lie in its upper half.
    """
    lowest, highest = extent(ax)
    if lowest > highest / 2 > 0:
        room = 0.6 * (highest - lowest) or 0.1 * highest
        ax.set_ylim(lowest - room, highest + room)
    else:
        ax.set_ylim(0, 1.1 * highest or 1.0)


def diagonal(ax: Axes, low: float, high: float) -> None:
    """Draw the dotted line of equal values over both axes."""
    ax.plot([low, high], [low, high], color=GREY, linewidth=1.2, linestyle=":", zorder=1)
    ax.set(xlim=(low, high), ylim=(low, high))


def keep_lines_in_view(ax: Axes) -> None:
    """Limit an axis to its lines, with a margin."""
    lowest, highest = extent(ax)
    low, high = ax.get_ylim()
    if ax.get_yscale() == "log":
        ax.set_ylim(lowest / 2, highest * 2)
        return
    room = highest - lowest or abs(highest) or 1.0
    ax.set_ylim(max(low, lowest - room), min(high, highest + room))


def extent(ax: Axes) -> tuple[float, float]:
    """Lowest and highest point of all lines."""
    heights = np.concatenate([np.asarray(line.get_ydata(), np.float64).ravel() for line in ax.lines])
    return float(np.nanmin(heights)), float(np.nanmax(heights))


def _number(value: float) -> str:
    """Number of a tick, with a true minus sign."""
    return f"{round(value, 10):g}".replace("-", "−")


def integer_rounds(ax: Axes) -> None:
    """Label the x axis with whole rounds."""
    ax.set_xlabel("round")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _mark_rounds(ax: Axes, marks: Sequence[RoundMark]) -> None:
    """Draw rows of ticks below a panel.

    A row has the letter of its mark, and a tick below each round of the mark.
    """
    if not marks:
        return
    ax.tick_params(axis="x", pad=7 + _MARK_ROW * len(marks))
    for row, mark in enumerate(marks):
        down = -11 - _MARK_ROW * row
        place = offset_copy(ax.get_xaxis_transform(), ax.get_figure(root=True), y=down, units="points")
        ticks = np.zeros(len(mark.rounds))
        look: dict[str, Any] = {"marker": "|", "s": 30, "color": INK, "linewidth": 1.3, "clip_on": False}
        ax.scatter(mark.rounds, ticks, transform=place, **look)
        ax.annotate(
            mark.letter,
            (0, 0),
            (-5, down),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=9,
            annotation_clip=False,
        )
