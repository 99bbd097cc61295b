"""Tables of text, for the terminal and for a page of Markdown, and how figures are written in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.table import Table

from rimsim.measures import LEVEL, holm

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console


@dataclass(frozen=True)
class TextTable:
    """A table to print."""

    title: str
    """What its figures are."""
    columns: tuple[str, ...]
    """Headers; the first is that of the labels."""
    rows: tuple[tuple[str, ...], ...]
    """Labels and cells of each row."""
    labels: int = 1
    """How many columns, from the first on, say what a row is of."""

    def for_terminal(self) -> Table:
        """The table as Rich draws it."""
        table = Table(
            title=self.title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1)
        )
        for number, name in enumerate(self.columns):
            table.add_column(name, justify="left" if number < self.labels else "right", no_wrap=number == 0)
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """The title and the table for a page."""
        sides = "---|" * self.labels + "---:|" * (len(self.columns) - self.labels)
        lines = ["| " + " | ".join(self.columns) + " |", f"|{sides}"]
        lines += [f"| `{row[0]}` | " + " | ".join(row[1:]) + " |" for row in self.rows]
        return f"**{self.title}**\n\n" + "\n".join(lines) + "\n"


def cell(mean: float | None, low: float | None, high: float | None, *, significant: bool = False) -> str:
    """A mean, with ± half its interval where it has one; a dash where there is none.

    Args:
        mean: The mean; None or NaN: there is none.
        low: Lower end of the interval; None or NaN: there is none.
        high: Upper end.
        significant: Below 10, write three significant figures but at most four decimals, in place of three decimals.
    """
    if mean is None or np.isnan(mean):
        return "–"
    text = number(mean, significant=significant)
    if low is None or high is None or np.isnan(low):
        return text
    return f"{text} ±{number((high - low) / 2, significant=significant)}"


def number(value: float, *, significant: bool = False) -> str:
    """A figure as tables write it; ``significant`` as for :func:`cell`."""
    size = abs(value)
    decimals = 0 if size >= 100 else 1 if size >= 10 else 3
    if significant and size < 10:
        decimals = 2 if size >= 1 else 3 if size >= 0.1 else 4
    return f"{value:.{decimals}f}"


def pivoted(
    title: str,
    means: pd.DataFrame,
    labels: Sequence[str],
    metrics: Sequence[str],
    *,
    significant: bool = False,
) -> TextTable:
    """Metrics across; down, whatever the means are of, in the order in which it comes.

    Differences are marked with a star where they are not 0, whichever of the table one claims: at 5 % by Holm over all
    that the table compares.

    Args:
        title: What the figures are.
        means: Columns ``labels``, metric, mean, low, high; of differences also p.
        labels: Columns that say what a row is of.
        metrics: Order of the columns; those that the table lacks are left out.
        significant: As in :func:`cell`.
    """
    means = means[means["metric"].isin(metrics)]
    settled = np.zeros(len(means), bool)
    if "p" in means and means["p"].notna().any():
        settled = holm(means["p"].to_numpy(np.float64)) <= LEVEL
        title += f" (* not 0: Holm over {int(means['p'].notna().sum())} comparisons)"
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for star, (*values, metric, mean, low, high) in zip(
        settled, means[[*labels, "metric", "mean", "low", "high"]].to_numpy().tolist(), strict=True
    ):
        label = tuple(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
        text = cell(mean, low, high, significant=significant) + "*" * bool(star)
        rows.setdefault(label, {})[metric] = text
    there = [metric for metric in metrics if any(metric in cells for cells in rows.values())]
    columns = (*labels, *(metric.replace("_", " ") for metric in there))
    return TextTable(
        title,
        columns,
        tuple((*label, *(cells.get(name, "–") for name in there)) for label, cells in rows.items()),
        labels=len(labels),
    )


def markdown(tables: Iterable[TextTable]) -> str:
    """Tables as Markdown, one below the other."""
    return "\n".join(table.markdown() for table in tables)


def print_report(
    tables: Iterable[TextTable],
    notes: Iterable[str | None],
    places: Iterable[tuple[str, str]],
    console: Console,
) -> None:
    """Print tables, notes below them, and where everything is."""
    console.print()
    for table in tables:
        console.print(table.for_terminal())
    lines = [note for note in notes if note is not None] + [f"{name:10} {where}" for name, where in places]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)


def picture_places(folder: Path) -> list[tuple[str, str]]:
    """Where the tables and pictures of a run are."""
    pictures = ", ".join(path.name for path in sorted((folder / "pictures").glob("[!.]*.png")))
    return [("tables", f"{folder}/*.parquet"), ("pictures", f"{folder}/pictures/ ({pictures})")]


def folder_places(folder: Path) -> list[tuple[str, str]]:
    """Where the tables, pictures and event files of a comparison or back-test are."""
    return [*picture_places(folder), ("events", f"tensorboard --logdir {folder}/events")]
