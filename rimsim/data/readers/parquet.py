"""Event files in Parquet, read batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rimsim.arrays import Floats
from rimsim.data.readers.columns import resolve
from rimsim.data.readers.ids import Words
from rimsim.data.readers.rows import LARGEST_VALUE, LATEST, short
from rimsim.errors import DataError

if TYPE_CHECKING:
    from rimsim.data.readers.collect import Collector
    from rimsim.data.readers.columns import Columns, Positions


_BROKEN: Final = (pa.ArrowException, OSError, ValueError, RuntimeError, KeyError, MemoryError, OverflowError)

BATCH_ROWS: Final = 2**18
"""Rows that are held at a time beside the events themselves."""


def opened(file: Path | BytesIO, name: str) -> pq.ParquetFile:
    """The file behind a name.

    Raises:
        DataError: If it is no Parquet, or damaged.
    """
    try:
        return pq.ParquetFile(file)
    except _BROKEN as broken:
        raise DataError(f"{name}: no readable Parquet ({_first_line(broken)})") from broken


def _first_line(broken: BaseException) -> str:
    return (str(broken).strip().splitlines() or [type(broken).__name__])[0][:160]


def read_parquet(
    file: Path | BytesIO, name: str, collector: Collector, columns: Columns | None = None
) -> tuple[Positions, str | None]:
    """Read a Parquet file of events into a collector.

    Args:
        file: A path or the bytes.
        name: How messages call it.
        collector: Takes the events and the bad rows.
        columns: Columns as the caller gave them, or None for the usual names.

    Returns:
        Where the roles stand, and ``"iso"`` if times are timestamps.

    Raises:
        DataError: If a column is missing or has a type that cannot be an id, a time or a value, or at the
            first row that cannot be read (unless the collector skips).
    """
    parquet = opened(file, name)
    schema = parquet.schema_arrow
    places = resolve(schema.names, columns, name)
    reader = _Reader(schema, places, name, collector)
    try:
        batches = parquet.iter_batches(batch_size=BATCH_ROWS, columns=reader.names, use_threads=False)
        for batch in batches:
            reader.read(batch)
    except _BROKEN as broken:
        raise DataError(f"{name}: damaged or cut short ({_first_line(broken)})") from broken
    return places, "iso" if reader.moments else None


class _Reader:
    """Reads batches of one file."""

    def __init__(self, schema: pa.Schema, places: Positions, name: str, collector: Collector) -> None:
        self._name = name
        self._collector = collector
        self._row = 1
        self._columns = dict(places.pairs())
        self._labels = {role: f"{role} (column {column!r})" for role, column in self._columns.items()}
        self._attributes = {
            attribute: places.names[place]
            for attribute, place in places.attributes
            if is_id(kind := value_kind(schema.field(place).type)) or is_number(kind)
        }
        self.names = [*self._columns.values(), *self._attributes.values()]
        """Columns to read."""
        kinds = {role: value_kind(schema.field(column).type) for role, column in self._columns.items()}
        require_kinds(kinds, self._labels, name)
        self.moments = is_moment(kinds["time"])
        """Whether times are timestamps or dates."""

    def read(self, batch: pa.RecordBatch) -> None:
        """Hand a batch to the collector, without the rows that cannot be read."""
        columns = {role: batch.column(batch.schema.names.index(name)) for role, name in self._columns.items()}
        users, items = (
            Words(columns["user"], self._labels["user"]),
            Words(columns["item"], self._labels["item"]),
        )
        if self.moments:
            times, latest = moment_seconds(columns["time"]), float(np.nextafter(LATEST, 0.0))
            allowed = "times from 1970 to 9999"
        else:
            times, latest = floats(columns["time"]), self._collector.largest_time
            allowed = f"finite numbers from 0 to {latest:.7g}"
        no_times = self._outside(times, latest, "time", columns["time"], allowed)
        values, no_values = np.ones(batch.num_rows), {}
        if "value" in columns:
            values, allowed = floats(columns["value"]), f"finite numbers from 0 to {LARGEST_VALUE:.7g}"
            no_values = self._outside(values, LARGEST_VALUE, "value", columns["value"], allowed)
        problems = (
            no_values | no_times | items.lacking | users.lacking
        )  # of several, the first column's is told
        for row in sorted(problems):
            self._collector.bad(self._name, self._row + row, problems[row])
        attributes = {
            attribute: Words(batch.column(batch.schema.names.index(name)))
            for attribute, name in self._attributes.items()
        }
        self._collector.take(users, items, times, values, attributes, without=problems)
        self._row += batch.num_rows

    def _outside(
        self, numbers: Floats, largest: float, role: str, column: pa.Array, allowed: str
    ) -> dict[int, str]:
        """Row → what is wrong with it, where a number is missing, negative or too large."""
        problems = {}
        for row in np.flatnonzero(~((numbers >= 0) & (numbers <= largest))).tolist():
            shown = str(column[row]) if pa.types.is_timestamp(column.type) else str(column[row].as_py())
            problems[row] = f"{self._labels[role]} is {short(shown)}; allowed: {allowed}"
        return problems


def value_kind(kind: pa.DataType) -> pa.DataType:
    """The type of the values of a column, which may be numbered words."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_id(kind: pa.DataType) -> bool:
    """Whether values of a type can be ids."""
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view"
    return bool(text or pa.types.is_integer(kind))


def is_moment(kind: pa.DataType) -> bool:
    """Whether a type is one of timestamps or dates."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def require_kinds(kinds: Mapping[str, pa.DataType], labels: Mapping[str, str], name: str) -> None:
    """Refuse columns of a file, by role, whose types of values cannot be what they are read for.

    Raises:
        DataError: If there is one.
    """
    for role, kind in kinds.items():
        fits, allowed = {
            "value": (is_number(kind), "numbers"),
            "time": (is_number(kind) or is_moment(kind), "numbers, timestamps or dates"),
        }.get(role, (is_id(kind), "whole numbers or text"))
        if not fits:
            raise DataError(f"{name}: {labels[role]} is of type {kind}; allowed: {allowed}")


def is_number(kind: pa.DataType) -> bool:
    """Whether a type is one of numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def floats(column: pa.Array) -> Floats:
    """(n,) the numbers of a column; NaN where there is none."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return np.asarray(column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False))


def moment_seconds(column: pa.Array) -> Floats:
    """(n,) the seconds since 1970 of a column of timestamps or dates; NaN where there are none."""
    unit = column.type.unit if pa.types.is_timestamp(column.type) else "us"
    parts = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    if unit == "ns":
        column, parts = (
            pc.floor_temporal(column, unit="microsecond").cast(pa.timestamp("us"), safe=False),
            1e6,
        )
    numbers = column.cast(pa.int64()).cast(pa.float64(), safe=False)
    return np.asarray(numbers.fill_null(np.nan).to_numpy(zero_copy_only=False)) / parts


def table_of(file: Path | BytesIO, name: str) -> pa.Table:
    """A whole small table, such as a catalogue."""
    try:
        return opened(file, name).read(use_threads=False)
    except _BROKEN as broken:
        raise DataError(f"{name}: damaged or cut short ({_first_line(broken)})") from broken
