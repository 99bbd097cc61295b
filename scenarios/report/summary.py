"""The results of runs in numbers: means over seeds with intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rimsim.measures import late_means, late_slopes, mean_interval, paired_difference
from rimsim.scenarios.runs.status import is_control

REFERENCE = "relevance"
"""The agent that others are compared with where it took part: it knows no guarantees."""
BOUNDS = ("oracle", "hindsight", "random", "popularity")
"""Agents that are there to be compared with: nothing is said of them in sentences where there are others."""
_LEVEL = ""
"""An arm whose values are all 0."""

EFFECTS = ("coverage", "effective_items", "log_gini", "jaccard", "utility")
"""Metrics of the table of what retraining does."""
TRENDS = ("utility", "coverage", "effective_items")
"""Metrics of the table of what changes from round to round, beside what is undelivered."""


def shortfalls(unit: str) -> tuple[str, str]:
    """The metrics of what is undelivered, that in the unit of the guarantee first.

    Args:
        unit: ``exposure.unit``.
    """
    return ("shortfall", "examined_shortfall") if unit == "shown" else ("examined_shortfall", "shortfall")


def told_unit(rounds: pd.DataFrame, unit: str) -> str:
    """The unit in which guarantees are told: positions where each counts alike, as in a replay or without decay.

    Args:
        rounds: Columns agent, seed, metric, value, and maybe more that tell rows apart, in the order of a run's tables.
        unit: ``exposure.unit``.
    """
    shown, examined = (
        rounds.loc[rounds["metric"] == name, "value"].to_numpy() for name in shortfalls("shown")
    )
    return "shown" if len(shown) and np.array_equal(shown, examined, equal_nan=True) else unit


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


def over_seeds(
    table: pd.DataFrame, by: Sequence[str], metrics: Sequence[str], overlap: float = 0.0
) -> pd.DataFrame:
    """Means over seeds with 95 % intervals.

    Args:
        table: A row a seed: columns ``by``, metric, value.
        by: Columns to group by beside the metric.
        metrics: Which metrics; those that the table lacks are left out.
        overlap: Seeds are random splits of one log that overlap so much, as for :func:`rimsim.measures.mean_interval`.

    Returns:
        Columns ``by``, metric, mean, low, high, n; by the first of ``by`` in the order in which it comes, then by
        metric. NaN where there is no interval.
    """
    keys = [*by, "metric"]
    rows = []
    for key, values in table[table["metric"].isin(metrics)].groupby(
        keys, sort=False, observed=True, dropna=False
    )["value"]:
        interval = mean_interval(values.to_numpy(np.float64), overlap=overlap)
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
    return REFERENCE if REFERENCE in agents else agents[0]


def others_than(base: str, agents: Sequence[str]) -> list[str]:
    """The agents beside the baseline that something is said of: no bounds, unless there are bounds alone."""
    others = [name for name in agents if name != base]
    return [name for name in others if name not in BOUNDS] or others


_GUARANTORS = ("rim-feedback", "rim-resolve", "rim-dual", "entropic-dual")


def guarantor_of(agents: Sequence[str]) -> str | None:
    """The agent that speaks for guarantees; None where none of those that keep some took part."""
    return next((name for name in _GUARANTORS if name in agents), None)


def differences(rounds: pd.DataFrame, agents: list[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Columns agent, metric, mean, low, high, effect, n, p: late means minus the baseline's at the same seeds."""
    base = baseline_of(agents)
    pairs = [(agent, base) for agent in agents if agent != base and not is_control(agent)]
    return _paired(late_means(rounds), pairs, metrics)


def trends(rounds: pd.DataFrame, agents: list[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Changes a round over the late rounds: of the baseline itself, of others less the baseline's at the same seeds.

    Returns:
        As :func:`differences`; the agent is ``NAME``, or ``NAME − baseline``. No rows where there are fewer than three
        late rounds.
    """
    slopes = late_slopes(rounds)
    base = baseline_of(agents)
    level = slopes[slopes["agent"] == base].assign(agent=_LEVEL, value=0.0)
    pairs = [(base, _LEVEL)]
    pairs += [(agent, base) for agent in agents if agent != base and not is_control(agent)]
    table = _paired(pd.concat([slopes, level]), pairs, metrics)
    names = {agent: f"{agent} − {base}" for agent, _ in pairs[1:]}
    return table.assign(agent=table["agent"].replace(names))


def _paired(late: pd.DataFrame, pairs: list[tuple[str, str]], metrics: Sequence[str]) -> pd.DataFrame:
    rows = []
    for metric in metrics:
        by_agent = late[late["metric"] == metric].pivot(index="seed", columns="agent", values="value")
        for agent, other in pairs:
            if agent in by_agent and other in by_agent:
                both = by_agent[[agent, other]].dropna().to_numpy(np.float64)
                paired = paired_difference(both[:, 0], both[:, 1])
                ends = (paired.mean, paired.low, paired.high, paired.dz, paired.n, paired.p)
                rows.append((agent, metric, *ends))
    return pd.DataFrame(rows, columns=["agent", "metric", "mean", "low", "high", "effect", "n", "p"])
