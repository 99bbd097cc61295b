"""Labels next to points and lines, placed without overlap.

The placement is the same to the pixel each time, so that a run draws the same file again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from rimsim.scenarios.report.charts import AgentStyle, bars

# Offsets of a label from its point, best first. The first ``_NEAR`` offsets need no line from the label to its point.
_NEAR = 8
_OFFSETS = [(9, 7), (9, -18), (-9, 7), (-9, -18), (14, -5), (-14, -5), (0, 16), (0, -28)]
# Farther offsets lie in eight oblique directions, at growing distances.
_OFFSETS += [
    (across * distance // 2, up * distance - 5)
    for distance in (30, 45, 60, 80)
    for across, up in ((1, 1), (-1, 1), (1, -1), (-1, -1), (3, 1), (-3, 1), (3, -1), (-3, -1))
]
_GAP = 0.075  # smallest distance between two labels at line ends, as a share of the height of the axis


def label_means(ax: Axes, means: pd.DataFrame, x: str, y: str, looks: Mapping[str, AgentStyle]) -> None:
    """Write agents' names next to their means, without overlap.

    ``means`` has a row per agent and columns as for :func:`rimsim.scenarios.report.charts.plot_means`.
    """
    figure = ax.get_figure(root=True)
    if figure is None:
        return
    figure.draw_without_rendering()
    x_means = means["mean", x].astype(float)
    y_means = means["mean", y].astype(float)
    points = {name: (x_means[name], y_means[name]) for name in looks}
    pixels = [ax.transData.transform(position) for position in points.values()]
    occupied = [
        Bbox.from_extents(x_pixel - 8, y_pixel - 8, x_pixel + 8, y_pixel + 8) for x_pixel, y_pixel in pixels
    ]
    occupied += _bar_boxes(ax, means, x, y)
    frame = ax.get_window_extent()
    for name, position in points.items():
        colour = looks[name].colour
        text = ax.annotate(
            name,
            position,
            xytext=(0, 0),
            textcoords="offset points",
            color=colour,
            fontsize=11,
            fontweight="bold",
        )
        best = _best_offset(text, occupied, frame)
        dx, dy = _OFFSETS[best]
        occupied.append(_placed(text, (dx, dy)))
        if best >= _NEAR:  # a line leads from the label to its point
            end = (dx, dy + 4) if dx else (dx, dy + (0 if dy > 0 else 10))
            line = {"arrowstyle": "-", "color": colour, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 4}
            ax.annotate("", position, xytext=end, textcoords="offset points", arrowprops=line)


def _best_offset(text: Annotation, occupied: list[Bbox], frame: Bbox) -> int:
    """Number of the offset with the fewest overlaps."""
    scores = []
    for order, offset in enumerate(_OFFSETS):
        box = _placed(text, offset)
        overlaps = sum(box.overlaps(neighbour) for neighbour in occupied)
        is_outside = not (
            frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        )
        scores.append((overlaps + 2 * is_outside, order))
    _, best = min(scores)  # of equal scores, the first offset is best
    return best


def _placed(text: Annotation, offset: tuple[int, int]) -> Bbox:
    """Box of a label at an offset from its point."""
    dx, _ = offset
    text.set_position(offset)
    if dx > 0:
        text.set_horizontalalignment("left")
    elif dx < 0:
        text.set_horizontalalignment("right")
    else:
        text.set_horizontalalignment("center")
    return text.get_window_extent()


def _bar_boxes(ax: Axes, means: pd.DataFrame, x: str, y: str) -> list[Bbox]:
    """Boxes of error bars in pixels."""
    boxes = []
    leftward, rightward = bars(means, x)
    below, above = bars(means, y)
    for index, (x_mean, y_mean) in enumerate(zip(means["mean", x], means["mean", y], strict=True)):
        # A bar may reach below 0, which a logarithmic axis cannot show.
        start = max(x_mean - leftward[index], ax.get_xlim()[0])
        horizontal_bar = (start, y_mean), (x_mean + rightward[index], y_mean)
        vertical_bar = (x_mean, y_mean - below[index]), (x_mean, y_mean + above[index])
        for low, high in (horizontal_bar, vertical_bar):
            boxes.append(Bbox([ax.transData.transform(low), ax.transData.transform(high)]).padded(2))
    return boxes


def label_ends(ax: Axes, ends: Mapping[str, tuple[float, float]], colours: Mapping[str, str]) -> None:
    """Write names right of the last points of lines.

    Labels that would overlap move apart evenly, so that each stays as near to its line as the others allow. The limits
    of the vertical axis are then fixed.
    """
    ax.set_ylim(ax.get_ylim())
    to_axes = ax.transData + ax.transAxes.inverted()
    ordered = sorted(ends, key=lambda name: ends[name][1])
    heights = np.array([to_axes.transform(ends[name])[1] for name in ordered])
    # Pool adjacent violators (isotonic regression) gives the ascending heights that are nearest to those of the lines.
    # Gaps are subtracted before and added after, so that labels keep at least this distance.
    gaps = _GAP * np.arange(len(heights))
    pools: list[list[float]] = []
    for height in heights - gaps:
        pools.append([float(height)])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    placed = np.concatenate([np.full(len(pool), np.mean(pool)) for pool in pools]) + gaps
    line_end = max(x for x, _ in ends.values())
    for name, height in zip(ordered, placed, strict=True):
        ax.annotate(
            name,
            (line_end, float(height)),
            (8, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="center",
            color=colours[name],
            annotation_clip=False,
        )
