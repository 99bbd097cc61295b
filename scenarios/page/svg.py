"""Charts as SVG within a page: geometry here, the picture's elements in ``chart.svg.jinja``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup

if TYPE_CHECKING:
    from rimsim.scenarios.page.chart import Chart, Curve


def _star(points: int, inner: float, radius: float) -> str:
    corners = []
    for number in range(2 * points):
        far = radius if number % 2 == 0 else inner
        angle = math.pi * (number / points - 0.5)
        corners.append(f"{far * math.cos(angle):.2f},{far * math.sin(angle):.2f}")
    return "M" + "L".join(corners) + "Z"


def _polygon(corners: int, radius: float) -> str:
    return _star(corners, radius * math.cos(math.pi / corners), radius)


MARKERS = {
    "o": "M-3.6,0A3.6,3.6 0 1 0 3.6,0A3.6,3.6 0 1 0 -3.6,0Z",
    "s": "M-3.2,-3.2H3.2V3.2H-3.2Z",
    "D": "M0,-4.4L4.4,0L0,4.4L-4.4,0Z",
    "d": "M0,-4.6L3,0L0,4.6L-3,0Z",
    "^": "M0,-4.2L4,3.4H-4Z",
    "v": "M0,4.2L4,-3.4H-4Z",
    "<": "M-4.2,0L3.4,4V-4Z",
    ">": "M4.2,0L-3.4,4V-4Z",
    "P": "M-1.4,-4.2H1.4V-1.4H4.2V1.4H1.4V4.2H-1.4V1.4H-4.2V-1.4H-1.4Z",
    "X": "M-4,-2L-2,-4L0,-2L2,-4L4,-2L2,0L4,2L2,4L0,2L-2,4L-4,2L-2,0Z",
    "*": _star(5, 2.1, 5.0),
    "p": _polygon(5, 4.2),
    "H": _polygon(6, 4.2),
}
"""Marker, as Matplotlib calls it, → its outline around the point (0, 0)."""
_MARKED = 24
"""At most so many points of a line get a marker."""
_BLACK = {"#000000": "var(--ink)", "#555555": "var(--faint)"}
"""Colours that a dark page has no use for → what stands for them."""


@cache
def templates() -> jinja2.Environment:
    """The templates of the page; text is escaped, and a name that is missing is an error."""
    loader = jinja2.PackageLoader("rimsim.scenarios.page", "")
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def svg(chart: Chart, name: str) -> Markup:
    """A chart as an ``<svg>`` element.

    Args:
        chart: With at least one finite point.
        name: For the element's clip path; unique within a page.
    """
    drawn = [_drawn(chart, curve) for curve in chart.curves]
    diagonal = _diagonal(chart) if chart.diagonal else ""
    told = f"{chart.title}: {chart.y.label} against {chart.x.label}"
    text = (
        templates()
        .get_template("chart.svg.jinja")
        .render(chart=chart, curves=drawn, diagonal=diagonal, name=name, told=told)
    )
    return Markup(text)  # noqa: S704  the template escapes what it is given


def legend_key(curve: Curve) -> Markup:
    """A line with its marker, for a legend."""
    text = (
        templates()
        .get_template("key.svg.jinja")
        .render(colour=_BLACK.get(curve.colour, curve.colour), marker=MARKERS[curve.marker], curve=curve)
    )
    return Markup(text)  # noqa: S704  the same


@dataclass(frozen=True)
class _Drawn:
    """The outlines of a curve in units of the frame."""

    name: str
    colour: str
    marker: str
    band: str
    line: str
    dashed: bool
    threads: tuple[str, ...]
    bars: str
    points: tuple[tuple[float, float, str], ...]


def _drawn(chart: Chart, curve: Curve) -> _Drawn:
    xs, ys = [chart.across(x) for x in curve.x], [chart.up(y) for y in curve.y]
    banded = curve.line and curve.low and not curve.threads and not curve.x_low
    points = tuple(
        (x, y, _tooltip(curve, place))
        for place, (x, y) in enumerate(zip(xs, ys, strict=True))
        if math.isfinite(x) and math.isfinite(y)
    )
    return _Drawn(
        curve.name,
        _BLACK.get(curve.colour, curve.colour),
        MARKERS[curve.marker],
        _band(xs, [chart.up(y) for y in curve.low], [chart.up(y) for y in curve.high]) if banded else "",
        _path(xs, ys) if curve.line else "",
        curve.dashed,
        tuple(_path(xs, [chart.up(y) for y in thread]) for thread in curve.threads),
        _bars(chart, curve) if curve.x_low or not curve.line else "",
        _spread(points) if curve.line else points,
    )


def _spread(points: Sequence[tuple[float, float, str]]) -> tuple[tuple[float, float, str], ...]:
    """The points of a line that get a marker."""
    step = -(-len(points) // _MARKED) or 1
    return tuple(points[::step])


def _tooltip(curve: Curve, place: int) -> str:
    text = f"{curve.name}: {curve.x[place]:.4g}, {curve.y[place]:.4g}"
    if not curve.low or not math.isfinite(curve.low[place]):
        return text
    return f"{text} ({curve.low[place]:.4g} to {curve.high[place]:.4g})"


def _path(xs: Sequence[float], ys: Sequence[float]) -> str:
    """A line through points; it breaks where one is missing."""
    parts, pen = [], "M"
    for x, y in zip(xs, ys, strict=True):
        if not (math.isfinite(x) and math.isfinite(y)):
            pen = "M"
            continue
        parts.append(f"{pen}{x:.1f},{y:.1f}")
        pen = "L"
    return "".join(parts)


def _band(xs: Sequence[float], low: Sequence[float], high: Sequence[float]) -> str:
    there = [row for row in zip(xs, low, high, strict=True) if all(map(math.isfinite, row))]
    if len(there) < 2:  # a band of one point has no area
        return ""
    forth = _path([x for x, _, _ in there], [y for _, _, y in there])
    back = _path([x for x, _, _ in reversed(there)], [y for _, y, _ in reversed(there)])
    return f"{forth}L{back[1:]}Z"


def _bars(chart: Chart, curve: Curve) -> str:
    """The intervals of single points, as lines up and across."""
    up: Iterable[tuple[float, float, float]] = (
        zip(curve.x, curve.low, curve.high, strict=True) if curve.low else ()
    )
    along: Iterable[tuple[float, float, float]] = (
        zip(curve.y, curve.x_low, curve.x_high, strict=True) if curve.x_low else ()
    )
    parts = [
        f"M{chart.across(x):.1f},{chart.up(low):.1f}V{chart.up(high):.1f}"
        for x, low, high in up
        if math.isfinite(low)
    ]
    for y, low, high in along:
        if math.isfinite(low):
            begins = chart.across(max(low, chart.x_limits[0]))
            parts.append(f"M{begins:.1f},{chart.up(y):.1f}H{chart.across(high):.1f}")
    return "".join(parts)


def _diagonal(chart: Chart) -> str:
    low = max(chart.x_limits[0], chart.y_limits[0])
    high = min(chart.x_limits[1], chart.y_limits[1])
    return (
        _path([chart.across(low), chart.across(high)], [chart.up(low), chart.up(high)]) if high > low else ""
    )
