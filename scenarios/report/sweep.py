"""What a sweep says: late means of every arm at every point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim.errors import RunFolderError
from rimsim.measures import late_means
from rimsim.scenarios.report.agreement import agreement_note
from rimsim.scenarios.report.matrix import matrix, matrix_table
from rimsim.scenarios.report.summary import interval_words, over_seeds, two_seeds_note
from rimsim.scenarios.report.tables import TextTable, pivoted, print_report
from rimsim.scenarios.store.points import runs_of
from rimsim.scenarios.store.status import shown_rounds, status_note, status_of

if TYPE_CHECKING:
    from rich.console import Console

    from rimsim.scenarios.store.run_folder import Run

__all__ = [
    "markdown",
    "print_results",
    "result_table",
    "result_tables",
    "sweep_matrix",
    "sweep_table",
    "swept_fields",
    "undrawn_reason",
]

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
            f"{sweep.folder}: no arm is complete; allowed: a sweep that has come further, or rimsim sweep --resume "
            f"--out {sweep.folder}"
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


def sweep_matrix(sweep: Run) -> pd.DataFrame:
    """The matrix of a sweep, finished or not, as :func:`rimsim.scenarios.report.matrix.matrix` tells it.

    Args:
        sweep: The sweep; one that has a front has no matrix.
    """
    table = sweep_table(sweep)
    found = matrix(table, swept_fields(table), sweep.scenario.exposure.unit)
    return found.iloc[:0] if undrawn_reason(table) is None else found


def result_tables(sweep: Run) -> list[TextTable]:
    """The matrix where there is one, then all figures."""
    found, whole = sweep_matrix(sweep), result_table(sweep)
    if found.empty:
        return [whole]
    title = f"{sweep.scenario.name}: differences of late means, {interval_words(len(sweep.seeds))}"
    return [matrix_table(found, swept_fields(sweep_table(sweep)), title), whole]


def result_table(sweep: Run) -> TextTable:
    """An agent at a point a row."""
    table = sweep_table(sweep)
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
    runs = [run for _, run in runs_of(sweep)]
    statuses = [status_of(run) for run in runs]
    agreements = dict.fromkeys(agreement_note(run) for run in runs)  # points with the same truth say the same
    unfinished = status_note(statuses, sweep.folder, "sweep")
    drawn = ", ".join(path.name for path in sorted((sweep.folder / "pictures").glob("[!.]*.png")))
    why_not = "some arms are missing" if unfinished else undrawn_reason(sweep_table(sweep))
    places = (
        ("table", f"{sweep.folder}/sweep.parquet" if unfinished is None else "none: some arms are missing"),
        ("pictures", f"{sweep.folder}/pictures/ ({drawn})" if drawn else f"none: {why_not}"),
        ("points", f"{sweep.folder}/points/"),
        ("events", f"tensorboard --logdir {sweep.folder}/points"),
    )
    print_report(
        result_tables(sweep), (*agreements, two_seeds_note(len(sweep.seeds)), unfinished), places, console
    )


def markdown(sweep: Run) -> str:
    """The tables of a sweep as Markdown."""
    return "\n".join(table.markdown() for table in result_tables(sweep))
