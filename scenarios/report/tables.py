"""Statistics of runs, and tables of them.

In this package ``rounds`` is a table with columns agent, seed, round, metric and value. ``unit`` is the setting
``exposure.unit``, and ``late`` names the late rounds. The names in ``arms`` and ``agents`` have the order of the run.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rimsim import measures
from rimsim.agents.registry import named
from rimsim.errors import many
from rimsim.measures import MEASURES
from rimsim.scenarios.report.record import TextTable
from rimsim.scenarios.runs.arms import is_control

REFERENCE = "relevance"
"""Name of the agent that other agents are compared with, if it is in the run. It ignores guarantees."""
BOUNDS = named("bound")
"""Names of agents that serve as bounds. Sentences mention bounds only if there are no other agents."""
# Agents with guarantees, in the order in which titles prefer them.
_GUARANTORS = named("guarantor")
_BASELINES = named("bound", "baseline", "reference")  # agents without guarantees


EFFECTS = ("coverage", "effective_items", "log_gini", "jaccard", "utility")
"""Metrics in the table of effects of retraining."""
TRENDS = ("utility", "coverage", "effective_items")
"""Metrics in the table of changes per round, besides the undelivered share."""


def baseline_of(agents: list[str]) -> str:
    """Baseline agent: ``relevance``, or else the first agent."""
    return REFERENCE if REFERENCE in agents else agents[0]


def compared_agents(base: str, agents: Sequence[str]) -> list[str]:
    """Agents to compare with the baseline, without bounds if possible."""
    compared = [name for name in agents if name != base]
    return [name for name in compared if name not in BOUNDS] or compared


def guarantor_of(agents: Sequence[str]) -> str | None:
    """Agent that represents guarantees in titles, or None."""
    return next((name for name in _GUARANTORS if name in agents), None)


def subject(agents: Collection[str]) -> str:
    """Agent for a title, with guarantees if possible."""
    guarantors = [name for name in sorted(agents) if name not in _BASELINES]
    return guarantor_of(list(agents)) or (guarantors + sorted(agents))[0]


def shortfalls(unit: str) -> tuple[str, str]:
    """Metrics of undelivered exposure, first in the unit ``exposure.unit``."""
    return ("shortfall", "examined_shortfall") if unit == "shown" else ("examined_shortfall", "shortfall")


def reported_unit(rounds: pd.DataFrame, unit: str) -> str:
    """Unit of reported guarantees; ``shown`` if all positions count equally."""
    shown, examined = (
        rounds.loc[rounds["metric"] == name, "value"].to_numpy() for name in shortfalls("shown")
    )
    return "shown" if len(shown) and np.array_equal(shown, examined, equal_nan=True) else unit


def shown_metrics(unit: str) -> tuple[str, ...]:
    """Metrics of the final table, by ``exposure.unit``."""
    means = ("coverage", "perplexity", "effective_items", "log_gini")
    # The metric `revenue` exists only if the log has prices, and `excess` only if the scenario has caps.
    return ("utility", "revenue", "return", *shortfalls(unit), "excess", *means)


def interval_words(seeds: int, unit: str = "seed") -> str:
    """Explanation of the sign ± in a table."""
    return f"{seeds} {unit}s, ± half a 95% interval" if seeds > 1 else f"1 {unit}, no interval"


def two_seeds_note(seeds: int, unit: str = "seed") -> str | None:
    """Caution about intervals over two seeds.

    With two seeds, half the width of an interval is 12.7 standard errors; with five it is 2.8.
    """
    if seeds != 2:
        return None
    wide = f"2 {unit}s: intervals are wide (t = 12.7, with 5 {unit}s 2.8)"
    return f"{wide}; for figures to keep, take --{unit}s 5"


def cannot_tell(count: int, unit: str = "seed") -> str | None:
    """Subject and verb about one or two seeds.

    All sentences on a difference that is not significant use these words. Over two seeds, a difference must exceed
    12.7 standard errors, so its absence from the table's stars says nothing. None: from three seeds on.
    """
    return {1: f"one {unit} cannot tell", 2: f"two {unit}s cannot tell"}.get(count)


def by_chance(count: int, *, is_significant: bool, unit: str = "seed") -> str:
    """End of a sentence on an untested difference, if any."""
    doubt = None if is_significant else cannot_tell(count, unit)
    return "" if doubt is None else f", but {doubt} if this is chance"


def over_seeds(
    table: pd.DataFrame,
    by: Sequence[str],
    metrics: Sequence[str],
    overlap: float = 0.0,
    n_items: int | None = None,
) -> pd.DataFrame:
    """Means over seeds with 95% intervals.

    The input has columns ``by``, metric and value, with a row per seed. ``overlap`` is above 0 if seeds are overlapping
    splits of a log. ``n_items`` is the largest value of a number of items.

    Returns: Table with columns ``by``, metric, mean, low, high, n and equal (all seeds have the same value), sorted by
        the first of ``by``, then by metric. Missing intervals are NaN.
    """
    keys = [*by, "metric"]
    rows = []
    for key, values in table[table["metric"].isin(metrics)].groupby(
        keys, sort=False, observed=True, dropna=False
    )["value"]:
        if is_number_of_items(str(key[-1])):
            interval = measures.number_interval(values.to_numpy(np.float64), n_items, overlap=overlap)
        else:
            interval = measures.mean_interval(values.to_numpy(np.float64), overlap=overlap)
        rows.append((*key, interval.mean, interval.low, interval.high, interval.n, interval.equal))
    means = pd.DataFrame(rows, columns=[*keys, "mean", "low", "high", "n", "equal"])
    # Rank of a row: by the first key, in order of appearance, and then by the given order of metrics.
    first_keys = list(dict.fromkeys(means[by[0]]))
    rank = means[by[0]].map(first_keys.index) * len(metrics) + means["metric"].map(list(metrics).index)
    means = means.iloc[np.argsort(rank.to_numpy(), kind="stable")].reset_index(drop=True)
    return means.astype({"mean": float, "low": float, "high": float})


def is_number_of_items(metric: str) -> bool:
    """True for a metric between 1 and M."""
    return metric in MEASURES and MEASURES[metric].is_number_of_items


def summary(
    rounds: pd.DataFrame, agents: list[str], metrics: Sequence[str], n_items: int | None = None
) -> pd.DataFrame:
    """Means over late rounds: agent, metric, mean, low, high, n."""
    late = measures.late_means(rounds)
    ordered = pd.concat([late[late["agent"] == agent] for agent in agents])
    return over_seeds(ordered, ["agent"], metrics, n_items=n_items)


def late_figures(rounds: pd.DataFrame) -> pd.DataFrame:
    """Means (agents × metrics) over late rounds and seeds."""
    return measures.late_means(rounds).pivot_table(
        index="agent", columns="metric", values="value", observed=True
    )


def differences(rounds: pd.DataFrame, agents: list[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Late-round means minus the baseline's at the same seeds.

    Returns:
        Table with the columns of :func:`paired_table`, by agent and metric.
    """
    base = baseline_of(agents)
    pairs = [(agent, base) for agent in agents if agent != base and not is_control(agent)]
    return _paired(measures.late_means(rounds), pairs, metrics)


# Name of a made-up arm that never changes, so its slopes are 0. A slope minus 0 is the slope itself.
_LEVEL = ""


def trends(rounds: pd.DataFrame, agents: list[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Changes per round over the late rounds.

    Returns:
        Table with the columns of :func:`differences`. The column agent has the baseline's name (its own change) or
        ``NAME − baseline`` (difference at the same seeds). With fewer than three late rounds there are no rows.
    """
    slopes = measures.late_slopes(rounds)
    base = baseline_of(agents)
    level = slopes[slopes["agent"] == base].assign(agent=_LEVEL, value=0.0)
    compared = [agent for agent in agents if agent != base and not is_control(agent)]
    pairs = [(base, _LEVEL), *((agent, base) for agent in compared)]
    table = _paired(pd.concat([slopes, level]), pairs, metrics)
    return table.assign(agent=table["agent"].replace({agent: f"{agent} − {base}" for agent in compared}))


def _paired(late: pd.DataFrame, pairs: list[tuple[str, str]], metrics: Sequence[str]) -> pd.DataFrame:
    """Table of differences between the two arms of each pair."""
    rows = []
    for metric in metrics:
        by_arm = late[late["metric"] == metric].pivot(index="seed", columns="agent", values="value")
        # An arm may lack a metric, such as prices.
        complete_pairs = [pair for pair in pairs if set(pair) <= set(by_arm)]
        rows += [(arm, metric, by_arm[arm], by_arm[subtracted]) for arm, subtracted in complete_pairs]
    return paired_table(rows, ["agent", "metric"])


def paired_table(rows: Iterable[tuple[Any, ...]], keys: Sequence[str]) -> pd.DataFrame:
    """Table of mean paired differences over complete pairs.

    Each of ``rows`` has keys, a list of values, and a list of values to subtract.

    Returns:
        Table with columns ``keys``, mean, low, high, effect (d_z), n, p, equal (the same difference in all pairs) and
        significant (at 5%, by Holm's method over these rows); missing figures are NaN.
    """
    lines = []
    for *key, values, subtracted in rows:
        paired = measures.paired_difference(values, subtracted)
        figures = (paired.mean, paired.low, paired.high, paired.dz, paired.n, paired.p, paired.equal)
        lines.append((*key, *figures))
    table = pd.DataFrame(lines, columns=[*keys, "mean", "low", "high", "effect", "n", "p", "equal"])
    table = table.astype(dict.fromkeys(("mean", "low", "high", "effect", "p"), float))
    return table.assign(significant=measures.significant(table["p"].to_numpy()))


def reported_differences(
    rounds: pd.DataFrame, agents: Sequence[str], metrics: Sequence[str] = ()
) -> pd.DataFrame:
    """Differences that a comparison reports.

    Sentences and titles take their claims from this table. ``metrics`` are your own metrics; without them, they are
    those of ``rounds`` that rimsim does not measure.
    """
    own_metrics = metrics or [str(name) for name in rounds["metric"].unique() if is_own(str(name))]
    return differences(rounds, list(agents), (*shown_metrics("examined"), *own_metrics))


def is_own(metric: str) -> bool:
    """True for your own measures."""
    return metric not in MEASURES and "/" not in metric


def number(value: float, *, significant: bool = False) -> str:
    """Number as tables write it; ``significant`` asks for significant digits."""
    return _with_decimals(value, _decimals(value, significant=significant))


def _decimals(value: float, *, significant: bool) -> int:
    """Number of decimals that tables give a value."""
    size = abs(value)
    if size >= 100:
        return 0
    if size >= 10:
        return 1
    if not significant:
        return 3
    if size >= 1:
        return 2
    return 3 if size >= 0.1 else 4


def _with_decimals(value: float, decimals: int) -> str:
    """Number with a true minus sign."""
    return f"{value:.{decimals}f}".replace("-", "−")


def cell(
    mean: float | None,
    low: float | None,
    high: float | None,
    *,
    significant: bool = False,
    equal: bool = False,
) -> str:
    """Mean ± half its interval; a dash without a mean.

    Both have equal decimals. A half-width that would be rounded to 0 brings further decimals. The mark ``=`` says that
    the value is the same in all seeds, so that there is no interval.
    """
    if mean is None or np.isnan(mean):
        return "–"
    decimals = _decimals(mean, significant=significant)
    if equal:
        return f"{_with_decimals(mean, decimals)}{SAME}"
    if low is None or high is None or np.isnan(low):
        return _with_decimals(mean, decimals)
    half = (high - low) / 2
    finest = max(decimals, 3)
    while decimals < finest and round(half, decimals) == 0 < half:
        decimals += 1
    return f"{_with_decimals(mean, decimals)} ±{_with_decimals(half, decimals)}"


def cell_with_ends(mean: float | None, low: float | None, high: float | None, *, equal: bool = False) -> str:
    """Mean with the ends of its interval."""
    if mean is None or equal or low is None or high is None or np.isnan(low):
        return cell(mean, low, high, equal=equal)
    return f"{number(mean)} ({number(low)}–{number(high)})"


SAME = "="
"""Mark of a value that is the same in all seeds."""


def legend(means: pd.DataFrame, unit: str = "seed") -> str:
    """Explanation of the marks in a table, if any."""
    parts = []
    if "p" not in means and means.loc[means["metric"].map(is_number_of_items), "low"].notna().any():
        parts.append("in brackets: 95% interval on the log scale")
    if "p" in means and (tested := int(means["p"].notna().sum())):
        parts.append(f"* not 0: Holm over {many(tested, 'comparison')}")
    if "equal" in means and means["equal"].any():
        parts.append(f"{SAME} {the_same(int(means['n'].max()), unit)}")
    return f" ({'; '.join(parts)})" if parts else ""


def the_same(count: int, unit: str = "seed") -> str:
    """Remark on equal values, which cannot be tested."""
    return f"the same in both {unit}s" if count == 2 else f"the same in all {count} {unit}s"


def pivoted(
    title: str,
    means: pd.DataFrame,
    labels: Sequence[str],
    metrics: Sequence[str],
    *,
    significant: bool = False,
    main: tuple[str, ...] = (),
    unit: str = "seed",
) -> TextTable:
    """Table of means: columns ``labels``, then a column per metric.

    In a table of differences (with a column p), a star marks differences that are significant at 5% by Holm's method
    over the table. A value that is the same in all seeds is marked by ``=``; it cannot be tested, so Holm's method does
    not count it. ``significant`` is as for :func:`number`. The terminal prints the columns ``main``.
    """
    means = means[means["metric"].isin(metrics)].reset_index(drop=True)
    p = means["p"].to_numpy(np.float64) if "p" in means else np.full(len(means), np.nan)
    equal = means["equal"].to_numpy(bool) if "equal" in means else np.zeros(len(means), bool)
    is_level = "p" not in means  # a difference of two numbers of items may be negative
    title += legend(means, unit)
    rows: dict[tuple[str, ...], dict[str, str]] = {}  # labels of a row → metric → cell
    columns = [*labels, "metric", "mean", "low", "high"]
    figures = means[columns].to_numpy().tolist()
    for has_star, is_equal, row_figures in zip(measures.significant(p), equal, figures, strict=True):
        *values, metric, mean, low, high = row_figures
        label = tuple(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
        if is_level and is_number_of_items(str(metric)):
            text = cell_with_ends(mean, low, high, equal=bool(is_equal))
        else:
            text = cell(mean, low, high, significant=significant, equal=bool(is_equal))
        rows.setdefault(label, {})[metric] = f"{text}{'*' * bool(has_star)}"
    present = [metric for metric in metrics if any(metric in cells for cells in rows.values())]
    return TextTable(
        title,
        (*labels, *headings(present).values()),
        tuple((*label, *(cells.get(name, "–") for name in present)) for label, cells in rows.items()),
        labels=len(labels),
        main=main,
        short=_terminal_headings(main),
    )


def _terminal_headings(main: Sequence[str]) -> dict[str, str]:
    """Headings without a unit, if only one is shown."""
    with_unit = [name for name in main if name.startswith(f"{_UNDELIVERED} (")]
    return {name: _UNDELIVERED for name in with_unit if len(with_unit) == 1}


_UNDELIVERED = "undelivered"
"""Heading of undelivered shares, before a unit in brackets."""


def headings(metrics: Sequence[str]) -> dict[str, str]:
    """Heading of each metric's column in a table."""
    has_both_units = set(shortfalls("shown")) <= set(metrics)
    units = {"shortfall": "shown", "examined_shortfall": "examined"}

    def heading(metric: str) -> str:
        """Heading of a metric's column."""
        if metric not in units:
            return metric.replace("_", " ")
        return f"{_UNDELIVERED} ({units[metric]})" if has_both_units else _UNDELIVERED

    return {metric: heading(metric) for metric in metrics}


def signed(value: float | None, decimals: int = 2) -> str:
    """Number with a true minus sign; a dash if missing."""
    if value is None or math.isnan(value):
        return "–"
    return f"{'−' * (round(value, decimals) < 0)}{abs(value):.{decimals}f}"


def without_controls(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of agents themselves, without controls."""
    agents = [name for name in table["agent"].unique() if not is_control(str(name))]
    return table[table["agent"].isin(agents)]


def last_round(rounds: pd.DataFrame) -> int:
    """Number of the last round."""
    return int(rounds["round"].max())
