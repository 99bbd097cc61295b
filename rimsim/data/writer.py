"""Writing of logs in formats that :func:`rimsim.data.load` reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from rimsim.arrays import Floats, Ints
from rimsim.data.impressions import LoggedImpressions
from rimsim.data.log import EventLog
from rimsim.data.readers.parquet import REPEATABLE
from rimsim.data.readers.values import LATEST, MISSING, short
from rimsim.data.repeats import repeated_share
from rimsim.errors import DataError, raised_as, refuse
from rimsim.system import draft_file, draft_folder

_SEPARATORS: Final = {".csv": ",", ".tsv": "\t"}
"""Ending of a text file → its separator."""


def write(log: EventLog, path: str | os.PathLike[str]) -> None:
    """Write a log to a file or a folder.

    A file (``.csv``, ``.tsv`` or ``.parquet``) holds the events: user, item, timestamp (seconds), value. A log with
    impressions has a row per impression, with further columns such as taken and position. A
    folder (any other name) holds ``events.parquet``, ``items.parquet`` and ``users.parquet``, so that titles, genres,
    years and times of release and end are kept. Parquet also keeps whether users may take items again. Items and users
    without events are kept if the folder is read with ``min_item_events=0, min_user_events=0``. Times from the year
    5138 on need ``time_unit="s"``.

    Args:
        log: Log to write.
        path: Target; a file is replaced, a folder must not exist.

    Raises:
        DataError: If an id looks like a missing id or contains a line break, or the path cannot be written.
    """
    target = Path(path)
    _check_ids(log.users, "user")
    _check_ids(log.items, "item")
    if log.impressions is not None:
        _check_ids(pd.DataFrame({"id": log.impressions.visitors}), "user")
    if len(log) and not (np.isfinite(log.time).all() and log.time[0] >= 0 and log.time[-1] < LATEST):
        raise DataError(
            f"{target}: the log has times outside the years 1970 to 9999, which rimsim could not read back from a file"
        )
    events = _events_table(log) if log.impressions is None else _impressions_table(log, log.impressions)
    # A reader of a log without repeats assumes the rule that items are not taken again, so the file need not say it.
    if log.repeatable or repeated_share(log) > 0:
        events = events.replace_schema_metadata({REPEATABLE: str(log.repeatable).lower()})
    with raised_as(DataError, target, "cannot be written"):
        if target.suffix.lower() in (*_SEPARATORS, ".parquet"):
            with draft_file(target) as draft:
                _write_table(events, draft)
        elif target.exists():
            refuse(DataError, str(target), "this folder exists already", "a new folder")
        else:
            with draft_folder(target, existing="refuse") as draft:
                _write_table(events, draft / "events.parquet")
                items = log.items.drop(columns="end", errors="ignore")
                if np.isfinite(log.end).any():
                    # A missing time means that the item does not end.
                    items = items.assign(end=np.where(np.isfinite(log.end), log.end, np.nan))
                for name, frame in (("items", items), ("users", log.users)):
                    table = pa.Table.from_pandas(frame, preserve_index=False)
                    _write_table(table, draft / f"{name}.parquet")


def _events_table(log: EventLog) -> pa.Table:
    """Table of events: user, item, timestamp and value."""
    return pa.table(
        {
            "user": pa.array(log.users["id"].to_numpy()[log.user], from_pandas=True),
            "item": pa.array(log.items["id"].to_numpy()[log.item], from_pandas=True),
            "timestamp": _times(log.time),
            "value": pa.array(log.value, pa.float32()),
        }
    )


def _times(time: Floats) -> pa.Array:
    """Times in seconds, as whole numbers where possible."""
    has_whole_times = bool((time == np.floor(time)).all())
    return pa.array(time.astype(np.int64) if has_whole_times else time)


def _impressions_table(log: EventLog, impressions: LoggedImpressions) -> pa.Table:
    """Table of all impressions, and of organic events."""
    event = _event_of(log, impressions)
    organic = np.setdiff1d(np.arange(len(log)), event)
    n_organic = len(organic)
    visitor_ids = pd.Series(impressions.visitors[impressions.visitor])
    user_ids = pd.concat([visitor_ids, pd.Series(log.users["id"].to_numpy()[log.user[organic]])])
    value = np.ones(len(impressions), np.float32)
    value[event >= 0] = log.value[event[event >= 0]]
    columns = {
        "user": pa.array(user_ids, from_pandas=True),
        "item": pa.array(
            log.items["id"].to_numpy()[np.concatenate([impressions.item, log.item[organic]])],
            from_pandas=True,
        ),
        "timestamp": _times(np.concatenate([impressions.time, log.time[organic]])),
        "value": pa.array(np.concatenate([value, log.value[organic]]), pa.float32()),
        "taken": pa.array(np.append(impressions.taken, np.ones(n_organic, bool)).astype(np.int8)),
        "shown": pa.array(np.repeat([1, 0], [len(impressions), n_organic]).astype(np.int8)),
    }
    if impressions.position is not None:
        columns["position"] = pa.array(
            [place or None for place in impressions.position.tolist()] + [None] * n_organic, pa.int64()
        )
    if impressions.policy is not None:
        policies = [impressions.policies[code] if code >= 0 else None for code in impressions.policy.tolist()]
        columns["policy"] = pa.array(policies + [None] * n_organic, pa.string())
    if impressions.propensity is not None:
        columns["propensity"] = pa.array(np.append(impressions.propensity, np.full(n_organic, np.nan)))
    return pa.table(columns)


def _event_of(log: EventLog, impressions: LoggedImpressions) -> Ints:
    """(m,) event of each taken impression; −1 for the others."""
    keys = ["time", "user", "item"]
    events = pd.DataFrame({key: getattr(log, key) for key in keys})
    taken = np.flatnonzero(impressions.taken)
    shown = pd.DataFrame({key: getattr(impressions, key)[taken] for key in keys})
    # A user may take an item several times at one time, so equal events are numbered.
    numbered = [frame.assign(number=frame.groupby(keys).cumcount()) for frame in (events, shown)]
    numbered[0]["event"] = np.arange(len(log))
    event = np.full(len(impressions), -1, np.int64)
    matched = numbered[1].merge(numbered[0], "left", [*keys, "number"])["event"]
    event[taken] = matched.fillna(-1).to_numpy(np.int64)
    return event


def _check_ids(table: pd.DataFrame, name: str) -> None:
    """Refuse ids that a reader of the file would change."""
    for key in table["id"].tolist():
        text = str(key)
        if text != text.strip() or text in MISSING or not {"\n", "\r", "\0"}.isdisjoint(text):
            allowed = "an id on one line, without spaces around it, other than nan and the like"
            raise DataError(f"{name} id {short(text)} would change on reading the file. Expected {allowed}")


def _write_table(table: pa.Table, file: Path) -> None:
    """Write a table in the format of the file's ending."""
    separator = _SEPARATORS.get(file.suffix.lower())
    if separator is None:
        pq.write_table(table, file, compression="zstd")
        return
    pa.csv.write_csv(table, file, pa.csv.WriteOptions(delimiter=separator))
