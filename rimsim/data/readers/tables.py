"""Tables of events in text and Parquet files."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rimsim.arrays import Floats
from rimsim.data.readers.columns import ANSWERS, ColumnPlaces, ColumnRoles, Role, resolve
from rimsim.data.readers.containers import Stream
from rimsim.data.readers.events import Collector, RowBlock
from rimsim.data.readers.item_columns import plain_text
from rimsim.data.readers.lines import Block, Cutter, LineReader, decoded, fields_of, moments_of, numbers_of
from rimsim.data.readers.values import (
    LATEST,
    MISSING,
    RowProblemError,
    TimeKind,
    Words,
    holds_number,
    moment,
    short,
)
from rimsim.errors import ConfigError, DataError, has_type, raised_as, refuse

SEPARATORS: Final = ("::", "\t", ",", ";", "|")
"""Separators that are found without being named, in the order in which they are tried."""
LOOKED_AT: Final = 200
"""Lines that are looked at to find the kind of times."""
_OTHER: Final = "column "
"""Beginning of the keys of columns without a role, whose names may be those of roles."""
_OR_DATES: Final = ", or, in most rows of the file, ISO 8601 dates such as 2016-10-17T08:30:00Z"


@dataclass(frozen=True)
class Dialect:
    """Form of the rows of a text file."""

    separator: str
    """One character, or ``::``."""
    quoted: bool
    """True if ``"`` may enclose a field."""
    places: ColumnPlaces
    """Positions of the roles."""
    header: bool
    """True if the first line is a header."""
    times: TimeKind = "number"
    """Numbers or ISO dates."""


@dataclass(frozen=True)
class TextForm:
    """Form of a text file, as far as known."""

    separator: str | None = None
    """Separator, or None to find it."""
    encoding: str | None = None
    """Encoding, or None for UTF-8 or the one of the byte-order mark."""
    dialect: Dialect | None = None
    """Dialect, or None to find it in the first line."""


@dataclass(frozen=True)
class Reading:
    """Form of a file that was read."""

    kind: str
    """Kind of file, such as ``Parquet``."""
    columns: tuple[tuple[str, str], ...] = ()
    """Pairs of a role and the column that was read for it."""
    times: TimeKind = "number"
    """Numbers, or ISO dates and timestamps."""
    notes: tuple[str, ...] = ()
    """Sentences about oddities."""


def read_delimited(stream: Stream, collector: Collector, roles: ColumnRoles, form: TextForm) -> Reading:
    """Read a text file into a collector.

    Raises:
        DataError: At the first row that cannot be read (unless the collector skips bad rows), or if a log is empty.
    """
    lines = LineReader(stream, form.encoding)
    dialect = form.dialect
    reader = None
    for block in lines:
        text = block.text
        first_line = block.first_line
        if reader is None:
            body = text.lstrip(b"\n")  # blank lines before the header are no rows
            first_line += len(text) - len(body)
            if not body:
                continue
            first, _, rest = body.partition(b"\n")
            if dialect is None:
                dialect = sniff(first, f"{stream.name}, line {first_line:,}", roles, form.separator)
            text = rest if dialect.header else body
            first_line += dialect.header
            dialect = with_times(dialect, text)
            reader = _DelimitedReader(dialect, stream.name, collector)
        reader.read(Block(text, first_line))
    if dialect is None or reader is None:
        if roles.kind is ANSWERS:
            return Reading("text")
        raise DataError(f"{stream.name}: the file is empty. A log needs at least one row of data")
    kind = f"text separated by {dialect.separator!r}"
    return Reading(kind, dialect.places.pairs(), dialect.times, lines.notes())


def sniff(first: bytes, where: str, roles: ColumnRoles, separator: str | None) -> Dialect:
    """Dialect of a file, from its first non-blank line.

    Raises:
        DataError: If the separator is unknown or a column is missing.
        ConfigError: If the given separator is not valid.
    """
    if separator is not None and (
        not has_type(separator, str)
        or (len(separator) != 1 and separator != "::")
        or separator in '"\r\n\0'
        or not separator.isascii()
    ):
        raise ConfigError(f"separator is {separator!r}. Expected one ASCII character, or '::'")
    candidates = (separator,) if separator else SEPARATORS
    try:
        text = decoded(first)
        cuts = [(candidate, fields_of(text, candidate, quoted=True)) for candidate in candidates]
    except RowProblemError as problem:
        raise DataError(f"{where}: {problem}") from None
    if text.lstrip().startswith(("{", "[")):
        refuse(
            DataError, where, f"{short(text)} looks like JSON", "CSV, TSV, other separated text or Parquet"
        )
    tried = [(candidate, [field.strip() for field in cut]) for candidate, cut in cuts]
    chosen, names = max(tried, key=lambda attempt: len(attempt[1]))
    _require_fields(len(names), text, where, roles, candidates)
    kind = roles.kind
    header = True
    if not roles.given:
        tried = [(candidate, cut) for candidate, cut in tried if len(cut) > 1]
        chosen, names = min(tried, key=lambda attempt: (len(kind.missing(attempt[1])), -len(attempt[1])))
        if len(kind.missing(names)) == 3 and sum(map(holds_number, names)) >= 2:
            raise DataError(
                f"{where}: {short(text)} looks like data, so the file has no header. Give the columns by "
                f"position, such as columns={kind.example}"
            )
    elif roles.positional():
        header = not _is_data(names, roles)
        names = names if header else [f"column {place}" for place in range(1, len(names) + 1)]
    places = resolve(names, roles, where)
    places = places if header else replace(places, others={})  # a column without a name cannot be asked for
    return Dialect(chosen, quoted=True, places=places, header=header)


def _require_fields(
    found: int, text: str, where: str, roles: ColumnRoles, separators: tuple[str, ...]
) -> None:
    """Refuse a first line with too few fields."""
    known = ", ".join(map(repr, separators))
    if roles.kind is ANSWERS and found < 3:
        allowed = f"at least user, item and value, separated by {known}"
        refuse(DataError, where, f"{short(text)} has {found} fields", allowed)
    if found == 1:
        allowed = f"{known}. For another, give separator='^' or --separator '^'"
        refuse(DataError, where, f"{short(text)} has no known separator", allowed)


def _is_data(names: list[str], roles: ColumnRoles) -> bool:
    """True if the first line is data instead of names."""
    role = roles.kind.needed[-1]
    place = roles.given[role]
    if not isinstance(place, int) or not 1 <= place <= len(names):
        return False
    return _kind_of(names[place - 1]) in (("number", "iso") if role == "time" else ("number",))


def _kind_of(field: str) -> TimeKind | None:
    """Kind of time in a text; None for other texts."""
    if holds_number(field):
        return "number"
    try:
        moment(field, "")
    except RowProblemError:
        return None
    return "iso"


def with_times(dialect: Dialect, text: bytes) -> Dialect:
    """Dialect with the most frequent kind of times in lines."""
    if (place := dialect.places.of.get("time")) is None:
        return dialect
    kinds: list[TimeKind | None] = []
    for line in text.split(b"\n", LOOKED_AT)[:LOOKED_AT]:
        try:
            kinds.append(_kind_of(fields_of(decoded(line), dialect.separator, quoted=dialect.quoted)[place]))
        except (RowProblemError, IndexError):
            continue
    return replace(dialect, times="iso" if kinds.count("iso") > kinds.count("number") else "number")


class _DelimitedReader:
    """Reader of the blocks of one file."""

    def __init__(self, dialect: Dialect, name: str, collector: Collector) -> None:
        self._name = name
        self._collector = collector
        self._places = dialect.places
        self._iso = dialect.times == "iso"
        self._label = dialect.places.labels()
        read: dict[str, int] = {str(role): place for role, place in dialect.places.of.items()}
        read |= {f"{_OTHER}{name}": place for name, place in dialect.places.others.items()}
        width = len(dialect.places.names)
        self._cutter = Cutter(dialect.separator, quoted=dialect.quoted, width=width, places=read)

    def read(self, block: Block) -> None:
        """Pass a block's rows to the collector."""
        if not block.text.strip(b"\n"):
            return
        rows = self._cutter.cut(block)
        label = self._label
        fields = rows.fields
        times = None
        values = None
        problems = dict[Role, dict[int, str]]()
        if "time" in fields:
            times, problems["time"] = self._times(fields["time"])
        if "value" in fields:
            largest = self._collector.largest_value
            values, problems["value"] = numbers_of(fields["value"], label["value"], largest)
        self._collector.take(
            self._name,
            RowBlock(
                lines=rows.lines,
                users=Words(fields["user"], label["user"]),
                items=Words(fields["item"], label["item"]),
                time=times,
                value=values,
                problems=problems,
                others={
                    name: Words(fields[f"{_OTHER}{name}"])
                    for name in self._places.others
                    if self._collector.wants(name)
                },
                uncut=rows.uncut,
            ),
        )

    def _times(self, texts: pa.Array) -> tuple[Floats, dict[int, str]]:
        """Times (NaN where optional and missing), and problems by row."""
        if "time" in self._collector.kind.needed:
            return self._read_times(texts)
        times = np.full(len(texts), np.nan)
        missing = pc.is_in(pc.ascii_trim_whitespace(texts), pa.array(sorted(MISSING)))
        known = np.flatnonzero(~missing.to_numpy(zero_copy_only=False))
        times[known], wrong = self._read_times(texts.take(pa.array(known)))
        return times, {int(known[row]): text for row, text in wrong.items()}

    def _read_times(self, texts: pa.Array) -> tuple[Floats, dict[int, str]]:
        label = self._label["time"]
        if self._iso:
            return moments_of(texts, label)
        return numbers_of(texts, label, self._collector.largest_time, _OR_DATES)


# -- Parquet ---------------------------------------------------------------------------------------------------------


_BROKEN: Final = (pa.ArrowException, OSError, ValueError, RuntimeError, KeyError, MemoryError, OverflowError)
_DAMAGED = "the file is damaged or incomplete"

BATCH_ROWS: Final = 2**18
"""Rows that are held at a time in addition to the events themselves."""


def opened(file: Path | BytesIO, name: str) -> pq.ParquetFile:
    """Opened Parquet file.

    Raises:
        DataError: If the file is not a Parquet file, or is damaged.
    """
    with raised_as(DataError, name, "this is not a readable Parquet file", _BROKEN, 160):
        return pq.ParquetFile(file)


def table_of(file: Path | BytesIO, name: str) -> pa.Table:
    """Whole small table, such as a catalogue."""
    with raised_as(DataError, name, _DAMAGED, _BROKEN, 160):
        return opened(file, name).read(use_threads=False)


def read_parquet(file: Path | BytesIO, name: str, collector: Collector, roles: ColumnRoles) -> Reading:
    """Read a Parquet file into a collector.

    Raises:
        DataError: If a column is missing, or has a type that cannot be an id, a time or a value. Also at the first row
            that cannot be read, unless the collector skips bad rows.
    """
    parquet = opened(file, name)
    schema = parquet.schema_arrow
    places = resolve(schema.names, roles, name)
    reader = _BatchReader(schema, places, name, collector)
    with raised_as(DataError, name, _DAMAGED, _BROKEN, 160):
        for batch in parquet.iter_batches(batch_size=BATCH_ROWS, columns=reader.names, use_threads=False):
            reader.read(batch)
    return Reading("Parquet", places.pairs(), "iso" if reader.moments else "number")


class _BatchReader:
    """Reader of the batches of one file."""

    def __init__(self, schema: pa.Schema, places: ColumnPlaces, name: str, collector: Collector) -> None:
        self._name = name
        self._collector = collector
        self._row = 1
        self._columns = dict(places.pairs())
        self._labels = places.labels()
        types = {name: schema.field(place).type for name, place in places.others.items()}
        collector.nested |= {name: str(kind) for name, kind in types.items() if pa.types.is_nested(kind)}
        self._others = {
            name: schema.names[place] for name, place in places.others.items() if name not in collector.nested
        }
        """Name without spaces around it → name in the file."""
        self.names = [*self._columns.values(), *self._others.values()]
        """Columns to read."""
        kinds = {role: _value_kind(schema.field(column).type) for role, column in self._columns.items()}
        for role, kind in kinds.items():
            fits, allowed = {
                "value": (_is_number(kind) or _is_text(kind), "numbers"),
                "time": (
                    _is_number(kind) or _is_moment(kind) or _is_text(kind),
                    "numbers, timestamps or dates",
                ),
            }.get(role, (_is_id(kind), "whole numbers or text"))
            if not fits:
                refuse(DataError, name, f"{self._labels[role]} is of type {kind}", allowed)
        self.moments = "time" in kinds and _is_moment(kinds["time"])
        """True if times are timestamps or dates, or texts of dates once the first batch was read."""
        self._texts = {role for role in kinds if role in ("time", "value") and _is_text(kinds[role])}
        """Roles whose numbers or dates are written as texts, as in a text file."""

    def read(self, batch: pa.RecordBatch) -> None:
        """Pass a batch's rows to the collector."""
        columns = {role: batch.column(batch.schema.names.index(name)) for role, name in self._columns.items()}
        times = None
        values = None
        problems = dict[Role, dict[int, str]]()
        if "time" in columns:
            times, problems["time"] = self._numbers("time", columns["time"])
        if "value" in columns:
            values, problems["value"] = self._numbers("value", columns["value"])
        others = [name for name in self._others if self._collector.wants(name)]
        self._collector.take(
            self._name,
            RowBlock(
                lines=np.arange(self._row, self._row + batch.num_rows),
                users=Words(columns["user"], self._labels["user"]),
                items=Words(columns["item"], self._labels["item"]),
                time=times,
                value=values,
                problems=problems,
                others={
                    name: Words(_texts(batch.column(batch.schema.names.index(self._others[name]))))
                    for name in others
                },
            ),
        )
        self._row += batch.num_rows

    def _numbers(self, role: Role, column: pa.Array) -> tuple[Floats, dict[int, str]]:
        """Numeric values of a column, and problems by row."""
        if role in self._texts:
            return self._numbers_of_texts(role, column)
        if role == "time" and self.moments:
            numbers = _moment_seconds(column)
            largest = math.nextafter(LATEST, 0.0)
            allowed = "times from 1970 to 9999"
        else:
            numbers = _floats(column)
            collector = self._collector
            largest = collector.largest_time if role == "time" else collector.largest_value
            allowed = f"finite numbers from 0 to {largest:.7g}"
        fits = (numbers >= 0) & (numbers <= largest)
        if role == "time" and role not in self._collector.kind.needed:
            fits |= np.isnan(numbers)
        problems = {}
        for row in np.flatnonzero(~fits).tolist():
            shown = str(column[row]) if pa.types.is_timestamp(column.type) else str(column[row].as_py())
            problems[row] = f"{self._labels[role]} is {short(shown)}. Expected {allowed}"
        return numbers, problems

    def _numbers_of_texts(self, role: Role, column: pa.Array) -> tuple[Floats, dict[int, str]]:
        """Numbers of texts, read as in a text file."""
        texts = pc.fill_null(column.cast(pa.large_string()), "")
        largest = self._collector.largest_value
        if role == "time":
            if self._row == 1:
                kinds = [_kind_of(text.as_py()) for text in texts[:LOOKED_AT]]
                self.moments = kinds.count("iso") > kinds.count("number")
            largest = self._collector.largest_time
        label = self._labels[role]
        otherwise = _OR_DATES if role == "time" else ""
        is_present = np.ones(len(texts), bool)
        if role == "time" and role not in self._collector.kind.needed:
            words = pa.array(sorted(MISSING), texts.type)
            missing = pc.is_in(pc.ascii_trim_whitespace(texts), words)
            is_present = ~missing.to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(is_present)
        numbers = np.full(len(texts), np.nan)
        present = texts.take(pa.array(rows))
        if role == "time" and self.moments:
            numbers[rows], problems = moments_of(present, label)
        else:
            numbers[rows], problems = numbers_of(present, label, largest, otherwise)
        return numbers, {int(rows[row]): problem for row, problem in problems.items()}


def _value_kind(kind: pa.DataType) -> pa.DataType:
    """Type of a column's values, even if they are dictionary-encoded."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view")


def _is_id(kind: pa.DataType) -> bool:
    return bool(_is_text(kind) or pa.types.is_integer(kind))


def _is_moment(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _texts(column: pa.Array) -> pa.Array:
    """Texts of a column, as a text file has them."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    encoded = column.dictionary_encode()
    words = pa.array([plain_text(value) for value in encoded.dictionary.to_pylist()], pa.string())
    return words.take(encoded.indices)


def _floats(column: pa.Array) -> Floats:
    """Numeric values; NaN where a value is missing."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return np.asarray(column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False))


def _moment_seconds(column: pa.Array) -> Floats:
    """Seconds since 1970 of timestamps or dates; else NaN."""
    unit = column.type.unit if pa.types.is_timestamp(column.type) else "us"
    parts = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    if unit == "ns":
        column = pc.floor_temporal(column, unit="microsecond").cast(pa.timestamp("us"), safe=False)
        parts = 1e6
    numbers = column.cast(pa.int64()).cast(pa.float64(), safe=False)
    return np.asarray(numbers.fill_null(np.nan).to_numpy(zero_copy_only=False)) / parts
