"""What a sweep says: late means of every arm at every point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim.errors import RunFolderError
from rimsim.measures import late_means
from rimsim.scenarios.report.agreement import agreement_note
from rimsim.scenarios.report.console import print_report
from rimsim.scenarios.report.matrix import matrix, matrix_table
from rimsim.scenarios.report.record import TextTable
from rimsim.scenarios.report.summary import interval_words, over_seeds, two_seeds_note
from rimsim.scenarios.report.tables import pivoted
from rimsim.scenarios.runs.status import runs_of, shown_rounds, status_note, status_of
from rimsim.scenarios.runs.store import resume_command

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.scenarios.runs.store import Run


_SHOWN = ("utility", "precision", "perplexity", "coverage", "examined_shortfall", "shortfall", "gap")
"""Metrics of the printed table."""


def sweep_table(sweep: Run) -> pd.DataFrame:
    """The table of a sweep, finished or not; an arm counts once it is complete.

    Returns:
        Columns agent, seed, the swept fields, metric, value: means over late rounds.

    Raises:
        RunFolderError: If no arm is complete.
    """
    parts, fields = [], []
    for point, run in runs_of(sweep):
        fields = [field for field, _ in point.labels]
        if status_of(run).complete:
            means = late_means(shown_rounds(run))
            columns = {field: pd.Series([value] * len(means)) for field, value in point.labels}
            parts.append(means.assign(**columns))
    if not parts:
        raise RunFolderError(
            f"{sweep.folder}: no arm is complete; allowed: a sweep that has come further, or "
            f"{resume_command(sweep)}"
        )
    table = pd.concat(parts, ignore_index=True)[["agent", "seed", *fields, "metric", "value"]]
    return table.astype({"agent": str, "seed": np.int64})


def swept_fields(table: pd.DataFrame) -> list[str]:
    """Names of the fields that vary, which are columns of the table of a sweep."""
    return [name for name in table.columns if name not in ("agent", "seed", "metric", "value")]


def undrawn_reason(table: pd.DataFrame) -> str | None:
    """Why a sweep has no picture; None where it has one.

    Args:
        table: The table of the sweep.
    """
    fields = swept_fields(table)
    if len(fields) > 1:
        return f"{len(fields)} fields vary ({', '.join(fields)}); the front is drawn over one"
    values = table[fields[0]]
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return f"{fields[0]} is no number; the front is drawn over numbers"
    return None


def sweep_matrix(table: pd.DataFrame, unit: str) -> pd.DataFrame:
    """The matrix of a sweep, finished or not, as :func:`rimsim.scenarios.report.matrix.matrix` tells it.

    Args:
        table: The table of the sweep; one that has a front has no matrix.
        unit: The unit of the guarantees.
    """
    found = matrix(table, swept_fields(table), unit)
    return found.iloc[:0] if undrawn_reason(table) is None else found


def result_tables(sweep: Run, table: pd.DataFrame) -> list[TextTable]:
    """The matrix where there is one, then all figures.

    Args:
        sweep: The sweep.
        table: Its table, as :func:`sweep_table` gives it.
    """
    found, whole = sweep_matrix(table, sweep.scenario.exposure.unit), result_table(sweep, table)
    if found.empty:
        return [whole]
    title = f"{sweep.scenario.name}: differences of late means, {interval_words(len(sweep.seeds))}"
    return [matrix_table(found, swept_fields(table), title), whole]


def result_table(sweep: Run, table: pd.DataFrame) -> TextTable:
    """An agent at a point a row; of the table of a sweep."""
    fields = swept_fields(table)
    shown = (*_SHOWN, *(measure.name for measure in sweep.own_measures.values()))
    means = over_seeds(table, ["agent", *fields], shown)
    points = [
        " ".join(f"{name}={value}" for name, value in row.items()) for row in means[fields].to_dict("records")
    ]
    labelled = means.assign(agent=[f"{name} {at}" for name, at in zip(means["agent"], points, strict=True)])
    title = f"{sweep.scenario.name}: means over the late rounds, {interval_words(len(sweep.seeds))}"
    return pivoted(title, labelled, ["agent"], shown)


def print_results(sweep: Run, console: Console) -> None:
    """Print the table of a sweep and say where everything is.

    Raises:
        RunFolderError: If no arm is complete.
    """
    table, runs = sweep_table(sweep), [run for _, run in runs_of(sweep)]
    unfinished = status_note(sweep, runs)
    drawn = ", ".join(path.name for path in sorted((sweep.folder / "pictures").glob("[!.]*.png")))
    why_not = "some arms are missing" if unfinished else undrawn_reason(table)
    places = (
        ("table", f"{sweep.folder}/sweep.parquet" if unfinished is None else "none: some arms are missing"),
        ("pictures", f"{sweep.folder}/pictures/ ({drawn})" if drawn else f"none: {why_not}"),
        ("points", f"{sweep.folder}/points/"),
        ("events", f"tensorboard --logdir {sweep.folder}/points"),
    )
    print_report(result_tables(sweep, table), result_notes(sweep, runs, unfinished), places, console)


def result_notes(sweep: Run, runs: Sequence[Run], unfinished: str | None) -> list[str]:
    """What to mind beside the tables: how far the truth agrees with reality, few seeds, missing arms.

    Args:
        sweep: The sweep.
        runs: Its points.
        unfinished: What :func:`status_note` says of them.
    """
    agreements = dict.fromkeys(agreement_note(run) for run in runs)  # points with the same truth say the same
    notes = (*agreements, two_seeds_note(len(sweep.seeds)), unfinished)
    return [note for note in notes if note is not None]
