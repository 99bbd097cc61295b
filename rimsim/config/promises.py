"""Groups and campaigns of a scenario, as typed, frozen records."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer
from pydantic.dataclasses import dataclass

from rimsim.config.fields import STRICT
from rimsim.errors import ConfigError


def _texts(value: object) -> tuple[str, ...]:
    """Texts of a table value or list; 1995.0 is "1995"."""
    values = value if isinstance(value, list | tuple) else [value]
    if not values or not all(isinstance(one, str | int | float) for one in values):
        raise ValueError(f"found {value!r}; allowed: a value, or a list of at least one")
    return tuple(str(int(one)) if isinstance(one, float) and one == int(one) else str(one) for one in values)


def _filter(value: object) -> object:
    """Pairs of a mapping, which a frozen record can hold."""
    if isinstance(value, tuple):
        return value
    if not isinstance(value, dict):
        raise ValueError(  # noqa: TRY004  # pydantic takes no TypeError
            f"found {value!r}; allowed: a mapping of columns to values, such as {{year: 1995}}"
        )
    return tuple((str(column), _texts(values)) for column, values in value.items())


def _item_choice(value: object) -> object:
    """Items of a campaign: ``new``, a filter, or ids."""
    if value == "new":
        return value
    if value and (isinstance(value, dict) or (isinstance(value, tuple) and isinstance(value[0], tuple))):
        return _filter(value)
    return _texts(value)


def _plain(value: object) -> object:
    """Value of :func:`_item_choice` or :func:`_filter` for YAML."""
    if isinstance(value, tuple) and all(isinstance(one, tuple) for one in value):
        return {column: list(values) for column, values in value}
    return list(value) if isinstance(value, tuple) else value


Filter = Annotated[
    tuple[tuple[str, tuple[str, ...]], ...],
    BeforeValidator(_filter, json_schema_input_type=dict[str, Any]),
    PlainSerializer(_plain, return_type=dict[str, Any]),
]
"""Rows of a table: for each column, the values that are taken. All columns must agree."""
ItemChoice = Annotated[
    Literal["new"] | tuple[str, ...] | tuple[tuple[str, tuple[str, ...]], ...],
    BeforeValidator(_item_choice, json_schema_input_type=Any),
    PlainSerializer(_plain, return_type=Any),
]
"""Items of the catalogue: ids, a filter of the item table, or ``new``."""


@dataclass(frozen=True, config=STRICT)
class AudienceConfig:
    """Visits that count; all conditions must hold."""

    visits: Literal["all", "first", "returning"] = "all"
    """first: visits without a known history. returning: all others."""
    users: Filter = ()
    """Values of columns of the user table, such as `{gender: F, age: [18, 25]}`; a clone has those of its user."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the log's users, drawn by the seed of arrivals."""


@dataclass(frozen=True, config=STRICT)
class CampaignConfig:
    """Exposures, or a share, required of some items together.

    They count within a time and among an audience. Each round that the campaign touches asks for its part, and for what
    rounds before it left undelivered.
    """

    name: str = Field(min_length=1)
    """Name of the campaign, in tables and errors."""
    items: ItemChoice = Field()
    """Ids of the catalogue, values of columns of the item table such as `{genres: Horror}`, or `new`: all items
    released after the opening.
    """
    exposures: int | None = Field(default=None, ge=1)
    """Guaranteed exposures in total, spread evenly over the campaign's period."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Share of the audience's positions in the campaign's period, instead of a number."""
    start: float = Field(default=0.0, ge=0)
    """Start, in days since the opening."""
    stop: float | None = Field(default=None, gt=0)
    """End, in days since the opening; null: the end of the run (only with a share)."""
    audience: AudienceConfig = AudienceConfig()
    """Visitors that count."""

    def __post_init__(self) -> None:
        if (self.exposures is None) == (self.share is None):
            found = "neither" if self.share is None else "both"
            raise ConfigError(
                f"campaign {self.name!r}: found {found} of exposures and share; allowed: one of the two"
            )
        if self.exposures is not None and self.stop is None:
            raise ConfigError(
                f"campaign {self.name!r}: exposures {self.exposures} without a stop; allowed: the day on which they "
                "must have been delivered"
            )
        if self.stop is not None and self.stop <= self.start:
            raise ConfigError(
                f"campaign {self.name!r}: stop is {self.stop:g} with start {self.start:g}; allowed: a later day"
            )


@dataclass(frozen=True, config=STRICT)
class GroupConfig:
    """Share of uniform exposure for items of equal column value."""

    column: str = Field(min_length=1)
    """Column of the item table, such as `genres`; an item with several genres counts in each."""
    beta: float = Field(gt=0, le=1)
    """β of the group: guaranteed share of the joint uniform exposure of its items."""
    values: tuple[str, ...] | None = None
    """Values that form groups; null: all values of the column."""
