"""Folders and zips whose layout is known: every MovieLens edition, and what rimsim itself writes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from rimsim.data.readers.attributes import TableFormat
from rimsim.data.readers.columns import Positions
from rimsim.data.readers.dialect import Dialect
from rimsim.errors import DataError, nearest

_FOUR: Final = ("user", "item", "rating", "timestamp")


@dataclass(frozen=True)
class Layout:
    """File names of a layout and how the files are written; None for what a header says."""

    name: str
    events: str
    items: str | None = None
    users: str | None = None
    genres: str | None = None
    dialect: Dialect | None = None
    items_form: TableFormat | None = None
    users_form: TableFormat | None = None


@dataclass(frozen=True)
class LogMembers:
    """The members of a container that make up a log."""

    layout: Layout
    events: str
    items: str | None = None
    users: str | None = None
    genres: str | None = None


_DATED = TableFormat("|", ("id", "title", "release", "video", "url"), flags=True)
_COLONS = Dialect("::", quoted=False, positions=Positions(0, 1, 3, 2, _FOUR), header=False)
_FILMS = TableFormat("::", ("id", "title", "genres"))

LAYOUTS: Final = (
    Layout(
        "MovieLens 100K",
        "u.data",
        "u.item",
        "u.user",
        "u.genre",
        Dialect("\t", quoted=False, positions=Positions(0, 1, 3, 2, _FOUR), header=False),
        _DATED,
        TableFormat("|", ("id", "age", "gender", "occupation", "zip")),
    ),
    Layout(
        "MovieLens 1M",
        "ratings.dat",
        "movies.dat",
        "users.dat",
        None,
        _COLONS,
        _FILMS,
        TableFormat("::", ("id", "gender", "age", "occupation", "zip")),
    ),
    *(
        Layout(f"MovieLens {suffix}", f"ratings.{ending}", f"movies.{ending}")
        for suffix, ending in (("CSV", "csv"), ("Parquet", "parquet"), ("CSV", "csv.gz"))
    ),
    Layout("rimsim", "events.parquet", "items.parquet", "users.parquet"),
    Layout("rimsim", "events.csv", "items.csv", "users.csv"),
)

_ENDINGS: Final = (".csv", ".tsv", ".txt", ".dat", ".data", ".inter", ".parquet", ".pq")
_PACKED: Final = (".gz", ".bz2", ".xz")


def _named(layout: Layout, has_users: bool) -> Layout:  # noqa: FBT001 (internal)
    """10M has the layout of 1M without a table of users."""
    if layout.name != "MovieLens 1M" or has_users:
        return layout
    return Layout("MovieLens 10M", layout.events, layout.items, None, None, layout.dialect, layout.items_form)


def find(members: Iterable[str], name: str, only: str | None = None) -> LogMembers:
    """Find the log in a container.

    Args:
        members: Names of its files.
        name: How messages call it.
        only: The one file that was asked for, if it was one.

    Raises:
        DataError: If there is no log, or more than one.
    """
    known = set(members)
    if only is not None and only not in known:
        raise DataError(f"{name}: no member {only!r}.{nearest(only, known)}")
    candidates = sorted(known) if only is None else [only]
    choices = [choice for member in candidates if (choice := _known_layout(member, known)) is not None]
    if only is not None:
        return choices[0] if choices else LogMembers(Layout("file", only), only)
    if not choices:
        logs = [member for member in sorted(known) if _may_be_log(member)]
        if not logs:
            seen = ", ".join(sorted(known)[:8]) or "nothing"
            raise DataError(
                f"{name}: no log in it; found {seen}; allowed: {_allowed()}, or one file of events"
            )
        choices = [LogMembers(Layout("file", member), member) for member in logs]
    if len(choices) > 1:
        names = ", ".join(choice.events for choice in choices[:8])
        raise DataError(
            f"{name}: more than one log in it ({names}); say which, such as {name}/{choices[0].events}"
        )
    return choices[0]


def _known_layout(member: str, known: set[str]) -> LogMembers | None:
    """The layout whose events a file holds by its name, with the files beside it."""
    path = PurePosixPath(member)
    layout = next((layout for layout in LAYOUTS if layout.events == path.name.lower()), None)
    if layout is None:
        return None
    names = {other.lower(): other for other in sorted(known, reverse=True)}

    def beside(file: str | None) -> str | None:
        return None if file is None else names.get(str(path.with_name(file)).lower())

    users = beside(layout.users)
    return LogMembers(
        _named(layout, users is not None), member, beside(layout.items), users, beside(layout.genres)
    )


def _may_be_log(member: str) -> bool:
    path = PurePosixPath(member.lower())
    while path.suffix in _PACKED:
        path = path.with_suffix("")
    return path.suffix in _ENDINGS and not path.name.startswith((".", "readme", "license", "notice"))


def _allowed() -> str:
    return ", ".join(dict.fromkeys(layout.events for layout in LAYOUTS))
