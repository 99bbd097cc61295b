"""Charts in one style: frames, lines with bands, labels, files.

All pictures of runs are drawn here, as PNG for a folder and as SVG for a page.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from rimsim.agents.registry import agent_styles
from rimsim.data.description import LOOK
from rimsim.measures import FEW_SEEDS, Measure, mean_interval
from rimsim.scenarios.report.record import Plot
from rimsim.scenarios.runs.job import subject_of
from rimsim.system import draft_file

WIDTH, DPI = 10.0, 120  # inches and dots per inch: 1,200 pixels wide
GREY = "#777777"
_INK = "#333333"
_MANY = 4  # more agents than this: bands are paler, so that they can be distinguished
_WIDE = 20.0  # ratio of the largest to the smallest count above which an axis is logarithmic
_LOOK = LOOK | {
    "font.family": "DejaVu Sans",
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 11,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "svg.fonttype": "none",  # text stays text: it can be searched, and files are small
}

_FALLBACKS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR"),
    *("Source Han Sans", "WenQuanYi Zen Hei", "IPAexGothic", "Microsoft YaHei", "Yu Gothic"),
    *("Hiragino Sans", "Arial Unicode MS"),
)
"""Fonts for letters that the main font lacks, such as in Chinese or Japanese titles."""


@dataclass(frozen=True)
class AgentStyle:
    """Colour and marker of an agent; each alone identifies it."""

    colour: str
    marker: str


_KNOWN = {name: AgentStyle(*style) for name, style in agent_styles().items()}
_OWN_COLOURS = ("#7b4ba6", "#a50f4a", "#3f6b1f", "#00798c", "#8c564b", "#e377a2")
_OWN = tuple(map(AgentStyle, _OWN_COLOURS, "d>HpXP"))


def styles(agents: Iterable[str]) -> dict[str, AgentStyle]:
    """Style of each agent, in drawing order.

    Controls have the style of their agent. Built-in agents have fixed styles. Other names get one of six styles,
    chosen by checksum.
    """
    names = {subject_of(name) for name in agents}
    chosen = {name: _KNOWN[name] for name in _KNOWN if name in names}
    taken: set[int] = set()
    for name in sorted(names - set(_KNOWN)):
        start = zlib.crc32(name.encode())
        free = [(start + step) % len(_OWN) for step in range(len(_OWN))]
        index = next((index for index in free if index not in taken), free[0])
        taken.add(index)
        chosen[name] = _OWN[index]
    return chosen


@contextmanager
def style() -> Iterator[None]:
    """Look of all pictures, without touching the caller's settings."""
    look = _LOOK | {"font.family": _families()}
    with mpl.rc_context(look), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # see _missing_letters
        yield


def _families() -> list[str]:
    """Installed fonts of pictures, in order of preference."""
    installed = {font.name for font in fontManager.ttflist}
    return [_LOOK["font.family"], *(name for name in _FALLBACKS if name in installed)]


def _missing_letters(figure: Figure) -> str:
    """Letters in a figure that no installed font has."""
    fonts = [get_font(findfont(name)) for name in _families()]
    letters = {letter for text in figure.findobj(Text) for letter in text.get_text() if letter.isprintable()}
    return "".join(sorted(one for one in letters if not any(font.get_char_index(ord(one)) for font in fonts)))


def figure(plot: Plot) -> Figure | None:
    """Figure of a plot, for a notebook; None without data."""
    with style():
        return plot.make()


def draw(plots: Iterable[Plot], folder: Path) -> list[Path]:
    """Write the PNG files of plots and return their paths."""
    paths = [write_png(plot, folder) for plot in plots if plot.png]
    return [path for path in paths if path is not None]


def write_png(plot: Plot, folder: Path) -> Path | None:
    """Path of a plot's PNG file, if it has data."""
    path = folder / f"{plot.name}.png"
    with style():
        figure = plot.make()
        if figure is None:
            return None
        with draft_file(path) as draft:
            figure.savefig(draft, metadata={"Software": None})  # no version: the same run gives the same file
    if missing := _missing_letters(figure):
        said = f"no installed font has {missing[:5]!r}; such letters are boxes. Install a font such as Noto Sans CJK"
        warnings.warn_explicit(said, UserWarning, str(path), 1)
    return path


def svg(plot: Plot) -> str:
    """Labelled ``<svg>`` element of a plot; empty without data."""
    text = io.StringIO()
    # Names of clip paths and markers are hashes; the salt keeps those of two plots on a page apart. A browser has fonts
    # of its own.
    with style(), mpl.rc_context({"svg.hashsalt": plot.name, "font.family": _LOOK["font.family"]}):
        figure = plot.make()
        if figure is None:
            return ""
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    element = text.getvalue()
    element = f'<svg role="img" aria-label="{escape(plot.name)}"{element[element.index("<svg") + 4 :]}'
    for part in (r"<metadata>.*?</metadata>\s*", r'(?<=<g) id="[^"]*"', r' (?:width|height)="[\d.]+pt"'):
        element = re.sub(part, "", element, flags=re.DOTALL)
    return element


class ChartFigure(Figure):
    """Figure that notebooks show as the value of a cell."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        with style():
            self.savefig(content, format="png")
        return content.getvalue()


def frame(message: str, caption: str, height: float) -> Figure:
    """Empty figure with a message as title and a caption."""
    title = _balanced(message, 84)
    below = textwrap.wrap(caption, 128)
    head = 0.3 + 0.27 * len(title) + 0.2 * len(below)
    total = height + head
    engine = ConstrainedLayoutEngine(
        rect=(0.008, 0.01, 0.984, 1 - head / total - 0.01), w_pad=0.08, h_pad=0.06
    )
    figure = ChartFigure(figsize=(WIDTH, total), dpi=DPI, layout=engine)
    figure.text(0.012, 1 - 0.14 / total, "\n".join(title), fontsize=14, fontweight="bold", va="top")
    under = 1 - (0.22 + 0.27 * len(title)) / total
    figure.text(0.012, under, "\n".join(below), fontsize=10, va="top", color="#666666")
    return figure


def _balanced(text: str, width: int) -> list[str]:
    """Wrap a text into few lines of about equal length."""
    lines = textwrap.wrap(text, width)
    while width > 1 and len(narrower := textwrap.wrap(text, width - 1)) == len(lines):
        lines, width = narrower, width - 1
    return lines


def beside_legend(
    message: str,
    caption: str,
    height: float,
    looks: Mapping[str, AgentStyle],
    width: float = 3.6,
    extra: Mapping[str, str] | None = None,
) -> tuple[Figure, Axes]:
    """Figure and axes; the axes are ``width`` legends wide."""
    figure = frame(message, caption, height)
    ax, side = figure.subplots(1, 2, width_ratios=(width, 1))
    legend(side, looks, extra)
    return figure, ax


def panel_rows(count: int, least: int = 2) -> int:
    """Number of rows for panels and legend, three per row."""
    return max(least, count // 3 + 1)


def panels(figure: Figure, count: int, looks: Mapping[str, AgentStyle], least: int = 2) -> list[Axes]:
    """Axes of panels in rows of three, then the legend."""
    axes = figure.subplots(panel_rows(count, least), 3).ravel()
    legend(axes[count], looks)
    for ax in axes[count + 1 :]:
        ax.set_axis_off()
    return list(axes[:count])


def plot_bands(ax: Axes, table: pd.DataFrame, x: str, looks: Mapping[str, AgentStyle]) -> None:
    """Draw an agent's mean over seeds with its uncertainty.

    The uncertainty is a band, or a thin line per seed where seeds are few.
    """
    few = 1 < table["seed"].nunique() < FEW_SEEDS
    for name, look in looks.items():
        mine = table[table["agent"] == name]
        if few:
            plot_threads(ax, mine, x, look)
        points = mine.dropna(subset=[x, "value"]).groupby(x)["value"]
        means = points.mean()
        ax.plot(
            means.index,
            means.to_numpy(),
            color=look.colour,
            marker=look.marker,
            markersize=6,
            markeredgewidth=0,
            linewidth=2,
            clip_on=False,  # a marker on the edge, as at 0%, is drawn whole; bands are cut
        )
        if not few:
            low, high = np.reshape([_bounds(values) for _, values in points], (-1, 2)).T
            pale = 0.15 if len(looks) <= _MANY else 0.07
            ax.fill_between(means.index, low, high, color=look.colour, alpha=pale, linewidth=0)


def plot_threads(ax: Axes, table: pd.DataFrame, x: str, look: AgentStyle) -> None:
    """Draw a thin line per seed."""
    for _, of_seed in table.groupby("seed"):
        thread = of_seed.groupby(x)["value"].mean()
        ax.plot(thread.index, thread.to_numpy(), color=look.colour, linewidth=1, alpha=0.45, clip_on=False)


def plot_secondary(
    ax: Axes, table: pd.DataFrame, x: str, looks: Mapping[str, AgentStyle], linestyle: str
) -> None:
    """Draw a thin line of means over seeds per agent."""
    for name, look in looks.items():
        means = table[table["agent"] == name].groupby(x)["value"].mean()
        ax.plot(means, color=look.colour, linestyle=linestyle, linewidth=1.4, clip_on=False)


def _bounds(values: pd.Series[float]) -> tuple[float, float]:
    interval = mean_interval(values.to_numpy(np.float64))
    ends = [float("nan") if end is None else end for end in (interval.low, interval.high)]
    return ends[0], ends[1]


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
    the horizontal axis. Markers are rings, so that points below them stay visible.
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
    """Lengths of error bars below and above; 0 without interval."""
    mean, low, high = (means[name, metric].to_numpy(np.float64) for name in ("mean", "low", "high"))
    return [np.nan_to_num(mean - low).tolist(), np.nan_to_num(high - mean).tolist()]


def _bar_boxes(ax: Axes, means: pd.DataFrame, x: str, y: str) -> list[Bbox]:
    """Boxes of error bars in pixels."""
    boxes = []
    (left, right), (below, above) = (bars(means, metric) for metric in (x, y))
    for index, (across, up) in enumerate(zip(means["mean", x], means["mean", y], strict=True)):
        least = max(across - left[index], ax.get_xlim()[0])  # a bar may reach below 0, where a log axis ends
        for low, high in (
            ((least, up), (across + right[index], up)),
            ((across, up - below[index]), (across, up + above[index])),
        ):
            boxes.append(Bbox([ax.transData.transform(low), ax.transData.transform(high)]).padded(2))
    return boxes


def handles(looks: Mapping[str, AgentStyle]) -> list[Line2D]:
    """Lines with markers for a legend."""
    return [
        Line2D([], [], color=look.colour, marker=look.marker, markersize=7, linewidth=2)
        for look in looks.values()
    ]


def legend(ax: Axes, looks: Mapping[str, AgentStyle], extra: Mapping[str, str] | None = None) -> None:
    """Draw a figure's legend on axes without data."""
    ax.set_axis_off()
    labels = [f"{name}  {extra[name]}" if extra and name in extra else name for name in looks]
    crowded = len(labels) > 9
    ax.legend(
        handles(looks),
        labels,
        loc="center left",
        frameon=False,
        labelspacing=0.35 if crowded else 0.8,
        handlelength=2.4,
        fontsize=10 if crowded else 11,
    )


def log_axis(axis: Axis) -> None:
    """Label a logarithmic axis at 1, 2 and 5."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def metric_axis(ax: Axes, measure: Measure, *, difference: bool = False) -> None:
    """Set title and y axis of a panel with data.

    Shares are in percent, differences of shares in percentage points.
    """
    ax.set_title(measure.title, loc="left", pad=9)
    least, most = _extent(ax)
    if measure.unit == "items" and not difference and least > 0 and most > _WIDE * least:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(lambda value, _: _number(value))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_ylabel("items (log scale)")
        keep_lines_in_view(ax)
        return
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    scale, sign, unit = 1, "", measure.unit
    if measure.unit == "share":
        scale, sign, unit = (100, "", "percentage points") if difference else (100, "%", "")
    ax.yaxis.set_major_formatter(lambda value, _: _number(scale * value) + sign)
    ax.set_ylabel("\n".join(textwrap.wrap(unit, 24)))
    keep_lines_in_view(ax)
    low, high = ax.get_ylim()
    if not difference and measure.unit == "index":
        ax.set_ylim(max(low, 0), min(high, 1))
    elif not difference:
        ax.set_ylim(0, min(high, 1) if measure.unit == "share" else high)


def keep_lines_in_view(ax: Axes) -> None:
    """Limit an axis to its lines, with a margin."""
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


def _number(value: float) -> str:
    return f"{round(value, 10):g}".replace("-", "−")


def integer_rounds(ax: Axes) -> None:
    """Label the x axis with whole rounds."""
    ax.set_xlabel("round")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


# Offsets of a label from its point, best first. From the ninth on a line leads from the point to its label.
_NEAR = 8
_OFFSETS = [(9, 7), (9, -18), (-9, 7), (-9, -18), (14, -5), (-14, -5), (0, 16), (0, -28)] + [
    (across * reach // 2, up * reach - 5)
    for reach in (30, 45, 60, 80)
    for across, up in ((1, 1), (-1, 1), (1, -1), (-1, -1), (3, 1), (-3, 1), (3, -1), (-3, -1))
]


def label_means(ax: Axes, means: pd.DataFrame, x: str, y: str, looks: Mapping[str, AgentStyle]) -> None:
    """Write agents' names next to their means, without overlap.

    ``means`` has a row per agent and columns as for :func:`plot_means`.
    """
    figure = ax.get_figure(root=True)
    if figure is None:
        return
    figure.draw_without_rendering()
    across, up = means["mean", x].astype(float), means["mean", y].astype(float)
    points = {name: (across[name], up[name]) for name in looks}
    spots = [ax.transData.transform(position) for position in points.values()]
    busy = [Bbox.from_extents(left - 8, low - 8, left + 8, low + 8) for left, low in spots]
    busy += _bar_boxes(ax, means, x, y)
    inside = ax.get_window_extent()
    for name, position in points.items():
        look: dict[str, Any] = {"color": looks[name].colour, "fontsize": 11, "fontweight": "bold"}
        text = ax.annotate(name, position, xytext=(0, 0), textcoords="offset points", **look)
        scored = []
        for order, offset in enumerate(_OFFSETS):
            box = _placed(text, offset)
            clashes = sum(box.overlaps(other) for other in busy)
            outside = not (
                inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            )
            scored.append((clashes + 2 * outside, order))
        best = min(scored)[1]
        dx, dy = _OFFSETS[best]
        busy.append(_placed(text, (dx, dy)))
        if best >= _NEAR:
            end = (dx, dy + 4) if dx else (dx, dy + (0 if dy > 0 else 10))
            line = {"arrowstyle": "-", "color": look["color"], "linewidth": 0.8, "shrinkA": 0, "shrinkB": 4}
            ax.annotate("", position, xytext=end, textcoords="offset points", arrowprops=line)


def _placed(text: Annotation, offset: tuple[int, int]) -> Bbox:
    """Box of a label at an offset from its point."""
    text.set_position(offset)
    text.set_horizontalalignment("left" if offset[0] > 0 else "right" if offset[0] < 0 else "center")
    return text.get_window_extent()
