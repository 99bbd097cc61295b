"""Reports on the terminal and as Markdown.

Numbers are never cut, even in a narrow terminal.
"""

from __future__ import annotations

import io
import shlex
import textwrap
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rimsim.scenarios.report.record import Report, TextTable

_GAP = 2  # number of spaces between two columns
_END = 4  # number of rows that are printed at each end of a long table
_MORE = "more"  # name of the command that shows everything


def show(report: Report, console: Console, announced: Container[str] = ()) -> None:
    """Print answer, tables, cautions, checks and paths of a report.

    Args:
        announced: Cautions that were printed before the run, so that they are left out.
    """
    console.print()
    _print_lines(report.headings[0], report.answer, console)
    if report.answer:
        console.print()
    places = list(report.places())
    _show_tables(report.tables, console, dict(places).get(_MORE))
    cautions = [text for text in report.cautions if text not in announced]
    _print_lines(report.headings[1], (*cautions, *report.checks), console)
    for name, place in places:
        console.print(_place(name, place, console), soft_wrap=True, highlight=False, markup=False)


_NAME = 10
"""Width of the names of files and folders, in letters."""


def _place(name: str, place: str, console: Console) -> str:
    """Lines of a place; a terminal breaks them between words."""
    line = f"{name:{_NAME}} {place}"
    # A command that is broken into lines could not be copied into a shell.
    if not console.is_terminal or place.startswith(("rimsim ", "tensorboard ")):
        return line
    indent = " " * (_NAME + 1)
    return textwrap.fill(
        line, console.width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def text(report: Report) -> str:
    """Text that :func:`show` prints."""
    console = Console(file=io.StringIO(), width=140)
    with console.capture() as printed:
        show(report, console)
    return printed.get()


def _print_lines(heading: str, sentences: Sequence[str], console: Console) -> None:
    """Print sentences under their heading."""
    lines = [heading, *(f"  {text}" for text in sentences), ""] if heading and sentences else sentences
    for line in lines:
        text = line.replace("`", "")
        console.print(text, soft_wrap=not console.is_terminal, highlight=False, markup=False)


def _show_tables(tables: Iterable[TextTable], console: Console, more: str | None) -> None:
    """Print tables, split into parts where the console is narrow.

    The command ``more`` shows the rows that are left out. Without a command, all rows are printed.
    """
    for full_table in tables:
        table = full_table if more is None else _ends(full_table)
        for number, columns in enumerate(_parts(table, console.width)):
            if number:
                console.print()
            title = "continued" if number else table.title
            console.print(_part(table, title, columns, console.width))
        if table is not full_table:
            hidden = len(full_table.rows) - 2 * _END
            console.print(f"… {hidden} more rows: {more}", soft_wrap=True, highlight=False, markup=False)
        console.print()


def _ends(table: TextTable) -> TextTable:
    """First and last rows of a long table.

    A short table, or one of whose rows each matters, stays as it is.
    """
    if not table.ends_only or len(table.rows) <= 2 * _END + 1:  # a line of dots would not save a row
        return table
    dots = ("…", *[""] * (len(table.columns) - 1))
    return replace(table, rows=(*table.rows[:_END], dots, *table.rows[-_END:]))


def _part(table: TextTable, title: str, columns: Sequence[int], width: int) -> Table:
    """Part of a table: its labels and some other columns."""
    # Names come from logs, and a text of the log is not markup: all texts of a table are printed as they are.
    part = Table(
        title=Text(title, "table.title"),
        title_justify="left",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    for name in table.columns[: table.labels]:
        part.add_column(
            Text(name), overflow="fold"
        )  # on a narrow console, labels are wrapped, but numbers are not
    columns_with_labels = (*range(table.labels), *columns)
    # Headers are broken into lines only if the columns would otherwise be wider than the console.
    needed = sum(
        max(_width(table, column), len(_header(table, column)) + _GAP) for column in columns_with_labels
    )
    for column in columns:
        header_width = 99 if needed <= width else _width(table, column) - _GAP
        lines = textwrap.wrap(_header(table, column), header_width)
        part.add_column(Text("\n".join(lines)), justify="right", no_wrap=True)
    for row in table.rows:
        part.add_row(*(Text(row[column]) for column in columns_with_labels))
    return part


def _parts(table: TextTable, width: int) -> Iterator[list[int]]:
    """Columns of each table part; labels take at most half."""
    shown = [
        column
        for column in range(table.labels, len(table.columns))
        if not table.main or table.columns[column] in table.main
    ]
    label_width = sum(_width(table, column) for column in range(table.labels))
    room = width - min(label_width, width // 2)
    part: list[int] = []
    for column in shown:
        if part and sum(_width(table, part_column) for part_column in (*part, column)) > room:
            yield part
            part = []
        part.append(column)
    yield part


def _width(table: TextTable, number: int) -> int:
    """Width that a column needs, with the gap behind it."""
    texts = [row[number] for row in table.rows]
    if number < table.labels:
        texts.append(table.columns[number])
    # A header can be broken between words, so only its longest word counts.
    texts += [*_header(table, number).split(), ""]
    return max(map(len, texts)) + _GAP


def _header(table: TextTable, number: int) -> str:
    """Header of a column on the terminal."""
    name = table.columns[number]
    return table.short.get(name, name)


def report_markdown(report: Report) -> str:
    """Answer and tables of a report as Markdown."""
    answer = f"{' '.join(report.answer)}\n\n" if report.answer else ""
    return answer + markdown(report.tables)


def markdown(tables: Iterable[TextTable]) -> str:
    """Tables as Markdown, with their titles."""
    parts = []
    for table in tables:
        sides = "---|" * table.labels + "---:|" * (len(table.columns) - table.labels)
        lines = [f"**{table.title}**", "", "| " + " | ".join(table.columns) + " |", f"|{sides}"]
        lines += [f"| `{row[0]}` | " + " | ".join(row[1:]) + " |" for row in table.rows]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def picture_places(folder: Path) -> list[tuple[str, str]]:
    """Paths of the tables and pictures of a run."""
    pictures = f"{folder}/pictures/ ({picture_names(folder)})"
    return [("tables", f"{folder}/*.parquet"), ("pictures", pictures)]


def picture_names(folder: Path) -> str:
    """Names of the pictures of a run."""
    return ", ".join(path.name for path in sorted((folder / "pictures").glob("[!.]*.png")))


def more_place(folder: Path) -> tuple[str, str]:
    """Command that writes the page with all figures."""
    return (_MORE, f"rimsim report {shlex.quote(str(folder))} --html")


def folder_places(folder: Path) -> list[tuple[str, str]]:
    """Paths of the tables, pictures and event files."""
    return [*picture_places(folder), ("events", f"tensorboard --logdir {shlex.quote(f'{folder}/events')}")]
