"""Section on groups of items, with its table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rimsim.errors import plural
from rimsim.scenarios.report import group_figures, tables
from rimsim.scenarios.report.group_chart import picture
from rimsim.scenarios.report.group_figures import GroupFigures, figures_of, group_columns, promise_words
from rimsim.scenarios.report.numbers import per_cent
from rimsim.scenarios.report.record import Plot, Section, TextTable
from rimsim.scenarios.runs.arms import file_name
from rimsim.scenarios.runs.store import RunFolder

_ALL = "all"
"""Name of the row with sums over all groups."""
_EXPLANATION = (
    "Delivered is the share of a group's guaranteed exposure. The bonus paid is the most that the exposures of the "
    "group cost users, in expected consumptions."
)
_CHANGES = ("exposures", "consumptions", "revenue")
"""Metrics whose change against the baseline the table shows."""


def group_sections(run: RunFolder) -> list[Section]:
    """Section of each column whose groups the run reports."""
    sections = []
    for number, column in enumerate(group_columns(run)):
        name = "groups" if not number else f"groups-{file_name(column)}"
        figures = figures_of(run, column)
        sections.append(
            Section(
                f"{plural(column).capitalize()}: who gained, who was starved",
                " ".join(filter(None, (promise_words(run.scenario.exposure, column), _EXPLANATION))),
                plots=(Plot(name, partial(picture, figures)),),
                tables=() if figures is None else (group_table(figures, len(run.seeds)),),
            )
        )
    return sections


def group_table(figures: GroupFigures, seeds: int) -> TextTable:
    """Table with a row per group."""
    shown = figures.shown()
    legend = ""
    columns: dict[str, dict[str, str]] = {"items": _means(figures, figures.base, "items", integers=True)}
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
        changes, legend = _changes(figures, shown)
        columns |= changes
        columns["bonus paid"] = _means(figures, figures.agent, "bonus")
    columns = {name: cells for name, cells in columns.items() if cells}
    # If an item is in two groups, a sum over groups would count it twice.
    rows = [*shown, _ALL] if figures.is_partition else shown
    groups = len(figures.values(figures.base, "exposures"))
    against = "" if figures.agent is None else f": {figures.agent} against {figures.base}"
    half = group_figures.MAX_GROUPS // 2
    is_cut = groups > group_figures.MAX_GROUPS
    cut_words = f", the {half} that gained most and the {half} that lost most of {groups:,}" if is_cut else ""
    return TextTable(
        f"{plural(figures.column).capitalize()}{against}, per round, {figures.words}{cut_words}; "
        f"{tables.interval_words(seeds)}{legend}",
        (figures.column, *columns),
        tuple((group, *(cells.get(group, "–") for cells in columns.values())) for group in rows),
        ends_only=True,
    )


def _means(figures: GroupFigures, agent: str, metric: str, *, integers: bool = False) -> dict[str, str]:
    """Group → mean over seeds; last, the sum of all."""
    values = figures.values(agent, metric)
    if values.empty:
        return {}
    means = {str(group): float(mean) for group, mean in values.mean(axis=1).items()}
    means[_ALL] = float(values.sum().mean())
    return {group: f"{mean:,.0f}" if integers else tables.number(mean) for group, mean in means.items()}


def _delivered(figures: GroupFigures, agent: str) -> dict[str, str]:
    """Group → delivered share; last, the share of all."""
    ratio = figures.ratio(agent).mean(axis=1)
    cells = {str(group): per_cent(float(share)) for group, share in ratio.items()}
    return cells | {_ALL: per_cent(1.0 - float(figures.undelivered(agent).mean()))}


def _changes(figures: GroupFigures, shown: Sequence[str]) -> tuple[dict[str, dict[str, str]], str]:
    """Column → group → change against the baseline; then a legend."""
    rows = []
    for metric in _CHANGES:
        of_base = figures.values(figures.base, metric)
        of_agent = figures.values(str(figures.agent), metric)
        if of_base.empty or of_agent.empty:
            continue
        rows += [(group, metric, of_agent.loc[group], of_base.loc[group]) for group in shown]
        if figures.is_partition:
            rows.append((_ALL, metric, of_agent.sum(), of_base.sum()))
    paired = tables.paired_table(rows, ["group", "metric"])
    cells: dict[str, dict[str, str]] = {}
    columns = ["group", "metric", "mean", "low", "high", "equal", "significant"]
    for group, metric, mean, low, high, equal, significant in paired[columns].to_numpy().tolist():
        text = tables.cell(mean, low, high, equal=bool(equal)) + "*" * bool(significant)
        cells.setdefault(f"{metric}, change", {})[str(group)] = text
    return cells, tables.legend(paired)
