"""Event files with a row a line: CSV, TSV, ``::`` and whatever else separates fields.

Arrow cuts blocks of lines into texts and casts whole columns of them. Rows of another width are told by Arrow; a
block that is no text, or whose rows do not add up to its lines, is cut line by line. Fields that a cast refuses
are read one by one by the reference in ``rows``, which says what is wrong with them: so a bad row is named by its
line and costs little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from rimsim.data.readers.dialect import decoded, fields_of, sniff, with_times
from rimsim.data.readers.ids import Words
from rimsim.data.readers.lines import Block, LineReader
from rimsim.data.readers.rows import (
    LARGEST_VALUE,
    LATEST,
    RowProblemError,
    moment,
    number,
)
from rimsim.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from rimsim.data.readers.collect import Collector
    from rimsim.data.readers.columns import Columns
    from rimsim.data.readers.containers import Stream
    from rimsim.data.readers.dialect import Dialect

__all__ = ["Reading", "read_delimited"]

_OR_DATES: Final = ", or, in most rows of the file, ISO 8601 dates such as 2016-10-17T08:30:00Z"
_UNIT_SEPARATOR: Final = b"\x1f"


@dataclass(frozen=True)
class Reading:
    """What came of reading a file, beside its events."""

    dialect: Dialect
    notes: tuple[str, ...]


def read_delimited(
    open_stream: Callable[[], Stream],
    collector: Collector,
    *,
    dialect: Dialect | None = None,
    columns: Columns | None = None,
    separator: str | None = None,
    encoding: str | None = None,
) -> Reading:
    """Read a file of events into a collector.

    Args:
        open_stream: Opens the file.
        collector: Takes the events and the bad rows.
        dialect: How the file is written, if it is known.
        columns: Columns as the caller gave them.
        separator: The separator, or None to find it.
        encoding: The encoding, or None for UTF-8 or what a byte-order mark says.

    Raises:
        DataError: At the first row that cannot be read (unless the collector skips), or if the file is empty.
    """
    with open_stream() as stream:
        lines = LineReader(stream, encoding)
        reader: _Reader | None = None
        for block in lines:
            text, first_line = block.text, block.first_line
            if reader is None:
                # Blank lines before the header are no rows.
                body = text.lstrip(b"\n")
                first_line += len(text) - len(body)
                if not body:
                    continue
                first, _, rest = body.partition(b"\n")
                if dialect is None:
                    where = f"{stream.name}, line {first_line:,}"
                    dialect = sniff(first, where, columns, separator)
                text = rest if dialect.header else body
                first_line += dialect.header
                dialect = with_times(dialect, text)
                reader = _Reader(dialect, stream.name, collector)
            reader.read(Block(text, first_line))
        if reader is None or dialect is None:
            raise DataError(f"{stream.name}: is empty; a log needs at least one row of data")
        return Reading(dialect, lines.notes())


@dataclass(frozen=True, eq=False)
class _Rows:
    """A block that is cut into fields."""

    lines: NDArray[np.int64]
    """(n,) line of each row."""
    fields: dict[str, pa.Array]
    """(n,) texts of each column that is read."""
    uncut: dict[int, str]
    """Line → what is wrong, of lines that are no row."""


class _Reader:
    """Reads blocks of one file."""

    def __init__(self, dialect: Dialect, name: str, collector: Collector) -> None:
        self._dialect = dialect
        self._name = name
        self._collector = collector
        places = dialect.positions
        self._width = len(places.names)
        self._label = {role: f"{role} (column {name!r})" for role, name in places.pairs()}
        roles = {"user": places.user, "item": places.item, "time": places.time, "value": places.value}
        self._place = {role: place for role, place in roles.items() if place is not None}
        self._place |= dict(places.attributes)

    def read(self, block: Block) -> None:
        """Hand the rows of a block to the collector, and what is wrong with the others."""
        if not block.text.strip(b"\n"):
            return
        rows = self._cut_by_arrow(block)
        if rows is None:
            rows = self._cut_line_by_line(block)
        label, fields = self._label, rows.fields
        users, items = Words(fields["user"], label["user"]), Words(fields["item"], label["item"])
        if self._dialect.times == "iso":
            times, no_times = _moments(fields["time"], label["time"])
        else:
            latest = self._collector.largest_time
            times, no_times = _numbers(fields["time"], label["time"], latest, _OR_DATES)
        values = np.ones(len(times))
        no_values: dict[int, str] = {}
        if "value" in fields:
            values, no_values = _numbers(fields["value"], label["value"], LARGEST_VALUE)
        problems = (
            no_values | no_times | items.lacking | users.lacking
        )  # of several, the first column's is told
        bad = rows.uncut | {int(rows.lines[row]): problem for row, problem in problems.items()}
        for line in sorted(bad):
            self._collector.bad(self._name, line, bad[line])
        attributes = {name: Words(fields[name]) for name, _ in self._dialect.positions.attributes}
        self._collector.take(users, items, times, values, attributes, without=problems)

    def _cut_by_arrow(self, block: Block) -> _Rows | None:
        """The rows of a block, or None if they do not add up to its lines or are no text."""
        text = block.text
        delimiter = self._dialect.separator
        try:
            decoded(text)
            fields_of(
                decoded(text.rstrip(b"\n").rpartition(b"\n")[2]), delimiter, quoted=self._dialect.quoted
            )
        except RowProblemError:  # in the last line a quote may be open without a line end inside
            return None
        if len(delimiter) > 1:
            if _UNIT_SEPARATOR in text:
                return None
            text = text.replace(delimiter.encode(), _UNIT_SEPARATOR)
            delimiter = _UNIT_SEPARATOR.decode()
        refused: list[pa.csv.InvalidRow] = []

        def refuse(row: pa.csv.InvalidRow) -> str:
            refused.append(row)
            return "skip"

        names = [f"c{place}" for place in range(self._width)]
        columns = {role: names[place] for role, place in self._place.items()}
        try:
            table = pa.csv.read_csv(
                pa.py_buffer(text),
                pa.csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=names),
                pa.csv.ParseOptions(
                    delimiter=delimiter,
                    quote_char='"' if self._dialect.quoted else False,
                    ignore_empty_lines=True,
                    invalid_row_handler=refuse,
                ),
                pa.csv.ConvertOptions(
                    check_utf8=False,
                    include_columns=list(columns.values()),
                    column_types=dict.fromkeys(columns.values(), pa.string()),
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid:
            return None
        count = table.num_rows + len(refused)
        lines = np.arange(text.count(b"\n") + (not text.endswith(b"\n")))
        if count != len(lines):  # blank lines, which are no rows, or line ends inside quotes
            lines = np.flatnonzero([bool(line) for line in text.split(b"\n")])
            if count != len(lines):
                return None
        lines += block.first_line
        wrong = np.array([row.number - 1 for row in refused], np.int64)
        uncut = [self._wrong_width(row.actual_columns) for row in refused]
        return _Rows(
            np.delete(lines, wrong),
            {role: table[column].combine_chunks() for role, column in columns.items()},
            dict(zip(lines[wrong].tolist(), uncut, strict=True)),
        )

    def _cut_line_by_line(self, block: Block) -> _Rows:
        """The rows of a block that Arrow does not take, with what is wrong with the others."""
        rows: dict[int, list[str]] = {}
        uncut: dict[int, str] = {}
        for place, line in enumerate(block.text.split(b"\n"), start=block.first_line):
            if not line:
                continue
            try:
                fields = fields_of(decoded(line), self._dialect.separator, quoted=self._dialect.quoted)
                if len(fields) == self._width:
                    rows[place] = fields
                else:
                    uncut[place] = self._wrong_width(len(fields))
            except RowProblemError as problem:
                uncut[place] = str(problem)
        return _Rows(
            np.array(list(rows), np.int64),
            {
                role: pa.array([fields[place] for fields in rows.values()], pa.string())
                for role, place in self._place.items()
            },
            uncut,
        )

    def _wrong_width(self, fields: int) -> str:
        return f"has {fields} fields; allowed: {self._width}, as in the first line"


_PLAIN: Final = r"^\d+(\.\d*)?$"
"""How most numbers are written."""


def _numbers(
    texts: pa.Array, name: str, largest: float, otherwise: str = ""
) -> tuple[NDArray[np.float64], dict[int, str]]:
    """The numbers of a column, and row → what is wrong where there is none; see :func:`number`."""
    try:
        column = pc.cast(texts, pa.float64())
    except pa.ArrowInvalid:
        trimmed = pc.ascii_trim_whitespace(texts)
        column = pc.cast(pc.if_else(pc.match_substring_regex(trimmed, _PLAIN), trimmed, "nan"), pa.float64())
    numbers = column.to_numpy(zero_copy_only=False) + 0.0  # -0 becomes 0
    odd = ~((numbers >= 0) & (numbers <= largest))  # negated, so that NaN is odd too
    return _read_again(texts, numbers, odd, lambda text: number(text, name, largest, otherwise))


def _moments(texts: pa.Array, name: str) -> tuple[NDArray[np.float64], dict[int, str]]:
    """The seconds of a column of ISO texts, and row → what is wrong where there are none; see :func:`moment`."""
    seconds = np.full(len(texts), np.nan)
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            seconds = pc.cast(pc.cast(texts, kind), pa.int64()).to_numpy() / 1e6
            break
        except pa.ArrowInvalid:
            continue
    odd = ~((seconds >= 0) & (seconds < LATEST))
    return _read_again(texts, seconds, odd, lambda text: moment(text, name))


def _read_again(
    texts: pa.Array, numbers: NDArray[np.float64], odd: NDArray[np.bool_], read: Callable[[str], float]
) -> tuple[NDArray[np.float64], dict[int, str]]:
    """The numbers, of which the odd ones are read one by one; what is no number is told by its row."""
    problems: dict[int, str] = {}
    for row in np.flatnonzero(odd).tolist():
        try:
            numbers[row] = read(texts[row].as_py())
        except RowProblemError as problem:
            problems[row] = str(problem)
    return numbers, problems
