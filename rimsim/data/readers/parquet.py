"""Event files in Parquet, read batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rimsim.data.readers.columns import resolve
from rimsim.data.readers.rows import LARGEST_VALUE, LATEST, RowProblemError, identifier, short
from rimsim.errors import DataError

if TYPE_CHECKING:
    from io import BytesIO
    from pathlib import Path

    from numpy.typing import NDArray

    from rimsim.data.readers.collect import Collector
    from rimsim.data.readers.columns import Columns, Positions
    from rimsim.data.readers.ids import Vocabulary

__all__ = ["read_parquet", "table_of"]

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
            if _is_id(kind := _kind(schema.field(place).type)) or _is_number(kind)
        }
        self.names = [*self._columns.values(), *self._attributes.values()]
        """Columns to read."""
        kinds = {role: _kind(schema.field(column).type) for role, column in self._columns.items()}
        self.moments = bool(pa.types.is_timestamp(kinds["time"]) or pa.types.is_date(kinds["time"]))
        """Whether times are timestamps or dates."""
        for role, fits, allowed in (
            ("user", _is_id, "whole numbers or text"),
            ("item", _is_id, "whole numbers or text"),
            ("time", lambda kind: self.moments or _is_number(kind), "numbers, timestamps or dates"),
            ("value", _is_number, "numbers"),
        ):
            if role in kinds and not fits(kinds[role]):
                raise DataError(f"{name}: {self._labels[role]} is of type {kinds[role]}; allowed: {allowed}")

    def read(self, batch: pa.RecordBatch) -> None:
        """Hand a batch to the collector, without the rows that cannot be read."""
        collector = self._collector
        columns = {role: batch.column(batch.schema.names.index(name)) for role, name in self._columns.items()}
        good = _Good(batch.num_rows, every=collector.skip_bad_rows)
        user, item = _Words(columns["user"]), _Words(columns["item"])
        good.refuse(user.lacking, self._labels["user"], columns["user"], "any id")
        good.refuse(item.lacking, self._labels["item"], columns["item"], "any id")
        if self.moments:
            time, latest = _seconds(columns["time"]), float(np.nextafter(LATEST, 0.0))
            allowed = "times from 1970 to 9999"
        else:
            time, latest = _floats(columns["time"]), collector.largest_time
            allowed = f"finite numbers from 0 to {latest:.7g}"
        good.refuse(~((time >= 0) & (time <= latest)), self._labels["time"], columns["time"], allowed)
        value = np.ones(batch.num_rows)
        if "value" in columns:
            value = _floats(columns["value"])
            outside = ~((value >= 0) & (value <= LARGEST_VALUE))
            allowed = f"finite numbers from 0 to {LARGEST_VALUE:.7g}"
            good.refuse(outside, self._labels["value"], columns["value"], allowed)
        for place in sorted(good.problems):
            collector.bad(self._name, self._row + place, good.problems[place])
        rows = good.rows
        items = item.codes(rows, collector.items)
        for attribute, name in self._attributes.items():
            texts = _Words(batch.column(batch.schema.names.index(name)))
            collector.learn(attribute, items, *texts.texts(rows))
        collector.add(
            user.codes(rows, collector.users),
            items,
            time[rows] + 0.0,  # -0 becomes 0
            (value[rows] + 0.0).astype(np.float32),
        )
        self._row += batch.num_rows


class _Good:
    """Which rows of a batch are good, and what is wrong with the others (or with the first one)."""

    def __init__(self, rows: int, *, every: bool) -> None:
        self.rows: NDArray[np.bool_] = np.ones(rows, bool)
        self.problems: dict[int, str] = {}
        self._every = every

    def refuse(self, bad: NDArray[np.bool_], label: str, column: pa.Array, allowed: str) -> None:
        """Take rows out, unless they are out already."""
        fresh = np.flatnonzero(bad & self.rows)
        for place in fresh.tolist() if self._every else fresh[:1].tolist():
            found = column[place].as_py() if not pa.types.is_timestamp(column.type) else str(column[place])
            self.problems[place] = f"{label} is {short(str(found))}; allowed: {allowed}"
        self.rows[fresh] = False


def _kind(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_id(kind: pa.DataType) -> bool:
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view"
    return bool(text or pa.types.is_integer(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


class _Words:
    """A column of ids: distinct texts, and for each row which of them."""

    def __init__(self, column: pa.Array) -> None:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        encoded = column.dictionary_encode()
        self._places = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        self._words: list[str] = []
        missing = np.zeros(len(encoded.dictionary) + 1, bool)
        missing[-1] = True  # where a null points
        for number, word in enumerate(encoded.dictionary.to_pylist()):
            try:
                self._words.append(identifier(str(word), ""))
            except RowProblemError:
                self._words.append("")
                missing[number] = True
        self.lacking: NDArray[np.bool_] = missing[self._places]

    def codes(self, rows: NDArray[np.bool_], vocabulary: Vocabulary) -> NDArray[np.int32]:
        """Codes of some of the rows; only their ids become known."""
        used, place = np.unique(self._places[rows], return_inverse=True)
        return vocabulary.codes(self._words[number] for number in used.tolist())[place]

    def texts(self, rows: NDArray[np.bool_]) -> tuple[NDArray[np.int64], list[str]]:
        """Positions of some of the rows in a list of texts, in which a missing one is empty."""
        return self._places[rows] % (len(self._words) + 1), [*self._words, ""]


def _floats(column: pa.Array) -> NDArray[np.float64]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return np.asarray(column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False))


def _seconds(column: pa.Array) -> NDArray[np.float64]:
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
