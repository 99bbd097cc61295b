"""What happened while a log was read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BadRow:
    """A row that was left out."""

    file: str
    """The file, or zip and member."""
    line: int
    """Line of a text file, row of a Parquet file; both from 1."""
    problem: str
    """What was found and what is allowed."""

    def __str__(self) -> str:
        return f"{self.file}, line {self.line:,}: {self.problem}"


@dataclass(frozen=True)
class ReadReport:
    """What was read, what was left out and what was noticed; :meth:`text` says it to a person."""

    source: str
    """The name or path that was asked for."""
    layout: str
    """What it turned out to be, such as ``MovieLens 1M`` or ``CSV``."""
    columns: tuple[tuple[str, str], ...]
    """Pairs of a role (user, item, time, value) and the column that was read for it."""
    time_unit: str
    """``s``, ``ms``, ``us``, ``ns``, ``yyyymmdd`` for dates written as numbers, or ``iso``."""
    rows: int
    """Rows read into the log, before any selection."""
    skipped: int = 0
    """Bad rows left out because that was asked for."""
    bad_rows: tuple[BadRow, ...] = ()
    """The first few of them."""
    backwards: int = 0
    """Rows whose time is earlier than the row before; the log is sorted all the same."""
    notes: tuple[str, ...] = ()
    """Anything else, a sentence each: byte-order marks, mixed line ends, encodings."""

    def text(self) -> str:
        """Some lines for a person."""
        columns = ", ".join(f"{role} from {column}" for role, column in self.columns)
        unit = "ISO 8601" if self.time_unit == "iso" else self.time_unit
        lines = [f"{self.source}: {self.layout}, {self.rows:,} rows ({columns}; times in {unit})"]
        if self.skipped:
            lines.append(f"{self.skipped:,} bad rows skipped, the first of them:")
            lines += [f"  {row}" for row in self.bad_rows]
        if self.backwards:
            lines.append(f"times go backwards at {self.backwards:,} rows; the log is sorted by time")
        return "\n".join([*lines, *self.notes])
