"""Log of selected events, with tables of users and items."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pandas as pd

from rimsim.arrays import Array, Bools, Floats, Ints, Ints32
from rimsim.config import LogOptions
from rimsim.config.fields import duration_seconds
from rimsim.data.impressions import LoggedImpressions
from rimsim.data.log import ITEM_COLUMNS, EventLog
from rimsim.data.readers import values
from rimsim.data.readers.events import RawAnswers, RawEvents
from rimsim.data.readers.item_columns import TAKEN
from rimsim.data.repeats import first_rows
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
        items: Attributes of items in the same form: ``id``, and if known ``title``, ``genres``, ``year``, ``end``,
            ``release`` or ``released`` (which is used only if the options ask for years), and other attributes.

    Raises:
        DataError: If no event is left; the message says which step removed the last event.
    """
    rows = events
    if rows.answers is not None:
        consumed = selected(rows, rows.answers.taken, "leaving out items that were shown and not taken", rows)
        events = dataclasses.replace(consumed, answers=None)
    chosen = _selected(events, options)
    user_ids, user_rows = _renumbered(
        events.user_ids, chosen.user, users, keep_all=options.min_user_events == 0
    )
    item_ids, item_rows = _renumbered(
        events.item_ids, chosen.item, items, keep_all=options.min_item_events == 0
    )
    user = user_rows[chosen.user]
    item = item_rows[chosen.item]
    order = _order(user * len(item_ids) + item, chosen.time, chosen.value)
    user = user[order]
    item = item[order]
    time = chosen.time[order]
    value = chosen.value[order]
    item_table = _items(item_ids, items)
    item_table["release"] = _release(item_table, item, time, options.release)
    item_table["end"] = _end(item_table, item, time, options)
    return EventLog(
        user=user,
        item=item,
        time=time,
        value=value.astype(np.float32, copy=False),
        users=_attributes(user_ids, users),
        items=item_table[[*ITEM_COLUMNS, *(name for name in item_table if name not in TAKEN)]],
        impressions=impressions_of(rows, options, user_rows, item_rows),
    )


def impressions_of(
    rows: RawEvents, options: LogOptions, user_rows: Ints, item_rows: Ints
) -> LoggedImpressions | None:
    """Impressions that the options select; None without answers.

    Users without events stay, because a log of users who took something would have too many taken items. Only
    ``min_user_events`` from 2 on leaves them out. An impression whose value is below ``min_value`` was not taken, as
    its event falls out.

    Args:
        rows: All rows, in any order.
        options: Selection.
        user_rows: Row in the table of users for each user id; −1 without.
        item_rows: Row in the table of items for each item id; −1 without.
    """
    answers = rows.answers
    if answers is None:
        return None
    is_selected = answers.shown.copy()
    if (start := values.epoch_seconds(options.start, "start")) is not None:
        is_selected &= rows.time >= start
    if (stop := values.epoch_seconds(options.stop, "stop")) is not None:
        is_selected &= rows.time < stop
    if options.min_user_events > 1:
        is_selected &= user_rows[rows.user] >= 0
    is_inside = item_rows[rows.item] >= 0
    chosen = np.flatnonzero(is_selected & is_inside)
    outside = np.flatnonzero(is_selected & ~is_inside)
    is_taken = answers.taken
    if options.min_value is not None:
        is_taken = is_taken & (rows.value >= np.float32(options.min_value))
    taken = is_taken[chosen]
    codes, visitor = np.unique(rows.user[chosen], return_inverse=True)
    visitors, rank = values.ranked(rows.user_ids[codes])
    visitor = rank[visitor]
    policies, policy = _policies(answers, chosen)
    order = np.lexsort((taken, item_rows[rows.item[chosen]], visitor, rows.time[chosen]))
    impressions = LoggedImpressions(
        visitor=visitor,
        visitors=visitors,
        user=user_rows[rows.user[chosen]],
        item=item_rows[rows.item[chosen]],
        time=rows.time[chosen],
        taken=taken,
        position=_positions(answers, chosen),
        policy=policy,
        policies=policies,
        propensity=None if answers.propensity is None else answers.propensity[chosen],
        n_outside=len(outside),
        n_taken_outside=int(is_taken[outside].sum()),
        outside_of_policy=_outside_of_policy(answers, policies, outside, is_taken),
    )
    return impressions.rows(order)


def _positions(answers: RawAnswers, chosen: Ints) -> Ints | None:
    """Positions from 1, 0 where unknown."""
    if answers.position is None:
        return None
    # A log that shows an item at position 0 counts from 0. An event without an impression may have any placeholder.
    first = 0.0 if (answers.position[answers.shown] == 0).any() else 1.0
    return np.nan_to_num(answers.position[chosen] - first + 1.0).astype(np.int64)


def _policies(answers: RawAnswers, chosen: Ints) -> tuple[tuple[str, ...], Ints | None]:
    """Sorted names of policies, and the policy of each impression."""
    if answers.policy is None:
        return (), None
    codes = answers.policy[chosen].astype(np.int64)
    used = np.unique(codes[codes >= 0])
    names = values.canonical([answers.policies[code] for code in used.tolist()])
    sorted_names, rank = values.ranked(names)
    row_of_code = np.full(len(answers.policies) + 1, -1, np.int64)
    row_of_code[used] = rank
    return tuple(str(name) for name in sorted_names.tolist()), row_of_code[codes]


def _outside_of_policy(
    answers: RawAnswers, policies: tuple[str, ...], outside: Ints, is_taken: Bools
) -> tuple[tuple[int, int], ...]:
    """Numbers of shown and taken rows for each policy."""
    if answers.policy is None or not len(outside):
        return ()
    codes = answers.policy[outside]
    counts = []
    for name in policies:
        is_of_policy = codes == answers.policies.index(name)
        counts.append((int(is_of_policy.sum()), int((is_of_policy & is_taken[outside]).sum())))
    return tuple(counts)


def _selected(events: RawEvents, options: LogOptions) -> RawEvents:
    """Events that the options of the log select."""
    remaining_events = events
    if options.min_value is not None:
        min_value = np.float32(options.min_value)
        remaining_events = selected(
            remaining_events, remaining_events.value >= min_value, f"min_value={options.min_value:g}", events
        )
    if (start := values.epoch_seconds(options.start, "start")) is not None:
        remaining_events = selected(
            remaining_events, remaining_events.time >= start, f"start={_date(start)}", events
        )
    if (stop := values.epoch_seconds(options.stop, "stop")) is not None:
        remaining_events = selected(
            remaining_events, remaining_events.time < stop, f"stop={_date(stop)}", events
        )
    if options.repeats == "drop":
        pair = remaining_events.user.astype(np.int64) * len(remaining_events.item_ids) + remaining_events.item
        is_first = first_rows(pair, remaining_events.time, remaining_events.value)
        remaining_events = selected(remaining_events, is_first, "repeats=drop", events)
    thresholds = f"min_item_events={options.min_item_events} with min_user_events={options.min_user_events}"
    # Without rare items, a user may have too few events, and the reverse. So both limits apply until nothing changes.
    n_before = -1
    while len(remaining_events.user) != n_before:
        n_before = len(remaining_events.user)
        if options.min_item_events > 1:
            enough = np.bincount(remaining_events.item) >= options.min_item_events
            remaining_events = selected(remaining_events, enough[remaining_events.item], thresholds, events)
        if options.min_user_events > 1:
            enough = np.bincount(remaining_events.user) >= options.min_user_events
            remaining_events = selected(remaining_events, enough[remaining_events.user], thresholds, events)
    return remaining_events


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
    """Sentence on ranges of values, times and numbers of events."""
    most_item = np.bincount(events.item).max()
    most_user = np.bincount(events.user).max()
    return (
        f"Values run from {events.value.min():g} to {events.value.max():g}, "
        f"times from {_date(events.time.min())} to {_date(events.time.max())}, "
        f"and an item has up to {most_item:,} events, a user up to {most_user:,}"
    )


def _date(seconds: float) -> str:
    """Date of a time; beyond the calendar, its seconds."""
    try:
        return f"{dt.datetime.fromtimestamp(float(seconds), dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} s"


def _renumbered(
    ids: values.Ids, codes: Ints32, table: pd.DataFrame | None, *, keep_all: bool
) -> tuple[values.Ids, Ints]:
    """Sorted ids in use, and each id's position or −1.

    Ids of events are in use. With ``keep_all``, so are all other ids, and those of the table.
    """
    is_used = np.full(len(ids), keep_all)
    is_used[codes] = True
    used_ids: values.Ids = ids[is_used]
    if keep_all and table is not None:
        id_texts = {str(key) for key in ids.tolist()}
        table_ids = [key for key in table["id"].tolist() if str(key) not in id_texts]
        if table_ids and {type(key) for key in table_ids} != {type(key) for key in ids.tolist()}:
            # Numbers and texts have no common order, so all ids become texts.
            used_ids = np.array([str(key) for key in (*used_ids.tolist(), *table_ids)], object)
        elif table_ids:
            used_ids = np.concatenate([used_ids, np.array(table_ids, used_ids.dtype)])
    sorted_ids, rank = values.ranked(used_ids)
    position = np.full(len(ids), -1, np.int64)
    # `rank` begins with the ids of the events; those of the table alone follow.
    position[is_used] = rank[: int(is_used.sum())]
    return sorted_ids, position


def _order(pair: Ints, time: Floats, value: Array) -> Ints:
    """Positions that sort events by time, user, item and value."""
    first_time = time.min()
    last_time = time.max()
    n_pairs = int(pair.max()) + 1
    if (last_time - first_time + 1) * n_pairs < 2.0**62 and bool((time == np.floor(time)).all()):
        # Time and pair fit into one whole number, which is much faster to sort than two keys.
        order = np.argsort((time - first_time).astype(np.int64) * n_pairs + pair)
    else:
        order = np.lexsort((pair, time))
    # Values matter only where a pair has several events at the same time, which is rare.
    is_repeated = (time[order[1:]] == time[order[:-1]]) & (pair[order[1:]] == pair[order[:-1]])
    return np.lexsort((value, pair, time)) if is_repeated.any() else order


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
    first_event = np.full(len(items), np.inf)
    np.minimum.at(first_event, item, time)
    if rule == "first-event":
        return np.where(np.isfinite(first_event), first_event, 0.0)
    if "released" in items:
        given_release = items["released"].to_numpy(np.float64, na_value=np.nan)
    else:
        years = items["year"].to_numpy(np.float64, na_value=np.nan)
        given_release = np.array([_new_year(year) for year in years], np.float64)
    is_given = np.isfinite(given_release)
    release: Floats = np.where(is_given, np.minimum(given_release, first_event), 0.0)
    return release


def _end(items: pd.DataFrame, item: Ints, time: Floats, options: LogOptions) -> Floats:
    """(M,) end times; ∞ for items that do not end."""
    if options.end == "given":
        if "end" not in items:
            return np.full(len(items), np.inf)
        return np.asarray(items["end"].fillna(np.inf), np.float64)
    if options.end == "life":
        release = items["release"].to_numpy(np.float64)
        return np.where(release > 0, release + duration_seconds(str(options.life)), np.inf)
    last_event = np.full(len(items), -np.inf)
    np.maximum.at(last_event, item, time)
    # The end is exclusive, so the item is still on offer at its last event.
    return np.where(np.isfinite(last_event), last_event + 1.0, np.inf)


def _new_year(year: float) -> float:
    """First second of a year since 1970; 0 if unknown."""
    # NaN fails this comparison too. Films from before 1970 are always available.
    if not 1970 <= year <= 9999:
        return 0.0
    return dt.datetime(int(year), 1, 1, tzinfo=dt.UTC).timestamp()
