"""The results of runs in numbers: means over seeds with intervals, and paired differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim.measures import late_means, mean_interval, paired_difference
from rimsim.scenarios.store.arm_names import is_control

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "EFFECTS",
    "baseline_of",
    "differences",
    "interval_words",
    "over_seeds",
    "shortfalls",
    "shown_metrics",
    "summary",
    "two_seeds_note",
]

EFFECTS = ("coverage", "effective_items", "log_gini", "jaccard", "utility")
"""Metrics of the table of what retraining does."""


def shortfalls(unit: str) -> tuple[str, str]:
    """The metrics of what is undelivered, that in the unit of the guarantee first.

    Args:
        unit: ``exposure.unit``.
    """
    return ("shortfall", "examined_shortfall") if unit == "shown" else ("examined_shortfall", "shortfall")


def shown_metrics(unit: str) -> tuple[str, ...]:
    """Metrics of the final table, by the unit of its guarantees."""
    promises = ("promises_missed", "excess")  # where a scenario has some
    means = ("coverage", "perplexity", "effective_items", "log_gini")
    return ("utility", "return", *shortfalls(unit), *promises, *means)


def interval_words(seeds: int) -> str:
    """What the ± of a table is, by how many seeds it has."""
    return f"{seeds} seeds, ± half a 95 % interval" if seeds > 1 else "1 seed, no interval"


def two_seeds_note(seeds: int) -> str | None:
    """What to mind where intervals stand on two seeds; None where there are more, or no intervals.

    With one degree of freedom, half an interval is 12.7 standard errors; with four it is 2.8.
    """
    if seeds != 2:  # one seed has no interval
        return None
    return "2 seeds: intervals are wide (t = 12.7, with 5 seeds 2.8); for figures to keep, take --seeds 5"


def over_seeds(table: pd.DataFrame, by: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Means over seeds with 95 % intervals.

    Args:
        table: A row a seed: columns ``by``, metric, value.
        by: Columns to group by beside the metric.
        metrics: Which metrics; those that the table lacks are left out.

    Returns:
        Columns ``by``, metric, mean, low, high, n; by the first of ``by`` in the order in which it comes, then by
        metric. NaN where there is no interval.
    """
    keys = [*by, "metric"]
    rows = []
    for key, values in table[table["metric"].isin(metrics)].groupby(keys, sort=False, observed=True)["value"]:
        interval = mean_interval(values.to_numpy(np.float64))
        rows.append((*key, interval.mean, interval.low, interval.high, interval.n))
    means = pd.DataFrame(rows, columns=[*keys, "mean", "low", "high", "n"])
    first = list(dict.fromkeys(means[by[0]]))
    rank = means[by[0]].map(first.index) * len(metrics) + means["metric"].map(list(metrics).index)
    means = means.iloc[np.argsort(rank.to_numpy(), kind="stable")].reset_index(drop=True)
    return means.astype({"mean": float, "low": float, "high": float})


def summary(rounds: pd.DataFrame, agents: list[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Columns agent, metric, mean, low, high, n: means over late rounds, 95 % intervals over seeds."""
    late = late_means(rounds)
    ordered = pd.concat([late[late["agent"] == agent] for agent in agents])
    return over_seeds(ordered, ["agent"], metrics)


def baseline_of(agents: list[str]) -> str:
    """The agent that others are compared with: relevance where it took part, else the first."""
    return "relevance" if "relevance" in agents else agents[0]


def differences(rounds: pd.DataFrame, agents: list[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Columns agent, metric, mean, low, high, effect, n: late means minus the baseline's at the same seeds."""
    base = baseline_of(agents)
    pairs = [(agent, base) for agent in agents if agent != base and not is_control(agent)]
    return _paired(rounds, pairs, metrics)


def _paired(rounds: pd.DataFrame, pairs: list[tuple[str, str]], metrics: Sequence[str]) -> pd.DataFrame:
    rows = []
    late = late_means(rounds)
    for metric in metrics:
        by_agent = late[late["metric"] == metric].pivot(index="seed", columns="agent", values="value")
        for agent, other in pairs:
            if agent in by_agent and other in by_agent:
                both = by_agent[[agent, other]].dropna().to_numpy(np.float64)
                paired = paired_difference(both[:, 0], both[:, 1])
                rows.append((agent, metric, paired.mean, paired.low, paired.high, paired.dz, paired.n))
    return pd.DataFrame(rows, columns=["agent", "metric", "mean", "low", "high", "effect", "n"])
