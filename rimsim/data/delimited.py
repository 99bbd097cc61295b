"""Event files with a row a line: CSV, TSV, ``::`` and whatever else separates fields.

Blocks of lines go through Arrow's parser. A block it does not take, or whose rows do not add up to its lines,
is halved until a few lines are left, and those are read one by one by the reference in ``rows``: so a bad row
is named by its line, and costs no more than a few more parses of its block.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from rimsim.data.columns import missing_roles, resolve
from rimsim.data.lines import Block, LineReader
from rimsim.data.rows import (
    LARGEST_VALUE,
    LATEST,
    RowProblemError,
    identifier,
    moment,
    number,
    short,
)
from rimsim.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from rimsim.data.collect import Collector
    from rimsim.data.columns import Columns, Positions
    from rimsim.data.containers import Stream
    from rimsim.data.rows import TimeKind

__all__ = ["Dialect", "Reading", "fields_of", "read_delimited", "sniff"]

SEPARATORS: Final = ("::", "\t", ",", ";", "|")
"""Those that are found without being told, in the order in which they are tried."""
ONE_BY_ONE: Final = 64
"""Lines of a block that are read one by one."""
LOOKED_AT: Final = 200
"""Lines that are looked at to find out what times are."""
_UNIT_SEPARATOR: Final = b"\x1f"


@dataclass(frozen=True)
class Dialect:
    """How a row is cut into fields, and what its fields are."""

    separator: str
    """One character, or ``::``."""
    quoted: bool
    """Whether ``"`` may enclose a field."""
    positions: Positions
    """Where the roles stand."""
    header: bool
    """Whether the first line is a header."""
    times: TimeKind = "number"
    """Whether times are numbers or ISO dates."""


@dataclass(frozen=True)
class Reading:
    """What came of reading a file, beside its events."""

    dialect: Dialect
    notes: tuple[str, ...]


def fields_of(line: str, separator: str, *, quoted: bool) -> list[str]:
    """Cut a line into fields.

    Raises:
        RowProblemError: If a quoted field does not end on the line.
    """
    if not quoted or '"' not in line:
        return line.split(separator)
    one = separator if len(separator) == 1 else "\x1f"
    if one != separator and one in line:
        raise RowProblemError("has a unit separator (0x1f) beside quotes; allowed: text")
    text = line.replace(separator, one)
    try:
        return next(csv.reader([text], delimiter=one, strict=True))
    except csv.Error as broken:
        if "end of data" in str(broken):
            raise RowProblemError("a quoted field does not end on its line; allowed: a row a line") from None
    try:
        return next(csv.reader([text], delimiter=one))
    except csv.Error as broken:
        raise RowProblemError(f"cannot be cut into fields ({broken})") from None


def sniff(
    first: str, where: str, wanted: Columns | None, separator: str | None, *, quoted: bool = True
) -> Dialect:
    """Find separator, header and columns from the first line.

    Args:
        first: The first line that is not blank.
        where: File and line, for messages.
        wanted: Columns as the caller gave them.
        separator: The separator, or None to find it.
        quoted: Whether ``"`` may enclose a field.

    Raises:
        DataError: If the separator is unknown or a column is missing.
        ConfigError: If the given separator is none.
    """
    if separator is not None and (
        (len(separator) != 1 and separator != "::") or separator in '"\r\n\0' or not separator.isascii()
    ):
        raise ConfigError(f"separator is {separator!r}; allowed: one ASCII character, or '::'")
    tried: list[tuple[str, list[str]]] = []
    for candidate in (separator,) if separator else SEPARATORS:
        try:
            cut = fields_of(first, candidate, quoted=quoted)
        except RowProblemError as problem:
            raise DataError(f"{where}: {problem}") from None
        if len(cut) > 1:
            tried.append((candidate, [field.strip() for field in cut]))
    if not tried:
        expected = repr(separator) if separator else ", ".join(repr(known) for known in SEPARATORS)
        raise DataError(
            f"{where}: {short(first)} has no known separator; allowed: {expected}, or say separator=..."
        )
    best = min(tried, key=lambda found: (len(missing_roles(found[1])), -len(found[1])))
    chosen, names = best if wanted is None else max(tried, key=lambda found: len(found[1]))
    header = True
    if wanted is not None and wanted.positional():
        header = not _is_data(names, wanted)
        names = names if header else [f"column {place}" for place in range(1, len(names) + 1)]
    elif wanted is None and len(missing_roles(names)) == 3 and sum(_numeric(field) for field in names) >= 2:
        raise DataError(
            f"{where}: {short(first)} looks like data, so there is no header; say which column is "
            f"which by position, such as columns='user,item,value,time' ('-' for others)"
        )
    return Dialect(chosen, quoted, resolve(names, wanted, where), header)


def _numeric(text: str) -> bool:
    try:
        number(text, "", np.inf)
    except RowProblemError:
        return False
    return True


def _is_data(names: list[str], wanted: Columns) -> bool:
    """Whether the time of a first line is one."""
    place = wanted.time
    if not isinstance(place, int) or not 1 <= place <= len(names):
        return False
    if _numeric(names[place - 1]):
        return True
    try:
        moment(names[place - 1], "")
    except RowProblemError:
        return False
    return True


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
                    dialect = sniff(_header(first, where), where, columns, separator)
                text = rest if dialect.header else body
                first_line += dialect.header
                dialect = _with_times(dialect, text)
                reader = _Reader(dialect, stream.name, collector)
            reader.read(Block(text, first_line))
        if reader is None or dialect is None:
            raise DataError(f"{stream.name}: is empty; a log needs at least one row of data")
        return Reading(dialect, lines.notes())


def _header(first: bytes, where: str) -> str:
    try:
        text = first.decode()
    except UnicodeDecodeError as broken:
        raise DataError(f"{where}: {_not_utf8(first, broken)}") from None
    if "\0" in text:
        raise DataError(f"{where}: has a zero byte; allowed: text")
    return text


def _not_utf8(line: bytes, broken: UnicodeDecodeError) -> str:
    return (
        f"byte 0x{line[broken.start]:02x} at position {broken.start + 1} is not UTF-8; allowed: UTF-8, or "
        f"say the encoding, such as encoding='latin-1'"
    )


def _with_times(dialect: Dialect, text: bytes) -> Dialect:
    """The dialect with the kind of times that most of the first lines have."""
    dates = numbers = 0
    for line in text.split(b"\n", LOOKED_AT)[:LOOKED_AT]:
        try:
            field = fields_of(line.decode(), dialect.separator, quoted=dialect.quoted)[dialect.positions.time]
            if _numeric(field):
                numbers += 1
            else:
                moment(field, "")
                dates += 1
        except (RowProblemError, IndexError, UnicodeDecodeError):
            continue
    kind: TimeKind = "iso" if dates > numbers else "number"
    return Dialect(dialect.separator, dialect.quoted, dialect.positions, dialect.header, kind)


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
            column_types={name: kinds[role] for role, name in self._column.items()},
            include_columns=list(self._column.values()),
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
        collector.add(
            collector.users.codes(user_words)[user], collector.items.codes(item_words)[item], times, values
        )
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
        found: list[tuple[str, str, float, float]] = []
        for line_number, line in enumerate(block.text.split(b"\n"), start=block.first_line):
            if not line:
                continue
            try:
                found.append(self._row(line))
            except RowProblemError as problem:
                self._collector.bad(self._name, line_number, str(problem))
        if not found:
            return
        users, items, times, values = zip(*found, strict=True)
        collector = self._collector
        collector.add(
            collector.users.codes(users),
            collector.items.codes(items),
            np.array(times, np.float64),
            np.array(values, np.float32),
        )

    def _row(self, line: bytes) -> tuple[str, str, float, float]:
        try:
            text = line.decode()
        except UnicodeDecodeError as broken:
            raise RowProblemError(_not_utf8(line, broken)) from None
        if "\0" in text:
            raise RowProblemError("has a zero byte; allowed: text")
        fields = fields_of(text, self._dialect.separator, quoted=self._dialect.quoted)
        if len(fields) != self._width:
            raise RowProblemError(f"has {len(fields)} fields; allowed: {self._width}, as in the first line")
        places, label = self._dialect.positions, self._label
        user = identifier(fields[places.user], label["user"])
        item = identifier(fields[places.item], label["item"])
        if self._dialect.times == "iso":
            time = moment(fields[places.time], label["time"])
        else:
            time = number(fields[places.time], label["time"], self._collector.largest_time)
        value = 1.0 if places.value is None else number(fields[places.value], label["value"], LARGEST_VALUE)
        return user, item, time, value


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
