"""The matrix of a sweep as a heat map of signs and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from rimsim.scenarios.pictures.messages import many
from rimsim.scenarios.pictures.style import frame
from rimsim.scenarios.report.matrix import point_names, settled_words
from rimsim.scenarios.report.tables import number

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


_COLOURS = LinearSegmentedColormap.from_list("signs", ["#0173b2", "#ffffff", "#d55e00"])
_PALEST = 0.15
"""How far from white the smallest settled cell of a column is; the largest is at 1."""


def matrix_figure(found: pd.DataFrame, fields: Sequence[str]) -> Figure:
    """A row a point, a column a contrast: coloured by sign and size where the sign is settled, else blank.

    Args:
        found: What :func:`rimsim.scenarios.report.matrix.matrix` tells, not empty.
        fields: The swept fields.
    """
    columns = list(found["contrast"].unique())
    named = point_names(found, fields)
    points = list(dict.fromkeys(named))
    seeds = int(found["n"].max())
    caption = (
        f"{many(seeds, 'seed')}. Mean and half a paired 95 % interval; colour: size within the column. Blank: the sign "
        "is not settled at 5 % by Holm over all cells."
    )
    figure = frame(_message(found), caption, 1.6 + 0.48 * len(points))
    ax = figure.subplots()
    shade = np.zeros((len(points), len(columns)))
    largest = found["mean"].abs().groupby(found["contrast"]).max()
    columns_of = found[["contrast", "mean", "low", "high", "sign"]].to_numpy().tolist()
    for point, (contrast, mean, low, high, sign) in zip(named, columns_of, strict=True):
        if not sign:
            continue
        row, column = points.index(point), columns.index(contrast)
        shade[row, column] = sign * (_PALEST + (1 - _PALEST) * abs(mean) / float(largest[contrast]))
        text = f"{number(mean)}\n±{number((high - low) / 2)}".replace("-", "−")
        ax.text(column, row, text, ha="center", va="center", fontsize=9, color="#111111")
    ax.imshow(shade, cmap=_COLOURS, vmin=-1.6, vmax=1.6, aspect="auto")
    ax.set_xticks(range(len(columns)), [name.replace(": ", ":\n") for name in columns], fontsize=9)
    ax.set_yticks(range(len(points)), points)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.set_xticks(np.arange(1, len(columns)) - 0.5, minor=True)
    ax.set_yticks(np.arange(1, len(points)) - 0.5, minor=True)
    ax.grid(visible=False)
    ax.grid(which="minor", color="#cccccc", linewidth=1)
    return figure


def _message(found: pd.DataFrame) -> str:
    """In how many cells the sign of the first contrast, and of the last, is settled."""
    names = list(dict.fromkeys(found["contrast"]))
    told = [
        f"{name}: {settled_words(found[found['contrast'] == name])}"
        for name in dict.fromkeys((names[0], names[-1]))
    ]
    return "; ".join(told) + " cells"
