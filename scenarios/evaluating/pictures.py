"""The picture of an evaluation: estimators against the truth, a panel for each part of the log."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rimsim.scenarios.evaluating.figures import PARTS, summary
from rimsim.scenarios.report.charts import draw, frame

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


_WIDEST = 1.5
"""Estimates are shown up to so many times the truth above or below it; what lies beyond is at the edge."""


def draw_evaluation(table: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw ``ope.png``.

    Args:
        table: What :func:`rimsim.scenarios.evaluating.figures.estimates` gives, of one target.
        folder: Made if missing.

    Returns:
        The file written.
    """
    return draw({"ope": partial(estimators_against_truth, table)}, folder)


def estimators_against_truth(table: pd.DataFrame) -> Figure:
    """A panel for each part: mean estimate and mean interval of each estimator over seeds, and the true value."""
    found = summary(table)
    parts = [part for part in PARTS if part in set(found["part"])]
    logged, target, seeds = found["logged"].iloc[0], found["target"].iloc[0], int(found["seeds"].iloc[0])
    figure = frame(
        f"What {target} is worth, estimated from the log of {logged}",
        "Consumptions of a slate. Dots: mean estimates over seeds; bars: their mean 95 % intervals. Line: the truth, "
        f"in the target's own world. Dotted: in the states of the log. Seeds: {seeds}.",
        4.2,
    )
    axes = np.ravel(figure.subplots(1, len(parts), sharey=True, squeeze=False))
    names = list(dict.fromkeys(found["estimator"]))
    for ax, part in zip(axes, parts, strict=True):
        rows = found[found["part"] == part].set_index("estimator").reindex(names)
        truth = float(rows["truth"].mean())
        at_log = truth - float(rows["moved"].mean())
        low, high = truth - _WIDEST * abs(truth), truth + _WIDEST * abs(truth)
        place, value = np.arange(len(names)), rows["estimate"].to_numpy()
        ax.axvline(truth, color="#333333")
        ax.axvline(at_log, color="#333333", linestyle=":")
        ax.errorbar(value.clip(low, high), place, xerr=rows["width"].to_numpy() / 2, fmt="o", capsize=3)
        ax.set(title=part, xlim=(low, high), yticks=place, yticklabels=names)
        ax.invert_yaxis() if ax is axes[0] else None
    return figure
