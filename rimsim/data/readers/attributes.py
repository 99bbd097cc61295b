"""Tables of items and users that come beside the events: titles, genres, years, release times."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Container as Known
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeVar

import numpy as np
import pandas as pd

from rimsim.data.readers.columns import first_of, words
from rimsim.data.readers.containers import in_memory
from rimsim.data.readers.dialect import SEPARATORS, fields_of
from rimsim.data.readers.ids import canonical
from rimsim.data.readers.lines import LineReader
from rimsim.data.readers.parquet import table_of
from rimsim.data.readers.rows import LATEST, RowProblemError, identifier, moment, number, short
from rimsim.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from rimsim.data.readers.collect import Collector
    from rimsim.data.readers.containers import Container


_TITLE = re.compile(
    r"(?P<title>.*\S)\s*\((?P<year>\d{4})(?:[-–]\s?\d{0,4})?\)(?P<rest>(?:\s*\([A-Z]+\))?)\s*"
)
_NO_GENRES: Final = frozenset({"(no genres listed)", "unknown"})
_USUAL: Final[dict[str, tuple[str, ...]]] = {
    "id": words("movieid itemid productid articleid trackid bookid videoid asin id item"),
    "title": words("title movietitle itemname name"),
    "genres": words("genres genre categories category class"),
    "year": words("year releaseyear"),
    "release": words("release releasetime released releasedate"),
}
_GENRES_100K: Final = words(
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror "
    "Musical Mystery Romance Sci-Fi Thriller War Western"
)
"""The order of flags in u.item, as u.genre of MovieLens 100K states it."""


Rows: TypeAlias = "Iterator[tuple[int, Sequence[str] | RowProblemError]]"
"""Each row with its line, or what is wrong with it."""
T = TypeVar("T")


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

    def item(fields: Sequence[str]) -> Item:
        return _item(fields, places, flag_names, len(names))

    item_of = _by_id(rows, places["id"], width, "item", label, collector, item)
    table = _item_table(list(item_of), list(item_of.values()))
    if "release" in places:
        column = "release" if form is None else "released"
        table[column] = np.array([row.release for row in item_of.values()], np.float64)
    return table


def items_of_events(collector: Collector, source: str) -> pd.DataFrame | None:
    """The table of items that columns of the events themselves make up; None if there are no such columns.

    Raises:
        DataError: If the year of an item is none.
    """
    if not collector.attributes:
        return None
    names = list(collector.attributes)
    places = {name: number for number, name in enumerate(names)}
    ids, rows = collector.items.texts(), []
    for code, key in enumerate(ids):
        fields = [collector.attributes[name].get(code, "") for name in names]
        try:
            rows.append(_item(fields, places, (), len(fields)))
        except RowProblemError as problem:
            raise DataError(f"{source}, item {short(key)}: {problem}") from None
    return _item_table(ids, rows)


class Item(NamedTuple):
    """A row of a table of items, beside its id."""

    title: str
    genres: str
    year: int | None
    release: float


def _item_table(ids: list[str], rows: list[Item]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": _column(ids),
            "title": pd.Series([row.title for row in rows], dtype="str"),
            "genres": pd.Series([row.genres for row in rows], dtype="str"),
            "year": pd.array([row.year for row in rows], "Int64"),
        }
    )


def _by_id(
    rows: Rows,
    place: int,
    width: int,
    role: str,
    label: str,
    collector: Collector,
    read: Callable[[Sequence[str]], T],
) -> dict[str, T]:
    """Id → what is read of its row; what is wrong with the others goes to the collector."""
    by_id: dict[str, T] = {}
    for line, fields in rows:
        try:
            if isinstance(fields, RowProblemError):
                raise fields
            if len(fields) != width:
                raise RowProblemError(f"has {len(fields)} fields; allowed: {width}")  # noqa: TRY301
            key = _new_id(fields[place], by_id, role)
            by_id[key] = read(fields)
        except RowProblemError as problem:
            collector.bad(label, line, str(problem))
    return by_id


def _new_id(text: str, known: Known[str], role: str) -> str:
    key = identifier(text, role)
    if key in known:
        raise RowProblemError(f"{role} {short(key)} is there twice; allowed: a row each")
    return key


def _column(ids: list[str]) -> pd.Series:
    return pd.Series(canonical(ids).tolist(), dtype=None if ids else "str")


def _placed(names: Sequence[str], label: str) -> dict[str, int]:
    places = {role: first_of(usual, names) for role, usual in _USUAL.items()}
    if places["id"] is None:
        raise DataError(f"{label}, line 1: no column for the item; usual names are {', '.join(_USUAL['id'])}")
    return {role: place for role, place in places.items() if place is not None}


def _item(fields: Sequence[str], places: dict[str, int], flag_names: Sequence[str], named: int) -> Item:
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
    return Item(title, "" if genres in _NO_GENRES else genres, year, release)


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


def _rows(container: Container, member: str, form: TableFormat | None) -> tuple[tuple[str, ...], Rows]:
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


def _cut(lines: list[str], start: int, separator: str, *, quoted: bool) -> Rows:
    for number_of, line in enumerate(lines, start=start):
        if line:
            try:
                yield number_of, fields_of(line, separator, quoted=quoted)
            except RowProblemError as problem:
                yield number_of, problem


def _plain_users(table: pa.Table, label: str) -> pd.DataFrame:
    keys: dict[str, None] = {}
    for row, word in enumerate(table["id"].to_pylist(), start=1):
        try:
            keys[_new_id(str(word), keys, "user")] = None
        except RowProblemError as problem:
            raise DataError(f"{label}, line {row}: {problem}") from None
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
    fields_of_user = _by_id(rows, names.index("id"), len(names), "user", label, collector, list)
    texts = {
        name: pd.Series([fields[place].strip() for fields in fields_of_user.values()], dtype="str")
        for place, name in enumerate(names)
        if name != "id"
    }
    return pd.DataFrame({"id": _column(list(fields_of_user)), **texts})
