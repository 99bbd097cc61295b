"""Event files with a row a line: CSV, TSV, ``::`` and whatever else separates fields.

Blocks of lines go through Arrow's parser. A block it does not take, or whose rows do not add up to its lines,
is halved until a few lines are left, and those are read one by one by the reference in ``rows``: so a bad row
is named by its line, and costs no more than a few more parses of its block.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from rimsim.data.readers.dialect import decoded, fields_of, sniff, with_times
from rimsim.data.readers.lines import Block, LineReader
from rimsim.data.readers.rows import (
    LARGEST_VALUE,
    LATEST,
    RowProblemError,
    identifier,
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

ONE_BY_ONE: Final = 1000
"""Lines of a block that are read one by one."""
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


class _Reader:
    """Reads blocks of one file."""

    def __init__(self, dialect: Dialect, name: str, collector: Collector) -> None:
        self._dialect = dialect
        self._name = name
        self._collector = collector
        places = dialect.positions
        self._width = len(places.names)
        roles = {"user": places.user, "item": places.item, "time": places.time, "value": places.value}
        self._names = [f"c{place}" for place in range(self._width)]
        self._column = {role: f"c{place}" for role, place in roles.items() if place is not None}
        self._attributes = {attribute: f"c{place}" for attribute, place in places.attributes}
        self._label = {role: f"{role} (column {name!r})" for role, name in places.pairs()}
        text, words = pa.string(), pa.dictionary(pa.int32(), pa.string())
        kinds = {"user": words, "item": words, "time": text, "value": pa.float64()}
        if dialect.times == "number":
            kinds["time"] = pa.float64()
        self._parse = pa.csv.ParseOptions(
            delimiter=dialect.separator if len(dialect.separator) == 1 else _UNIT_SEPARATOR.decode(),
            quote_char='"' if dialect.quoted else False,
            newlines_in_values=False,
            ignore_empty_lines=True,
        )
        self._convert = pa.csv.ConvertOptions(
            check_utf8=False,
            column_types={name: kinds[role] for role, name in self._column.items()}
            | dict.fromkeys(self._attributes.values(), words),
            include_columns=[*self._column.values(), *self._attributes.values()],
            null_values=[""],
            strings_can_be_null=False,
        )

    def read(self, block: Block) -> None:
        """Read a block, halving it around what cannot be read."""
        if not block.text.strip(b"\n"):
            return
        if self._at_once(block.text):
            return
        lines = block.text.count(b"\n") + 1
        if lines <= ONE_BY_ONE:
            self._one_by_one(block)
            return
        middle = block.text.find(b"\n", len(block.text) // 2) + 1
        if not 0 < middle < len(block.text):
            middle = block.text.rfind(b"\n", 0, len(block.text) // 2) + 1
        if not 0 < middle < len(block.text):
            self._one_by_one(block)
            return
        self.read(Block(block.text[:middle], block.first_line))
        self.read(Block(block.text[middle:], block.first_line + block.text.count(b"\n", 0, middle)))

    def _at_once(self, text: bytes) -> bool:
        """Read a clean block; False if it is not clean, with nothing read."""
        table = self._parsed(text)
        times = None if table is None else self._times(table)
        values = None if table is None else self._values(table)
        if table is None or times is None or values is None:
            return False
        collector = self._collector
        try:
            user, user_words = _words(table[self._column["user"]])
            item, item_words = _words(table[self._column["item"]])
            user_words = collector.users.check(user_words)
            item_words = collector.items.check(item_words)
        except RowProblemError:
            return False
        items = collector.items.codes(item_words)[item]
        collector.add(collector.users.codes(user_words)[user], items, times, values)
        for attribute, column in self._attributes.items():
            place, texts = _words(table[column])
            collector.learn(attribute, items, place, texts)
        return True

    def _parsed(self, text: bytes) -> pa.Table | None:
        """The columns of a block, or None if its rows do not add up to its lines."""
        if b"\0" in text or not _is_utf8(text):
            return None
        lines = text.count(b"\n") + (not text.endswith(b"\n"))
        if len(self._dialect.separator) > 1:
            if _UNIT_SEPARATOR in text:
                return None
            text = text.replace(self._dialect.separator.encode(), _UNIT_SEPARATOR)
        options = pa.csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=self._names)
        try:
            table = pa.csv.read_csv(pa.py_buffer(text), options, self._parse, self._convert)
        except pa.ArrowInvalid:
            return None
        rows = table.num_rows
        fits = rows == lines or rows + len(re.findall(rb"^\n", text, re.MULTILINE)) == lines
        return table if fits else None

    def _times(self, table: pa.Table) -> NDArray[np.float64] | None:
        column = table[self._column["time"]]
        if self._dialect.times == "iso":
            return _moments(column)
        return _numbers(column, self._collector.largest_time)

    def _values(self, table: pa.Table) -> NDArray[np.float32] | None:
        if "value" not in self._column:
            return np.ones(table.num_rows, np.float32)
        found = _numbers(table[self._column["value"]], LARGEST_VALUE)
        return None if found is None else found.astype(np.float32)

    def _one_by_one(self, block: Block) -> None:
        found: list[tuple[str, str, float, float, list[str]]] = []
        for line_number, line in enumerate(block.text.split(b"\n"), start=block.first_line):
            if not line:
                continue
            try:
                found.append(self._row(line))
            except RowProblemError as problem:
                self._collector.bad(self._name, line_number, str(problem))
        if not found:
            return
        users, items, times, values, texts = zip(*found, strict=True)
        collector = self._collector
        codes = collector.items.codes(items)
        collector.add(
            collector.users.codes(users), codes, np.array(times, np.float64), np.array(values, np.float32)
        )
        for attribute, words in zip(self._attributes, zip(*texts, strict=True), strict=True):
            collector.learn(attribute, codes, np.arange(len(words)), list(words))

    def _row(self, line: bytes) -> tuple[str, str, float, float, list[str]]:
        fields = fields_of(decoded(line), self._dialect.separator, quoted=self._dialect.quoted)
        if len(fields) != self._width:
            raise RowProblemError(f"has {len(fields)} fields; allowed: {self._width}, as in the first line")
        places, label = self._dialect.positions, self._label
        user = identifier(fields[places.user], label["user"])
        item = identifier(fields[places.item], label["item"])
        if self._dialect.times == "iso":
            time = moment(fields[places.time], label["time"])
        else:
            time = number(fields[places.time], label["time"], self._collector.largest_time, _OR_DATES)
        value = 1.0 if places.value is None else number(fields[places.value], label["value"], LARGEST_VALUE)
        return user, item, time, value, [fields[place] for _, place in places.attributes]


def _is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _words(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[str]]:
    """Codes and distinct texts of a column of ids."""
    combined = column.combine_chunks()
    array = combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
    return array.indices.to_numpy(zero_copy_only=False), array.dictionary.to_pylist()


def _numbers(column: pa.ChunkedArray, largest: float) -> NDArray[np.float64] | None:
    """The column as numbers, or None if one is missing, not finite, negative or too large."""
    if column.null_count:
        return None
    found = column.to_numpy() + 0.0  # -0 becomes 0
    # Negated, so that NaN is refused too.
    return found if bool(((found >= 0) & (found <= largest)).all()) else None


def _moments(column: pa.ChunkedArray) -> NDArray[np.float64] | None:
    """The column of ISO texts as seconds, or None if one is not understood here."""
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            parsed = pc.cast(column, kind)
        except pa.ArrowInvalid:
            continue
        if parsed.null_count:
            return None
        seconds = pc.cast(parsed, pa.int64()).to_numpy() / 1e6
        return seconds if bool(((seconds >= 0) & (seconds < LATEST)).all()) else None
    return None
