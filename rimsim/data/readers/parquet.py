"""Tables in Parquet, read batch by batch."""

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
from rimsim.data.readers.columns import ColumnPlaces, ColumnRoles, Role, resolve
from rimsim.data.readers.delimited import Reading
from rimsim.data.readers.events import Collector, RowBlock
from rimsim.data.readers.values import LATEST, Words, short
from rimsim.errors import DataError, raised_as, refuse

_BROKEN: Final = (pa.ArrowException, OSError, ValueError, RuntimeError, KeyError, MemoryError, OverflowError)
_DAMAGED = "damaged or cut short"

BATCH_ROWS: Final = 2**18
"""Rows that are held at a time in addition to the events themselves."""


def opened(file: Path | BytesIO, name: str) -> pq.ParquetFile:
    """Parquet file of a name.

    Raises:
        DataError: If it is no Parquet, or damaged.
    """
    with raised_as(DataError, name, "no readable Parquet", _BROKEN, 160):
        return pq.ParquetFile(file)


def table_of(file: Path | BytesIO, name: str) -> pa.Table:
    """Whole small table, such as a catalogue."""
    with raised_as(DataError, name, _DAMAGED, _BROKEN, 160):
        return opened(file, name).read(use_threads=False)


def read_parquet(file: Path | BytesIO, name: str, collector: Collector, roles: ColumnRoles) -> Reading:
    """Read a Parquet file into a collector.

    Raises:
        DataError: If a column is missing or has a type that cannot be an id, a time or a value, or at the first row
            that cannot be read (unless the collector skips).
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
        self._name, self._collector = name, collector
        self._row = 1
        self._columns = dict(places.pairs())
        self._labels = places.labels()
        self._attributes = {
            attribute: places.names[place]
            for attribute, place in places.attributes.items()
            if _is_id(kind := _value_kind(schema.field(place).type)) or _is_number(kind)
        }
        self.names = [*self._columns.values(), *self._attributes.values()]
        """Columns to read."""
        kinds = {role: _value_kind(schema.field(column).type) for role, column in self._columns.items()}
        for role, kind in kinds.items():
            fits, allowed = {
                "value": (_is_number(kind), "numbers"),
                "time": (_is_number(kind) or _is_moment(kind), "numbers, timestamps or dates"),
            }.get(role, (_is_id(kind), "whole numbers or text"))
            if not fits:
                refuse(DataError, name, f"{self._labels[role]} is of type {kind}", allowed)
        self.moments = "time" in kinds and _is_moment(kinds["time"])
        """True if times are timestamps or dates."""

    def read(self, batch: pa.RecordBatch) -> None:
        """Hand a batch's rows to the collector."""
        columns = {role: batch.column(batch.schema.names.index(name)) for role, name in self._columns.items()}
        times, values, problems = None, None, dict[Role, dict[int, str]]()
        if "time" in columns:
            times, problems["time"] = self._numbers("time", columns["time"])
        if "value" in columns:
            values, problems["value"] = self._numbers("value", columns["value"])
        texts = {name: batch.schema.names.index(text) for name, text in self._attributes.items()}
        self._collector.take(
            self._name,
            RowBlock(
                lines=np.arange(self._row, self._row + batch.num_rows),
                users=Words(columns["user"], self._labels["user"]),
                items=Words(columns["item"], self._labels["item"]),
                time=times,
                value=values,
                problems=problems,
                attributes={name: Words(batch.column(place)) for name, place in texts.items()},
            ),
        )
        self._row += batch.num_rows

    def _numbers(self, role: Role, column: pa.Array) -> tuple[Floats, dict[int, str]]:
        """Numbers of a column, and row → problem."""
        if role == "time" and self.moments:
            numbers, largest = _moment_seconds(column), math.nextafter(LATEST, 0.0)
            allowed = "times from 1970 to 9999"
        else:
            numbers, collector = _floats(column), self._collector
            largest = collector.largest_time if role == "time" else collector.largest_value
            allowed = f"finite numbers from 0 to {largest:.7g}"
        fits = (numbers >= 0) & (numbers <= largest)
        if role == "time" and role not in self._collector.kind.needed:
            fits |= np.isnan(numbers)
        problems = {}
        for row in np.flatnonzero(~fits).tolist():
            shown = str(column[row]) if pa.types.is_timestamp(column.type) else str(column[row].as_py())
            problems[row] = f"{self._labels[role]} is {short(shown)}; allowed: {allowed}"
        return numbers, problems


def _value_kind(kind: pa.DataType) -> pa.DataType:
    """Type of a column's values, which may be numbered words."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_id(kind: pa.DataType) -> bool:
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view"
    return bool(text or pa.types.is_integer(kind))


def _is_moment(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _floats(column: pa.Array) -> Floats:
    """Numbers of a column; NaN where there is none."""
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
