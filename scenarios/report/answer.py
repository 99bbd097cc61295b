"""What a comparison found, in sentences with intervals, for someone who has not seen its tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rimsim.measures import MEASURES, late_of
from rimsim.scenarios.report.summary import (
    baseline_of,
    differences,
    others_than,
    shortfalls,
    summary,
    told_unit,
)
from rimsim.scenarios.runs.status import is_control

if TYPE_CHECKING:
    import pandas as pd


_MOST = 3
"""Of how many agents sentences are written."""


def comparison_sentences(rounds: pd.DataFrame, agents: Sequence[str], unit: str) -> list[str]:
    """For each of the first agents beside the baseline: what it leaves undelivered, and what it costs and brings.

    Args:
        rounds: Columns agent, seed, round, metric, value.
        agents: Names of arms in the order of the run.
        unit: ``exposure.unit``.
    """
    unit = told_unit(rounds, unit)
    kept, _ = shortfalls(unit)
    there = [name for name in agents if not is_control(name)]
    base = baseline_of(there)
    others = others_than(base, there)
    metrics = (kept, "utility", "coverage", "effective_items")
    means = summary(rounds, there, metrics).set_index(["agent", "metric"])
    paired = differences(rounds, there, metrics).set_index(["agent", "metric"])
    late = late_of(rounds)
    sentences = [_guarantee(means, base, others[0] if others else None, kept, unit, late)]
    told = sorted(others, key=lambda name: _mean(means, name, kept))[:_MOST]
    sentences += [_against(name, base, means, paired, kept) for name in told]
    return [sentence for sentence in sentences if sentence]


def with_interval(
    metric: str, mean: float, low: float | None, high: float | None, *, difference: bool = False
) -> str:
    """A figure of a metric with the ends of its 95 % interval, as shares in per cent.

    Args:
        metric: Its name.
        mean: The mean.
        low: Lower end; None or NaN: there is no interval.
        high: Upper end.
        difference: Whether it is a difference, whose shares are points; else no end of a share is beyond 0 or 1.
    """
    share = metric in MEASURES and MEASURES[metric].unit == "share"
    unit = (" points" if difference else " %") if share else ""
    scale = 100.0 if share else 1.0
    if low is None or high is None or not math.isfinite(low):
        return f"{figure(scale * mean)}{unit}"
    if share and not difference:
        low, high = max(low, 0.0), min(high, 1.0)
    return f"{figure(scale * mean)}{unit} ({figure(scale * low)} to {figure(scale * high)})"


def figure(value: float) -> str:
    """A number in a sentence: two significant digits below 10, one decimal below 100, whole above."""
    size = abs(value)
    digits = (
        0 if size >= 100 else 1 if size >= 10 or size < 1e-12 else min(4, 1 - math.floor(math.log10(size)))
    )
    text = f"{value:.{digits}f}"
    return "0" if float(text) == 0 else text.replace("-", "−")


def _guarantee(means: pd.DataFrame, base: str, other: str | None, kept: str, unit: str, late: str) -> str:
    """Which share of what is guaranteed the baseline leaves undelivered."""
    if (base, kept) not in means.index:
        return ""
    ends = _ends(means, base, kept)
    if ends[0] < 5e-4:
        return ""
    how = "as examined" if unit == "examined" else "in positions"
    text = f"`{base}` leaves {with_interval(kept, *ends)} of the guaranteed exposure undelivered, counted {how} ({late}"
    return f"{text}; in brackets: 95 % intervals over seeds)." if other else f"{text})."


def _against(name: str, base: str, means: pd.DataFrame, paired: pd.DataFrame, kept: str) -> str:
    """One agent against the baseline at the same seeds."""
    parts = []
    if (name, kept) in means.index:
        parts.append(f"leaves {with_interval(kept, *_ends(means, name, kept))} undelivered")
    if (name, "utility") in paired.index and (base, "utility") in means.index:
        mean, low, high = _ends(paired, name, "utility")
        of_base = _mean(means, base, "utility")
        relative = f" ({figure(100 * abs(mean) / of_base)} %)" if of_base > 0 else ""
        if math.isfinite(low) and low <= 0 <= high:
            parts.append(
                f"has a utility that cannot be told from that of `{base}` (difference "
                f"{with_interval('utility', mean, low, high)} consumptions a slate)"
            )
        else:
            much, ends = ("less", (-mean, -high, -low)) if mean < 0 else ("more", (mean, low, high))
            amount = with_interval("utility", *ends)
            parts.append(f"brings {amount} consumptions a slate {much} than `{base}`{relative}")
    if (name, "coverage") in means.index and (base, "coverage") in means.index:
        parts.append(
            f"shows {with_interval('coverage', *_ends(means, name, 'coverage'))} of the catalogue, `{base}` "
            f"{figure(100 * _mean(means, base, 'coverage'))} %"
        )
    if not parts:
        return ""
    return f"`{name}` {'; it '.join(parts)}."


def _mean(table: pd.DataFrame, name: str, metric: str) -> float:
    return _ends(table, name, metric)[0] if (name, metric) in table.index else math.inf


def _ends(table: pd.DataFrame, name: str, metric: str) -> tuple[float, float, float]:
    row = table.loc[[(name, metric)]]
    mean, low, high = row[["mean", "low", "high"]].to_numpy(np.float64)[0]
    return float(mean), float(low), float(high)
