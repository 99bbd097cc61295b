"""Report of the reading of a log."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rimsim.errors import many

_VALUES = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\d[\d.,:]*""")
"""Quoted texts and numbers in a problem."""


@dataclass(frozen=True)
class BadRow:
    """Row of a file that the log leaves out."""

    file: str
    """Path of the file, or of a zip and its member."""
    line: int
    """Line number in a text file, or row number in a Parquet file; both start from 1."""
    problem: str
    """Value of the row, and the values that are allowed."""
    count: int = 1
    """Number of bad rows with this kind of problem, of which this row is the first."""

    @property
    def kind(self) -> str:
        """Problem without the values of the row."""
        return _VALUES.sub("…", self.problem)

    def __str__(self) -> str:
        return f"{self.file}, line {self.line:,}: {self.problem}"


@dataclass(frozen=True)
class ColumnUse:
    """Use of a column without a role."""

    column: str
    """Name in the file."""
    attribute: str | None
    """Column of the item table that gets these values; None: the column is ignored."""
    note: str = ""
    """Reason why the column is ignored, or rule for an item with several values."""
    example: str = ""
    """Two values of the same item, if some item has several values."""
    table: str = ""
    """Name of the table of items that the column comes from; empty: the table of events."""

    @property
    def is_renamed(self) -> bool:
        """True if the attribute has another name than the column."""
        return self.attribute not in (None, self.column)

    def text(self) -> str:
        """Use of the column, for a list of columns."""
        example = f", such as {self.example}" if self.example else ""
        note = f"{self.note}{example}"
        if self.attribute is None:
            return f"ignored: {note}"
        new_name = f", as {self.attribute}" if self.is_renamed else ""
        return f"attribute of items{new_name}" + (f": {note}" if note else "")


@dataclass(frozen=True)
class Returns:
    """Rows of a log with a negative quantity."""

    rows: int = 0
    """Number of these rows, whether they are left out or not."""
    column: str = ""
    """Name of the column of quantities; empty: the log has none."""
    are_dropped: bool = False
    """True if the log leaves these rows out, as ``drop_returns`` asks."""

    def text(self) -> str:
        """Sentence about returns; a warning where they count."""
        if self.are_dropped:
            return f"{many(self.rows, 'return')} left out (rows with a negative {self.column})"
        verb = "has" if self.rows == 1 else "have"
        return (
            f"warning: {many(self.rows, 'row')} {verb} a negative {self.column}, as returns have. Returns count as "
            "events. To leave them out, set data.drop_returns=true (--drop-returns)"
        )


@dataclass(frozen=True)
class ReadReport:
    """Report of the reading of a log."""

    source: str
    """Name or path that the user asked for."""
    layout: str
    """Detected layout, such as ``MovieLens 1M`` or ``CSV``."""
    columns: tuple[tuple[str, str], ...]
    """Pairs of a role (user, item, time, value) and the name of its column in the file."""
    time_unit: str
    """``s``, ``ms``, ``us``, ``ns``, ``yyyymmdd`` for dates written as numbers, or ``iso``."""
    rows: int
    """Rows read into the log, before any selection."""
    skipped: int = 0
    """Number of bad rows that were left out, as ``skip_bad_rows`` allows."""
    bad_rows: tuple[BadRow, ...] = ()
    """First bad row of each kind of problem; rows of further kinds are only counted."""
    returns: Returns = Returns()
    """Rows with a negative quantity."""
    backwards: int = 0
    """Number of rows whose time is earlier than the time of the previous row; the log is sorted nevertheless."""
    notes: tuple[str, ...] = ()
    """Sentences on byte-order marks, mixed line ends and rows left out."""
    warnings: tuple[str, ...] = ()
    """Sentences on likely mistakes, with remedies."""
    others: tuple[ColumnUse, ...] = ()
    """Use of each column without a role, in the table of events and the table of items."""
    values: tuple[tuple[str, int], ...] = ()
    """Pairs of an attribute with texts and its number of values before the selection of events."""
    repeats: str = "history"
    """Treatment of repeated events: drop, history or consume."""
    repeated_share: float = 0.0
    """Share of the selected events in which a user takes an item again."""

    def repeats_text(self) -> str:
        """Sentence about repeated events; empty without such events."""
        if self.repeats == "drop":
            return "repeated events are left out (data.repeats: drop)"
        if not self.repeated_share:
            return ""
        rule = {
            "history": "count as history only, and no user is offered an item again",
            "consume": "count, and users may take items again",
        }[self.repeats]
        return f"{self.repeated_share:.1%} of events are repeated: they {rule} (data.repeats: {self.repeats})"

    def columns_text(self) -> str:
        """Line for each column with its use."""
        rows = [(column, role) for role, column in self.columns]
        for use in self.others:
            table = f" (of {use.table})" if use.table else ""
            rows.append((use.column, f"{use.text()}{table}"))
        width = max([10, *(len(name) for name, _ in rows)]) + 2
        return "\n".join(f"{name:<{width}}{text}" for name, text in rows)

    def _short(self) -> list[str]:
        """Lines about columns other than user, item, time and value."""
        attributes = [
            f"{use.attribute} from {use.column}" if use.is_renamed else f"{use.attribute}"
            for use in self.others
            if use.attribute is not None
        ]
        ignored = [f"{use.column} ({use.note})" for use in self.others if use.attribute is None]
        notes = [f"{use.column}: {use.note}" for use in self.others if use.attribute is not None and use.note]
        lines = [f"attributes of items: {', '.join(attributes)}"] if attributes else []
        lines += notes
        return [*lines, f"ignored columns: {'; '.join(ignored)}"] if ignored else lines

    def text(self, *, columns: bool = True) -> str:
        """Text of several lines that reports the reading.

        ``columns`` adds lines about columns other than user, item, time and value.
        """
        columns_text = ", ".join(f"{role} from {column}" for role, column in self.columns)
        unit = "ISO 8601" if self.time_unit == "iso" else self.time_unit
        lines = [f"{self.source}: {self.layout}, {many(self.rows, 'row')} ({columns_text}; times in {unit})"]
        lines += self._short() if columns else []
        if self.skipped:
            lines.append(f"{many(self.skipped, 'bad row')} skipped, by kind of problem the first:")
            lines += [f"  {many(row.count, 'row')}: {row}" for row in self.bad_rows]
            n_others = self.skipped - sum(row.count for row in self.bad_rows)
            lines += [f"  {many(n_others, 'row')} with other problems"] if n_others else []
        if self.returns.rows:
            lines.append(self.returns.text())
        if self.backwards:
            lines.append(f"times go backwards at {many(self.backwards, 'row')}; the log is sorted by time")
        if repeats := self.repeats_text():
            lines.append(repeats)
        return "\n".join([*lines, *self.notes, *(f"warning: {text}" for text in self.warnings)])
