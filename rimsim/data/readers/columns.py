"""Which column is the user, the item, the time, the value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from rimsim.errors import ConfigError, DataError, nearest

Role: TypeAlias = Literal["user", "item", "time", "value"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)


def words(text: str) -> tuple[str, ...]:
    """The words of a text, which is shorter to read than a list of them."""
    return tuple(text.split())


USUAL: Final[dict[Role, tuple[str, ...]]] = {
    "user": words(
        "userid user uid customerid customer visitorid visitor memberid reviewerid profileid accountid "
        "clientid client useridx msno readerid personid person"
    ),
    "item": words(
        "itemid item iid movieid movie productid product asin parentasin articleid article sku trackid "
        "track songid song bookid book isbn videoid video newsid news businessid contentid content "
        "gameid game animeid recipeid postid listingid offerid hotelid venueid artistid itemidx title"
    ),
    "time": words(
        "timestamp time ts unixtime unixreviewtime eventtime eventtimestamp timestampms timems datetime "
        "date createdat created ratedat clicktime when at t"
    ),
    "value": words(
        "rating ratings value score stars overall preference weight strength vote playcount plays count"
    ),
}
"""Usual names in order of preference, in small letters and digits alone."""

ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {
    "title": ("title", "movietitle", "itemtitle", "itemname", "productname"),
    "genres": ("genres", "genre", "categories", "category"),
    "year": ("year", "releaseyear", "movieyear"),
}
"""Usual names of columns that say something of the item of each event."""


def parsed_roles(text: str, needed: Sequence[Role]) -> dict[Role, str | int]:
    """Read ``user=visitor,item=sku,time=at`` (names or positions from 1), or ``user,item,-,time`` (by position).

    Args:
        text: What the caller wrote.
        needed: Roles that must be given a column.

    Returns:
        Role → the name or the position of its column.

    Raises:
        ConfigError: If a role is unknown, doubled or missing.
    """
    column_of: dict[Role, str | int] = {}
    for position, part in enumerate(text.split(","), start=1):
        left, equals, right = (piece.strip() for piece in part.partition("="))
        if not equals and left in ("", "-", "_"):
            continue
        role = next((known for known in ROLES if known == left), None)
        if role is None or (equals and not right):
            raise ConfigError(f"columns: {part.strip()!r} is not understood.{nearest(left, ROLES)}")
        if role in column_of:
            raise ConfigError(f"columns: {role} is given twice in {text!r}")
        column_of[role] = (int(right) if right.isdecimal() else right) if equals else position
    if lacking := [role for role in needed if role not in column_of]:
        raise ConfigError(
            f"columns: {text!r} says nothing of {', '.join(lacking)}; {', '.join(needed[:-1])} and {needed[-1]} "
            f"are needed"
        )
    return column_of


@dataclass(frozen=True)
class Columns:
    """Which column to read for each role: a name from the header, or a position from 1."""

    user: str | int
    """Column of user ids."""
    item: str | int
    """Column of item ids."""
    time: str | int
    """Column of times."""
    value: str | int | None = None
    """Column of values, if any."""

    @classmethod
    def parse(cls, text: str) -> Columns:
        """Read ``user=visitor,item=sku,time=at`` (names or positions), or ``user,item,-,time`` (by position).

        Raises:
            ConfigError: If a role is unknown, doubled or missing.
        """
        column_of = parsed_roles(text, ROLES[:3])
        return cls(column_of["user"], column_of["item"], column_of["time"], column_of.get("value"))

    def positional(self) -> bool:
        """Whether all columns are given by position."""
        return all(not isinstance(column, str) for column in (self.user, self.item, self.time, self.value))


@dataclass(frozen=True)
class Positions:
    """Where the roles stand in a row, from 0."""

    user: int
    item: int
    time: int
    value: int | None
    names: tuple[str, ...]
    """The header, or ``column 1`` … where there is none; as many as a row has fields."""
    attributes: tuple[tuple[str, int], ...] = ()
    """What columns beside the roles say of the item (title, genres, year), and where they stand."""

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Roles and the names of their columns."""
        roles = (("user", self.user), ("item", self.item), ("time", self.time), ("value", self.value))
        return tuple((role, self.names[place]) for role, place in roles if place is not None)


def _plain(name: str) -> str:
    """A column name as it is compared: without a type after a colon, small letters and digits alone."""
    return re.sub(r"[^a-z0-9]", "", name.partition(":")[0].lower())


def first_of(usual: Sequence[str], names: Sequence[str]) -> int | None:
    """Where the first of some usual names stands in a header, or None."""
    known = [_plain(name) for name in names]
    return next((known.index(name) for name in usual if name in known), None)


def missing_roles(names: Sequence[str]) -> tuple[Role, ...]:
    """The roles among user, item and time for which no usual name is there."""
    return tuple(role for role in ROLES[:3] if first_of(USUAL[role], names) is None)


def resolve(names: Sequence[str], wanted: Columns | None, where: str) -> Positions:
    """Find the columns in a header.

    Args:
        names: The header.
        wanted: What the caller said, or None for the usual names.
        where: File and line for messages.

    Raises:
        DataError: If a column is missing, doubled, or used for two roles.
    """
    names = tuple(name.strip() for name in names)
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise DataError(f"{where}: column {twice[0]!r} is there twice; allowed: different names")
    if wanted is None:
        lacking = missing_roles(names)
        if lacking:
            raise nothing_for(names, lacking, where, USUAL, ROLES[:3])
        place_of = {role: first_of(USUAL[role], names) for role in ROLES}
    else:
        given = {"user": wanted.user, "item": wanted.item, "time": wanted.time, "value": wanted.value}
        place_of = {
            role: None if given[role] is None else place_of_column(names, given[role], role, where)
            for role in ROLES
        }
    places = [place for place in place_of.values() if place is not None]
    require_one_role(names, places, where)
    user, item, time = place_of["user"], place_of["item"], place_of["time"]
    if user is None or item is None or time is None:  # pragma: no cover (excluded above)
        raise DataError(f"{where}: user, item and time need a column each")
    attributes = {attribute: first_of(usual, names) for attribute, usual in ATTRIBUTES.items()}
    free = tuple((name, at) for name, at in attributes.items() if at is not None and at not in places)
    return Positions(user, item, time, place_of["value"], names, free)


def require_one_role(names: Sequence[str], places: Sequence[int], where: str) -> None:
    """Refuse a header of which a column, given by its place for each role, is taken for two roles.

    Raises:
        DataError: If one is.
    """
    if len(set(places)) < len(places):
        doubled = next(names[place] for place in places if places.count(place) > 1)
        raise DataError(f"{where}: column {doubled!r} is taken for two roles; allowed: one role a column")


def nothing_for(
    names: Sequence[str],
    lacking: Sequence[Role],
    where: str,
    usual: Mapping[Role, Sequence[str]],
    needed: Sequence[Role],
) -> DataError:
    """The error of a header that lacks columns of some of the needed roles; ``usual`` says usual names of each."""
    shown = ", ".join(repr(name) for name in names[:12]) + (", ..." if len(names) > 12 else "")
    return DataError(
        f"{where}: no column for the {' and the '.join(lacking)}; found {shown}; usual names for the {lacking[0]} are "
        f"{', '.join(usual[lacking[0]][:6])}; or say columns='{','.join(f'{role}=...' for role in needed)}'"
    )


def place_of_column(names: Sequence[str], column: str | int | None, role: str, where: str) -> int:
    """Where a column that the caller named, or gave by position from 1, stands in a header, from 0.

    Raises:
        DataError: If it is not there.
    """
    if isinstance(column, int):
        if not 1 <= column <= len(names):
            raise DataError(
                f"{where}: column {column} for the {role} is not there; allowed: 1 to {len(names)}"
            )
        return column - 1
    if column not in names:
        raise DataError(f"{where}: no column {column!r} for the {role}.{nearest(str(column), names)}")
    return names.index(str(column))
