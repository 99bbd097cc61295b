"""Layouts of logs and of tables of observed answers.

Layouts of observed answers have answers to items that users did not choose:

* KuaiRec (Gao et al., CIKM 2022, doi 10.1145/3511808.3557220): ``small_matrix.csv`` has a row for nearly every pair of
  1,411 users and 3,327 videos. ``watch_ratio`` is the watched share of the video. Not all rows have a ``timestamp`` in
  seconds. ``big_matrix.csv`` has the same columns and is an ordinary log.
* KuaiRand (Gao et al., CIKM 2022, doi 10.1145/3511808.3557624): ``log_random_….csv`` has videos that were put into
  feeds at random, with ``time_ms``, ``is_click`` and other answers of 0 or 1. ``log_standard_….csv`` has recommended
  videos.
* Coat (Schnabel et al., ICML 2016, arXiv 1602.05352): ``test.ascii`` is a matrix with a row for each of 290 users and a
  column for each of 300 coats. It has ratings 1 to 5 of 16 random coats from each user, and 0 elsewhere.
  ``train.ascii`` has the coats that users chose to rate.
* Yahoo! R3 (Marlin and Zemel, RecSys 2009): ``ydata-ymusic-rating-study-v1_0-test.txt`` has ratings 1 to 5 of ten
  random songs from each of 5,400 users, as user, song and rating between tabs. ``…-train.txt`` has songs that users
  chose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final

from rimsim.data.readers.columns import ColumnPlaces, ColumnRoles
from rimsim.data.readers.containers import PACKED, Container
from rimsim.data.readers.delimited import Dialect, TextForm, read_delimited
from rimsim.data.readers.events import Collector
from rimsim.data.readers.parquet import read_parquet
from rimsim.data.readers.reading import Reading
from rimsim.data.readers.values import LARGEST_VALUE, Unit
from rimsim.errors import DataError, nearest, refuse


@dataclass(frozen=True)
class TableFormat:
    """Form of a table without a header."""

    separator: str
    """Text between fields."""
    names: tuple[str, ...]
    """Names of the table's columns."""
    flags: bool = False
    """True if a flag per genre, 0 or 1, follows the named fields (MovieLens 100K)."""


@dataclass(frozen=True)
class LogLayout:
    """Names and forms of the files of a log."""

    name: str
    """Name of the layout in reports."""
    events: str
    """Name of the events file."""
    items: str | None = None
    """Name of the items file, if any."""
    users: str | None = None
    """Name of the users file, if any."""
    genres: str | None = None
    """Name of the file with the names of the genre flags, if any (MovieLens 100K)."""
    dialect: Dialect | None = None
    """Dialect of the events; None: detected in the first lines."""
    items_form: TableFormat | None = None
    """Form of the items file; None: the file has a header."""
    users_form: TableFormat | None = None
    """Form of the users file; None: the file has a header."""
    parts: tuple[str, ...] = ()
    """Names of further files of events, in the same form."""


_PLACES = ColumnPlaces({"user": 0, "item": 1, "time": 3, "value": 2}, ("user", "item", "rating", "timestamp"))
_COLONS = Dialect("::", quoted=False, places=_PLACES, header=False)
_FILMS = TableFormat("::", ("id", "title", "genres"))

LOG_LAYOUTS: Final = (
    LogLayout(
        name="MovieLens 100K",
        events="u.data",
        items="u.item",
        users="u.user",
        genres="u.genre",
        dialect=Dialect("\t", quoted=False, places=_PLACES, header=False),
        items_form=TableFormat("|", ("id", "title", "release", "video", "url"), flags=True),
        users_form=TableFormat("|", ("id", "age", "gender", "occupation", "zip")),
    ),
    LogLayout(
        name="MovieLens 1M",
        events="ratings.dat",
        items="movies.dat",
        users="users.dat",
        dialect=_COLONS,
        items_form=_FILMS,
        users_form=TableFormat("::", ("id", "gender", "age", "occupation", "zip")),
    ),
    *(
        LogLayout(name=f"MovieLens {suffix}", events=f"ratings.{ending}", items=f"movies.{ending}")
        for suffix, ending in (("CSV", "csv"), ("Parquet", "parquet"), ("CSV", "csv.gz"))
    ),
    LogLayout(name="rimsim", events="events.parquet", items="items.parquet", users="users.parquet"),
    LogLayout(name="rimsim", events="events.csv", items="items.csv", users="users.csv"),
)
"""Layouts of logs that rimsim knows, by the name of their file of events."""
_10M: Final = LogLayout(
    name="MovieLens 10M", events="ratings.dat", items="movies.dat", dialect=_COLONS, items_form=_FILMS
)


@dataclass(frozen=True)
class ObservedLayout:
    """Form of a table of observed answers."""

    name: str
    files: str
    """Regular expression of the file's name."""
    columns: tuple[str | int, str | int, str | int] | None = None
    """Columns of user, item and value: names, or positions from 1; None: a header with usual names."""
    time: str | None = None
    """Name of the time column; None: the table has no times."""
    unit: Unit | None = None
    """Unit of times; None: the unit in which most times of the file are plausible dates."""
    separator: str | None = None
    """Separator of fields; None: detected in the first line."""
    matrix: bool = False
    """True for a matrix of users by items, with 0 where nothing is observed."""
    largest: float = LARGEST_VALUE
    """Largest valid value of an answer."""
    at_random: bool | None = False
    """True if the choice of items did not depend on the users' preferences; None: unknown."""


_KUAIREC: Final = ("user_id", "video_id", "watch_ratio")
_KUAIRAND: Final = ("user_id", "video_id", "is_click")
_R3: Final = r"ydata-ymusic-rating-study-v1_0-"
_PLAIN: Final = ObservedLayout("table", ".*", at_random=None)
"""Layout of a table that matches no known layout."""

OBSERVED_LAYOUTS: Final = (
    ObservedLayout(
        name="KuaiRec small matrix",
        files=r"small_matrix\.csv",
        columns=_KUAIREC,
        time="timestamp",
        unit="s",
        separator=",",
        at_random=True,
    ),
    ObservedLayout(
        name="KuaiRec big matrix",
        files=r"big_matrix\.csv",
        columns=_KUAIREC,
        time="timestamp",
        unit="s",
        separator=",",
    ),
    ObservedLayout(
        name="KuaiRand random",
        files=r"log_random_.+\.csv",
        columns=_KUAIRAND,
        time="time_ms",
        unit="ms",
        separator=",",
        largest=1,
        at_random=True,
    ),
    ObservedLayout(
        name="KuaiRand standard",
        files=r"log_standard_.+\.csv",
        columns=_KUAIRAND,
        time="time_ms",
        unit="ms",
        separator=",",
        largest=1,
    ),
    ObservedLayout(name="Coat random", files=r"test\.ascii", matrix=True, largest=5, at_random=True),
    ObservedLayout(name="Coat chosen", files=r"train\.ascii", matrix=True, largest=5),
    ObservedLayout(
        name="Yahoo! R3 random",
        files=rf"{_R3}test\.txt",
        columns=(1, 2, 3),
        separator="\t",
        largest=5,
        at_random=True,
    ),
    ObservedLayout(
        name="Yahoo! R3 chosen", files=rf"{_R3}train\.txt", columns=(1, 2, 3), separator="\t", largest=5
    ),
)


def find_log(container: Container) -> LogLayout:
    """Layout of the log in a folder or archive.

    Raises:
        DataError: If there is no log, or more than one.
    """
    members = _known_members(container)
    requested_member = container.only
    choices = []
    for member in members:
        layout = _known_layout(member, members) if requested_member in (None, member) else None
        if layout is not None:
            choices.append(layout)
    if not choices:
        names = _tables(members) if requested_member is None else [requested_member]
        choices = [LogLayout("file", member) for member in names]
    known_files = ", ".join(dict.fromkeys(layout.events for layout in LOG_LAYOUTS))
    allowed = f"{known_files}, or one file of events"
    _require_one([choice.events for choice in choices], container, members, "log", allowed)
    return choices[0]


def log_in_parts(container: Container, name: str, files: str) -> LogLayout:
    """Layout of a log in files that match a pattern.

    Raises:
        DataError: If no file matches.
    """
    parts = [
        member
        for member in _known_members(container)
        if re.fullmatch(files, PurePosixPath(member).name, re.IGNORECASE)
    ]
    if not parts:
        seen = ", ".join(container.members[:8])
        refuse(DataError, container.name, f"there is no events file of {name} in it, only {seen}", files)
    return LogLayout(name, parts[0], parts=tuple(parts[1:]))


def read_events(
    container: Container, layout: LogLayout, collector: Collector, roles: ColumnRoles, form: TextForm
) -> Reading:
    """Read all events of a log into a collector.

    Raises:
        DataError: If a file cannot be read.
    """
    reading = read_rows(container, layout.events, collector, roles, form)
    notes = reading.notes
    for part in layout.parts:
        notes += read_rows(container, part, collector, roles, form).notes
    return replace(reading, notes=notes)


def _known_layout(member: str, members: Sequence[str]) -> LogLayout | None:
    """Layout of an events file and neighbouring files, if known."""
    path = PurePosixPath(member)
    layout = next((layout for layout in LOG_LAYOUTS if layout.events == path.name.lower()), None)
    if layout is None:
        return None
    names = {neighbour.lower(): neighbour for neighbour in reversed(members)}

    def sibling(file: str | None) -> str | None:
        """Neighbour of the events file, named in any case."""
        return None if file is None else names.get(str(path.with_name(file)).lower())

    users = sibling(layout.users)
    if layout.name == "MovieLens 1M" and users is None:
        layout = _10M  # 10M has the file names of 1M, but no table of users
    items = sibling(layout.items)
    genres = sibling(layout.genres)
    return replace(layout, events=member, items=items, users=users, genres=genres)


def find_observed(container: Container) -> tuple[str, ObservedLayout]:
    """Table of observed answers in a container, and its layout.

    In a folder with a known layout, this is the file with answers to items that users did not choose.

    Raises:
        DataError: If there is no table, or more than one.
    """
    members = _known_members(container)
    if container.only is not None:
        return container.only, _observed_layout(container.only)
    # Any other layout is taken only if no file has answers to items that users did not choose.
    tables = [member for member in members if _observed_layout(member).at_random]
    tables = tables or _tables(members, (".ascii",))
    allowed = (
        "small_matrix.csv, log_random_….csv, test.ascii, ydata-ymusic-rating-study-v1_0-test.txt, or one table of "
        "users, items and values"
    )
    _require_one(tables, container, members, "observed table", allowed)
    return tables[0], _observed_layout(tables[0])


def _observed_layout(member: str) -> ObservedLayout:
    """Layout with the given file name, or a plain layout."""
    name = PurePosixPath(member).name
    fits = (
        layout
        for layout in OBSERVED_LAYOUTS
        if re.fullmatch(rf"{layout.files}(\.gz|\.bz2|\.xz)?", name, re.IGNORECASE)
    )
    return next(fits, _PLAIN)


def _known_members(container: Container) -> list[str]:
    """Sorted files of a container; a requested file must exist."""
    members = sorted(set(container.members))
    requested_member = container.only
    if requested_member is not None and requested_member not in members:
        raise DataError(
            f"{container.name}: it has no file {requested_member!r}.{nearest(requested_member, members)}"
        )
    return members


def _tables(members: Iterable[str], further_endings: tuple[str, ...] = ()) -> list[str]:
    """Files whose names look like names of tables."""
    endings = (".csv", ".tsv", ".txt", ".dat", ".data", ".inter", ".parquet", ".pq", *further_endings)

    def is_table(member: str) -> bool:
        """True for a table's name, not for a readme's."""
        path = PurePosixPath(member.lower())
        while path.suffix in PACKED:
            path = path.with_suffix("")
        return path.suffix in endings and not path.name.startswith((".", "readme", "license", "notice"))

    return [member for member in members if is_table(member)]


def _require_one(
    tables: Sequence[str], container: Container, members: Sequence[str], noun: str, allowed: str
) -> None:
    """Refuse a container with no or several tables."""
    name = container.name
    if not tables:
        seen = f", only {', '.join(members[:8])}" if members else ""
        refuse(DataError, name, f"there is no {noun} in it{seen}", allowed)
    if len(tables) > 1:
        names = ", ".join(tables[:8])
        raise DataError(
            f"{name}: it holds more than one {noun} ({names}). Name the file to read, such as "
            f"{name}/{tables[0]}"
        )


def read_rows(
    container: Container, member: str, collector: Collector, roles: ColumnRoles, form: TextForm
) -> Reading:
    """Read a text or Parquet file into a collector.

    Raises:
        DataError: If the file cannot be read; see :func:`read_delimited` and :func:`read_parquet`.
    """
    with container.open(member) as stream:
        head = stream.read(4)
    if head == b"PAR1" or member.lower().endswith((".parquet", ".pq")):
        label = container.label(member)
        path = container.path(member)
        if path is not None and path.suffix.lower() not in PACKED:
            return read_parquet(path, label, collector, roles)
        return read_parquet(container.content(member), label, collector, roles)
    with container.open(member) as stream:
        return read_delimited(stream, collector, roles, form)
