"""Tables of items and users that come beside the events: titles, genres, years, release times."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from rimsim.data.readers.columns import plain
from rimsim.data.readers.containers import in_memory
from rimsim.data.readers.dialect import SEPARATORS, fields_of
from rimsim.data.readers.ids import canonical
from rimsim.data.readers.lines import LineReader
from rimsim.data.readers.parquet import table_of
from rimsim.data.readers.rows import LATEST, RowProblemError, identifier, moment, number, short
from rimsim.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from rimsim.data.readers.collect import Collector
    from rimsim.data.readers.containers import Container

__all__ = ["TableFormat", "items_of_events", "read_items", "read_users"]

_TITLE = re.compile(
    r"(?P<title>.*\S)\s*\((?P<year>\d{4})(?:[-–]\s?\d{0,4})?\)(?P<rest>(?:\s*\([A-Z]+\))?)\s*"
)
_NO_GENRES: Final = frozenset({"(no genres listed)", "unknown"})
_USUAL: Final = {
    "id": (
        "movieid",
        "itemid",
        "productid",
        "articleid",
        "trackid",
        "bookid",
        "videoid",
        "asin",
        "id",
        "item",
    ),
    "title": ("title", "movietitle", "itemname", "name"),
    "genres": ("genres", "genre", "categories", "category", "class"),
    "year": ("year", "releaseyear"),
    "release": ("release", "releasetime", "released", "releasedate"),
}
_GENRES_100K: Final = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *(
        "Fantasy",
        "Film-Noir",
        "Horror",
        "Musical",
        "Mystery",
        "Romance",
        "Sci-Fi",
        "Thriller",
        "War",
        "Western",
    ),
)
"""The order of flags in u.item, as u.genre of MovieLens 100K states it."""


@dataclass(frozen=True)
class TableFormat:
    """How a table without a header is written."""

    separator: str
    """Between fields."""
    names: tuple[str, ...]
    """Names of its columns."""
    flags: bool = False
    """Whether the fields after the named ones are one flag a genre (MovieLens 100K)."""


def read_items(
    container: Container,
    member: str,
    form: TableFormat | None,
    collector: Collector,
    genres: str | None = None,
) -> pd.DataFrame:
    """Read a table of items.

    Args:
        container: Where it is.
        member: Its name there.
        form: How it is written; None for a CSV or Parquet with a header.
        collector: Takes the rows that cannot be read.
        genres: Member that names the genres of flags, one ``name|number`` a line.

    Returns:
        One row an item: ``id``, ``title``, ``genres``, ``year`` and, where the file has it, ``release``
        (seconds).
    """
    label = container.label(member)
    names, rows = _rows(container, member, form)
    places = _placed(names, label)
    flag_names = _flag_names(container, genres) if form is not None and form.flags else ()
    width = len(names) + len(flag_names)
    found: dict[str, tuple[str, str, int | None, float]] = {}
    for line, fields in rows:
        try:
            key, row = _item(_checked(fields, width), places, flag_names, len(names))
            _new(key in found, "item", key)
        except RowProblemError as problem:
            collector.bad(label, line, str(problem))
            continue
        found[key] = row
    titles, genre_names, years, releases = zip(*found.values(), strict=True) if found else ((), (), (), ())
    table = pd.DataFrame(
        {
            "id": _column(list(found)),
            "title": pd.Series(titles, dtype="str"),
            "genres": pd.Series(genre_names, dtype="str"),
            "year": pd.array(list(years), "Int64"),
        }
    )
    if "release" in places:
        table["release" if form is None else "released"] = np.array(releases, np.float64)
    return table


def items_of_events(collector: Collector, source: str) -> pd.DataFrame | None:
    """The table of items that columns of the events themselves make up; None if there are no such columns.

    Raises:
        DataError: If the year of an item is none.
    """
    if not collector.attributes:
        return None
    names = list(collector.attributes)
    places = {"id": 0} | {name: number for number, name in enumerate(names, start=1)}
    rows = []
    for code, key in enumerate(collector.items.texts()):
        fields = [key, *(collector.attributes[name].get(code, "") for name in names)]
        try:
            rows.append(_item(fields, places, (), len(fields))[1])
        except RowProblemError as problem:
            raise DataError(f"{source}, item {short(key)}: {problem}") from None
    titles, genres, years, _ = zip(*rows, strict=True)
    return pd.DataFrame(
        {
            "id": _column(collector.items.texts()),
            "title": pd.Series(titles, dtype="str"),
            "genres": pd.Series(genres, dtype="str"),
            "year": pd.array(list(years), "Int64"),
        }
    )


def _checked(fields: Sequence[str] | RowProblemError, width: int) -> Sequence[str]:
    if isinstance(fields, RowProblemError):
        raise fields
    if len(fields) != width:
        raise RowProblemError(f"has {len(fields)} fields; allowed: {width}")
    return fields


def _new(known: bool, role: str, key: str) -> None:  # noqa: FBT001 (internal)
    if known:
        raise RowProblemError(f"{role} {short(key)} is there twice; allowed: a row each")


def _column(ids: list[str]) -> pd.Series:
    return pd.Series(canonical(ids).tolist(), dtype=None if ids else "str")


def _placed(names: Sequence[str], label: str) -> dict[str, int]:
    known = [plain(name) for name in names]
    places = {
        role: next((known.index(usual) for usual in all_of if usual in known), None)
        for role, all_of in _USUAL.items()
    }
    if places["id"] is None:
        raise DataError(f"{label}, line 1: no column for the item; usual names are {', '.join(_USUAL['id'])}")
    return {role: place for role, place in places.items() if place is not None}


def _item(
    fields: Sequence[str], places: dict[str, int], flag_names: Sequence[str], named: int
) -> tuple[str, tuple[str, str, int | None, float]]:
    key = identifier(fields[places["id"]], "item")
    title = fields[places["title"]].strip() if "title" in places else ""
    year: int | None = None
    if "year" in places:
        text = fields[places["year"]].strip()
        year = int(number(text, "year", 9999)) if text else None
    elif dated := _TITLE.fullmatch(title):
        title, year = dated["title"] + dated["rest"], int(dated["year"])
    release = _release(fields[places["release"]].strip()) if "release" in places else np.nan
    if year is None and flag_names and release == release:  # noqa: PLR0124 (not NaN)
        year = dt.datetime.fromtimestamp(release, dt.UTC).year
    if flag_names:
        flags = zip(flag_names, fields[named:], strict=True)
        genres = "|".join(name for name, flag in flags if flag.strip() == "1" and name not in _NO_GENRES)
    else:
        genres = fields[places["genres"]].strip() if "genres" in places else ""
    return key, (title, "" if genres in _NO_GENRES else genres, year, release)


@lru_cache(maxsize=4096)
def _release(text: str) -> float:
    """Seconds of a release time: a number, an ISO date, or ``01-Jan-1995``; NaN where there is none."""
    if not text:
        return float("nan")
    try:
        parsed = dt.datetime.strptime(text, "%d-%b-%Y").replace(tzinfo=dt.UTC)
    except ValueError:
        pass
    else:
        return max(parsed.timestamp(), 0.0)
    try:
        return number(text, "release", LATEST)
    except RowProblemError:
        return moment(text, "release")


def _flag_names(container: Container, member: str | None) -> tuple[str, ...]:
    if member is None:
        return _GENRES_100K
    text = _decoded(container, member)
    pairs = [line.rsplit("|", 1) for line in text.splitlines() if "|" in line]
    try:
        named = sorted((int(number_of), name) for name, number_of in pairs)
    except ValueError:
        raise DataError(f"{container.label(member)}: lines are not 'genre|number'") from None
    return tuple(name for _, name in named)


def _decoded(container: Container, member: str) -> str:
    """A small text: UTF-8, or else Latin-1, in which older MovieLens editions are written."""
    with container.open(member) as stream:
        blocks = b"".join(block.text for block in LineReader(stream))
    try:
        return blocks.decode()
    except UnicodeDecodeError:
        return blocks.decode("latin-1")


def _rows(
    container: Container, member: str, form: TableFormat | None
) -> tuple[tuple[str, ...], Iterator[tuple[int, Sequence[str] | RowProblemError]]]:
    """Names of the columns, and each row with its number."""
    if member.lower().endswith((".parquet", ".pq")):
        with container.open(member) as stream:
            table = table_of(in_memory(stream), container.label(member))
        columns = [
            ["" if value is None else str(value) for value in column.to_pylist()] for column in table.columns
        ]
        return tuple(table.column_names), iter(enumerate(zip(*columns, strict=True), start=1))
    lines = _decoded(container, member).split("\n")
    if form is not None:
        return form.names, _cut(lines, 1, form.separator, quoted=False)
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise DataError(f"{container.label(member)}: is empty; allowed: a header and a row an item")
    separator = max(SEPARATORS, key=lines[first].count)
    try:
        header = fields_of(lines[first], separator, quoted=True)
    except RowProblemError as problem:
        raise DataError(f"{container.label(member)}, line {first + 1}: {problem}") from None
    return tuple(name.strip() for name in header), _cut(lines[first + 1 :], first + 2, separator, quoted=True)


def _cut(
    lines: list[str], start: int, separator: str, *, quoted: bool
) -> Iterator[tuple[int, Sequence[str] | RowProblemError]]:
    for line_number, line in enumerate(lines, start=start):
        if not line:
            continue
        try:
            fields = fields_of(line, separator, quoted=quoted)
        except RowProblemError as problem:
            yield line_number, problem
            continue
        yield line_number, fields


def _plain_users(table: pa.Table, label: str) -> pd.DataFrame:
    keys: dict[str, None] = {}
    for row, found in enumerate(table["id"].to_pylist(), start=1):
        try:
            key = identifier(str(found), "user")
            _new(key in keys, "user", key)
        except RowProblemError as problem:
            raise DataError(f"{label}, line {row}: {problem}") from None
        keys[key] = None
    names = [name for name in dict.fromkeys(table.column_names) if name != "id"]
    return pd.DataFrame({"id": _column(list(keys)), **{name: table[name].to_pandas() for name in names}})


def read_users(
    container: Container, member: str, form: TableFormat | None, collector: Collector
) -> pd.DataFrame:
    """Read a table of users: ``id``, and the other columns as text (of Parquet: as they are)."""
    label = container.label(member)
    if form is None and member.lower().endswith(".parquet"):
        with container.open(member) as stream:
            table = table_of(in_memory(stream), label)
        if table.column_names.count("id") != 1:
            raise DataError(f"{label}: no column 'id'; found {', '.join(table.column_names[:8])}")
        return _plain_users(table, label)
    names, rows = _rows(container, member, form)
    if "id" not in names:
        raise DataError(f"{label}: no column 'id'; found {', '.join(names[:8])}")
    found: dict[str, Sequence[str]] = {}
    for line, fields in rows:
        try:
            fields = _checked(fields, len(names))  # noqa: PLW2901 (the same row, checked)
            key = identifier(fields[names.index("id")], "user")
            _new(key in found, "user", key)
        except RowProblemError as problem:
            collector.bad(label, line, str(problem))
            continue
        found[key] = fields
    texts = {
        name: pd.Series([fields[place].strip() for fields in found.values()], dtype="str")
        for place, name in enumerate(names)
        if name != "id"
    }
    return pd.DataFrame({"id": _column(list(found)), **texts})
