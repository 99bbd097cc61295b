"""What differs between two runs: their settings, and their results with intervals over the seeds that both have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rimsim.config.reading import flat
from rimsim.errors import RunFolderError
from rimsim.measures import late_means, paired_difference
from rimsim.scenarios.report.record import TextTable
from rimsim.scenarios.report.summary import shown_metrics
from rimsim.scenarios.report.sweep import sweep_table
from rimsim.scenarios.report.tables import pivoted
from rimsim.scenarios.runs.status import shown_rounds

if TYPE_CHECKING:
    from rimsim.scenarios.runs.store import Run


_SETTINGS = ("scenario", "backtest", "validate", "sweep", "agents", "control", "frozen", "seeds", "versions")
"""Parts of ``config.yaml`` that say what was done."""
_SHOWN = {
    "sweep": ("utility", "coverage", "perplexity", "examined_shortfall", "shortfall"),
    "backtest": ("precision", "recall", "perplexity", "coverage", "shortfall"),
    "validation": ("precision", "ndcg", "utility"),
}
_ABSENT = "–"


def setting_differences(one: Run, other: Run) -> TextTable:
    """Every field that has not the same value in both runs, by its dotted name.

    Args:
        one: A run.
        other: Another one.
    """
    here, there = _settings(one.config), _settings(other.config)
    fields = [field for field in here | there if here.get(field, _ABSENT) != there.get(field, _ABSENT)]
    rows = tuple((field, here.get(field, _ABSENT), there.get(field, _ABSENT)) for field in fields)
    return TextTable("Settings that differ", ("field", str(one.folder), str(other.folder)), rows)


def result_differences(one: Run, other: Run) -> TextTable:
    """The second run minus the first: means over the seeds that both have, with paired 95 % intervals.

    Args:
        one: A run.
        other: Another one of the same kind.

    Raises:
        RunFolderError: If they are of different kinds, or have no arm and seed in common.
    """
    if one.kind != other.kind:
        raise RunFolderError(
            f"{other.folder}: holds a {other.kind}, {one.folder} a {one.kind}; allowed: two runs of the same kind"
        )
    here, there = _values(one), _values(other)
    keys = [name for name in here.columns if name not in ("seed", "metric", "value")]
    missing = [name for name in keys if name not in there]
    both = (
        here.merge(there, on=[*keys, "seed", "metric"], suffixes=("", "_other")) if not missing else here[:0]
    )
    if both.empty:
        raise RunFolderError(
            f"{one.folder} and {other.folder}: no {' and '.join(keys)} at the same seed is in both; allowed: runs that "
            "share some"
        )
    shown = _SHOWN.get(one.kind) or shown_metrics(one.scenario.exposure.unit)
    rows = []
    for key, group in both[both["metric"].isin(shown)].groupby([*keys, "metric"], sort=False, dropna=False):
        paired = paired_difference(
            group["value_other"].to_numpy(np.float64), group["value"].to_numpy(np.float64)
        )
        rows.append((*key, paired.mean, paired.low, paired.high))
    means = pd.DataFrame(rows, columns=[*keys, "metric", "mean", "low", "high"])
    means = means.fillna(dict.fromkeys(keys, "")).astype({"mean": float, "low": float, "high": float})
    seeds = both["seed"].nunique()
    words = f"{seeds} seeds, ± half a paired 95 % interval" if seeds > 1 else "1 seed, no interval"
    title = f"{other.folder} minus {one.folder}: what both have, {words}"
    return pivoted(title, means, keys, shown)


def _values(run: Run) -> pd.DataFrame:
    """Columns that say what a row is of, seed, metric, value: one value a seed."""
    if run.kind == "sweep":
        return sweep_table(run)
    if run.kind == "backtest":
        return run.backtest
    if run.kind == "validation":
        return run.validate.rename(columns={"draw": "seed"})
    rounds = shown_rounds(run)
    return late_means(rounds) if len(rounds) else pd.DataFrame(columns=["agent", "seed", "metric", "value"])


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    """Dotted field → value, as text; those of the scenario begin anew."""
    return {
        name.removeprefix("scenario."): str(value)
        for part in _SETTINGS
        if part in config
        for name, value in flat(config[part], part).items()
    }
