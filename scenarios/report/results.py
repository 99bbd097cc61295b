"""The results of a run in numbers: means with intervals, paired differences, as tables to print."""

from __future__ import annotations

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table

from rimsim import measures
from rimsim.scenarios.store.run_folder import FROZEN

__all__ = [
    "LOOP",
    "SHOWN",
    "baseline_of",
    "differences",
    "loop_effects",
    "on_few_seeds",
    "results_table",
    "spread",
    "summary",
    "to_markdown",
]

SHOWN = ("utility", "shortfall", "coverage", "perplexity", "effective_items", "log_gini", "gap")
"""Metrics of the final table."""
LOOP = ("coverage", "effective_items", "log_gini", "jaccard", "utility")
"""Metrics of the table of what retraining does."""


def spread(seeds: int) -> str:
    """What the ± of a table is, by how many seeds it has."""
    return f"{seeds} seeds, ± half a 95 % interval" if seeds > 1 else "1 seed, no interval"


def on_few_seeds(seeds: int) -> str | None:
    """What to mind where intervals stand on two seeds; None where there are more, or no intervals.

    With one degree of freedom, half an interval is 12.7 standard errors; with four it is 2.8.
    """
    if seeds != 2:  # one seed has no interval
        return None
    return "2 seeds: intervals are wide (t = 12.7, with 5 seeds 2.8); for figures to keep, take --seeds 5"


def _late(rounds: pd.DataFrame, metric: str) -> pd.DataFrame:
    """(seed × agent) means of a metric over the late rounds."""
    means = measures.late_means(rounds)
    return means[means["metric"] == metric].pivot(index="seed", columns="agent", values="value")


def summary(rounds: pd.DataFrame, agents: list[str], metrics: tuple[str, ...] = SHOWN) -> pd.DataFrame:
    """Columns agent, metric, mean, low, high, n: means over late rounds, 95 % intervals over seeds."""
    rows = []
    for metric in metrics:
        late = _late(rounds, metric)
        for agent in (name for name in agents if name in late):
            interval = measures.mean_interval(late[agent].to_numpy(np.float64))
            rows.append((agent, metric, interval.mean, interval.low, interval.high, interval.n))
    return pd.DataFrame(rows, columns=["agent", "metric", "mean", "low", "high", "n"])


def baseline_of(agents: list[str]) -> str:
    """The agent that others are compared with: relevance where it took part, else the first."""
    return "relevance" if "relevance" in agents else agents[0]


def differences(rounds: pd.DataFrame, agents: list[str], metrics: tuple[str, ...] = SHOWN) -> pd.DataFrame:
    """Columns agent, metric, mean, low, high, effect, n: late means minus the baseline's at the same seeds."""
    base = baseline_of(agents)
    pairs = [(agent, base) for agent in agents if agent != base and not agent.endswith(FROZEN)]
    return _paired(rounds, pairs, metrics)


def loop_effects(
    rounds: pd.DataFrame,
    agents: list[str],
    metrics: tuple[str, ...] = LOOP,
) -> pd.DataFrame:
    """As :func:`differences`: retrained minus frozen, in the late rounds, for every agent with a frozen arm."""
    pairs = [(name.removesuffix(FROZEN), name) for name in agents if name.endswith(FROZEN)]
    return _paired(rounds, pairs, metrics)


def _paired(rounds: pd.DataFrame, pairs: list[tuple[str, str]], metrics: tuple[str, ...]) -> pd.DataFrame:
    rows = []
    for metric in metrics:
        late = _late(rounds, metric)
        for agent, other in pairs:
            if agent in late and other in late:
                both = late[[agent, other]].dropna()
                found = measures.paired_difference(
                    both[agent].to_numpy(np.float64), both[other].to_numpy(np.float64)
                )
                rows.append((agent, metric, found.mean, found.low, found.high, found.dz, found.n))
    return pd.DataFrame(rows, columns=["agent", "metric", "mean", "low", "high", "effect", "n"])


def _number(value: float) -> str:
    size = abs(value)
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.3f}"


def _cell(row: pd.Series) -> str:
    if pd.isna(row["mean"]):
        return "–"
    text = _number(row["mean"])
    if pd.isna(row["low"]) or pd.isna(row["high"]):
        return text
    return f"{text} ±{_number((row['high'] - row['low']) / 2)}"


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    """Agents down, metrics across, cells as text; in the order in which they came."""
    cells = table.assign(cell=table.apply(_cell, axis=1) if len(table) else [])
    wide = cells.pivot(index="agent", columns="metric", values="cell")
    order = list(dict.fromkeys(table["agent"]))
    return wide.reindex(order)[list(dict.fromkeys(table["metric"]))].fillna("–")


def results_table(table: pd.DataFrame, title: str) -> Table:
    """A table of :func:`summary`, :func:`differences` or :func:`loop_effects` for the terminal."""
    wide = _wide(table)
    shown = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1))
    shown.add_column("agent", no_wrap=True)
    for metric in wide.columns:
        shown.add_column(str(metric).replace("_", " "), justify="right")
    for agent, row in wide.iterrows():
        shown.add_row(str(agent), *row.tolist())
    return shown


def to_markdown(table: pd.DataFrame) -> str:
    """The same as a Markdown table."""
    wide = _wide(table)
    lines = ["| agent | " + " | ".join(str(name).replace("_", " ") for name in wide.columns) + " |"]
    lines.append("|---|" + "---:|" * len(wide.columns))
    lines += [
        f"| `{agent}` | " + " | ".join(row) + " |"
        for agent, row in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    return "\n".join(lines) + "\n"
