"""What a chart of the page draws, and where: axes with round numbers, curves with what is uncertain of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

Scale: TypeAlias = Literal["linear", "log"]
_WIDTH, _HEIGHT = 360.0, 232.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 12.0, 10.0, 40.0
_NAN = math.nan


@dataclass(frozen=True)
class Axis:
    """One axis of a chart."""

    label: str
    """What is measured, with its unit."""
    scale: Scale = "linear"
    """``log`` only where all values are positive."""
    share: bool = False
    """Whether ticks are written in per cent."""
    whole: bool = False
    """Whether ticks are whole numbers, such as rounds."""
    zero: bool = False
    """Whether the axis begins at 0."""
    least: float | None = None
    """Lowest value to show; None: that of the curves."""
    most: float | None = None
    """Highest value to show; None: that of the curves."""


@dataclass(frozen=True)
class Curve:
    """One line, or one row of points, with intervals; NaN where there is none."""

    name: str
    """For the legend and the tooltip."""
    colour: str
    """As CSS has it."""
    marker: str
    """A marker of :data:`rimsim.scenarios.page.svg.MARKERS`."""
    x: tuple[float, ...]
    """Places, ascending where a line joins them."""
    y: tuple[float, ...]
    """Means."""
    low: tuple[float, ...] = ()
    """Lower ends of the intervals of ``y``; empty: none."""
    high: tuple[float, ...] = ()
    """Upper ends."""
    x_low: tuple[float, ...] = ()
    """Lower ends of the intervals of ``x``; empty: none."""
    x_high: tuple[float, ...] = ()
    """Upper ends."""
    threads: tuple[tuple[float, ...], ...] = ()
    """Further lines over ``x``, drawn thin in place of a band: the seeds where they are few."""
    line: bool = True
    """Whether a line joins the points; else intervals are bars."""
    dashed: bool = False
    """Whether the line is dashed, as that of a control."""


@dataclass(frozen=True)
class Chart:
    """Curves over two axes, in a frame of 360 × 232 units."""

    title: str
    """Above the chart."""
    x: Axis
    """Across."""
    y: Axis
    """Up."""
    curves: tuple[Curve, ...]
    """At least one with a point."""
    level: float | None = None
    """Where a thin line goes across, such as 0 for differences."""
    diagonal: bool = False
    """Whether the line x = y is drawn."""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the frame."""
        return _WIDTH, _HEIGHT

    @property
    def inside(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the area within the axes."""
        return _LEFT, _TOP, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    @cached_property
    def x_limits(self) -> tuple[float, float]:
        """The ends of the axis across."""
        points = [value for curve in self.curves for value in curve.x]
        ends = [value for curve in self.curves for value in (*curve.x_low, *curve.x_high)]
        return _limits(points, ends, self.x, tight=any(curve.line for curve in self.curves))

    @cached_property
    def y_limits(self) -> tuple[float, float]:
        """The ends of the axis up."""
        points = [value for curve in self.curves for value in curve.y]
        points += [value for curve in self.curves for thread in curve.threads for value in thread]
        points += [] if self.level is None else [self.level]
        ends = [value for curve in self.curves if not curve.threads for value in (*curve.low, *curve.high)]
        return _limits(points, ends, self.y, tight=False)

    def across(self, value: float) -> float:
        """Where a value of the x axis stands, from the left."""
        left, _, right, _ = self.inside
        return left + (right - left) * _place(value, self.x_limits, self.x.scale)

    def up(self, value: float) -> float:
        """Where a value of the y axis stands, from the top."""
        _, top, _, bottom = self.inside
        return bottom - (bottom - top) * _place(value, self.y_limits, self.y.scale)

    def x_ticks(self) -> list[tuple[float, str]]:
        """Values and labels across."""
        return _labelled(self.x_limits, self.x, 6)

    def y_ticks(self) -> list[tuple[float, str]]:
        """Values and labels up."""
        return _labelled(self.y_limits, self.y, 5)


def nice_ticks(
    low: float, high: float, count: int, scale: Scale = "linear", *, whole: bool = False
) -> list[float]:
    """Round numbers within two ends: multiples of 1, 2 or 5 times a power of ten.

    Args:
        low: Lower end.
        high: Upper end, above it.
        count: About how many.
        scale: Of the axis; ``log`` gives 1, 2 and 5 times powers of ten, or powers alone where these are enough.
        whole: Whether no fractions are allowed.
    """
    if scale == "log":
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
            ticks = [step * 10.0**power for power in powers for step in steps]
            ticks = [tick for tick in ticks if low <= tick <= high]
            if len(ticks) >= min(3, count):
                return ticks
        return ticks
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(times * power for times in (1.0, 2.0, 5.0, 10.0) if times * power >= rough * (1 - 1e-9))
    step = max(1.0, round(step)) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _limits(points: list[float], ends: list[float], axis: Axis, *, tight: bool) -> tuple[float, float]:
    """The ends of an axis: all points are within, and intervals at most the points' own extent beyond them."""
    points, ends = _finite(points), _finite(ends)
    low, high = min(points), max(points)
    if axis.scale == "log":
        room = max(high / low, 2.0)
        low = max(low / room, min([low, *(end for end in ends if end > 0)]))
        high = min(high * room, max([high, *ends]))
        return (axis.least or low / 1.25, axis.most or high * 1.25)
    room = high - low or abs(high) or 1.0
    if axis.share:  # an interval beyond the whole says nothing there
        ends = [min(end, max(high, 1.0)) for end in ends]
    low, high = max(low - room, min([low, *ends])), min(high + room, max([high, *ends]))
    spare = 0.0 if tight else 0.06 * (high - low or abs(high) or 1.0)
    low = min(0.0, *points) if axis.zero else low - spare
    low = low if axis.least is None else axis.least
    high = high + spare if axis.most is None else axis.most
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _finite(values: list[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _place(value: float, limits: tuple[float, float], scale: Scale) -> float:
    low, high = limits
    if scale == "log":
        return _NAN if value <= 0 else math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _labelled(limits: tuple[float, float], axis: Axis, count: int) -> list[tuple[float, str]]:
    ticks = nice_ticks(*limits, count, axis.scale, whole=axis.whole)
    return [(tick, _text(tick, share=axis.share)) for tick in ticks]


def _text(value: float, *, share: bool) -> str:
    value = round(100 * value if share else value, 10) + 0.0
    text = f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.6g}"
    return text.replace("-", "−") + (" %" if share else "")
