"""From events as they were read to an :class:`EventLog`: selection, tables, order."""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim.arrays import Bools, Float32s, Floats, Ints, Ints32
from rimsim.data.log import EventLog
from rimsim.data.readers.ids import places_among
from rimsim.data.readers.rows import epoch_seconds
from rimsim.errors import DataError

if TYPE_CHECKING:
    from rimsim.config import LogOptions
    from rimsim.data.readers.ids import Ids


@dataclass(frozen=True, eq=False)
class RawEvents:
    """n events in any order, with users and items as codes into unsorted lists of distinct ids."""

    source: str
    """What was read, for messages."""
    user: Ints32
    """(n,) position in ``user_ids``."""
    item: Ints32
    """(n,) position in ``item_ids``."""
    time: Floats
    """(n,) seconds since the epoch."""
    value: Float32s
    """(n,) logged values."""
    user_ids: Ids
    """Distinct ids: int64, or Python strings."""
    item_ids: Ids
    """Distinct ids: int64, or Python strings."""


def assemble(
    events: RawEvents,
    options: LogOptions,
    users: pd.DataFrame | None = None,
    items: pd.DataFrame | None = None,
) -> EventLog:
    """Make the log: select, number users and items by their sorted ids, sort by (time, user, item, value).

    Args:
        events: What was read.
        options: What to keep of it.
        users: Attributes of users, one row an ``id``; rows of users without events are kept only if
            ``min_user_events`` is 0.
        items: Attributes of items, likewise: ``id``, ``title``, ``genres``, ``year``, and ``release`` or
            ``released`` where known (the latter counts only where the options ask for years).

    Raises:
        DataError: If nothing is left; the message says which step took the last event.
    """
    chosen = _selected(events, options)
    user_ids, user = _renumbered(events.user_ids, chosen.user, users, keep_all=options.min_user_events == 0)
    item_ids, item = _renumbered(events.item_ids, chosen.item, items, keep_all=options.min_item_events == 0)
    order = _order(user * len(item_ids) + item, chosen.time, chosen.value)
    user, item, time, value = user[order], item[order], chosen.time[order], chosen.value[order]
    item_table = _items(item_ids, items)
    item_table["release"] = _release(item_table, item, time, options.release)
    return EventLog(
        user=user,
        item=item,
        time=time,
        value=value,
        users=_attributes(user_ids, users),
        items=item_table[["id", "title", "genres", "year", "release"]],
    )


def _selected(events: RawEvents, options: LogOptions) -> RawEvents:
    if not len(events.user):
        raise DataError(f"{events.source}: no events; a log needs at least one row of data")
    left = events
    if options.min_value is not None:
        least = np.float32(options.min_value)
        left = kept(left, left.value >= least, f"min_value={options.min_value:g}", events)
    if (start := epoch_seconds(options.start, "start")) is not None:
        left = kept(left, left.time >= start, f"start={_date(start)}", events)
    if (stop := epoch_seconds(options.stop, "stop")) is not None:
        left = kept(left, left.time < stop, f"stop={_date(stop)}", events)
    both = f"min_item_events={options.min_item_events} with min_user_events={options.min_user_events}"
    before = -1
    while len(left.user) != before:
        before = len(left.user)
        if options.min_item_events > 1:
            enough = np.bincount(left.item) >= options.min_item_events
            left = kept(left, enough[left.item], both, events)
        if options.min_user_events > 1:
            enough = np.bincount(left.user) >= options.min_user_events
            left = kept(left, enough[left.user], both, events)
    return left


def kept(events: RawEvents, rows: Bools, step: str, source: RawEvents) -> RawEvents:
    """Some of the events.

    Args:
        events: What is left so far.
        rows: (n,) which of them stay.
        step: What takes the others, for the message.
        source: What there was at first, for the message.

    Raises:
        DataError: If none stays.
    """
    if rows.all():
        return events
    if not rows.any():
        raise DataError(
            f"{events.source}: {step} leaves none of {len(source.user):,} events; {_range(source)}"
        )
    return dataclasses.replace(
        events,
        user=events.user[rows],
        item=events.item[rows],
        time=events.time[rows],
        value=events.value[rows],
    )


def _range(events: RawEvents) -> str:
    most_item, most_user = np.bincount(events.item).max(), np.bincount(events.user).max()
    return (
        f"values run from {events.value.min():g} to {events.value.max():g}, "
        f"times from {_date(events.time.min())} to {_date(events.time.max())}, "
        f"an item has up to {most_item:,} events, a user up to {most_user:,}"
    )


def _date(seconds: float) -> str:
    try:
        return f"{dt.datetime.fromtimestamp(float(seconds), dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} s"


def _renumbered(ids: Ids, codes: Ints32, table: pd.DataFrame | None, *, keep_all: bool) -> tuple[Ids, Ints]:
    """The sorted ids in use and the events' rows in them."""
    used = np.zeros(len(ids), bool)
    used[codes] = True
    if keep_all:
        used[:] = True
    kept: Ids = ids[used]
    if keep_all and table is not None:
        known = {str(key) for key in ids.tolist()}
        extra = [key for key in table["id"].tolist() if str(key) not in known]
        if extra and {type(key) for key in extra} != {type(key) for key in ids.tolist()}:
            kept = np.array([str(key) for key in kept.tolist()] + [str(key) for key in extra], object)
        elif extra:
            kept = np.concatenate([kept, np.array(extra, kept.dtype)])
    order = np.argsort(kept, kind="stable")
    row = np.full(len(ids), -1, np.int64)
    position = np.empty(len(kept), np.int64)
    position[order] = np.arange(len(kept))
    row[used] = position[: int(used.sum())]
    return kept[order], row[codes]


def _order(pair: Ints, time: Floats, value: Float32s) -> Ints:
    """Sorting positions by time, then by (user, item), which ``pair`` numbers, then by value."""
    order = _by_time_and(pair, time)
    twice = (time[order[1:]] == time[order[:-1]]) & (pair[order[1:]] == pair[order[:-1]])
    return np.lexsort((value, pair, time)) if twice.any() else order


def _by_time_and(pair: Ints, time: Floats) -> Ints:
    """Sorting positions by time, then by pair; by one number where both fit into it, which is much faster."""
    if not len(time):
        return np.empty(0, np.int64)
    low, high, pairs = time.min(), time.max(), int(pair.max()) + 1
    if (high - low + 1) * pairs < 2.0**62 and bool((time == np.floor(time)).all()):
        return np.argsort((time - low).astype(np.int64) * pairs + pair)
    return np.lexsort((pair, time))


def _attributes(ids: Ids, table: pd.DataFrame | None) -> pd.DataFrame:
    """One row an id, in order, with the columns of ``table`` where it has a row for the id."""
    frame = pd.DataFrame({"id": pd.Series(list(ids) if ids.dtype == object else ids)})
    if table is None or not len(table):
        return frame
    position = places_among(ids, table["id"].tolist())
    others = table.drop(columns="id").reset_index(drop=True).reindex(position).reset_index(drop=True)
    return pd.concat([frame, others], axis=1)


def _items(ids: Ids, table: pd.DataFrame | None) -> pd.DataFrame:
    frame = _attributes(ids, table)
    for column in ("title", "genres"):
        frame[column] = frame[column].fillna("").astype("str") if column in frame else ""
    frame["year"] = (
        frame["year"].astype("Int64") if "year" in frame else pd.array([pd.NA] * len(frame), "Int64")
    )
    return frame


def _release(items: pd.DataFrame, item: Ints, time: Floats, rule: str) -> Floats:
    """(M,) release times: never later than the item's first event, and 0 where nothing is known or asked."""
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
    known = np.isfinite(stated)
    release: Floats = np.where(known, np.minimum(stated, first), 0.0)
    return release


def _new_year(year: float) -> float:
    if not 1970 <= year <= 9999:  # also false for NaN; films older than the epoch are always there
        return 0.0
    return dt.datetime(int(year), 1, 1, tzinfo=dt.UTC).timestamp()
