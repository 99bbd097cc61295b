"""What a comparison says: its tables, made again from its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.measures import late_means, late_of
from rimsim.scenarios.report.agreement import agreement_note
from rimsim.scenarios.report.console import folder_places, print_report
from rimsim.scenarios.report.decomposition import decomposition
from rimsim.scenarios.report.examination import examination_note
from rimsim.scenarios.report.guarantees import undelivered_notes
from rimsim.scenarios.report.opening import opening_note
from rimsim.scenarios.report.promised import promised_table
from rimsim.scenarios.report.record import TextTable
from rimsim.scenarios.report.summary import (
    EFFECTS,
    TRENDS,
    baseline_of,
    differences,
    interval_words,
    shortfalls,
    shown_metrics,
    summary,
    told_unit,
    trends,
    two_seeds_note,
)
from rimsim.scenarios.report.tables import pivoted
from rimsim.scenarios.runs.status import shown_rounds, status_note

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from rimsim.scenarios.runs.store import Run


def result_tables(run: Run) -> list[TextTable]:
    """The tables of a run that have rows."""
    if shown_rounds(run).empty:
        return []
    found = (*outcome_tables(run), retraining_table(run), promised_table(run))
    return [table for table in found if table is not None and table.rows]


def outcome_tables(run: Run) -> list[TextTable]:
    """Late means of each arm, their differences to the baseline, and their changes a round."""
    rounds, agents = shown_arms(run)
    late = late_of(rounds)
    own = tuple(measure.name for measure in run.own_measures.values())
    unit = told_unit(rounds, run.scenario.exposure.unit)
    shown = shown_metrics(unit) + own
    parts = (
        (
            f"{run.scenario.name}: {late}, {interval_words(len(run.seeds))}",
            summary(rounds, agents, shown),
            shown,
        ),
        (f"Minus {baseline_of(agents)}, at the same seeds", differences(rounds, agents, shown), shown),
    )
    tables = [pivoted(title, means, ["agent"], metrics) for title, means, metrics in parts]
    kept, _ = shortfalls(unit)
    moving = trends(rounds, agents, (*TRENDS, kept, *own))
    tables.append(
        pivoted(
            f"Change a round, {late}, at the same seeds",
            moving,
            ["agent"],
            (*TRENDS, kept, *own),
            significant=True,
        )
    )
    return tables


def retraining_table(run: Run) -> TextTable:
    """What retraining does to the agents with controls, in parts that add up; without rows where none has any."""
    rounds, agents = shown_arms(run)
    effects = EFFECTS + tuple(measure.name for measure in run.own_measures.values())
    late = late_of(rounds)
    parts = decomposition(late_means(rounds), agents, effects)
    return pivoted(
        f"What retraining does, in parts that add up: {late}, at the same seeds",
        parts.assign(what=parts["part"] + " (" + parts["difference"] + ")"),
        ["agent", "what"],
        effects,
    )


def shown_arms(run: Run) -> tuple[pd.DataFrame, list[str]]:
    """The rounds that are shown, and the arms that have some, in the order of the run."""
    rounds = shown_rounds(run)
    there = set(rounds["agent"])
    return rounds, [name for name in run.agents if name in there]


def print_results(run: Run, console: Console) -> None:
    """Print the tables of a run and say where everything is."""
    notes = (agreement_note(run), *result_notes(run))
    print_report(result_tables(run), notes, folder_places(run.folder), console)


def result_notes(run: Run) -> list[str]:
    """What to mind beside the tables: the platform at the opening, what is not delivered, few seeds, missing arms."""
    opening = run.opening
    notes = (
        examination_note(run),
        None if opening is None else opening_note(opening),
        *undelivered_notes(run),
        two_seeds_note(len(run.seeds)),
        status_note(run, [run]),
    )
    return [note for note in notes if note is not None]
