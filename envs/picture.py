"""The picture that the environment renders."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Floats

_LINEAR = 10
"""Up to how many exposures the axis is linear."""


def exposure_picture(exposure: Floats, required: Floats, title: str) -> NDArray[np.uint8]:
    """Draw exposure against requirement, items sorted by exposure.

    Args:
        exposure: (M,) exposures so far.
        required: (M,) required exposures.
        title: What stands above it.

    Returns:
        (height, width, 3) pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # slow to import, and few render
    from matplotlib.figure import Figure  # noqa: PLC0415

    order = np.argsort(-exposure, kind="stable")
    rank = np.arange(1, len(exposure) + 1)
    figure = Figure(figsize=(9, 4.5), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.fill_between(rank, exposure[order], step="mid", color="#0072B2", alpha=0.7, label="exposure")
    axes.plot(
        rank,
        required[order],
        drawstyle="steps-mid",
        color="#D55E00",
        linewidth=1.2,
        label="required by round's end",
    )
    axes.set_yscale("symlog", linthresh=_LINEAR)
    axes.set_ylim(bottom=0)
    ticks = [0, *(step * 10**power for power in range(8) for step in (1, 2, 5))]
    high = axes.get_ylim()[1]
    axes.set_yticks([tick for tick in ticks if tick <= high and (tick > _LINEAR / 10 or tick == 0)])
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(0.5, len(exposure) + 0.5)
    axes.set_xlabel("items, most shown first")
    axes.set_ylabel("exposures in this round")
    axes.set_title(title, fontsize=9, loc="left")
    axes.legend(frameon=False, loc="upper right")
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]  # matplotlib
