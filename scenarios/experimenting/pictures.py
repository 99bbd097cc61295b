"""The picture of an experiment: naive estimates of each design against the total effect."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rimsim.scenarios.experimenting.figures import METRICS, summary
from rimsim.scenarios.report.charts import draw, frame

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def draw_experiment(table: pd.DataFrame, agents: tuple[str, str], folder: Path) -> list[Path]:
    """Draw ``experiment.png``.

    Args:
        table: ``experiment.parquet``.
        agents: A and B.
        folder: Made if missing.

    Returns:
        The file written.
    """
    return draw({"experiment": partial(designs_against_total, table, agents)}, folder)


def designs_against_total(table: pd.DataFrame, agents: tuple[str, str]) -> Figure:
    """A panel a metric: mean naive estimate and mean interval of each design, and the mean total effect."""
    found = summary(table)
    seeds = int(found["seeds"].iloc[0])
    figure = frame(
        f"What {agents[1]} brings beside {agents[0]}: experiments on one market against two whole worlds",
        f"Dots: mean naive estimates over {seeds} seeds; bars: their mean 95 % intervals. "
        "Line: total effect. Dotted: none.",
        4.2,
    )
    axes = np.ravel(figure.subplots(1, len(METRICS), sharey=True, squeeze=False))
    for ax, metric in zip(axes, METRICS, strict=True):
        rows = found[found["metric"] == metric]
        place = np.arange(len(rows))
        labels = [f"{row.design}, {row.training}, {row.prices}" for row in rows.itertuples()]
        ax.axvline(0.0, color="#333333", linestyle=":")
        ax.axvline(float(rows["total_effect"].mean()), color="#333333")
        ax.errorbar(rows["naive"], place, xerr=rows["width"] / 2, fmt="o", capsize=3)
        ax.set(title=metric.replace("_", " "), yticks=place, yticklabels=labels)
    axes[0].invert_yaxis()
    return figure
