"""Which columns of an observed table are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rimsim.data.readers.columns import (
    USUAL,
    first_of,
    nothing_for,
    parsed_roles,
    place_of_column,
    require_one_role,
    words,
)
from rimsim.data.readers.rows import LARGEST_VALUE, LATEST, UNITS
from rimsim.errors import ConfigError

if TYPE_CHECKING:
    from rimsim.data.readers.columns import Role
    from rimsim.data.readers.observed.layouts import ObservedLayout


NEEDED: Final[tuple[Role, ...]] = ("user", "item", "value")
"""Roles without which there is no answer."""
LARGEST_TIME: Final = LATEST * UNITS["ns"]
"""The largest number that may stand for a time, in any unit."""
_USUAL: Final[dict[Role, tuple[str, ...]]] = USUAL | {
    "value": USUAL["value"]
    + words("watchratio isclick click longview answer response reward label taken probability")
}


@dataclass(frozen=True)
class Wanted:
    """Which columns to read."""

    columns: dict[Role, str | int] | None
    """Role → name, or position from 1; None: usual names."""
    separator: str | None
    """Between fields of a text; None: found by itself."""
    largest: float
    """No value is larger."""
    time: str | None = None
    """Column of times, which may be absent."""

    @classmethod
    def of(
        cls, layout: ObservedLayout, columns: str | None, value: str | None, separator: str | None
    ) -> Wanted:
        """What a layout says, and the caller in its place.

        Raises:
            ConfigError: If the columns are not understood.
        """
        if columns is not None:
            given = parsed_roles(columns, NEEDED if value is None else NEEDED[:2])
            if value is not None and given.setdefault("value", value) != value:
                raise ConfigError(
                    f"value is {value!r}, but columns say {given['value']!r}; allowed: one of them"
                )
            return cls(given, separator, LARGEST_VALUE)
        if layout.columns is None:
            return cls(None if value is None else {"value": value}, separator, layout.largest)
        found: dict[Role, str | int] = dict(zip(NEEDED, layout.columns, strict=True))
        if value is not None:
            found["value"] = value
        own = value is None or value in layout.columns
        largest = layout.largest if own else LARGEST_VALUE
        return cls(found, separator or layout.separator, largest, layout.time)

    def positional(self) -> bool:
        """Whether user, item and value are given by position, so that there may be no header."""
        return self.columns is not None and all(isinstance(self.columns.get(role), int) for role in NEEDED)

    def places(self, names: Sequence[str], where: str) -> dict[str, int]:
        """Role → where it stands in a row, from 0.

        Args:
            names: The header.
            where: File and line for messages.

        Raises:
            DataError: If a column is missing, or taken for two roles.
        """
        found: dict[str, int] = {}
        for role, usual in _USUAL.items():
            if self.columns is not None and role in self.columns:
                found[role] = place_of_column(names, self.columns[role], role, where)
            elif self.columns is None or "user" not in self.columns:
                place = first_of(usual, names)
                if place is not None:
                    found[role] = place
        if self.time in names:
            found["time"] = names.index(self.time)
        if lacking := [role for role in NEEDED if role not in found]:
            raise nothing_for(names, lacking, where, _USUAL, NEEDED)
        require_one_role(names, list(found.values()), where)
        return found
