"""Records of a report, independent of its output.

A kind of run computes one :class:`Report` from its tables. ``console`` shows the report on the terminal and as
Markdown, ``charts`` as PNG files, and ``html`` as one page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class TextTable:
    """Table of labels and formatted numbers."""

    title: str
    columns: tuple[str, ...]
    """Headers of columns; the columns that name the row come first."""
    rows: tuple[tuple[str, ...], ...]
    labels: int = 1
    """Number of leading columns that name the row."""
    main: tuple[str, ...] = ()
    """Columns that the terminal prints besides those that name the row; empty: all."""
    short: Mapping[str, str] = field(default_factory=dict)
    """Column → shorter header on the terminal, where columns that it must be told from are not printed."""


@dataclass(frozen=True)
class Plot:
    """Figure with the name of its file."""

    name: str
    """File name without its ending."""
    make: Callable[[], Figure | None]
    """Function that draws the figure; returns None if the run lacks the data."""
    png: bool = True
    """True if the figure is also a file in ``pictures/``; False if it is only on the page."""


@dataclass(frozen=True)
class Section:
    """Section of a report: plots, then tables."""

    title: str
    text: str = ""
    """Instructions for reading the section."""
    plots: tuple[Plot, ...] = ()
    tables: tuple[TextTable, ...] = ()
    details: Callable[[], Iterable[TextTable]] = tuple
    """Function that makes further tables, which are only on the page."""


@dataclass(frozen=True)
class Report:
    """Findings of a run with their plots and tables."""

    question: str
    answer: tuple[str, ...] = ()
    """Sentences that answer the question, with intervals; names are in backticks."""
    cautions: tuple[str, ...] = ()
    """Limits of the answer, one sentence per limit."""
    checks: tuple[str, ...] = ()
    """Results of checks that do not limit the answer, such as the agreement of a fit truth."""
    setting: tuple[str, ...] = ()
    """Facts about the run: log, rounds, seeds."""
    sections: tuple[Section, ...] = ()
    settings: str = ""
    """All settings of the run, as YAML."""
    places: Callable[[], Iterable[tuple[str, str]]] = tuple
    """Function that returns names and places of the run's files; called when these are printed."""
    headings: tuple[str, str] = ("", "")
    """Lines above the answer and above the cautions on the terminal; empty: none."""

    @property
    def plots(self) -> tuple[Plot, ...]:
        """Plots of all sections."""
        return tuple(plot for section in self.sections for plot in section.plots)

    @property
    def tables(self) -> tuple[TextTable, ...]:
        """Tables of all sections that have rows, without detail tables."""
        return tuple(table for section in self.sections for table in section.tables if table.rows)
