"""Tables of text, for the terminal and for a page of Markdown, and how figures are written in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rimsim.measures import LEVEL, holm
from rimsim.scenarios.report.record import TextTable

if TYPE_CHECKING:
    import pandas as pd


def cell(mean: float | None, low: float | None, high: float | None, *, significant: bool = False) -> str:
    """A mean, with ± half its interval where it has one; a dash where there is none.

    Args:
        mean: The mean; None or NaN: there is none.
        low: Lower end of the interval; None or NaN: there is none.
        high: Upper end.
        significant: Below 10, write three significant figures but at most four decimals, in place of three decimals.
    """
    if mean is None or np.isnan(mean):
        return "–"
    text = number(mean, significant=significant)
    if low is None or high is None or np.isnan(low):
        return text
    return f"{text} ±{number((high - low) / 2, significant=significant)}"


def number(value: float, *, significant: bool = False) -> str:
    """A figure as tables write it; ``significant`` as for :func:`cell`."""
    size = abs(value)
    decimals = 0 if size >= 100 else 1 if size >= 10 else 3
    if significant and size < 10:
        decimals = 2 if size >= 1 else 3 if size >= 0.1 else 4
    return f"{value:.{decimals}f}"


def pivoted(
    title: str,
    means: pd.DataFrame,
    labels: Sequence[str],
    metrics: Sequence[str],
    *,
    significant: bool = False,
) -> TextTable:
    """Metrics across; down, whatever the means are of, in the order in which it comes.

    Differences are marked with a star where they are not 0, whichever of the table one claims: at 5 % by Holm over all
    that the table compares.

    Args:
        title: What the figures are.
        means: Columns ``labels``, metric, mean, low, high; of differences also p.
        labels: Columns that say what a row is of.
        metrics: Order of the columns; those that the table lacks are left out.
        significant: As in :func:`cell`.
    """
    means = means[means["metric"].isin(metrics)]
    settled = np.zeros(len(means), bool)
    if "p" in means and means["p"].notna().any():
        settled = holm(means["p"].to_numpy(np.float64)) <= LEVEL
        title += f" (* not 0: Holm over {int(means['p'].notna().sum())} comparisons)"
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for star, (*values, metric, mean, low, high) in zip(
        settled, means[[*labels, "metric", "mean", "low", "high"]].to_numpy().tolist(), strict=True
    ):
        label = tuple(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
        text = cell(mean, low, high, significant=significant) + "*" * bool(star)
        rows.setdefault(label, {})[metric] = text
    there = [metric for metric in metrics if any(metric in cells for cells in rows.values())]
    columns = (*labels, *(metric.replace("_", " ") for metric in there))
    return TextTable(
        title,
        columns,
        tuple((*label, *(cells.get(name, "–") for name in there)) for label, cells in rows.items()),
        labels=len(labels),
    )
