"""Sentences on groups of items: delivery, starved groups, revenue."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rimsim import measures
from rimsim.arrays import Floats
from rimsim.errors import plural
from rimsim.scenarios.report import sentences, tables
from rimsim.scenarios.report.group_figures import (
    GroupFigures,
    column_with_all_guarantees,
    figures_of,
    group_columns,
)
from rimsim.scenarios.report.numbers import figure, per_cent
from rimsim.scenarios.runs.status import shown_rounds
from rimsim.scenarios.runs.store import RunFolder

_STARVED = 0.1
"""Share of its guarantee below which a group counts as starved in a sentence."""


def group_sentences(run: RunFolder) -> list[str]:
    """Answer about groups: delivery, starved groups, change of the revenue."""
    of_columns = [
        figures for column in group_columns(run) if (figures := figures_of(run, column)) is not None
    ]
    texts = [
        text
        for figures in of_columns
        for text in (_delivery(figures, _undelivered(run, figures)), _starved(figures))
    ]
    # A bonus for an exposure is paid once, whatever the number of columns with guarantees.
    texts += [_cost(figures) for figures in of_columns if figures.guaranteed][:1]
    if of_columns:
        texts.append(_revenue(run, of_columns[0]))
    return [text for text in texts if text]


def _undelivered(run: RunFolder, figures: GroupFigures) -> dict[str, Floats]:
    """Agent → undelivered shares of a column's groups, by seed.

    If the run has no other guarantees, the shares are those of the tables and pictures.
    """
    if not figures.guaranteed:
        return {}
    exposure = run.scenario.exposure
    if column_with_all_guarantees(exposure) != figures.column:
        return {agent: figures.undelivered(agent).to_numpy(np.float64) for agent in figures.agents}
    rounds = shown_rounds(run)
    metric, _ = tables.shortfalls(tables.reported_unit(rounds, exposure.unit))
    late = measures.late_means(rounds[rounds["metric"] == metric])
    return {agent: late.loc[late["agent"] == agent, "value"].to_numpy(np.float64) for agent in figures.agents}


def _delivery(figures: GroupFigures, undelivered: Mapping[str, Floats]) -> str:
    """Undelivered share of the guarantees of all groups, by agent."""
    if not undelivered:
        return ""
    shares = {agent: _share(values) for agent, values in undelivered.items()}
    text = (
        f"`{figures.base}` leaves {shares[figures.base]} of the exposure guaranteed to "
        f"{plural(figures.column)} undelivered"
    )
    compared_shares = [f"`{agent}` {share}" for agent, share in shares.items() if agent != figures.base]
    return f"{', '.join([text, *compared_shares])} ({figures.words}, counted as {figures.unit}). {figures.promise}"


def _share(values: Floats) -> str:
    """Mean share with its interval over seeds, in percent."""
    interval = measures.mean_interval(values)
    mean = per_cent(float(interval.mean or 0.0))
    if interval.low is None or interval.high is None:
        return mean
    low = max(interval.low, 0.0)
    high = min(interval.high, 1.0)
    return f"{mean} ({per_cent(low)} to {per_cent(high)})"


def _starved(figures: GroupFigures) -> str:
    """Number of groups that get less than their guarantee."""
    if not figures.guaranteed:
        return ""
    parts = []
    groups = plural(figures.column)
    for agent in figures.agents:
        ratio = figures.ratio(agent).mean(axis=1)
        n_short = int((ratio < 0.995).sum())  # a deficit below half a percent does not count
        n_starved = int((ratio < _STARVED).sum())
        text = f"`{agent}` gives {n_short or 'none'} of the {len(ratio)} {groups} less than the guarantee"
        if n_starved:
            text += f", and {n_starved} less than a tenth of it"
        elif n_short:
            text += f"; the lowest, {ratio.idxmin()}, gets {per_cent(float(ratio.min()))} of it"
        parts.append(text)
    return f"{'. '.join(parts)}."


def _cost(figures: GroupFigures) -> str:
    """Bonuses for exposures of groups, a bound of their cost."""
    if figures.agent is None or not figures.guaranteed:
        return ""
    bonus = figures.values(figures.agent, "bonus")
    if bonus.empty or not (total := float(bonus.sum().mean())) > 0:
        return ""
    means = bonus.mean(axis=1)
    return (
        f"Per round, the exposures that `{figures.agent}` paid a bonus for cost users at most "
        f"{figure(total)} expected consumptions, {figure(float(means.max()))} of them for "
        f"{means.idxmax()}."
    )


def _revenue(run: RunFolder, figures: GroupFigures) -> str:
    """Change of the revenue per slate, with its test."""
    rounds = shown_rounds(run)
    agent = figures.agent
    if agent is None or not (rounds["metric"] == "revenue").any():
        return ""
    own_metrics = tuple(measure.name for measure in run.own_measures.values())
    arms = [name for name in run.agents if name in set(rounds["agent"])]
    paired = tables.reported_differences(rounds, arms, own_metrics)
    row = paired[(paired["agent"] == agent) & (paired["metric"] == "revenue")].iloc[0]
    of_base = float(tables.late_figures(rounds)["revenue"][figures.base])
    low, high = (None if np.isnan(row[end]) else float(row[end]) for end in ("low", "high"))
    is_unclaimed = not row["significant"] and tables.cannot_tell(int(row["n"])) is None
    if is_unclaimed or (row["equal"] and row["mean"] == 0):
        amount = sentences.with_interval("revenue", float(row["mean"]), low, high, difference=True)
        # An interval without 0 may still be insignificant, because Holm's method corrects for the other comparisons.
        includes_zero = row["low"] <= 0 <= row["high"]
        remark = "" if includes_zero else "; not significant among all comparisons of the table"
        return (
            f"The revenue per slate with `{agent}` does not differ significantly from that with `{figures.base}` "
            f"(difference {amount}{remark})."
        )
    word = "lower" if row["mean"] < 0 else "higher"
    equal_remark = f" ({tables.the_same(int(row['n']))})" * bool(row["equal"])
    relative = f", {per_cent(abs(float(row['mean'])) / of_base)}" if of_base > 0 else ""
    near_end, far_end = _ends_of_size(row["mean"], low, high)
    amount = sentences.with_interval("revenue", abs(float(row["mean"])), near_end, far_end)
    return (
        f"The revenue per slate is {amount} {word} with `{agent}` than with `{figures.base}`"
        f"{relative}{equal_remark}{tables.by_chance(int(row['n']), is_significant=bool(row['significant']))}."
    )


def _ends_of_size(mean: float, low: float | None, high: float | None) -> tuple[float | None, float | None]:
    """Ends of the interval of a change without its sign."""
    if low is None or high is None or mean >= 0:
        return low, high
    return -high, -low
