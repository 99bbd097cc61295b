"""Reading of logs from names, folders, zips and files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, TypeAlias, TypedDict, Unpack

import numpy as np

from rimsim.config import LogOptions
from rimsim.config.reading import record_from
from rimsim.data.downloads import Entry, catalogue, data_folder, downloaded
from rimsim.data.log import EventLog, n_values
from rimsim.data.made_up import NEWS, made_up_container
from rimsim.data.read_report import ReadReport
from rimsim.data.readers import containers
from rimsim.data.readers.assembly import assemble, selected
from rimsim.data.readers.attributes import read_tables
from rimsim.data.readers.columns import USUAL, ColumnRoles, Columns, first_of
from rimsim.data.readers.delimited import TextForm
from rimsim.data.readers.events import Collector, RawEvents, collected, written_dates
from rimsim.data.readers.layouts import LogLayout, find_log, log_in_parts, read_events
from rimsim.data.readers.reading import Reading
from rimsim.data.readers.values import UNITS, Unit
from rimsim.data.repeats import Repeats, repeated_share, rule_of
from rimsim.data.session_logs import LogSource, shown_name, source_name, stored_container
from rimsim.data.suspicions import suspicions_of
from rimsim.entry_points import places
from rimsim.errors import ConfigError, DataError, many, nearest
from rimsim.user_code import imported

EMBEDDED: Final = "ml-latest-small"
"""Name of the embedded log that is read by default."""


TimeUnit: TypeAlias = Literal["auto", "s", "ms", "us", "ns", "min", "h", "d"]
"""Unit of numeric times; ``auto``: found in the log."""


class LogSelection(TypedDict, total=False):
    """Options of :func:`load`: fields of :class:`rimsim.config.LogOptions`."""

    separator: str | None
    encoding: str | None
    min_item_events: int
    min_user_events: int
    min_value: float | None
    start: float | str | None
    stop: float | str | None
    release: Literal["given", "first-event", "year"]
    end: Literal["given", "last-event", "life"]
    life: str | None
    skip_bad_rows: bool
    drop_returns: bool
    repeats: Literal["auto", "drop", "history", "consume"]


def load(
    source: LogSource = EMBEDDED,
    *,
    columns: Columns | str | None = None,
    time_unit: TimeUnit = "auto",
    items: str | os.PathLike[str] | None = None,
    **options: Unpack[LogSelection],
) -> EventLog:
    """Read a log.

    The same events give the same log, whatever their order and file format. The log is sorted by (time, user, item,
    value). Users and items are numbered by their sorted ids (numbers by size, texts by code points). If all ids are
    written like whole numbers, the log has them as whole numbers.

    Args:
        source: Name or path of a log, a data frame (pandas, Polars, Arrow), or a log. Names are ``"ml-latest-small"``
            and ``"shop"`` (embedded), downloaded logs of :func:`rimsim.data.catalogue`, and names that installed
            packages offer. A path is a MovieLens folder, a folder with one log, a zip of either, or a CSV, TSV or
            Parquet file. A folder with the name of an embedded log is read as ``"./shop"``.
        columns: Column of each role, if the names are not the usual names: ``"user=visitor,item=sku,time=at"``, or by
            position ``"user,item,value,time"``.
        time_unit: Unit of numeric times. ``"auto"`` takes the unit in which most times lie between 1970 and 5138, and
            reads dates written as numbers, such as 20150131. Minutes, hours and days must be named.
        items: A CSV or Parquet file with a row per item. The column of ids has a usual name, or the name of the log's
            column of items. Other columns, such as title, genres, year, release, end, seller and price, become
            attributes.
        **options: Selection of events, and form of a text file:

            * ``min_item_events``, ``min_user_events`` (1): items, then users with fewer events fall out,
              repeatedly until all have enough. 0 keeps items of the item table without events.
            * ``min_value``: events with a smaller value fall out first; 4 keeps the films that users of MovieLens
              liked.
            * ``start``, ``stop``: events before ``start``, and at or after ``stop``, fall out: seconds or ISO dates.
            * ``release``: release times of items. ``"given"`` by the source (0 if it has none), ``"first-event"``,
              or ``"year"``: the item's year or date, but never after its first event.
            * ``end``: end times of items. ``"given"`` by the item table (none if it has no ends), ``"last-event"``
              (one second after it), or ``"life"``: the duration ``life``, such as ``"20h"``, after the release.
            * ``separator``: between fields; found for comma, tab, semicolon, ``|`` and ``::``.
            * ``encoding``: None for UTF-8, or the encoding of a byte-order mark.
            * ``skip_bad_rows``: leave bad rows out, count them and show the first few in ``log.report``.
            * ``drop_returns``: leave rows with a negative quantity out, and count them in ``log.report``.
            * ``repeats``: treatment of events in which a user takes an item again: ``"drop"``, ``"history"`` (the user
              is never offered the item again), ``"consume"`` (it may be), or ``"auto"``: by the share of such events.

    Returns:
        The log; ``log.report`` describes the reading.

    Raises:
        DataError: If the log cannot be read; the message names file and line or column, the value found and the
            values allowed.
        ConfigError: If an option is unknown or out of range.
    """
    if time_unit != "auto" and time_unit not in UNITS:
        raise ConfigError(
            f"time_unit is {time_unit!r}, which is not a unit of "
            f"time.{nearest(str(time_unit), ['auto', *UNITS])}"
        )
    table = None if items is None else os.fspath(items)
    fields = {"source": source_name(source), "time_unit": time_unit, "items": table, **options}
    return _read(record_from(fields, LogOptions, origin="load"), columns)


def load_log(options: LogOptions) -> EventLog:
    """Read the log that a config asks for; see :func:`load`."""
    return (
        _embedded(options) if options.source in containers.EMBEDDED_FILES else _read(options, options.columns)
    )


@lru_cache(maxsize=4)
def _embedded(options: LogOptions) -> EventLog:
    """An embedded log, read only once per process."""
    return _read(options, options.columns)


def _read(options: LogOptions, columns: Columns | str | None) -> EventLog:
    """Log that the options describe, with its report."""
    unit: Unit | None = None if options.time_unit == "auto" else options.time_unit
    entry = _download_named(options.source)
    if columns is None and entry is not None:
        columns = entry.columns
    roles = ColumnRoles.of_log(columns)
    container = container_of(options.source)
    name = shown_name(options.source)
    is_stored = name != options.source
    try:
        layout = _layout_of(container, entry)
        # A known layout has a known dialect, unless the caller describes the file.
        is_known_form = columns is None and options.separator is None
        form = TextForm(options.separator, options.encoding, layout.dialect if is_known_form else None)
        collector, unit_found, reading = collected(
            lambda collector: read_events(container, layout, collector, roles, form),
            Collector(roles.kind, unit, options.skip_bad_rows, options.drop_returns),
            name,
        )
        item_column = dict(reading.columns).get("item", "")
        users, item_table, column_uses = read_tables(container, layout, collector, options.items, item_column)
    finally:
        container.close()
    events = collector.events(name, "s" if reading.times == "iso" else unit_found)
    unit_read = "iso" if reading.times == "iso" else str(unit_found)
    if unit is None and unit_read == "s" and (dates := written_dates(name, events.time)) is not None:
        events = dataclasses.replace(events, time=dates)
        unit_read = "yyyymmdd"
    notes = reading.notes
    if layout.name == "MovieLens 100K":
        events, further_notes = _without_user_0(events, container.label(layout.events))
        notes += further_notes
    layout_name = reading.kind if layout.name == "file" else layout.name
    report = ReadReport(
        source=name,
        layout="table" if is_stored else layout_name,
        columns=reading.columns,
        time_unit=unit_read,
        rows=len(events.user),
        skipped=collector.skipped,
        bad_rows=collector.bad_rows,
        returns=collector.returns(name),
        backwards=collector.backwards,
        notes=notes,
        others=column_uses,
    )
    log = assemble(events, options, users, item_table)
    report = dataclasses.replace(report, values=n_values(item_table))
    share = repeated_share(log)
    rule = _rule_of_repeats(options, reading, share)
    log = dataclasses.replace(log, repeatable=rule == "consume")
    report = dataclasses.replace(report, repeats=rule, repeated_share=share)
    if name != EMBEDDED:  # scenarios choose thresholds that fit the embedded log
        warnings = _warnings(log, events, collector, options, unit_read, [use.column for use in column_uses])
        report = dataclasses.replace(report, warnings=warnings)
    return dataclasses.replace(log, report=report)


def _warnings(
    log: EventLog,
    events: RawEvents,
    collector: Collector,
    options: LogOptions,
    unit_read: str,
    others: Sequence[str],
) -> tuple[str, ...]:
    """Sentences on likely mistakes in a log.

    ``others`` are the columns without a role.
    """
    # Impressions that were not taken are not events.
    item = events.item if events.answers is None else events.item[events.answers.taken]
    return suspicions_of(
        log,
        np.bincount(item),
        options.min_item_events,
        [column for column, values in collector.values_of.items() if values.belongs_to_users],
        is_guessed=options.time_unit == "auto" and unit_read == "s",
        shown=[others[place]] if (place := first_of(USUAL["shown"], others)) is not None else [],
    )


def _layout_of(container: containers.Container, entry: Entry | None) -> LogLayout:
    """Layout of the log in a container or download."""
    if entry is not None and entry.events_files:
        return log_in_parts(container, entry.name, entry.events_files)
    return find_log(container)


def _rule_of_repeats(options: LogOptions, reading: Reading, share: float) -> Repeats:
    """Treatment of repeats, by options, file or share."""
    if options.repeats != "auto":
        return options.repeats
    if reading.is_repeatable is not None:
        return "consume" if reading.is_repeatable else "history"
    return rule_of(share)


def _without_user_0(events: RawEvents, label: str) -> tuple[RawEvents, tuple[str, ...]]:
    """Events without user 0, and notes on the removed rows."""
    # A widespread copy of u.data has three additional rows. They belong to a user 0 who is not in MovieLens.
    is_of_user_0 = events.user_ids[events.user] == 0
    if not is_of_user_0.any():
        return events, ()
    note = f"{label}: left out {many(sum(is_of_user_0), 'row')} of user 0, not of MovieLens"
    return selected(events, ~is_of_user_0, "leaving out user 0", events), (note,)


def container_of(name: str) -> containers.Container:
    """Container of a log's source."""
    if name in containers.EMBEDDED_FILES:
        return containers.embedded_container(name)
    if name == NEWS and not os.path.lexists(name):
        return made_up_container(name)
    if (stored := stored_container(name)) is not None:
        return stored
    if (zipped := containers.inside_zip(name)) is not None:
        archive, member = zipped
        return containers.zip_container(archive, only=member)
    return containers.open_container(_path_of(name))


def _download_named(name: str) -> Entry | None:
    """Downloadable log of a name; None for other sources."""
    # A file or folder of this name is what its user means.
    return next(
        (entry for entry in catalogue() if entry.name == name and entry.url and not os.path.lexists(name)),
        None,
    )


def _path_of(name: str) -> Path:
    """Path of a source or of a downloaded log's file."""
    log_entry = next((entry for entry in catalogue() if entry.name == name), None)
    if log_entry is None or os.path.lexists(name):
        # A word without a dot or slash may be a misspelt name of a log.
        is_word = "." not in name and "/" not in name and not os.path.lexists(name)
        installed = places("logs") if is_word else {}
        if name in installed:
            return Path(imported(installed[name], "log")())
        return containers.existing(
            name, [*(entry.name for entry in catalogue()), *installed] if is_word else []
        )
    fetched = downloaded(name)
    if fetched is None:
        raise DataError(
            f"{name}: {log_entry.title} is not on this machine yet. Give the path of a copy. Or run 'rimsim data "
            f"download {name}' or rimsim.data.download({name!r}), which fetches {log_entry.size_text} to "
            f"{data_folder()}"
        )
    return fetched
