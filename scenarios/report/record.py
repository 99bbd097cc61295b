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
    """Headers of columns. The columns that identify a row come first."""
    rows: tuple[tuple[str, ...], ...]
    labels: int = 1
    """Number of first columns that identify a row."""
    main: tuple[str, ...] = ()
    """Names of the columns that the terminal prints besides those that identify a row; empty: all columns."""
    short: Mapping[str, str] = field(default_factory=dict)
    """Header of a column → its header on the terminal, which may be shorter, because similar columns are not printed
    there."""
    ends_only: bool = False
    """True if the terminal prints only the first and last rows of a long table, such as a table of many sellers."""


@dataclass(frozen=True)
class Plot:
    """Figure with the name of its file."""

    name: str
    """Name of the picture's file, without its ending."""
    make: Callable[[], Figure | None]
    """Function that draws the figure. It returns None if the run lacks the data."""
    png: bool = True
    """True if the figure is also a file in ``pictures/``; False if it is on the page only."""


@dataclass(frozen=True)
class Section:
    """Section of a report: plots, then tables."""

    title: str
    text: str = ""
    """Instructions on how to read the section."""
    plots: tuple[Plot, ...] = ()
    tables: tuple[TextTable, ...] = ()
    details: Callable[[], Iterable[TextTable]] = tuple
    """Function that makes further tables, which are on the page only."""


@dataclass(frozen=True)
class Report:
    """Findings of a run with their plots and tables."""

    question: str
    answer: tuple[str, ...] = ()
    """Sentences that answer the question of the run, with intervals; names are in backticks."""
    cautions: tuple[str, ...] = ()
    """Sentences on limits of the answer, one per limit."""
    checks: tuple[str, ...] = ()
    """Results of checks that do not limit the answer, such as a fit truth's agreement."""
    setting: tuple[str, ...] = ()
    """Facts about the run: its log, rounds and seeds."""
    sections: tuple[Section, ...] = ()
    settings: str = ""
    """All settings of the run, as text in YAML."""
    places: Callable[[], Iterable[tuple[str, str]]] = tuple
    """Function that returns names and paths of the run's files. It is called when these are printed."""
    headings: tuple[str, str] = ("", "")
    """Lines above the answer and above the cautions on the terminal; empty: no lines."""

    @property
    def plots(self) -> tuple[Plot, ...]:
        """Plots of all sections."""
        return tuple(plot for section in self.sections for plot in section.plots)

    @property
    def tables(self) -> tuple[TextTable, ...]:
        """Tables of all sections that have rows, without detail tables."""
        return tuple(table for section in self.sections for table in section.tables if table.rows)
