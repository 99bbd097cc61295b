"""Groups of items, such as sellers: gains and starvation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim import measures
from rimsim.arrays import Floats
from rimsim.config import ExposureConfig
from rimsim.config.guarantees import BETA
from rimsim.scenarios.report import charts, sentences, tables
from rimsim.scenarios.report.numbers import figure, per_cent
from rimsim.scenarios.report.record import Plot, Section, TextTable
from rimsim.scenarios.runs.arms import file_name, is_control
from rimsim.scenarios.runs.status import shown_rounds
from rimsim.scenarios.runs.store import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 24
"""Groups in a table or picture; of more, those that gained most and those that lost most."""
_ALL = "all"
"""Name of the row of sums."""
_CHANGES = ("exposures", "consumptions", "revenue")
"""Metrics whose change against the baseline is in the table."""
_STARVED = 0.1
"""Share of its guarantee below which a sentence counts a group among the starved."""


def guarantees_items(exposure: ExposureConfig) -> bool:
    """True if single items have a guarantee."""
    return exposure.beta > 0 or exposure.each is not None


def without_item_guarantee(run: RunFolder, rounds: pd.DataFrame) -> pd.DataFrame:
    """Rounds without undelivered shares of items that have no guarantee."""
    exposure = run.scenario.exposure
    if guarantees_items(exposure) or not exposure.groups:
        return rounds
    return rounds[~rounds["metric"].isin(tables.shortfalls("shown"))]


def with_undelivered_groups(sweep: RunFolder, table: pd.DataFrame) -> pd.DataFrame:
    """Table of a sweep with the undelivered share of groups.

    The table stays as it is if single items have a guarantee at some point.
    """
    exposure = sweep.scenario.exposure
    if guarantees_items(exposure) or BETA in sweep.config["sweep"] or not exposure.groups:
        return table
    undelivered, _ = tables.shortfalls(exposure.unit)
    others = table[~table["metric"].isin(tables.shortfalls("shown"))]
    of_groups = others[others["metric"] == "promises_missed"].assign(metric=undelivered)
    return pd.concat([others, of_groups], ignore_index=True)


def group_columns(run: RunFolder) -> tuple[str, ...]:
    """Columns whose groups the run reports."""
    guaranteed = (group.column for group in run.scenario.exposure.groups)
    return tuple(dict.fromkeys([*guaranteed, *run.config.get("groups", ())]))


@dataclass(frozen=True, eq=False)
class GroupFigures:
    """Figures of the groups of a column in late rounds."""

    column: str
    late: pd.DataFrame
    """Columns agent, seed, group, metric, value: means over late rounds, without controls."""
    base: str
    """Baseline agent."""
    agent: str | None
    """Agent that the report compares with the baseline; None: the run has only one agent."""
    words: str
    """Name of the late rounds."""
    unit: str = "examined"
    """Unit of the guarantees, ``exposure.unit``."""
    memberships: tuple[str, ...] = ()
    """Texts of the column, one per item."""

    def values(self, agent: str, metric: str) -> pd.DataFrame:
        """Values of a metric (groups × seeds)."""
        rows = self.late[(self.late["agent"] == agent) & (self.late["metric"] == metric)]
        return rows.pivot(index="group", columns="seed", values="value")

    @property
    def agents(self) -> tuple[str, ...]:
        """Baseline and compared agent."""
        return (self.base,) if self.agent is None else (self.base, self.agent)

    @property
    def guaranteed(self) -> bool:
        """True if the groups have guarantees."""
        return bool((self.late["metric"] == "required").any())

    def ratio(self, agent: str) -> pd.DataFrame:
        """Delivered share of each group's guarantee (groups × seeds).

        Without a guarantee, it is the exposure over the uniform exposure, at which all items have the same.
        """
        if self.guaranteed:
            return self.values(agent, "delivered") / self.values(agent, "required")
        exposures = self.values(agent, "exposures")
        items = self.values(agent, "items")
        return exposures / (exposures.sum() * items / items.sum())

    def undelivered(self, agent: str) -> pd.Series:
        """Undelivered share of the guarantees of all groups, by seed."""
        return self.values(agent, "undelivered").sum() / self.values(agent, "required").sum()

    def changes(self, metric: str) -> pd.DataFrame:
        """Compared agent minus baseline (groups × seeds)."""
        if self.agent is None:
            return pd.DataFrame()
        return self.values(self.agent, metric) - self.values(self.base, metric)

    @property
    def is_partition(self) -> bool:
        """True if no item is in two groups."""
        return "|" not in "".join(self.memberships)

    def shown(self) -> list[str]:
        """At most :data:`MOST` groups, those that gained most first."""
        if self.agent is None:
            order = (
                self.values(self.base, "exposures").mean(axis=1).sort_values(ascending=False, kind="stable")
            )
        else:
            order = self.changes("exposures").mean(axis=1).sort_values(ascending=False, kind="stable")
        groups = [str(group) for group in order.index]
        half = MOST // 2
        return groups if len(groups) <= MOST else [*groups[:half], *groups[-half:]]


def figures_of(run: RunFolder, column: str) -> GroupFigures | None:
    """Figures of a column's groups; None without finished rounds."""
    if run.groups is None:
        return None
    rounds = shown_rounds(run)
    finished = rounds[["agent", "seed", "round"]].drop_duplicates()
    table = run.groups[run.groups["column"] == column].merge(finished)
    table = table[~table["agent"].map(is_control).astype(bool)]
    if table.empty:
        return None
    last = int(table["round"].max())
    late = table[table["round"].isin(measures.late_rounds(last + 1))]
    means = late.groupby(["agent", "seed", "group", "metric"], sort=False)["value"].mean().reset_index()
    agents = [name for name in run.agents if name in set(means["agent"])]
    base = tables.baseline_of(agents)
    others = tables.compared_agents(base, agents)
    texts = run.catalogue[column].astype(str) if column in run.catalogue else pd.Series(dtype=str)
    return GroupFigures(
        column,
        means,
        base,
        _compared(means, others),
        measures.late_words(last + 1),
        run.scenario.exposure.unit,
        tuple(texts),
    )


def _compared(means: pd.DataFrame, others: Sequence[str]) -> str | None:
    """Agent that leaves least undelivered; None without other agents."""
    if not others:
        return None
    left = means[means["metric"] == "undelivered"].groupby("agent")["value"].mean()
    return min(others, key=lambda name: float(left.get(name, np.inf)))


# -- sentences --------------------------------------------------------------------------------------------------------
def group_sentences(run: RunFolder) -> list[str]:
    """Answer about groups: delivery, starved groups, change of the revenue."""
    found = [figures for column in group_columns(run) if (figures := figures_of(run, column)) is not None]
    texts = [text for figures in found for text in (_delivery(figures), _starved(figures), _cost(figures))]
    if found:
        texts.append(_revenue(run, found[0]))
    return [text for text in texts if text]


def _delivery(figures: GroupFigures) -> str:
    """Undelivered share of the guarantees of all groups, by agent."""
    if not figures.guaranteed:
        return ""
    base, *others = (
        f"`{agent}` {_share(figures.undelivered(agent).to_numpy(np.float64))}" for agent in figures.agents
    )
    name, _, share = base.partition(" ")
    text = f"{name} leaves {share} of the exposure guaranteed to groups of {figures.column} undelivered"
    return f"{text}{''.join(f', {other}' for other in others)} ({figures.words}, counted as {figures.unit})."


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
    for agent in figures.agents:
        ratio = figures.ratio(agent).mean(axis=1)
        short = int((ratio < 0.995).sum())
        starved = int((ratio < _STARVED).sum())
        text = f"`{agent}` gives {short or 'none'} of the {len(ratio)} groups less than the guarantee"
        if starved:
            text += f", and {starved} less than a tenth of it"
        elif short:
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
    own = tuple(measure.name for measure in run.own_measures.values())
    arms = [name for name in run.agents if name in set(rounds["agent"])]
    paired = tables.reported_differences(rounds, arms, own)
    row = paired[(paired["agent"] == agent) & (paired["metric"] == "revenue")].iloc[0]
    of_base = float(tables.late_figures(rounds)["revenue"][figures.base])
    ends = [None if np.isnan(row[end]) else float(row[end]) for end in ("low", "high")]
    if (ends[0] is not None and not row["significant"]) or (row["equal"] and row["mean"] == 0):
        amount = sentences.with_interval("revenue", float(row["mean"]), *ends, difference=True)
        is_alone = row["low"] <= 0 <= row["high"]
        among = "" if is_alone else "; not significant among all comparisons of the table"
        return (
            f"The revenue per slate with `{agent}` does not differ significantly from that with `{figures.base}` "
            f"(difference {amount}{among})."
        )
    word = "lower" if row["mean"] < 0 else "higher"
    same = f" ({tables.the_same(int(row['n']))})" * bool(row["equal"])
    relative = f", {per_cent(abs(float(row['mean'])) / of_base)}" if of_base > 0 else ""
    amount = sentences.with_interval("revenue", abs(float(row["mean"])), *_turned(row["mean"], ends))
    return (
        f"The revenue per slate is {amount} {word} with `{agent}` than with `{figures.base}`{relative}{same}."
    )


def _turned(mean: float, ends: list[float | None]) -> tuple[float | None, float | None]:
    """Ends of an interval of the absolute change."""
    low, high = ends
    if low is None or high is None or mean >= 0:
        return low, high
    return -high, -low


# -- tables -----------------------------------------------------------------------------------------------------------
def group_table(figures: GroupFigures, seeds: int) -> TextTable:
    """Table with a row per group."""
    shown = figures.shown()
    marks = ""
    columns: dict[str, dict[str, str]] = {"items": _means(figures, figures.base, "items", whole=True)}
    if figures.guaranteed:
        columns["required"] = _means(figures, figures.base, "required")
    for agent in figures.agents:
        if figures.guaranteed:
            columns[f"delivered, {agent}"] = _delivered(figures, agent)
        else:
            columns[f"exposures, {agent}"] = _means(figures, agent, "exposures")
    if figures.agent is None:
        for metric in ("consumptions", "revenue"):
            columns[metric] = _means(figures, figures.base, metric)
    else:
        changes, marks = _changes(figures, shown)
        columns |= changes
        columns["bonus paid"] = _means(figures, figures.agent, "bonus")
    columns = {name: cells for name, cells in columns.items() if cells}
    rows = [*shown, _ALL] if figures.is_partition else shown
    groups = len(figures.values(figures.base, "exposures"))
    against = "" if figures.agent is None else f": {figures.agent} against {figures.base}"
    part = f", the {MOST // 2} that gained most and the {MOST // 2} that lost most of {groups:,}" * (
        groups > MOST
    )
    return TextTable(
        f"Groups of {figures.column}{against}, per round, {figures.words}{part}; {tables.interval_words(seeds)}{marks}",
        (figures.column, *columns),
        tuple((group, *(cells.get(group, "–") for cells in columns.values())) for group in rows),
    )


def _means(figures: GroupFigures, agent: str, metric: str, *, whole: bool = False) -> dict[str, str]:
    """Group → mean over seeds; last, the sum of all."""
    values = figures.values(agent, metric)
    if values.empty:
        return {}
    means = {str(group): float(mean) for group, mean in values.mean(axis=1).items()}
    means[_ALL] = float(values.sum().mean())
    return {group: f"{mean:,.0f}" if whole else tables.number(mean) for group, mean in means.items()}


def _delivered(figures: GroupFigures, agent: str) -> dict[str, str]:
    """Group → delivered share; last, the share of all."""
    ratio = figures.ratio(agent).mean(axis=1)
    cells = {str(group): per_cent(float(share)) for group, share in ratio.items()}
    return cells | {_ALL: per_cent(1.0 - float(figures.undelivered(agent).mean()))}


def _changes(figures: GroupFigures, shown: Sequence[str]) -> tuple[dict[str, dict[str, str]], str]:
    """Column → group → change against the baseline; then a legend."""
    rows = []
    for metric in _CHANGES:
        values = {agent: figures.values(agent, metric) for agent in figures.agents}
        if any(value.empty for value in values.values()):
            continue
        pairs = [(group, *(value.loc[group] for value in reversed(values.values()))) for group in shown]
        if figures.is_partition:
            pairs.append((_ALL, *(value.sum() for value in reversed(values.values()))))
        rows += [(group, metric, more, less) for group, more, less in pairs]
    paired = tables.paired_table(rows, ["group", "metric"])
    cells: dict[str, dict[str, str]] = {}
    columns = ["group", "metric", "mean", "low", "high", "equal", "significant"]
    for group, metric, mean, low, high, equal, significant in paired[columns].to_numpy().tolist():
        text = tables.cell(mean, low, high, equal=bool(equal)) + "*" * bool(significant)
        cells.setdefault(f"{metric}, change", {})[str(group)] = text
    return cells, tables.legend(paired)


# -- the section ------------------------------------------------------------------------------------------------------
def group_sections(run: RunFolder) -> list[Section]:
    """Section of each column whose groups the run reports."""
    sections = []
    for number, column in enumerate(group_columns(run)):
        name = "groups" if not number else f"groups-{file_name(column)}"
        made = figures_of(run, column)
        sections.append(
            Section(
                f"Groups of {column}: who gained, who was starved",
                "Delivered is the share of a group's guaranteed exposure. The bonus paid is the most that the "
                "exposures of the group cost users, in expected consumptions.",
                plots=(Plot(name, partial(picture, made)),),
                tables=() if made is None else (group_table(made, len(run.seeds)),),
            )
        )
    return sections


def picture(figures: GroupFigures | None) -> Figure | None:
    """Delivery of each group, and change of its revenue."""
    if figures is None or figures.agent is None:
        return None
    shown = figures.shown()
    change = next(metric for metric in ("revenue", "consumptions") if not figures.changes(metric).empty)
    height = 1.2 + 0.24 * len(shown)
    is_narrow = charts.columns(2) == 1
    made = charts.frame(_title(figures), _caption(figures, change), (2 if is_narrow else 1) * height)
    if is_narrow:
        delivery, changes = made.subplots(2, 1)
    else:
        delivery, changes = made.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    _draw_ratios(delivery, figures, shown)
    _draw_changes(changes, figures, shown, change)
    return made


def _title(figures: GroupFigures) -> str:
    """Finding of the picture."""
    agent = str(figures.agent)
    if figures.guaranteed:
        shares = [per_cent(float(figures.undelivered(name).mean())) for name in (agent, figures.base)]
        return (
            f"{agent} leaves {shares[0]} of the exposure guaranteed to groups of {figures.column} undelivered, "
            f"{figures.base} {shares[1]}"
        )
    gained = int((figures.changes("exposures").mean(axis=1) > 0).sum())
    groups = len(figures.values(agent, "exposures"))
    return f"{gained} of {groups} groups of {figures.column} get more exposure from {agent} than from {figures.base}"


def _caption(figures: GroupFigures, change: str) -> str:
    """Explanation of both panels."""
    what = "the guaranteed exposure" if figures.guaranteed else "the uniform exposure of the group's items"
    seeds = figures.late["seed"].nunique()
    lines = "Bars: 95% intervals over seeds." if seeds > 1 else "One seed: no intervals."
    return f"First: exposure as a share of {what}. Second: change of the {change} ({figures.words}). {lines}"


def _interval(values: pd.Series) -> tuple[float, float]:
    """Ends of the interval over seeds, else the mean."""
    interval = measures.mean_interval(np.asarray(values, np.float64))
    mean = float(values.mean())
    return (
        mean if interval.low is None else interval.low,
        mean if interval.high is None else interval.high,
    )


def _share_interval(values: pd.Series) -> tuple[float, float]:
    """Ends of the interval of a ratio, at least 0."""
    low, high = _interval(values)
    return max(low, 0.0), high


def _long(table: pd.DataFrame, shown: Sequence[str]) -> pd.DataFrame:
    """Columns group and value, a row per group and seed."""
    rows = table.loc[list(shown)].rename_axis("group").reset_index()
    return rows.melt(id_vars="group", var_name="seed")


def _draw_ratios(ax: Axes, figures: GroupFigures, shown: Sequence[str]) -> None:
    """Draw the delivered share of each group, by agent."""
    import seaborn as sns  # noqa: PLC0415  # slow to import

    looks = charts.styles(figures.agents)
    table = pd.concat(
        [_long(figures.ratio(agent), shown).assign(agent=agent) for agent in figures.agents],
        ignore_index=True,
    )
    errorbar: Callable[[pd.Series], tuple[float, float]] = _share_interval
    sns.pointplot(
        table,
        x="value",
        y="group",
        hue="agent",
        order=list(shown),
        hue_order=list(figures.agents),
        palette={agent: looks[agent].colour for agent in figures.agents},
        markers=[looks[agent].marker for agent in figures.agents],
        errorbar=errorbar,
        linestyle="none",
        err_kws={"linewidth": 1},
        markersize=6,
        ax=ax,
    )
    ax.axvline(1.0, color=charts.GREY, linewidth=1.2, linestyle=":")
    ax.set_xscale("symlog", linthresh=1.0)
    ticks = [
        tick
        for tick in (0.0, 0.5, 1.0, 3.0, 10.0, 30.0, 100.0)
        if tick <= 1.2 * table["value"].max() or tick <= 1
    ]
    ax.set_xticks(ticks, [f"{100 * tick:.0f}%" for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlim(-0.05, max(1.3, 1.3 * float(table["value"].max())))
    ax.set(
        xlabel="of the guarantee" if figures.guaranteed else "of the uniform exposure", ylabel=figures.column
    )
    ax.legend(loc="best", frameon=True, framealpha=0.9, title=None)


def _draw_changes(ax: Axes, figures: GroupFigures, shown: Sequence[str], change: str) -> None:
    """Draw the change of each group's revenue or consumptions."""
    import seaborn as sns  # noqa: PLC0415  # slow to import

    looks = charts.styles(figures.agents)
    errorbar: Callable[[pd.Series], tuple[float, float]] = _interval
    sns.barplot(
        _long(figures.changes(change), shown),
        x="value",
        y="group",
        order=list(shown),
        color=looks[str(figures.agent)].colour,
        errorbar=errorbar,
        err_kws={"linewidth": 1, "color": "#333333"},
        ax=ax,
    )
    ax.axvline(0.0, color=charts.GREY, linewidth=1.2)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,g}".replace("-", "−"))
    ax.set(xlabel=f"{change} per round, change", ylabel="")
