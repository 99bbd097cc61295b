"""Results that kinds share: tables and biases of estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy

from rimsim.arrays import Floats
from rimsim.scenarios.report.charts import frame
from rimsim.scenarios.runs.store import Run, RunTables, load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class RunResult(RunTables):
    """Finished run of a kind, with its tables."""

    folder: Path
    """The run folder."""

    @cached_property
    def run(self) -> Run:
        """The run folder as all kinds have it."""
        return load_run(self.folder)

    @property
    def table(self) -> pd.DataFrame:
        """The main table of its kind."""
        return self.run.table

    @property
    def described(self) -> dict[str, Any]:
        """Content of ``config.yaml``."""
        return self.run.config


def bias_over_seeds(
    table: pd.DataFrame, keys: Sequence[str], names: tuple[str, str], means: Sequence[str]
) -> pd.DataFrame:
    """Means over seeds, with the bias of an estimate.

    Args:
        table: A row per seed: columns ``keys``, seed, low, high, the names and the means.
        keys: Columns to group by.
        names: Columns of the estimate and of its truth.
        means: Other columns to average.

    Returns:
        Columns ``keys``, the names, bias (mean of estimate − truth), error (its standard error; NaN for one seed), half
        (half a 95 % interval of the bias, by Student's t), width (of the estimate's interval), ``means`` and seeds.
    """
    work = table.assign(bias=table[names[0]] - table[names[1]], width=table["high"] - table["low"])
    averaged = {name: (name, "mean") for name in (*names, "bias", "width", *means)}
    found = work.groupby(list(keys), sort=False).agg(
        **averaged, error=("bias", "sem"), seeds=("seed", "nunique")
    )
    half = found["error"] * scipy.stats.t.ppf(0.975, (found["seeds"] - 1).clip(lower=1))
    return found.assign(half=half).reset_index()


@dataclass(frozen=True, eq=False)
class Panel:
    """Estimates with intervals, one below the other, beside their truth."""

    title: str
    estimates: Mapping[str, tuple[float, float]]
    """Label → estimate and half its interval."""
    truth: float
    """Solid line."""
    reference: float
    """Dotted line."""
    limits: tuple[float, float] | None = None
    """Estimates beyond these stand at the edge."""


def interval_panels(message: str, caption: str, panels: Sequence[Panel]) -> Figure:
    """Figure of panels side by side that share their labels."""
    figure = frame(message, caption, 4.2)
    axes = np.ravel(figure.subplots(1, len(panels), sharey=True, squeeze=False))
    for ax, panel in zip(axes, panels, strict=True):
        place = np.arange(len(panel.estimates))
        value, half = np.array(list(panel.estimates.values()), np.float64).reshape(-1, 2).T
        ax.axvline(panel.reference, color="#333333", linestyle=":")
        ax.axvline(panel.truth, color="#333333")
        ax.errorbar(_within(value, panel.limits), place, xerr=half, fmt="o", capsize=3)
        ax.set(title=panel.title, yticks=place, yticklabels=list(panel.estimates))
        if panel.limits is not None:
            ax.set(xlim=panel.limits)
    axes[0].invert_yaxis()
    return figure


def _within(value: Floats, limits: tuple[float, float] | None) -> Floats:
    return value if limits is None else value.clip(*limits)
