"""Tables of items and users: titles, genres, years and times."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Final, NamedTuple, TypeAlias, TypeVar

import numpy as np
import pandas as pd

from rimsim.data.read_report import ColumnUse
from rimsim.data.readers.columns import ATTRIBUTES, USUAL, first_of, plain_name
from rimsim.data.readers.containers import Container, existing, file_container
from rimsim.data.readers.delimited import SEPARATORS
from rimsim.data.readers.events import Collector
from rimsim.data.readers.item_columns import TAKEN, attributes_of, item_column, plain_text
from rimsim.data.readers.layouts import LogLayout, TableFormat
from rimsim.data.readers.lines import LineReader, fields_of
from rimsim.data.readers.parquet import table_of
from rimsim.data.readers.values import (
    LATEST,
    MISSING,
    RowProblemError,
    canonical,
    identifier,
    moment,
    number,
    short,
)
from rimsim.errors import DataError, nearest, refuse

_TITLE = re.compile(
    r"(?P<title>.*\S)\s*\((?P<year>\d{4})(?:[-–]\s?\d{0,4})?\)(?P<rest>(?:\s*\([A-Z]+\))?)\s*"
)
_NO_GENRES: Final = frozenset({"(no genres listed)", "unknown"})
_USUAL: Final = {
    role: names.split()
    for role, names in {
        "id": "movieid itemid productid articleid trackid bookid videoid asin id item",
        "title": "title movietitle itemname name",
        "genres": "genres genre categories category class",
        "year": "year releaseyear",
        "release": "release releasetime released releasedate",
        "end": "end endtime ended enddate expires expiry withdrawn",
    }.items()
}
"""Usual names of columns in a table of items, in order of preference."""
_GENRES_100K: Final = (
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|Film-Noir|Horror|Musical|"
    "Mystery|Romance|Sci-Fi|Thriller|War|Western"
)
"""Genres of the flags in u.item of MovieLens 100K, in order; used if u.genre is missing."""

NumberedRows: TypeAlias = "Iterator[tuple[int, Sequence[str] | RowProblemError]]"
"""Line number of each row with its fields, or with its problem."""
T = TypeVar("T")


def read_tables(
    container: Container, layout: LogLayout, collector: Collector, items: str | None, item_column: str = ""
) -> tuple[pd.DataFrame | None, pd.DataFrame | None, tuple[ColumnUse, ...]]:
    """Tables of users and items, and uses of columns.

    The collector has the events, and records bad rows of the tables.

    Args:
        items: Path of another table of items.
        item_column: Name of the column of items in the events.
    """
    users = None
    item_table = None
    uses: tuple[ColumnUse, ...] = ()
    if layout.users is not None:
        users = _read_users(container, layout.users, layout.users_form, collector)
    if items is not None:
        items_container = file_container(existing(items))
        item_table, uses = _read_items(
            items_container, items_container.members[0], None, collector, id_names=(item_column,)
        )
    elif layout.items is not None:
        id_names = ("id",) if layout.name == "rimsim" else (item_column,)
        item_table, uses = _read_items(
            container, layout.items, layout.items_form, collector, layout.genres, id_names
        )
    if collector.other_columns:
        items_of_events, event_uses = _items_of_events(collector, container.label(layout.events))
        item_table, event_uses = _joined(item_table, items_of_events, event_uses)
        uses = (*event_uses, *uses)
    nested = tuple(
        ColumnUse(name, None, f"its type is {kind}; rimsim reads numbers and texts")
        for name, kind in collector.nested.items()
    )
    uses = (*uses, *nested)
    names = [use.column for use in uses]
    if collector.price is not None and collector.price not in names:
        raise DataError(
            f"{container.name}: there is no column {collector.price!r} to read the price "
            f"from.{nearest(collector.price, names)}"
        )
    return users, item_table, uses


def _joined(
    table: pd.DataFrame | None, of_events: pd.DataFrame, uses: tuple[ColumnUse, ...]
) -> tuple[pd.DataFrame, tuple[ColumnUse, ...]]:
    """Table of items with further columns from the events.

    If both tables have a column, the column of the table of items is used.
    """
    if table is None:
        return of_events, uses
    ids = table["id"].astype(str).tolist()
    ids += sorted(set(of_events["id"].astype(str)) - set(ids))
    by_id, events_by_id = (
        frame.set_index(frame["id"].astype(str)).drop(columns="id") for frame in (table, of_events)
    )
    columns = {name: by_id[name].reindex(ids).array for name in by_id}
    columns |= {name: events_by_id[name].reindex(ids).array for name in events_by_id if name not in columns}
    uses = tuple(
        replace(use, attribute=None, note="the table of items has this column too, which is used")
        if use.attribute in by_id
        else use
        for use in uses
    )
    return pd.DataFrame({"id": _column(ids), **columns}), uses


def _read_items(
    container: Container,
    member: str,
    form: TableFormat | None,
    collector: Collector,
    genres: str | None = None,
    id_names: tuple[str, ...] = (),
) -> tuple[pd.DataFrame, tuple[ColumnUse, ...]]:
    """Table of items with all its attributes.

    Without a given form, the table is a CSV or Parquet file with a header. ``genres`` is the file with the names of the
    genre flags, one ``name|number`` per line. Times of release and end are in seconds, if the file has them. The column
    of ids has one of ``id_names``, or a usual name.
    """
    label = container.label(member)
    names, rows = _rows(container, member, form)
    places = {}  # role of a column → its position
    for role, usual in _USUAL.items():
        if (place := first_of(usual, names)) is not None:
            places[role] = place
    if (id_place := _id_place(names, id_names)) is not None:
        places["id"] = id_place
    if "id" not in places:
        wanted = [*(repr(name) for name in id_names if name not in ("", "id")), "'id'"]
        raise DataError(
            f"{label}, line 1: there is no column for the item among {', '.join(map(repr, names[:12]))}. Name the "
            f"column {' or '.join(wanted)}"
        )
    flags = _flag_names(container, genres) if form is not None and form.flags else []
    role_places = {*places.values()}
    other_places: dict[str, int] = {}
    if form is None:
        other_places = {name: place for place, name in enumerate(names) if name and place not in role_places}
    id_at = ("item", places["id"])
    width = len(names) + len(flags)
    bad = partial(collector.bad, label)

    def read(fields: Sequence[str]) -> tuple[Item, tuple[str, ...]]:
        """Item of a row, and texts of its further columns."""
        return _item(fields, places, flags), tuple(fields[place].strip() for place in other_places.values())

    row_of = _by_id(rows, id_at, width, read, bad)
    items = [item for item, _ in row_of.values()]
    roles = {*places, "genres", "year"} if flags else {*places}
    frame = _item_frame(list(row_of), items, roles)
    if "release" in places:
        # MovieLens 100K has the dates at which films were released, which are used only if the options ask for years.
        name = "release" if form is None else "released"
        frame[name] = np.array([item.release for item in items], np.float64)
    uses = [
        ColumnUse(names[place], role, table=label)
        for role, place in places.items()
        if form is None and names[place] not in (role, names[places["id"]])
    ]
    for at, name in enumerate(other_places):
        series, use = _table_attribute(name, [row[at] for _, row in row_of.values()], label, collector.price)
        if series is not None:
            frame[use.attribute] = series
        uses.append(use)
    return frame, tuple(uses)


def _id_place(names: tuple[str, ...], id_names: tuple[str, ...]) -> int | None:
    """Position of the column of ids, or None."""
    exact = next((names.index(name) for name in id_names if name in names), None)
    if exact is not None:
        return exact
    # Without an exact name, spelling does not matter, and usual names count too.
    plain_names = [plain for name in id_names if (plain := plain_name(name))]
    return first_of([*plain_names, *_USUAL["id"], *USUAL["item"]], names)


def _table_attribute(
    name: str, texts: list[str], label: str, price: str | None
) -> tuple[pd.Series | None, ColumnUse]:
    """Attribute from a column of a table, and its use."""
    texts = ["" if text in MISSING else text for text in texts]
    if name in TAKEN:
        note = "the item table has its own column of this name. Rename the column to keep it"
        return None, ColumnUse(column=name, attribute=None, note=note, table=label)
    if not any(texts):
        return None, ColumnUse(column=name, attribute=None, note="it is empty", table=label)
    # The column is treated like a column of events with one event per item.
    column = item_column(name, price)
    rows = np.arange(len(texts), dtype=np.int32)
    column.take(rows, rows.astype(np.int64), texts)
    attributes, (use,) = attributes_of({name: column}, list(map(str, rows.tolist())), price)
    return attributes[use.attribute or name], replace(use, table=label)


def _items_of_events(collector: Collector, source: str) -> tuple[pd.DataFrame, tuple[ColumnUse, ...]]:
    """Table of items from columns of the events themselves."""
    ids = collector.items.texts()
    attributes, uses = attributes_of(collector.other_columns, ids, collector.price)
    texts_of_role = {role: attributes.pop(role) for role in ATTRIBUTES if role in attributes}
    place_of_role = {role: place for place, role in enumerate(texts_of_role)}
    items = []
    for key, *fields in zip(ids, *(texts.tolist() for texts in texts_of_role.values()), strict=True):
        try:
            items.append(_item(fields, place_of_role, []))
        except RowProblemError as problem:
            raise DataError(f"{source}, item {short(key)}: {problem}") from None
    return _item_frame(ids, items, place_of_role.keys()).assign(**attributes), uses


class Item(NamedTuple):
    """Row of a table of items, without its id."""

    title: str
    """Title; empty if unknown."""
    genres: str
    """Names of genres, joined by ``|``; empty if unknown."""
    year: int | None
    """Year of release, from a column or from the title; None if unknown."""
    release: float
    """Release time in seconds since 1970; NaN if unknown."""
    end: float
    """End time in seconds since 1970; NaN if the item does not end."""


def _item_frame(ids: list[str], rows: list[Item], roles: Collection[str]) -> pd.DataFrame:
    """Table of items with the columns of the given roles."""
    columns = {
        "title": pd.Series([row.title for row in rows], dtype="str"),
        "genres": pd.Series([row.genres for row in rows], dtype="str"),
        "year": pd.array([row.year for row in rows], "Int64"),
        "end": pd.Series([row.end for row in rows], dtype="float64"),
    }
    # Years are known from titles too, such as "Heat (1995)".
    is_known = {
        "title": "title" in roles,
        "genres": "genres" in roles,
        "year": "year" in roles or "title" in roles,
        "end": "end" in roles,
    }
    known_columns = {name: column for name, column in columns.items() if is_known[name]}
    return pd.DataFrame({"id": _column(ids)} | known_columns)


def _item(fields: Sequence[str], places: dict[str, int], flag_names: Sequence[str]) -> Item:
    """Item of a row; genre flags, if any, stand last."""
    text = {role: fields[place].strip() for role, place in places.items()}
    title = text.get("title", "")
    year = None
    if "year" in text:
        year = int(number(text["year"], "year", 9999)) if text["year"] else None
    elif dated := _TITLE.fullmatch(title):
        title = dated["title"] + dated["rest"]
        year = int(dated["year"])
    release = _instant(text["release"], "release") if "release" in text else np.nan
    end = _instant(text["end"], "end") if "end" in text else np.nan
    genres = text.get("genres", "")
    if flag_names:
        if year is None and not np.isnan(release):
            year = dt.datetime.fromtimestamp(release, dt.UTC).year
        flags = zip(flag_names, fields[len(fields) - len(flag_names) :], strict=True)
        genres = "|".join(name for name, flag in flags if flag.strip() == "1" and name not in _NO_GENRES)
    return Item(title, "" if genres in _NO_GENRES else genres, year, release, end)


def _by_id(
    rows: NumberedRows,
    id_at: tuple[str, int],
    width: int,
    read: Callable[[Sequence[str]], T],
    bad: Callable[[int, str], None],
) -> dict[str, T]:
    """Results of ``read`` by id; bad rows are left out."""
    by_id: dict[str, T] = {}
    role, place = id_at
    for line, fields in rows:
        try:
            if isinstance(fields, RowProblemError):
                raise fields
            if len(fields) != width:
                raise RowProblemError(f"the line has {len(fields)} fields. Expected {width}")  # noqa: TRY301
            by_id[_new_id(fields[place], by_id, role)] = read(fields)
        except RowProblemError as problem:
            bad(line, str(problem))
    return by_id


def _new_id(text: str, earlier_ids: Collection[str], role: str) -> str:
    """Id from a text, refused if it has a row."""
    key = identifier(text, role)
    if key in earlier_ids:
        raise RowProblemError(f"{role} {short(key)} has two rows. Keep one row for each {role}")
    return key


def _column(ids: list[str]) -> pd.Series:
    """Column of ids, as whole numbers if all are."""
    return pd.Series(canonical(ids).tolist(), dtype=None if ids else "str")


@lru_cache(maxsize=4096)
def _instant(text: str, role: str) -> float:
    """Seconds of a written instant; NaN if empty."""
    if not text:
        return float("nan")
    # MovieLens 100K writes dates such as 01-Jan-1995. Films from before 1970 count as released in 1970.
    try:
        parsed = dt.datetime.strptime(text, "%d-%b-%Y").replace(tzinfo=dt.UTC)
    except ValueError:
        pass
    else:
        return max(parsed.timestamp(), 0.0)
    try:
        return number(text, role, LATEST)
    except RowProblemError:
        return moment(text, role)


def _flag_names(container: Container, member: str | None) -> list[str]:
    """Names of the genre flags, in order."""
    if member is None:
        return _GENRES_100K.split("|")
    text = _decoded(container, member)
    pairs = [line.rsplit("|", 1) for line in text.splitlines() if "|" in line]
    try:
        numbered_names = sorted((int(flag_number), name) for name, flag_number in pairs)
    except ValueError:
        raise DataError(f"{container.label(member)}: a line does not have the form 'genre|number'") from None
    return [name for _, name in numbered_names]


def _decoded(container: Container, member: str) -> str:
    """Text of a small file, in UTF-8 or else Latin-1."""
    # Older MovieLens editions are written in Latin-1.
    with container.open(member) as stream:
        blocks = b"".join(block.text for block in LineReader(stream))
    try:
        return blocks.decode()
    except UnicodeDecodeError:
        return blocks.decode("latin-1")


def _rows(
    container: Container, member: str, form: TableFormat | None
) -> tuple[tuple[str, ...], NumberedRows]:
    """Column names of a table of attributes, and its rows."""
    if member.lower().endswith((".parquet", ".pq")):
        table = table_of(container.content(member), container.label(member))
        columns = [[plain_text(value) for value in column.to_pylist()] for column in table.columns]
        return tuple(table.column_names), iter(enumerate(zip(*columns, strict=True), start=1))
    lines = _decoded(container, member).split("\n")
    if form is not None:
        return form.names, _cut(lines, 1, form.separator, quoted=False)
    # The header is the first line that is not blank; `header_index` counts lines from 0.
    header_index = next((index for index, line in enumerate(lines) if line.strip()), None)
    if header_index is None:
        refuse(DataError, container.label(member), "the file is empty", "a header and one row per item")
    separator = max(SEPARATORS, key=lines[header_index].count)
    try:
        names = fields_of(lines[header_index], separator, quoted=True)
    except RowProblemError as problem:
        raise DataError(f"{container.label(member)}, line {header_index + 1}: {problem}") from None
    rows = _cut(lines[header_index + 1 :], header_index + 2, separator, quoted=True)
    return tuple(name.strip() for name in names), rows


def _cut(lines: list[str], start: int, separator: str, *, quoted: bool) -> NumberedRows:
    """Numbers and fields of lines; blank lines are left out."""
    for line_number, line in enumerate(lines, start=start):
        if line:
            try:
                yield line_number, fields_of(line, separator, quoted=quoted)
            except RowProblemError as problem:
                yield line_number, problem


def _read_users(
    container: Container, member: str, form: TableFormat | None, collector: Collector
) -> pd.DataFrame:
    """Table of users: their ids, and other columns as texts."""
    label = container.label(member)
    if form is None and member.lower().endswith(".parquet"):
        return _typed_users(container, member, label)
    names, rows = _rows(container, member, form)
    if "id" not in names:
        raise DataError(f"{label}: there is no column 'id'. The table has {', '.join(names[:8])}")
    id_at = ("user", names.index("id"))
    fields_of_user = _by_id(rows, id_at, len(names), list, partial(collector.bad, label))
    texts = {
        name: pd.Series([fields[place].strip() for fields in fields_of_user.values()], dtype="str")
        for place, name in enumerate(names)
        if name != "id"
    }
    return pd.DataFrame({"id": _column(list(fields_of_user)), **texts})


def _typed_users(container: Container, member: str, label: str) -> pd.DataFrame:
    """Table of users whose columns keep their Parquet types."""
    table = table_of(container.content(member), label)
    if table.column_names.count("id") != 1:
        raise DataError(
            f"{label}: there is no column 'id'. The table has {', '.join(table.column_names[:8])}"
        )
    ids: dict[str, None] = {}  # a set that keeps the order
    for row, word in enumerate(table["id"].to_pylist(), start=1):
        try:
            ids[_new_id(str(word), ids, "user")] = None
        except RowProblemError as problem:
            raise DataError(f"{label}, line {row}: {problem}") from None
    names = [name for name in dict.fromkeys(table.column_names) if name != "id"]
    columns = {name: table[name].to_pandas() for name in names}
    return pd.DataFrame({"id": _column(list(ids)), **columns})
