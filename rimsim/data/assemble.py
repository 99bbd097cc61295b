"""From events as they were read to an :class:`EventLog`: selection, tables, order."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rimsim.data.log import EventLog
from rimsim.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.data.options import Selection

__all__ = ["RawEvents", "assemble"]

Ids = np.ndarray[tuple[int], np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class RawEvents:
    """n events in any order, with users and items as codes into unsorted lists of distinct ids."""

    source: str
    """What was read, for messages."""
    user: NDArray[np.int32]
    """(n,) position in ``user_ids``."""
    item: NDArray[np.int32]
    """(n,) position in ``item_ids``."""
    time: NDArray[np.float64]
    """(n,) seconds since the epoch."""
    value: NDArray[np.float32]
    """(n,) logged values."""
    user_ids: Ids
    """Distinct ids: int64, or Python strings."""
    item_ids: Ids
    """Distinct ids: int64, or Python strings."""


def assemble(
    events: RawEvents,
    selection: Selection,
    users: pd.DataFrame | None = None,
    items: pd.DataFrame | None = None,
) -> EventLog:
    """Make the log: select, number users and items by their sorted ids, sort events by (time, user, item, value).

    Args:
        events: What was read.
        selection: What to keep of it.
        users: Attributes of users, one row an ``id``; rows of unknown users are kept only if
        ``min_user_events`` is 0. items: Attributes of items, likewise: ``id``, ``title``, ``genres``,
        ``year``, and ``released`` where known.

    Raises:
        DataError: If nothing is left; the message says which step took the last event.
    """
    user, item, time, value = _selected(events, selection)
    user_ids, user = _renumbered(events.user_ids, user, users, keep_all=selection.min_user_events == 0)
    item_ids, item = _renumbered(events.item_ids, item, items, keep_all=selection.min_item_events == 0)
    order = _order(user, item, time, value, len(item_ids))
    user, item, time, value = user[order], item[order], time[order], value[order]
    item_table = _items(item_ids, items)
    item_table["release"] = _release(item_table, item, time, selection.release)
    return EventLog(
        user=user,
        item=item,
        time=time,
        value=value,
        users=_attributes(user_ids, users),
        items=item_table[["id", "title", "genres", "year", "release"]],
    )


def _selected(
    events: RawEvents, selection: Selection
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64], NDArray[np.float32]]:
    user, item, time, value = events.user, events.item, events.time, events.value
    if not len(user):
        raise DataError(f"{events.source}: no events; a log needs at least one row of data")

    def keep(rows: NDArray[np.bool_], step: str) -> None:
        nonlocal user, item, time, value
        if rows.all():
            return
        if not rows.any():
            raise DataError(f"{events.source}: {step} leaves none of {len(rows):,} events; {_range(events)}")
        user, item, time, value = user[rows], item[rows], time[rows], value[rows]

    if selection.min_value is not None:
        keep(value >= np.float32(selection.min_value), f"min_value={selection.min_value:g}")
    if selection.start is not None:
        keep(time >= selection.start, f"start={_date(selection.start)}")
    if selection.stop is not None:
        keep(time < selection.stop, f"stop={_date(selection.stop)}")
    least_item, least_user = selection.min_item_events, selection.min_user_events
    while True:
        before = len(user)
        if least_item > 1:
            enough = np.bincount(item, minlength=len(events.item_ids)) >= least_item
            keep(enough[item], f"min_item_events={least_item} (with min_user_events={least_user})")
        if least_user > 1:
            enough = np.bincount(user, minlength=len(events.user_ids)) >= least_user
            keep(enough[user], f"min_user_events={least_user} (with min_item_events={least_item})")
        if len(user) == before:
            return user, item, time, value


def _range(events: RawEvents) -> str:
    return (
        f"values run from {events.value.min():g} to {events.value.max():g}, "
        f"times from {_date(events.time.min())} to {_date(events.time.max())}, "
        f"events per item reach {np.bincount(events.item).max():,}, per user {np.bincount(events.user).max():,}"
    )


def _date(seconds: float) -> str:
    try:
        return f"{dt.datetime.fromtimestamp(float(seconds), dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} s"


def _renumbered(
    ids: Ids, codes: NDArray[np.int32], table: pd.DataFrame | None, *, keep_all: bool
) -> tuple[Ids, NDArray[np.int64]]:
    """The sorted ids in use and the events' rows in them."""
    used = np.zeros(len(ids), bool)
    used[codes] = True
    if keep_all:
        used[:] = True
    kept: Ids = ids[used]
    if keep_all and table is not None:
        known = set(ids.tolist())
        extra = [key for key in table["id"].tolist() if key not in known]
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


def _order(
    user: NDArray[np.int64],
    item: NDArray[np.int64],
    time: NDArray[np.float64],
    value: NDArray[np.float32],
    n: int,
) -> NDArray[np.int64]:
    """Sorting positions by (time, user, item), and by value where all three are equal."""
    pair = user * n + item
    order = np.lexsort((pair, time))
    twice = (time[order[1:]] == time[order[:-1]]) & (pair[order[1:]] == pair[order[:-1]])
    return np.lexsort((value, pair, time)) if twice.any() else order


def _attributes(ids: Ids, table: pd.DataFrame | None) -> pd.DataFrame:
    """One row an id, in order, with the columns of ``table`` where it has a row for the id."""
    found = pd.DataFrame({"id": pd.Series(list(ids) if ids.dtype == object else ids)})
    if table is None or not len(table):
        return found
    rows = {str(key): number for number, key in enumerate(table["id"].tolist())}
    position = np.array([rows.get(str(key), -1) for key in ids.tolist()], np.int64)
    others = table.drop(columns="id").reset_index(drop=True).reindex(position).reset_index(drop=True)
    return pd.concat([found, others], axis=1)


def _items(ids: Ids, table: pd.DataFrame | None) -> pd.DataFrame:
    found = _attributes(ids, table)
    for column in ("title", "genres"):
        found[column] = found[column].fillna("").astype("str") if column in found else ""
    found["year"] = (
        found["year"].astype("Int64") if "year" in found else pd.array([pd.NA] * len(found), "Int64")
    )
    return found


def _release(
    items: pd.DataFrame, item: NDArray[np.int64], time: NDArray[np.float64], rule: str
) -> NDArray[np.float64]:
    """(M,) release times: never later than the item's first event, and 0 where nothing is known or asked."""
    if rule == "given":
        if "release" in items:
            return items["release"].fillna(0.0).to_numpy(np.float64)
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
    return np.maximum(np.nan_to_num(np.fmin(stated, np.where(np.isnan(stated), 0.0, first)), nan=0.0), 0.0)


def _new_year(year: float) -> float:
    if not 1970 <= year <= 9999:  # also false for NaN; films older than the epoch are always there
        return 0.0
    return dt.datetime(int(year), 1, 1, tzinfo=dt.UTC).timestamp()
