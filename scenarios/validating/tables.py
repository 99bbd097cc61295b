"""The tables of a validation, made from what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd

from rimsim.arrays import Floats
from rimsim.measures import mean_interval, pairs_of
from rimsim.scenarios.validating.evidence import ORACLE

if TYPE_CHECKING:
    from rimsim.measures import Agreement
    from rimsim.scenarios.validating.evidence import Evidence

    Row: TypeAlias = tuple[str, str, int, str, float]


COLUMNS = ("model", "truth", "draw", "metric", "value")
"""Columns of ``validate.parquet``."""


def evidence_rows(evidence: Evidence) -> list[Row]:
    """Means over users of every model's real metrics, truth empty, and of its utility under every truth, by draw."""
    rows: list[Row] = []
    for number, draw in enumerate(evidence.draws):
        for metric, values in evidence.real.items():
            named = zip(evidence.models, values[:, number], strict=True)
            rows += [(model, "", draw, metric, _mean(of_users)) for model, of_users in named]
        for truth, values in evidence.utility.items():
            named = zip((*evidence.models, ORACLE), values[:, number], strict=True)
            rows += [(model, truth, draw, "utility", _mean(of_users)) for model, of_users in named]
    return rows


def value_table(rows: Sequence[Row]) -> pd.DataFrame:
    """``validate.parquet``: columns model, truth, draw, metric, value."""
    return pd.DataFrame(list(rows), columns=list(COLUMNS)).astype({"draw": np.int64, "value": float})


def interval_table(evidence: Evidence) -> pd.DataFrame:
    """``intervals.parquet``: columns model, truth, metric, mean, low, high, users.

    A user's draws are averaged first, so that the n users are independent.
    """
    parts = [("", metric, evidence.by_user(metric=metric)) for metric in evidence.real]
    parts += [(truth, "utility", evidence.by_user(truth)) for truth in evidence.utility]
    rows = []
    for truth, metric, values in parts:
        for model, of_users in zip((*evidence.models, ORACLE), values, strict=False):  # reality has no oracle
            found = mean_interval(of_users)
            rows.append((model, truth, metric, found.mean, found.low, found.high, found.n))
    columns = ["model", "truth", "metric", "mean", "low", "high", "users"]
    return pd.DataFrame(rows, columns=columns).astype({"mean": float, "low": float, "high": float})


def pair_table(evidence: Evidence) -> pd.DataFrame:
    """``pairs.parquet``: columns truth, model, other, difference, low, high, settled, simulated.

    ``model`` is the better one in reality. ``difference`` is of real precision, with its paired 95 % interval over
    users; ``simulated`` is that of utility.
    """
    found = pairs_of(evidence.by_user())
    rows = []
    for truth in evidence.utility:
        worth = evidence.by_user(truth).mean(1)
        for pair in found:
            names = evidence.models[pair.first], evidence.models[pair.second]
            simulated = float(worth[pair.first] - worth[pair.second])
            rows.append((truth, *names, pair.difference, pair.low, pair.high, pair.settled, simulated))
    columns = ["truth", "model", "other", "difference", "low", "high", "settled", "simulated"]
    numbers = ("difference", "low", "high", "simulated")
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(numbers, float))


def agreement_table(agreements: Mapping[str, Agreement], chosen: str | None) -> pd.DataFrame:
    """``agreement.parquet``: columns truth, metric, value; ``chosen`` is 1 for the truth that later sessions choose.

    Args:
        agreements: Truth → how it agrees with reality.
        chosen: The truth that the log's later sessions choose; None: they were not asked.
    """
    rows = [
        (truth, metric, value)
        for truth, found in agreements.items()
        for metric, value in (found.figures | {"chosen": float(truth == chosen)}).items()
    ]
    return pd.DataFrame(rows, columns=["truth", "metric", "value"]).astype({"value": float})


def figures_of(agreement: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Truth → metric → value, from the columns truth, metric, value."""
    figures: dict[str, dict[str, float]] = {}
    for truth, metric, value in agreement[["truth", "metric", "value"]].to_numpy().tolist():
        figures.setdefault(str(truth), {})[str(metric)] = float(value)
    return figures


def _mean(values: Floats) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")
