"""Tables of events in Parquet files."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rimsim.arrays import Floats
from rimsim.data.readers.answers import answer_columns, answer_texts
from rimsim.data.readers.columns import ANSWER_ROLES, ColumnPlaces, ColumnRoles, Role, resolve
from rimsim.data.readers.events import Collector, RowBlock
from rimsim.data.readers.item_columns import plain_text
from rimsim.data.readers.lines import moments_of, numbers_of
from rimsim.data.readers.reading import Reading
from rimsim.data.readers.values import (
    LATEST,
    MISSING,
    OR_DATES,
    SAMPLED_TIMES,
    TimeKind,
    Words,
    kind_of_time,
    short,
)
from rimsim.errors import DataError, raised_as, refuse

_BROKEN: Final = (pa.ArrowException, OSError, ValueError, RuntimeError, KeyError, MemoryError, OverflowError)
_DAMAGED = "the file is damaged or incomplete"

BATCH_ROWS: Final = 2**18
"""Number of rows that are read at once; they bound the memory that reading needs besides the events."""

REPEATABLE: Final = b"rimsim.repeatable"
"""Key of the schema's metadata under which a written log says whether users may take items again."""


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
    rule = (schema.metadata or {}).get(REPEATABLE)
    is_repeatable = None if rule is None else rule == b"true"
    times: TimeKind = "iso" if reader.moments else "number"
    return Reading("Parquet", places.pairs(), times, is_repeatable=is_repeatable)


class _BatchReader:
    """Reader of the batches of one file."""

    def __init__(self, schema: pa.Schema, places: ColumnPlaces, name: str, collector: Collector) -> None:
        self._name = name
        self._collector = collector
        self._row = 1  # number of the next row in the file
        self._columns = dict(places.pairs())
        self._labels = places.labels()
        types = {column: schema.field(place).type for column, place in places.other_columns.items()}
        collector.nested |= {column: str(kind) for column, kind in types.items() if pa.types.is_nested(kind)}
        self._others = {
            name: schema.names[place]
            for name, place in places.other_columns.items()
            if name not in collector.nested
        }
        """Name without spaces around it → name in the file."""
        quantity = collector.quantity_column(places)
        self._quantity = None if quantity in collector.nested else quantity
        self.names = [*self._columns.values(), *self._others.values()]
        """Columns to read."""
        kinds = {role: _value_kind(schema.field(column).type) for role, column in self._columns.items()}
        for role, kind in kinds.items():
            if role == "value":
                fits = _is_number(kind) or _is_text(kind)
                allowed = "numbers"
            elif role == "time":
                fits = _is_number(kind) or _is_moment(kind) or _is_text(kind)
                allowed = "numbers, timestamps or dates"
            elif role in ANSWER_ROLES:
                fits = _is_number(kind) or _is_text(kind) or pa.types.is_boolean(kind)
                allowed = "numbers, true and false, or text"
            else:
                fits = _is_id(kind)
                allowed = "whole numbers or text"
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
        answers = answer_columns(answer_texts(columns), self._labels, problems)
        wanted_columns = [name for name in self._others if self._collector.wants(name)]
        self._collector.take(
            self._name,
            RowBlock(
                lines=np.arange(self._row, self._row + batch.num_rows),
                users=Words(columns["user"], self._labels["user"]),
                items=Words(columns["item"], self._labels["item"]),
                time=times,
                value=values,
                problems=problems,
                answers=answers,
                other_columns={
                    name: Words(_texts(batch.column(batch.schema.names.index(self._others[name]))))
                    for name in wanted_columns
                },
                quantities=self._quantities(batch),
            ),
        )
        self._row += batch.num_rows

    def _quantities(self, batch: pa.RecordBatch) -> Words | None:
        """Quantity of each row; None without such a column."""
        if self._quantity is None:
            return None
        names = [name.strip() for name in batch.schema.names]
        return Words(_texts(batch.column(names.index(self._quantity))))

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
        if role == "time" and role not in self._collector.kind.needed:  # times are optional
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
            if self._row == 1:  # the first batch decides whether the file writes times as dates
                kinds = [kind_of_time(text.as_py()) for text in texts[:SAMPLED_TIMES]]
                self.moments = kinds.count("iso") > kinds.count("number")
            largest = self._collector.largest_time
        label = self._labels[role]
        otherwise = OR_DATES if role == "time" else ""
        is_present = np.ones(len(texts), bool)
        if role == "time" and role not in self._collector.kind.needed:
            missing_texts = pa.array(sorted(MISSING), texts.type)
            is_missing = pc.is_in(pc.ascii_trim_whitespace(texts), missing_texts)
            is_present = ~is_missing.to_numpy(zero_copy_only=False)
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
    units_per_second = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    if unit == "ns":  # microseconds are exact in a float of 64 bits, and nanoseconds are not
        column = pc.floor_temporal(column, unit="microsecond").cast(pa.timestamp("us"), safe=False)
        units_per_second = 1e6
    numbers = column.cast(pa.int64()).cast(pa.float64(), safe=False)
    return np.asarray(numbers.fill_null(np.nan).to_numpy(zero_copy_only=False)) / units_per_second
