"""Event files in Parquet, read batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rimsim.data.columns import resolve
from rimsim.data.rows import LARGEST_VALUE, LATEST, RowProblemError, identifier, short
from rimsim.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BytesIO
    from pathlib import Path

    from numpy.typing import NDArray

    from rimsim.data.collect import Collector
    from rimsim.data.columns import Columns, Positions
    from rimsim.data.ids import Vocabulary

__all__ = ["read_parquet", "table_of"]

BATCH_ROWS: Final = 2**18
"""Rows that are held at a time beside the events themselves."""


def opened(file: Path | BytesIO, name: str) -> pq.ParquetFile:
    """The file behind a name.

    Raises:
        DataError: If it is no Parquet, or damaged.
    """
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError, ValueError, RuntimeError) as broken:
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
        first row
            that cannot be read (unless the collector skips).
    """
    parquet = opened(file, name)
    schema = parquet.schema_arrow
    places = resolve(schema.names, columns, name)
    read = _readers(schema, places, name, collector)
    wanted = [places.names[place] for place in (places.user, places.item, places.time)]
    wanted += [places.names[places.value]] if places.value is not None else []
    row = 1
    try:
        for batch in parquet.iter_batches(batch_size=BATCH_ROWS, columns=wanted, use_threads=False):
            found = {name: batch.column(number) for number, name in enumerate(batch.schema.names)}
            _take(found, places, read, collector, name, row)
            row += batch.num_rows
    except (pa.ArrowException, OSError, ValueError, RuntimeError, KeyError) as broken:
        raise DataError(f"{name}: damaged or cut short ({_first_line(broken)})") from broken
    is_moment = pa.types.is_timestamp(schema.field(places.time).type) or pa.types.is_date(
        schema.field(places.time).type
    )
    return places, "iso" if is_moment else None


def _readers(schema: pa.Schema, places: Positions, name: str, collector: Collector) -> dict[str, Any]:
    def kind(place: int) -> pa.DataType:
        found = schema.field(place).type
        return found.value_type if pa.types.is_dictionary(found) else found

    for role, place in (("user", places.user), ("item", places.item)):
        if not (pa.types.is_integer(kind(place)) or _is_text(kind(place))):
            raise DataError(_wrong(name, places.names[place], kind(place), role, "whole numbers or text"))
    time = kind(places.time)
    if not (_is_number(time) or pa.types.is_timestamp(time) or pa.types.is_date(time)):
        raise DataError(_wrong(name, places.names[places.time], time, "time", "numbers, timestamps or dates"))
    if places.value is not None and not _is_number(kind(places.value)):
        raise DataError(_wrong(name, places.names[places.value], kind(places.value), "value", "numbers"))
    return {"moments": pa.types.is_timestamp(time) or pa.types.is_date(time), "collector": collector}


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view())


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _wrong(file: str, column: str, kind: pa.DataType, role: str, allowed: str) -> str:
    return f"{file}: column {column!r} for the {role} is of type {kind}; allowed: {allowed}"


def _take(
    batch: dict[str, pa.Array],
    places: Positions,
    read: dict[str, Any],
    collector: Collector,
    name: str,
    row: int,
) -> None:
    rows = len(batch[places.names[places.user]])
    good = np.ones(rows, bool)
    problems: dict[int, str] = {}

    def refuse(bad: NDArray[np.bool_], role: str, column: pa.Array, allowed: str) -> None:
        fresh = np.flatnonzero(bad & good)
        for place in fresh if collector.skip_bad_rows else fresh[:1]:
            problems[int(place)] = f"{role} is {short(str(column[int(place)].as_py()))}; allowed: {allowed}"
        good[fresh] = False

    ids = []
    for role, place in (("user", places.user), ("item", places.item)):
        column = batch[places.names[place]]
        ids.append(_Words(column))
        refuse(ids[-1].lacking, f"{role} (column {places.names[place]!r})", column, "any id")
    column = batch[places.names[places.time]]
    time = _seconds(column) if read["moments"] else _floats(column)
    largest = np.nextafter(LATEST, 0) if read["moments"] else collector.largest_time
    allowed = "times from 1970 to 9999" if read["moments"] else f"finite numbers from 0 to {largest:.7g}"
    refuse(
        ~((time >= 0) & (time <= largest)), f"time (column {places.names[places.time]!r})", column, allowed
    )
    value = np.ones(rows, np.float64)
    if places.value is not None:
        column = batch[places.names[places.value]]
        value = _floats(column)
        refuse(
            ~((value >= 0) & (value <= LARGEST_VALUE)),
            f"value (column {places.names[places.value]!r})",
            column,
            f"finite numbers from 0 to {LARGEST_VALUE:.7g}",
        )
    for place in sorted(problems):
        collector.bad(name, row + place, problems[place])
    user, item = ids
    collector.add(
        user.codes(good, collector.users),
        item.codes(good, collector.items),
        time[good] + 0.0,
        (value[good] + 0.0).astype(np.float32),
    )


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
    except (pa.ArrowException, OSError, ValueError, RuntimeError) as broken:
        raise DataError(f"{name}: damaged or cut short ({_first_line(broken)})") from broken
