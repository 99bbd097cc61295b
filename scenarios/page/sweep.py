"""The page of a sweep: what moving a field does to each agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.config import to_plain
from rimsim.measures import MEASURES, paired_difference
from rimsim.scenarios.page.chart import Axis, Chart
from rimsim.scenarios.page.content import Page, Section
from rimsim.scenarios.page.curves import axis_of, front_points, over, spread_words
from rimsim.scenarios.page.settings import as_sentence, as_yaml, log_fact
from rimsim.scenarios.pictures.looks import styles
from rimsim.scenarios.pictures.messages import many
from rimsim.scenarios.report.answer import with_interval
from rimsim.scenarios.report.summary import over_seeds, shortfalls
from rimsim.scenarios.report.sweep import (
    result_notes,
    result_tables,
    sweep_table,
    swept_fields,
    undrawn_reason,
)
from rimsim.scenarios.runs.status import runs_of, status_note

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.scenarios.runs.store import Run


def sweep_page(sweep: Run) -> Page:
    """The page of a sweep, finished or not.

    Raises:
        RunFolderError: If no arm is complete.
    """
    table, scenario = sweep_table(sweep), sweep.scenario
    runs = [run for _, run in runs_of(sweep)]
    fields = swept_fields(table)
    why_not = undrawn_reason(table)
    unit, moved = scenario.exposure.unit, " and ".join(f"`{field}`" for field in sweep.config["sweep"])
    sections = () if why_not else _sections(table, fields[0], unit)
    answer = [] if why_not else sweep_sentences(table, fields[0], unit)
    return Page(
        question=f"What does moving {moved} do? ({scenario.name})",
        setting=(
            scenario.description,
            log_fact(runs[0], scenario.data.source),
            *(f"{field}: {', '.join(map(str, values))}" for field, values in sweep.config["sweep"].items()),
            many(len(sweep.seeds), "seed"),
        ),
        answer=tuple(answer),
        cautions=tuple(as_sentence(note) for note in result_notes(sweep, runs, status_note(sweep, runs))),
        sections=(*sections, Section("All figures", tables=tuple(result_tables(sweep, table)))),
        settings=as_yaml({"sweep": sweep.config["sweep"], **to_plain(scenario)}),
    )


def sweep_sentences(table: pd.DataFrame, field: str, unit: str) -> list[str]:
    """What the largest value of a field does against the smallest, for each agent, at the same seeds.

    Args:
        table: Columns agent, seed, ``field``, metric, value.
        field: The swept field, a number.
        unit: The unit of the guarantees.
    """
    low, high = table[field].min(), table[field].max()
    if low == high:
        return []
    kept, _ = shortfalls(unit)
    sentences = []
    for name in styles(table["agent"].unique()):
        mine = table[(table["agent"] == name) & table[field].isin((low, high))]
        moved, still = [], True
        for metric, what in (
            ("utility", "utility"),
            ("coverage", "coverage"),
            (kept, "the undelivered share"),
        ):
            wide = mine[mine["metric"] == metric].pivot(index="seed", columns=field, values="value")
            if not {low, high} <= set(wide.columns) or (metric == kept and field == "beta" and low == 0):
                continue  # β = 0 owes nothing, so that nothing can be undelivered
            paired = paired_difference(wide[high].to_numpy(np.float64), wide[low].to_numpy(np.float64))
            if paired.mean is None:
                continue
            still &= bool((wide[high] == wide[low]).all())
            ends = paired.mean, paired.low, paired.high
            moved.append(f"{what} by {with_interval(metric, *ends, difference=True)}")
        if moved and still:
            sentences.append(f"`{name}`: {field} from {low:g} to {high:g} changes nothing.")
        elif moved:
            sentences.append(f"`{name}`: {field} from {low:g} to {high:g} changes {', '.join(moved)}.")
    return sentences


def _sections(table: pd.DataFrame, field: str, unit: str) -> tuple[Section, ...]:
    kept, _ = shortfalls(unit)
    looks = styles(table["agent"].unique())
    means = over_seeds(table, ["agent", field], ("utility", "perplexity"))
    words = spread_words(int(table["seed"].nunique()))
    points = front_points(means, "perplexity", "utility", looks, field)
    across, up = Axis("exposure perplexity (items)"), Axis("utility (expected consumptions a slate)")
    front = Chart(f"Along a line, {field} grows", across, up, points)
    charts = []
    for metric in ("utility", "coverage", kept, "perplexity"):
        values = table[table["metric"] == metric]
        if metric == kept and field == "beta":
            values = values[values[field] > 0]  # β = 0 owes nothing
        if len(values):
            drawn = over(values, field, looks)
            charts.append(Chart(MEASURES[metric].title, Axis(field), axis_of(MEASURES[metric]), drawn))
    return (
        Section("The front: relevance against diversity", "Up and to the right is better.", (front,)),
        Section(f"By {field}", words, tuple(charts)),
    )
