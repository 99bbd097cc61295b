"""Rows read from files, and the log made from rows."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np
import pandas as pd

from rimsim.arrays import Array, Bools, Float32s, Floats, Ints, Ints32
from rimsim.config import LogOptions
from rimsim.data.log import ITEM_COLUMNS, BadRow, EventLog
from rimsim.data.readers import values
from rimsim.data.readers.columns import EVENTS, Role, TableKind
from rimsim.data.readers.item_columns import TAKEN, ItemColumn, item_column
from rimsim.data.readers.swapped import ValuesOfColumn
from rimsim.errors import DataError, refuse

_MIXED: Final = 0.01
"""A log is refused if a larger share of its times seem to be in another unit than the rest."""
BAD_ROWS_SHOWN: Final = 10
"""Bad rows that a report shows."""
_BOUNDS: Final[tuple[tuple[values.Unit, float], ...]] = (
    ("s", 1e11),
    ("ms", 1e14),
    ("us", 1e17),
    ("ns", np.inf),
)
"""Unit and the first number that is too large for it: seconds reach 1e11 in the year 5138, milliseconds 1e14, …"""
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class RawEvents:
    """n events in any order, with ids as numbers."""

    source: str
    """Source, for messages."""
    user: Ints32
    """(n,) position in ``user_ids``."""
    item: Ints32
    """(n,) position in ``item_ids``."""
    time: Floats
    """(n,) seconds since 1970; NaN where unknown."""
    value: Float32s | Floats
    """(n,) logged or observed values."""
    user_ids: values.Ids
    """Distinct ids: int64, or Python strings."""
    item_ids: values.Ids
    """Distinct ids: int64, or Python strings."""


@dataclass(frozen=True, eq=False)
class RowBlock:
    """n rows of a file, and problems of bad rows."""

    lines: Ints
    """(n,) line of each row in its text file, or its number in a Parquet file, from 1."""
    users: values.Words
    items: values.Words
    time: Floats | None
    """(n,) times in the file's unit; NaN where unknown. None: all are unknown."""
    value: Floats | None
    """(n,) values. None: 1 throughout."""
    problems: Mapping[Role, Mapping[int, str]] = field(default_factory=dict)
    """Role → row → problem, in addition to those of users and items."""
    other_columns: Mapping[str, values.Words] = field(default_factory=dict)
    """Column without a role → its n texts, which may describe the items."""
    uncut: Mapping[int, str] = field(default_factory=dict)
    """Line → problem, of lines that could not be split into the fields of a row."""


@dataclass(eq=False)
class Collector:
    """Growing table of rows, with times in the file's unit."""

    kind: TableKind
    unit: values.Unit | None = None
    skip_bad_rows: bool = False
    largest_value: float = values.LARGEST_VALUE
    items: values.Vocabulary = field(default_factory=values.Vocabulary, init=False)
    rows: int = field(default=0, init=False)
    backwards: int = field(default=0, init=False)
    skipped: int = field(default=0, init=False)
    bad_rows: list[BadRow] = field(default_factory=list, init=False)
    other_columns: dict[str, ItemColumn] = field(default_factory=dict, init=False)
    """Column without a role → its texts, item by item."""
    nested: dict[str, str] = field(default_factory=dict, init=False)
    """Name of a column of lists or records, which is not read → its type."""
    values_of: dict[str, ValuesOfColumn] = field(default_factory=dict, init=False)
    """Column with titles, genres or years → its values by user and by item."""

    def __post_init__(self) -> None:
        self._users = values.Vocabulary()
        self._parts: list[tuple[Ints32, Ints32, Floats, Float32s | Floats]] = []
        self._last = -np.inf
        self._votes = dict.fromkeys((unit for unit, _ in _BOUNDS), 0)
        self._latest = 0.0

    @property
    def largest_time(self) -> float:
        """Largest number that can be a time."""
        return math.nextafter(values.LATEST * values.UNITS[self.unit or "ns"], 0.0)

    def take(self, name: str, block: RowBlock) -> None:
        """Collect the rows of a block, and report bad rows.

        Raises:
            DataError: At the first bad row of the file ``name``, unless bad rows are skipped.
        """
        problems_of_role = {**block.problems, "user": block.users.problems, "item": block.items.problems}
        problems: dict[int, str] = {}
        for role in reversed(self.kind.roles):
            problems |= problems_of_role.get(role, {})
        bad = {**block.uncut, **{int(block.lines[row]): problem for row, problem in problems.items()}}
        all_are_bad = len(bad) > 1 and len(bad) >= len(block.lines)
        for line in sorted(bad):
            self.bad(name, line, bad[line], skippable=not all_are_bad)
        rows = np.ones(len(block.lines), bool)
        rows[list(problems)] = False
        if not rows.any():
            return
        user = block.users.codes(rows, self._users)
        item = block.items.codes(rows, self.items)
        # Adding 0 turns -0 into 0, so that equal logs have equal bytes.
        time = np.full(len(user), np.nan) if block.time is None else block.time[rows] + 0.0
        value = np.ones(len(user)) if block.value is None else block.value[rows] + 0.0
        self._parts.append((user, item, time, value.astype(self.kind.value_type)))
        for column_name, texts in block.other_columns.items():
            column = self.other_columns[column_name]
            word, words = texts.texts(rows)
            column.take(item, word, words)
            # Only titles, genres and years surely describe items; a column such as a country may describe users.
            if not column.must_agree:
                self.values_of.setdefault(column_name, ValuesOfColumn()).take(user, item, word, words)
        self.rows += len(user)
        self.backwards += int((np.diff(time, prepend=self._last) < 0).sum())
        self._last = float(time[-1])
        self._latest = float(np.fmax.reduce(time, initial=self._latest))
        low = 0
        for unit, bound in _BOUNDS:
            below = int((time < bound).sum())
            self._votes[unit] += below - low
            low = below

    def wants(self, column: str) -> bool:
        """True if the texts of another column are still needed."""
        return not self.other_columns.setdefault(column, item_column(column)).is_closed

    def bad(self, file: str, line: int, problem: str, *, skippable: bool = True) -> None:
        """Report a row that cannot be read.

        Raises:
            DataError: If bad rows are not to be skipped.
        """
        row = BadRow(file, line, problem)
        if not self.skip_bad_rows:
            skip = ". To leave bad rows out, set skip_bad_rows (--skip-bad-rows)"
            raise DataError(f"{row}{skip if self.kind is EVENTS and skippable else ''}")
        self.skipped += 1
        if len(self.bad_rows) < BAD_ROWS_SHOWN:
            self.bad_rows.append(row)

    def likely_unit(self) -> values.Unit:
        """Time unit that fits most times; seconds if in doubt."""
        return max(self._votes, key=lambda unit: self._votes[unit])

    def require_one_unit(self, source: str) -> None:
        """Refuse times in two units, unless the unit was given.

        Raises:
            DataError: If more than a hundredth of the times fit a different unit than most times.
        """
        if self.unit is not None or self.skip_bad_rows:
            return
        by_votes = sorted(self._votes.items(), key=lambda vote: -vote[1])
        (unit, n_times), (second_unit, n_second_times) = by_votes[:2]
        if n_second_times > _MIXED * (n_times + n_second_times):
            raise DataError(
                f"{source}: {n_times:,} time values look like {unit} since 1970, but {n_second_times:,} look like "
                f"{second_unit}. Write all times in one unit, or name the unit: data.time_unit={unit} "
                f"(--time-unit {unit})"
            )

    def beyond(self, unit: values.Unit) -> bool:
        """True if a time is after the year 9999."""
        return self._latest >= values.LATEST * values.UNITS[unit]

    def events(self, source: str, unit: values.Unit) -> RawEvents:
        """Collected rows; the collector is empty afterwards."""
        if not self.rows:
            first = f"; the first of {self.skipped:,} bad rows: {self.bad_rows[0]}" if self.bad_rows else ""
            raise DataError(
                f"{source}: it has no {self.kind.rows}. A {self.kind.table} needs at least one row of "
                f"data{first}"
            )
        user = np.empty(self.rows, np.int32)
        item = np.empty(self.rows, np.int32)
        time = np.empty(self.rows, np.float64)
        value = np.empty(self.rows, self.kind.value_type)
        at = 0
        self._parts.reverse()
        # Each block is freed once it is copied, so that memory does not hold the log twice.
        while self._parts:
            part = self._parts.pop()
            span = slice(at, at + len(part[0]))
            user[span], item[span], time[span], value[span] = part
            at = span.stop
        time = values.in_seconds(time, unit)
        user_ids = values.canonical(self._users.texts())
        item_ids = values.canonical(self.items.texts())
        return RawEvents(source, user, item, time, value, user_ids, item_ids)


def collected(
    read: Callable[[Collector], T], collector: Collector, source: str
) -> tuple[Collector, values.Unit, T]:
    """Collector after reading, the unit of times, and ``read``'s result.

    If a time is beyond the calendar, the source is read again to find its row.
    """
    result = read(collector)
    collector.require_one_unit(source)
    unit = collector.unit or collector.likely_unit()
    if collector.beyond(unit):
        collector = dataclasses.replace(collector, unit=unit)
        result = read(collector)
    return collector, unit, result


def written_dates(source: str, time: Floats) -> Floats | None:
    """Times in seconds, from numbers that mean dates, like 20150131.

    If dates such as 20150131 were read as seconds, all would be in two weeks of August 1970, and nothing would show the
    mistake. By chance, only one number of this size in twenty-five looks like a date. So most times look like dates
    only if they are dates.

    Raises:
        DataError: If most times are dates, but not all.
    """
    if ((time >= 19_700_101) & (time < 21_000_101)).sum() * 2 <= len(time):
        return None
    day = np.floor(time) % 100
    month = np.floor(time / 100) % 100
    year = np.floor(time / 10_000)
    fits = (time == np.floor(time)) & (year >= 1970) & (year < 2100) & (month >= 1) & (month <= 12)
    months = np.where(fits, (year - 1970) * 12 + month - 1, 0).astype(np.int64)
    first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    after = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    fits &= (day >= 1) & (day <= after - first)
    if not fits.all():
        if fits.sum() * 2 <= len(time):
            return None
        problem = (
            f"{fits.sum():,} times are dates such as {time[fits][0]:.0f}, but {(~fits).sum():,} are not, "
            f"such as {time[~fits][0]:.0f}"
        )
        refuse(
            DataError, source, problem, "times of one kind. To read all times as seconds, set time_unit='s'"
        )
    seconds: Floats = (first + day - 1) * 86_400.0
    return seconds


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
    # An item is released by its first event at the latest, unless the rule is "given".
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
    if not 1970 <= year <= 9999:  # false for NaN; films from before 1970 are always available
        return 0.0
    return dt.datetime(int(year), 1, 1, tzinfo=dt.UTC).timestamp()
