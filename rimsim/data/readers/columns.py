"""Roles of columns, for events, answers and impressions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Final, Literal, TypeAlias, TypeVar, get_args

import numpy as np

from rimsim.errors import ConfigError, DataError, nearest, refuse

Role: TypeAlias = Literal[
    "user", "item", "time", "value", "taken", "shown", "position", "policy", "propensity"
]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
ANSWER_ROLES: Final[tuple[Role, ...]] = ("taken", "shown", "position", "policy", "propensity")
"""Roles of a log whose rows are impressions; all but the first need a column for the first."""

_USUAL: Final[dict[Role, str]] = {
    "user": "userid user uid customerid customer visitorid visitor memberid reviewerid profileid accountid clientid "
    "client useridx msno readerid personid person",
    "item": "itemid item iid movieid movie productid product asin parentasin articleid article clickarticleid sku "
    "trackid track songid song bookid book isbn videoid video newsid news businessid contentid content gameid game "
    "animeid recipeid postid listingid offerid hotelid venueid artistid itemidx title",
    "time": "timestamp time ts unixtime unixreviewtime eventtime eventtimestamp timestampms timems datetime date "
    "createdat created ratedat clicktime clicktimestamp when at t",
    "value": "rating ratings value score stars overall preference weight strength vote playcount plays count",
    "taken": "isclick isclicked clicked click istaken taken",
    "shown": "isshown shown isimpression isexposed exposed",
    "position": "position rank slot",
    "policy": "policy policyid policyname tab",
    "propensity": "propensity propensityscore pscore",
}
USUAL: Final[dict[Role, tuple[str, ...]]] = {role: tuple(names.split()) for role, names in _USUAL.items()}
"""Usual names in order of preference, in the form that :func:`plain_name` gives."""
ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {
    "title": ("title", "movietitle", "itemtitle", "itemname", "productname"),
    "genres": ("genres", "genre", "categories", "category"),
    "year": ("year", "releaseyear", "movieyear"),
}
"""Usual names of columns that describe items, in a table of events."""
DescribingRole: TypeAlias = Literal["quantity", "price"]
DESCRIBING_ROLES: Final[tuple[DescribingRole, ...]] = get_args(DescribingRole)
"""Roles of columns that do not change an event; such a column may also be an attribute of items."""
_QUANTITIES: Final = (
    "quantity qty orderquantity orderqty quantityordered quantitysold orderedquantity itemquantity units unitssold "
    "pieces menge anzahl stueck stck stueckzahl stckzahl bestellmenge cantidad unidades quantite quantit quantita "
    "quantidade aantal ilosc"
)
QUANTITIES: Final = tuple(_QUANTITIES.split())
"""Usual names of columns of quantities, in order of preference; a negative quantity is a return."""
PRICES: Final = (
    *("price", "unitprice", "itemprice", "productprice", "saleprice", "sellingprice", "listprice"),
    *("priceusd", "priceeur", "pricegbp", "preis", "einzelpreis", "stueckpreis", "verkaufspreis"),
)
"""Usual names of price columns, in order of preference."""


@dataclass(frozen=True)
class TableKind:
    """Kind of table: events of a log, or observed answers."""

    rows: str
    """Word for rows of the table in messages."""
    table: str
    """Name of the table in messages."""
    roles: tuple[Role, ...]
    """Roles of columns; the first three are needed. If a line has several problems, the message is about the first of
    these roles."""
    usual: Mapping[Role, Sequence[str]]
    """Usual names of the column of each role."""
    example: str
    """Example of columns given by position, used in messages."""
    value_type: type[np.floating]
    """NumPy type in which the value column is stored."""
    describes_items: bool = False
    """True if other columns may describe the items."""

    @property
    def needed(self) -> tuple[Role, ...]:
        """Roles that must have a column."""
        return self.roles[:3]

    def missing(self, names: Sequence[str]) -> list[Role]:
        """Needed roles for which a header has no usual name."""
        return [role for role in self.needed if first_of(self.usual[role], names) is None]


EVENTS: Final = TableKind(
    rows="events",
    table="log",
    roles=ROLES,
    usual=USUAL,
    example="'user,item,value,time' ('-' for others)",
    value_type=np.float32,
    describes_items=True,
)
"""Kind of table: events of a log."""
_VALUES: Final = "watchratio isclick click longview answer response reward label taken probability"
"""Further usual names of the column of observed values."""
ANSWERS: Final = TableKind(
    rows="answers",
    table="table",
    roles=("user", "item", "value", "time"),
    usual=USUAL | {"value": (*USUAL["value"], *_VALUES.split())},
    example="'user,item,value'",
    value_type=np.float64,
)
"""Kind of table: observed answers of users to items."""


NamedRole = TypeVar("NamedRole", bound=str)


def parsed_roles(
    text: str, needed: Sequence[NamedRole], roles: Sequence[NamedRole]
) -> dict[NamedRole, str | int]:
    """Columns by role, from ``user=who,item=what,time=at`` or ``user,item,-,time``.

    A column is a name or a position from 1.

    Args:
        needed: Roles that the text must name.
        roles: Roles that the text may name.

    Raises:
        ConfigError: If a role is unknown, or given twice, or a needed role is missing.
    """
    column_of: dict[NamedRole, str | int] = {}
    for position, part in enumerate(text.split(","), start=1):
        role_or_column, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals and role_or_column in ("", "-", "_"):
            continue
        # Without an equals sign, the text is a role, and its position is that of the column.
        role = next((candidate for candidate in roles if candidate == role_or_column), None)
        if role is None or (equals and not column):
            raise ConfigError(
                f"columns: {part.strip()!r} does not have the form ROLE=COLUMN, such as "
                f"user=uid.{nearest(role_or_column, roles)}"
            )
        if role in column_of:
            raise ConfigError(f"columns: {text!r} names two columns for the {role}. Name only one column")
        if not equals:
            column_of[role] = position
        else:
            column_of[role] = int(column) if column.isdecimal() else column
    if missing_roles := [role for role in needed if role not in column_of]:
        raise ConfigError(
            f"columns: {text!r} does not name {' or '.join(missing_roles)}. Name {', '.join(needed[:-1])} and "
            f"{needed[-1]}"
        )
    return column_of


@dataclass(frozen=True)
class Columns:
    """Column of each role: its name or position (from 1)."""

    user: str | int
    """Column of user ids."""
    item: str | int
    """Column of item ids."""
    time: str | int
    """Column of times."""
    value: str | int | None = None
    """Column of values, if any."""
    taken: str | int | None = None
    """Column that is 1 if the shown item was taken, else 0. With it, the rows are impressions, and the events are the
    taken rows."""
    shown: str | int | None = None
    """Column that is 0 for events that no impression caused, else 1. Without it, all rows are impressions."""
    position: str | int | None = None
    """Column of positions in the slate."""
    policy: str | int | None = None
    """Column of names of the policies that chose the items."""
    propensity: str | int | None = None
    """Column of probabilities with which the policy showed the item at its position."""
    quantity: str | int | None = None
    """Column of quantities; a negative quantity is a return."""
    price: str | int | None = None
    """Column of prices, in the log or in the table of items. It becomes the attribute ``price``."""

    def __post_init__(self) -> None:
        for role in ANSWER_ROLES[1:]:
            if getattr(self, role) is not None and self.taken is None:
                raise ConfigError(
                    f"columns: a column is named for the {role}, but none for taken. Add taken=COLUMN, a column that "
                    "is 1 if the shown item was taken, else 0"
                )

    @classmethod
    def parse(cls, text: str) -> Columns:
        """Columns from ``user=who,item=what,time=at`` or ``user,item,-,time``.

        Raises:
            ConfigError: If a role is unknown, given twice, or missing.
        """
        return cls(**parsed_roles(text, (*EVENTS.needed,), (*EVENTS.roles, *DESCRIBING_ROLES)))


@dataclass(frozen=True)
class ColumnRoles:
    """Columns by role, as given by the caller or layout."""

    kind: TableKind
    columns: Mapping[Role, str | int] = field(default_factory=dict)
    """Role → name in the header, or position from 1. If the role of users is absent, roles are found by usual names."""
    time: str | None = None
    """Name of the time column in a known layout; a file of this layout may lack the column."""
    describing: Mapping[DescribingRole, str | int] = field(default_factory=dict)
    """Columns of describing roles, as the caller named them; the others are found by usual names."""

    @classmethod
    def of_log(cls, columns: Columns | str | None) -> ColumnRoles:
        """Roles of a log's columns as the caller gave them."""
        columns = Columns.parse(columns) if isinstance(columns, str) else columns
        if columns is None:
            return cls(EVENTS)
        if not isinstance(columns, Columns):
            raise ConfigError(
                f"columns is {columns!r}. Expected text such as 'user=visitor,item=sku,time=at', or Columns"
            )
        column_of_role = asdict(columns)
        return cls(
            EVENTS,
            {role: column_of_role[role] for role in ROLES if column_of_role[role] is not None},
            describing={
                role: column_of_role[role] for role in DESCRIBING_ROLES if column_of_role[role] is not None
            },
        )

    def positional(self) -> bool:
        """True if all columns are given by position."""
        # Without a header, only positions can name columns.
        named = (*self.columns.values(), *self.describing.values())
        return "user" in self.columns and all(isinstance(column, int) for column in named)


@dataclass(frozen=True)
class ColumnPlaces:
    """Position of each role's field in a row, from 0."""

    of: Mapping[Role, int]
    """Role → position of its column."""
    names: tuple[str, ...]
    """Name of each field of a row: from the header, or ``column 1`` … where there is no header."""
    other_columns: Mapping[str, int] = field(default_factory=dict)
    """Name of a column without a role → its position. Such a column may describe items."""
    describing: Mapping[DescribingRole, str] = field(default_factory=dict)
    """Describing role → name of its column."""

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Roles and the names of their columns."""
        return tuple((role, self.names[self.of[role]]) for role in ROLES if role in self.of)

    def without_header(self) -> ColumnPlaces:
        """Places in a file whose columns have no names."""
        columns = self.describing.values()
        others = {name: place for name, place in self.other_columns.items() if name in columns}
        return replace(self, other_columns=others)

    def labels(self) -> dict[str, str]:
        """Role → its name in messages, with its column."""
        return {role: f"{role} (column {name!r})" for role, name in self.pairs()}


def plain_name(name: str) -> str:
    """Small letters and digits of a name, without its type."""
    return re.sub(r"[^a-z0-9]", "", name.partition(":")[0].lower())


def first_of(usual: Sequence[str], names: Sequence[str]) -> int | None:
    """Position of a column with a usual name, or None."""
    plain_names = [plain_name(name) for name in names]
    return next((plain_names.index(name) for name in usual if name in plain_names), None)


def resolve(names: Sequence[str], roles: ColumnRoles, location: str) -> ColumnPlaces:
    """Find the column of each role in a header.

    Raises:
        DataError: If a column is missing, or occurs twice, or is used for two roles.
    """
    names = tuple(name.strip() for name in names)
    kind = roles.kind
    repeated_names = sorted({name for name in names if name and names.count(name) > 1})
    if repeated_names and kind is EVENTS:
        refuse(DataError, location, f"column {repeated_names[0]!r} occurs twice", "different names")
    places: dict[Role, int] = {}
    for role in kind.roles:
        # The caller names all columns or none; without any, columns are found by their usual names.
        if role in roles.columns:
            places[role] = _place_of(names, roles.columns[role], role, location)
        elif "user" not in roles.columns and (place := _usual_place(kind, role, names, places)) is not None:
            places[role] = place
    if roles.time in names:
        places["time"] = names.index(roles.time)
    if missing_roles := [role for role in kind.needed if role not in places]:
        shown = ", ".join(repr(name) for name in names[:12]) + (", ..." if len(names) > 12 else "")
        missing_text = " and the ".join(missing_roles)
        usual_names = ", ".join(kind.usual[missing_roles[0]][:6])
        form = ",".join(f"{role}=…" for role in kind.needed)
        raise DataError(
            f"{location}: no column for the {missing_text} was found among {shown}. Usual names for the "
            f"{missing_roles[0]} are {usual_names}. Rename a column, or name them by --columns "
            f'"{form}" (in Python, columns="{form}")'
        )
    used_places = list(places.values())
    if len(set(used_places)) < len(used_places):
        shared_name = next(names[place] for place in used_places if used_places.count(place) > 1)
        refuse(DataError, location, f"column {shared_name!r} is named for two roles", "one role per column")
    if not kind.describes_items:
        return ColumnPlaces(places, names)
    other_columns = {name: place for place, name in enumerate(names) if name and place not in used_places}
    describing = _describing_columns(names, roles, location)
    price = describing.get("price")
    if price in names and (price not in other_columns or price == describing.get("quantity")):
        refuse(DataError, location, f"column {price!r} is named for two roles", "one role per column")
    return ColumnPlaces(places, names, other_columns, describing)


def _describing_columns(
    names: tuple[str, ...], roles: ColumnRoles, location: str
) -> dict[DescribingRole, str]:
    """Describing role → name of its column, if there is one."""
    columns: dict[DescribingRole, str] = {}
    for role, column in roles.describing.items():
        # Prices may stand in the table of items alone.
        is_elsewhere = role == "price" and isinstance(column, str) and column not in names
        columns[role] = str(column) if is_elsewhere else names[_place_of(names, column, role, location)]
    if "quantity" not in columns and (place := first_of(QUANTITIES, names)) is not None:
        columns["quantity"] = names[place]
    return columns


def _usual_place(kind: TableKind, role: Role, names: Sequence[str], places: Mapping[Role, int]) -> int | None:
    """Position of a role's column by usual names, or None."""
    usual = kind.usual[role]
    if role not in ANSWER_ROLES:
        return first_of(usual, names)
    # A rank or a tab describes an impression only where the log tells which items were taken. If two columns have usual
    # names, the log does not say which of them is meant.
    candidates = [place for place, name in enumerate(names) if plain_name(name) in usual]
    is_needless = role != "taken" and "taken" not in places
    return candidates[0] if len(candidates) == 1 and not is_needless else None


def _place_of(names: tuple[str, ...], column: str | int, role: str, location: str) -> int:
    """Position of a given column in a header, from 0."""
    if isinstance(column, int):
        if not 1 <= column <= len(names):
            problem = f"column {column} for the {role} does not exist"
            refuse(DataError, location, problem, f"1 to {len(names)}")
        return column - 1
    if column not in names:
        raise DataError(
            f"{location}: there is no column {column!r} to read the {role} from.{nearest(column, names)}"
        )
    return names.index(column)
