"""The one door to logs: a name, a folder, a zip or a file becomes an :class:`EventLog`."""

from __future__ import annotations

import dataclasses
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import ValidationError

from rimsim.config import LogOptions
from rimsim.config.reading import refusal
from rimsim.data.catalogue import catalogue
from rimsim.data.download import data_folder, downloaded
from rimsim.data.readers.assemble import assemble, kept
from rimsim.data.readers.collect import collected, written_dates
from rimsim.data.readers.columns import Columns
from rimsim.data.readers.containers import (
    embedded_container,
    existing,
    inside_zip,
    open_container,
    zip_container,
)
from rimsim.data.readers.layouts import find
from rimsim.data.readers.log_files import LogFiles
from rimsim.data.readers.rows import UNITS
from rimsim.data.report import ReadReport
from rimsim.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from rimsim.data.log import EventLog
    from rimsim.data.readers.containers import Container
    from rimsim.data.readers.rows import Unit


EMBEDDED: Final = "ml-latest-small"
"""The name of the log that ships with rimsim."""


def load(
    source: str | os.PathLike[str] = EMBEDDED,
    *,
    columns: Columns | str | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = "auto",
    items: str | os.PathLike[str] | None = None,
    min_item_events: int = 1,
    min_user_events: int = 1,
    min_value: float | None = None,
    start: float | str | None = None,
    stop: float | str | None = None,
    release: Literal["given", "first-event", "year"] = "given",
    skip_bad_rows: bool = False,
) -> EventLog:
    """Read a log.

    The same events give the same log whatever their order and container: it is sorted by (time, user, item,
    value), users and items are numbered by their sorted ids (numbers by size, texts by code points), and ids
    that are all written like whole numbers are whole numbers.

    Args:
        source: ``"ml-latest-small"`` (embedded), a downloaded name of :func:`rimsim.data.catalogue`, or the
            path of a MovieLens folder, a folder with one log, a zip of either, or a CSV, TSV or Parquet file.
        columns: Which column is which, where the names are not the usual ones:
            ``"user=visitor,item=sku,time=at"``, or by position ``"user,item,value,time"``.
        separator: Between fields of a text file; found by itself for comma, tab, semicolon, ``|`` and ``::``.
        encoding: Of a text file; None for UTF-8, or what a byte-order mark says.
        time_unit: Of numeric times; ``"auto"`` takes the one in which most times lie between 1970 and 5138, and
            dates written as numbers such as 20150131 for dates.
        items: A CSV or Parquet file with a row an item: an id and, where known, title, genres, year, release.
        min_item_events: Items with fewer events fall out; 0 keeps those of the item table never met.
        min_user_events: Users with fewer events fall out. Items go first, then users, and both are repeated
            until nothing more falls out, so that both minima hold in what is returned.
        min_value: Events with a smaller value fall out, before the minima are counted; 4 keeps what users
            of MovieLens liked.
        start: Events before this time fall out: seconds, or an ISO date.
        stop: Events at or after this time fall out.
        release: When items come: ``"given"`` as the source says (always there if it says nothing),
            ``"first-event"`` with their first event in the log, ``"year"`` with their year or date, but never
            after their first event.
        skip_bad_rows: Leave bad rows out, count them and show the first few in ``log.report``.

    Returns:
        The log; ``log.report`` tells what was read and noticed.

    Raises:
        DataError: If something cannot be read; the message names file and line or column, what was found and
            what is allowed.
        ConfigError: If an option is none.
    """
    try:
        options = LogOptions(
            source=_text(source),
            min_item_events=min_item_events,
            min_user_events=min_user_events,
            min_value=min_value,
            start=start,
            stop=stop,
            separator=separator,
            encoding=encoding,
            release=release,
            skip_bad_rows=skip_bad_rows,
        )
    except ValidationError as wrong:
        raise refusal(wrong, LogOptions, origin="load") from None
    if time_unit != "auto" and time_unit not in UNITS:
        raise ConfigError(f"time_unit is {time_unit!r}.{nearest(str(time_unit), ['auto', *UNITS])}")
    return _read(
        options,
        columns,
        unit=None if time_unit == "auto" else time_unit,
        items=None if items is None else _text(items),
    )


def load_log(options: LogOptions) -> EventLog:
    """Read the log that a config asks for; see :func:`load`.

    Args:
        options: Which log, and what of it.

    Raises:
        DataError: If something cannot be read.
        ConfigError: If the columns are not understood.
    """
    return _embedded(options) if options.source == EMBEDDED else _read(options, options.columns)


@lru_cache(maxsize=4)
def _embedded(options: LogOptions) -> EventLog:
    """The log that ships with rimsim, read once for the many worlds that differ in other things."""
    return _read(options, options.columns)


def _read(
    options: LogOptions,
    columns: Columns | str | None,
    *,
    unit: Unit | None = None,
    items: str | None = None,
) -> EventLog:
    """See :func:`load`."""
    wanted = Columns.parse(columns) if isinstance(columns, str) else columns
    if wanted is not None and not isinstance(wanted, Columns):
        raise ConfigError(
            f"columns is {wanted!r}; allowed: text such as 'user=visitor,item=sku,time=at', or Columns"
        )
    name = options.source
    container = _container(name)
    try:
        members = find(container.members, container.name, container.only)
        files = LogFiles(container, members, wanted, options.separator, options.encoding)
        collector, unit_found = collected(files.events, unit, skip_bad_rows=options.skip_bad_rows)
        users, item_table = files.tables(collector, items)
    finally:
        container.close()
    events = collector.events(name, "s" if files.time_kind == "iso" else unit_found)
    time_unit_found = "iso" if files.time_kind == "iso" else str(unit_found)
    if unit is None and time_unit_found == "s" and (dates := written_dates(name, events.time)) is not None:
        events, time_unit_found = dataclasses.replace(events, time=dates), "yyyymmdd"
    notes = files.notes
    if members.layout.name == "MovieLens 100K" and (strangers := events.user_ids[events.user] == 0).any():
        # A copy of u.data that is passed around has three more rows, of a user 0 that MovieLens never had.
        notes += (
            f"{container.label(members.events)}: left out {strangers.sum()} rows of user 0, not of MovieLens",
        )
        events = kept(events, ~strangers, "leaving out user 0", events)
    report = ReadReport(
        source=name,
        layout=members.layout.name if members.layout.name != "file" else files.kind,
        columns=files.columns,
        time_unit=time_unit_found,
        rows=len(events.user),
        skipped=collector.skipped,
        bad_rows=tuple(collector.bad_rows),
        backwards=collector.backwards,
        notes=notes,
    )
    return dataclasses.replace(assemble(events, options, users, item_table), report=report)


def _container(name: str) -> Container:
    """Where the log is, and which file of it was asked for."""
    if name == EMBEDDED:
        return embedded_container(name)
    if (zipped := inside_zip(name)) is not None:
        return zip_container(*zipped)
    return open_container(_path_of(name))


def _path_of(name: str) -> Path:
    """The path of a source; a downloaded log goes by its name."""
    known = next((entry for entry in catalogue() if entry.name == name), None)
    if known is None or os.path.lexists(name):
        is_word = "." not in name and "/" not in name
        return existing(name, [entry.name for entry in catalogue()] if is_word else [])
    fetched = downloaded(name)
    if fetched is None:
        raise DataError(
            f"{name}: {known.title} is not here yet; rimsim.data.download({name!r}), or rimsim data download "
            f"{name}, fetches {known.size / 1e6:,.0f} MB to {data_folder()}; or give the path of a copy"
        )
    return fetched


def _text(source: str | os.PathLike[str]) -> str:
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if not isinstance(source, str) or not source:
        raise ConfigError(f"source is {source!r}; allowed: a name or a path")
    return source
