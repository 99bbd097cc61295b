"""Names beside points, which avoid each other, other points and error bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.transforms import Bbox

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

    from rimsim.scenarios.pictures.looks import AgentStyle


_NEAR = 8
_WAYS = [(9, 7), (9, -18), (-9, 7), (-9, -18), (14, -5), (-14, -5), (0, 16), (0, -28)] + [
    (across * reach // 2, up * reach - 5)
    for reach in (30, 45, 60, 80)
    for across, up in ((1, 1), (-1, 1), (1, -1), (-1, -1), (3, 1), (-3, 1), (3, -1), (-3, -1))
]
"""Where a label may stand, in points from its point, best first; from :data:`_NEAR` on a line leads to it."""


def label_points(
    ax: Axes,
    points: Mapping[str, tuple[float, float]],
    looks: Mapping[str, AgentStyle],
    avoid: Sequence[Bbox] = (),
) -> dict[str, Bbox]:
    """Write each agent's name beside its point, off other points, labels and error bars if possible.

    Args:
        ax: With its final limits.
        points: Agent → position in data.
        looks: Agent → style.
        avoid: Boxes in pixels that labels should stay off, such as error bars.

    Returns:
        Agent → box of its label in pixels.
    """
    figure = ax.get_figure(root=True)
    if figure is None:
        return {}
    figure.draw_without_rendering()
    spots = {name: ax.transData.transform(position) for name, position in points.items()}
    busy = [Bbox.from_extents(x - 8, y - 8, x + 8, y + 8) for x, y in spots.values()] + list(avoid)
    inside = ax.get_window_extent()
    boxes: dict[str, Bbox] = {}
    for name in points:
        text = ax.annotate(
            name,
            points[name],
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=11,
            color=looks[name].colour,
            fontweight="bold",
        )
        scored = []
        for order, way in enumerate(_WAYS):
            box = _placed(text, way)
            clashes = sum(box.overlaps(other) for other in [*busy, *boxes.values()])
            outside = not (
                inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            )
            scored.append((clashes + 2 * outside, order))
        best = min(scored)[1]
        dx, dy = _WAYS[best]
        boxes[name] = _placed(text, (dx, dy))
        if best >= _NEAR:  # too far away to see whose name it is
            end = (dx, dy + 4) if dx else (dx, dy + (0 if dy > 0 else 10))
            line = {
                "arrowstyle": "-",
                "color": looks[name].colour,
                "linewidth": 0.8,
                "shrinkA": 0,
                "shrinkB": 4,
            }
            ax.annotate("", points[name], xytext=end, textcoords="offset points", arrowprops=line)
    return boxes


def _placed(text: Annotation, way: tuple[int, int]) -> Bbox:
    """Put a label at an offset from its point; returns its box in pixels."""
    text.set_position(way)
    text.set_horizontalalignment("left" if way[0] > 0 else "right" if way[0] < 0 else "center")
    return text.get_window_extent()
