"""Logs to disk, so that :func:`rimsim.data.load` gives them back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from rimsim.arrays import Floats
from rimsim.data.readers.rows import LATEST, MISSING, short
from rimsim.errors import DataError
from rimsim.system import draft_file, draft_folder

if TYPE_CHECKING:
    import pandas as pd

    from rimsim.data.log import EventLog


_SEPARATORS: Final = {".csv": ",", ".tsv": "\t"}


def write(log: EventLog, path: str | os.PathLike[str]) -> None:
    """Write a log to a file or a folder; either all of it is there afterwards, or nothing new is.

    A file (``.csv``, ``.tsv`` or ``.parquet``) holds the events: user, item, timestamp (seconds), value. A
    folder (any other name) holds ``events.parquet``, ``items.parquet`` and ``users.parquet``, so that titles,
    genres, years, release times and, read with ``min_item_events=0, min_user_events=0``, items and users
    without events come back too. Times from the year 5138 on come back only with ``time_unit="s"``.

    Args:
        log: The log.
        path: Where to; a file is replaced, a folder must not exist.

    Raises:
        DataError: If an id cannot be told from a missing one or breaks the line, or the path cannot be
            written.
    """
    target = Path(path)
    for name, table in (("user", log.users), ("item", log.items)):
        _check_ids(table, name)
    if len(log) and not (np.isfinite(log.time).all() and log.time[0] >= 0 and log.time[-1] < LATEST):
        raise DataError(f"{target}: times run beyond 1970 to 9999, so that they could not be read again")
    events = pa.table(
        {
            "user": pa.array(log.users["id"].to_numpy()[log.user], from_pandas=True),
            "item": pa.array(log.items["id"].to_numpy()[log.item], from_pandas=True),
            "timestamp": _seconds(log.time),
            "value": pa.array(log.value, pa.float32()),
        }
    )
    try:
        if target.suffix.lower() in (*_SEPARATORS, ".parquet"):
            with draft_file(target) as draft:
                _write_table(events, draft)
        elif target.exists():
            raise DataError(f"{target}: is there already; allowed: a new folder")
        else:
            with draft_folder(target, existing="refuse") as draft:
                tables = {"events": events, "items": _plain(log.items), "users": _plain(log.users)}
                for name, table in tables.items():
                    _write_table(table, draft / f"{name}.parquet")
    except OSError as broken:
        raise DataError(f"{target}: cannot be written ({broken.strerror or broken})") from broken


def _check_ids(table: pd.DataFrame, name: str) -> None:
    for key in table["id"].tolist():
        text = str(key)
        if text != text.strip() or text in MISSING or not {"\n", "\r", "\0"}.isdisjoint(text):
            raise DataError(
                f"{name} {short(text)} could not be read again; allowed: ids on one line, without spaces "
                f"around them, that do not mean missing"
            )


def _seconds(time: Floats) -> pa.Array:
    whole = bool((time == np.floor(time)).all())
    return pa.array(time.astype(np.int64) if whole else time)


def _plain(table: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(table, preserve_index=False)


def _write_table(table: pa.Table, file: Path) -> None:
    separator = _SEPARATORS.get(file.suffix.lower())
    if separator is None:
        pq.write_table(table, file, compression="zstd")
        return
    pa.csv.write_csv(table, file, pa.csv.WriteOptions(delimiter=separator))
