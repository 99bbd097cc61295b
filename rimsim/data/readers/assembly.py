"""Log of selected events, with tables of users and items."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pandas as pd

from rimsim.arrays import Array, Bools, Floats, Ints, Ints32
from rimsim.config import LogOptions
from rimsim.data.log import ITEM_COLUMNS, EventLog
from rimsim.data.readers import values
from rimsim.data.readers.events import RawEvents
from rimsim.data.readers.item_columns import TAKEN
from rimsim.errors import DataError


def assemble(
    events: RawEvents,
    options: LogOptions,
    users: pd.DataFrame | None = None,
    items: pd.DataFrame | None = None,
) -> EventLog:
    """Log of selected events, with tables of users and items.

    Args:
        events: Events that were read.
        options: Selection.
        users: Attributes of users, one row per ``id``; rows of users without events are kept only if
            ``min_user_events`` is 0.
        items: Attributes of items in the same form: ``id``, and if known ``title``, ``genres``, ``year``, ``release``
            or ``released`` (which is used only if the options ask for years), and other attributes.

    Raises:
        DataError: If no event is left; the message says which step removed the last event.
    """
    chosen = _selected(events, options)
    user_ids, user = _renumbered(events.user_ids, chosen.user, users, keep_all=options.min_user_events == 0)
    item_ids, item = _renumbered(events.item_ids, chosen.item, items, keep_all=options.min_item_events == 0)
    order = _order(user * len(item_ids) + item, chosen.time, chosen.value)
    user = user[order]
    item = item[order]
    time = chosen.time[order]
    value = chosen.value[order]
    item_table = _items(item_ids, items)
    item_table["release"] = _release(item_table, item, time, options.release)
    return EventLog(
        user=user,
        item=item,
        time=time,
        value=value.astype(np.float32, copy=False),
        users=_attributes(user_ids, users),
        items=item_table[[*ITEM_COLUMNS, *(name for name in item_table if name not in TAKEN)]],
    )


def _selected(events: RawEvents, options: LogOptions) -> RawEvents:
    """Events that the options of the log select."""
    remaining = events
    if options.min_value is not None:
        min_value = np.float32(options.min_value)
        remaining = selected(
            remaining, remaining.value >= min_value, f"min_value={options.min_value:g}", events
        )
    if (start := values.epoch_seconds(options.start, "start")) is not None:
        remaining = selected(remaining, remaining.time >= start, f"start={_date(start)}", events)
    if (stop := values.epoch_seconds(options.stop, "stop")) is not None:
        remaining = selected(remaining, remaining.time < stop, f"stop={_date(stop)}", events)
    thresholds = f"min_item_events={options.min_item_events} with min_user_events={options.min_user_events}"
    before = -1
    while len(remaining.user) != before:
        before = len(remaining.user)
        if options.min_item_events > 1:
            enough = np.bincount(remaining.item) >= options.min_item_events
            remaining = selected(remaining, enough[remaining.item], thresholds, events)
        if options.min_user_events > 1:
            enough = np.bincount(remaining.user) >= options.min_user_events
            remaining = selected(remaining, enough[remaining.user], thresholds, events)
    return remaining


def selected(events: RawEvents, rows: Bools, step: str, source: RawEvents) -> RawEvents:
    """Events of the chosen rows; at least one must remain.

    If no event remains, the message names the ``step`` that removed the last event, and the range of the ``source``.

    Raises:
        DataError: If no event is left.
    """
    if rows.all():
        return events
    if not rows.any():
        raise DataError(
            f"{events.source}: {step} removes all of its {len(source.user):,} events. {_range(source)}"
        )
    columns = {name: getattr(events, name)[rows] for name in ("user", "item", "time", "value")}
    return dataclasses.replace(events, **columns)


def _range(events: RawEvents) -> str:
    most_item = np.bincount(events.item).max()
    most_user = np.bincount(events.user).max()
    return (
        f"Values run from {events.value.min():g} to {events.value.max():g}, "
        f"times from {_date(events.time.min())} to {_date(events.time.max())}, "
        f"and an item has up to {most_item:,} events, a user up to {most_user:,}"
    )


def _date(seconds: float) -> str:
    try:
        return f"{dt.datetime.fromtimestamp(float(seconds), dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} s"


def _renumbered(
    ids: values.Ids, codes: Ints32, table: pd.DataFrame | None, *, keep_all: bool
) -> tuple[values.Ids, Ints]:
    """Sorted ids in use, and each event's position among them."""
    used = np.full(len(ids), keep_all)
    used[codes] = True
    used_ids: values.Ids = ids[used]
    if keep_all and table is not None:
        id_texts = {str(key) for key in ids.tolist()}
        extra = [key for key in table["id"].tolist() if str(key) not in id_texts]
        if extra and {type(key) for key in extra} != {type(key) for key in ids.tolist()}:
            used_ids = np.array([str(key) for key in used_ids.tolist()] + [str(key) for key in extra], object)
        elif extra:
            used_ids = np.concatenate([used_ids, np.array(extra, used_ids.dtype)])
    ordered, rank = values.ranked(used_ids)
    row = np.full(len(ids), -1, np.int64)
    row[used] = rank[: int(used.sum())]
    return ordered, row[codes]


def _order(pair: Ints, time: Floats, value: Array) -> Ints:
    """Positions that sort events by time, user, item and value."""
    low = time.min()
    high = time.max()
    pairs = int(pair.max()) + 1
    if (high - low + 1) * pairs < 2.0**62 and bool((time == np.floor(time)).all()):
        # Time and pair fit into one whole number, which is much faster to sort than two keys.
        order = np.argsort((time - low).astype(np.int64) * pairs + pair)
    else:
        order = np.lexsort((pair, time))
    twice = (time[order[1:]] == time[order[:-1]]) & (pair[order[1:]] == pair[order[:-1]])
    return np.lexsort((value, pair, time)) if twice.any() else order


def _attributes(ids: values.Ids, table: pd.DataFrame | None) -> pd.DataFrame:
    """Attributes of the given ids, with the columns of ``table``."""
    frame = pd.DataFrame({"id": pd.Series(list(ids) if ids.dtype == object else ids)})
    if table is None or not len(table):
        return frame
    position = values.places_among(ids, table["id"].tolist())
    attributes = table.drop(columns="id").reset_index(drop=True).reindex(position).reset_index(drop=True)
    return pd.concat([frame, attributes], axis=1)


def _items(ids: values.Ids, table: pd.DataFrame | None) -> pd.DataFrame:
    """Table of items with all standard columns."""
    frame = _attributes(ids, table)
    for column in ("title", "genres"):
        frame[column] = frame[column].fillna("").astype("str") if column in frame else ""
    frame["year"] = (
        frame["year"].astype("Int64") if "year" in frame else pd.array([pd.NA] * len(frame), "Int64")
    )
    for column in frame.columns.difference([*TAKEN], sort=False):
        if not pd.api.types.is_numeric_dtype(frame[column]):
            frame[column] = frame[column].fillna("").astype("str")
    return frame


def _release(items: pd.DataFrame, item: Ints, time: Floats, rule: str) -> Floats:
    """(M,) release times; 0 if unknown or not used."""
    # Unless the rule is "given", an item is released at its first event at the latest.
    if rule == "given":
        if "release" in items:
            return np.asarray(items["release"].fillna(0.0), np.float64)
        return np.zeros(len(items))
    first = np.full(len(items), np.inf)
    np.minimum.at(first, item, time)
    if rule == "first-event":
        return np.where(np.isfinite(first), first, 0.0)
    if "released" in items:
        stated = items["released"].to_numpy(np.float64, na_value=np.nan)
    else:
        years = items["year"].to_numpy(np.float64, na_value=np.nan)
        stated = np.array([_new_year(year) for year in years], np.float64)
    is_stated = np.isfinite(stated)
    release: Floats = np.where(is_stated, np.minimum(stated, first), 0.0)
    return release


def _new_year(year: float) -> float:
    # NaN fails this comparison too. Films from before 1970 are always available.
    if not 1970 <= year <= 9999:
        return 0.0
    return dt.datetime(int(year), 1, 1, tzinfo=dt.UTC).timestamp()
