"""What an evaluation says: a table for each part of the log, and where single-step estimates cannot be right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimsim.scenarios.evaluating.figures import PARTS, summary
from rimsim.scenarios.report.console import picture_places, print_report
from rimsim.scenarios.report.record import TextTable

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from rimsim.scenarios.evaluating.run import Evaluation


_UNSUPPORTED = 0.999
"""Share of a target's slates that might have been logged, below which some are said to be missing."""


def print_results(done: Evaluation, console: Console) -> None:
    """Print the tables and the sentences, and say where everything is."""
    found = summary(done.table)
    print_report(tables(found), sentences(found), picture_places(done.folder), console)


def tables(found: pd.DataFrame) -> list[TextTable]:
    """A table for each part of the log.

    Args:
        found: What :func:`rimsim.scenarios.evaluating.figures.summary` gives, of one target.
    """
    made = []
    for part, meaning in PARTS.items():
        rows = found[found["part"] == part]
        if rows.empty:
            continue
        first = rows.iloc[0]
        title = (
            f"{first['target']} from the log of {first['logged']}, {part} ({meaning}); "
            f"truth {first['truth']:.4f}, seeds: {first['seeds']}"
        )
        cells = tuple(
            (
                str(row["estimator"]),
                f"{row['estimate']:.4f}",
                f"{row['width'] / 2:.4f}",
                f"{row['bias']:+.4f}" + ("" if row["error"] != row["error"] else f" ±{row['half']:.4f}"),
                f"{row['rmse']:.4f}",
                f"{row['coverage']:.1%}",
                f"{row['effective']:.0f}",
            )
            for row in rows.to_dict("records")
        )
        columns = ("estimator", "estimate", "± (95 %)", "bias", "rmse", "coverage", "effective slates")
        made.append(TextTable(title, columns, cells))
    return made


def sentences(found: pd.DataFrame) -> list[str]:
    """Where a single-step estimate cannot be right, and by how much."""
    lines = []
    for part in PARTS:
        rows = found[found["part"] == part]
        if rows.empty:
            continue
        first = rows.iloc[0]
        moved = float(first["moved"])
        if part == "first visits":
            lines.append(
                f"{part}: states are the same under any agent; the target is worth {moved:+.4f} more in its own world "
                "than here, which is what its draws and its prices make of them."
            )
        else:
            why = (
                "the slates themselves have moved the states"
                if part == "later visits"
                else ("the platform has learnt from other slates, and prices from other states")
            )
            lines.append(
                f"{part}: single-step evaluation cannot be right, since {why}: in its own world the target is worth "
                f"{moved:+.4f} ({moved / first['truth']:+.1%}) beside what it is worth in the states of the log."
            )
        if first["support"] < _UNSUPPORTED:
            lines.append(
                f"{part}: {1 - first['support']:.1%} of the target's slates could not have been logged; what weights "
                "cannot reach counts as 0, and only direct says something of it."
            )
    return lines
