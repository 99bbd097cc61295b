"""Types of fields that pydantic does not have: durations, times, and options of a thing of one's own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, ConfigDict, PlainSerializer

from rimsim.durations import duration_seconds
from rimsim.errors import ConfigError

STRICT = ConfigDict(extra="forbid")


def _is_duration(value: object) -> object:
    """Before its type is looked at, so that a bare number, as YAML makes of ``5``, is told that it lacks a unit."""
    if isinstance(value, (str, int, float)):
        duration_seconds(str(value))
    return value


Duration = Annotated[str, BeforeValidator(_is_duration)]
Period = Annotated[str, BeforeValidator(lambda value: value if value == "round" else _is_duration(value))]


def _is_time(value: object) -> object:
    """What ``load`` takes for a time; YAML makes dates of what looks like one."""
    from rimsim.data.readers.rows import seconds  # noqa: PLC0415  # readers load only for who selects by time

    if isinstance(value, dt.date):
        return value.isoformat()
    try:
        seconds(cast("float | str | None", value), "the time")
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return value


Time = Annotated[float | str | None, BeforeValidator(_is_time)]


def _pairs(options: object) -> object:
    """A mapping as pairs, and lists in it as tuples: what a frozen record can hold."""
    if isinstance(options, dict):
        if any(isinstance(value, dict) for value in options.values()):
            raise ValueError("an option is a mapping; allowed: numbers, texts and lists of them")
        return tuple((name, _pairs(value)) for name, value in options.items())
    return tuple(_pairs(value) for value in options) if isinstance(options, list) else options


Options = Annotated[
    tuple[tuple[str, Any], ...],
    BeforeValidator(_pairs, json_schema_input_type=dict[str, Any]),
    PlainSerializer(dict, return_type=dict[str, Any]),
]
"""Options of a thing of one's own: a mapping in YAML, pairs of name and value in the record."""


def require_distinct(record: object, names: Iterable[str]) -> None:
    """Refuse a record in which a sequence holds a value twice.

    Args:
        record: The record.
        names: Of its fields that are sequences.

    Raises:
        ConfigError: If one does.
    """
    for name in names:
        values = getattr(record, name)
        if len(set(values)) != len(values):
            raise ConfigError(f"{name}: {list(values)} holds a value twice; allowed: distinct values")
