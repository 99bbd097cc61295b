"""What is wrong with a config, in words: the field, what was found, and what its record allows."""

from __future__ import annotations

import difflib
import types
import typing
from typing import TYPE_CHECKING, Any

from rimsim.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import ValidationError

__all__ = ["refusal", "unknown_field"]

_UNKNOWN = {"unexpected_keyword_argument", "extra_forbidden", "invalid_key"}
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def refusal(
    error: ValidationError, record: type, *, origin: str, options: Mapping[str, str] | None = None
) -> ConfigError:
    """What to raise where values do not fit a record.

    Args:
        error: What pydantic found; its first finding is told.
        record: The record that the values were for.
        origin: Where they came from: a file, an option.
        options: Field → option of a command line that stands for it, which is then named in place of both.
    """
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"] if not isinstance(part, int)]
    path = ".".join(parts)
    if first["type"] in _UNKNOWN:
        return unknown_field(path or str(first["loc"][-1]), record, origin=origin)
    option = (options or {}).get(path)
    where = option or f"{origin}: field {path!r}"
    if first["type"] == "value_error":  # of a check of ours, which says what is allowed
        return ConfigError(f"{where}: {first['ctx']['error']}")
    middle = f": {first['input']!r}" if option else f" is {first['input']!r}"
    return ConfigError(f"{where}{middle}{_allowed(record, parts, first)}")


def unknown_field(path: str, record: type, *, origin: str) -> ConfigError:
    """What to raise for a field that a record has not, with the nearest of those beside it and of those elsewhere.

    Args:
        path: The dotted name that was found.
        record: The record at the root.
        origin: Where it came from.
    """
    *parents, last = path.split(".")
    if (place := _record_at(record, parents)) is None:  # one of the parents is wrong already
        place, last, parents = record, path.partition(".")[0], []
        ratios = {name: _likeness(path, name) for name in _dotted(record)}
    else:
        elsewhere = [name for name in _dotted(record) if name.rpartition(".")[0] != ".".join(parents)]
        ratios = {name: _likeness(last, name.rpartition(".")[2]) for name in elsewhere}
    beside, best = list(_fields(place)), max(ratios.values(), default=0.0)
    if best < _LIKE or best <= max(_likeness(last, name) for name in beside):
        return ConfigError(f"{origin}: unknown field {path!r}.{nearest(last, beside)}")
    meant = " or ".join(repr(name) for name, ratio in ratios.items() if ratio == best)
    return ConfigError(f"{origin}: unknown field {path!r}. Did you mean {meant}?")


_LIKE = 0.75
"""How like a name elsewhere must be to be suggested."""


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _fields(record: Any) -> dict[str, Any]:
    """Name → pydantic's description of each field of a record."""
    return dict(record.__pydantic_fields__)


def _inner(kind: Any) -> Any:
    """The record that a field holds, or None."""
    choices = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return next((one for one in choices if hasattr(one, "__pydantic_fields__")), None)


def _record_at(record: Any, parents: list[str]) -> Any:
    """The record that dotted parts lead to, or None."""
    for name in parents:
        field = _fields(record).get(name)
        record = None if field is None else _inner(field.annotation)
        if record is None:
            return None
    return record


def _dotted(record: Any, before: str = "") -> list[str]:
    """Dotted names of all fields, those of records within included."""
    found = []
    for name, field in _fields(record).items():
        found.append(before + name)
        if (inner := _inner(field.annotation)) is not None:
            found += _dotted(inner, f"{before}{name}.")
    return found


def _allowed(record: type, parts: list[str], first: Any) -> str:
    """The tail of a message: what the field takes, by its type and its range."""
    place = _record_at(record, parts[:-1])
    field = None if place is None else _fields(place).get(parts[-1])
    if field is None:
        return f"; allowed: {first['msg']}"
    if _inner(field.annotation) is not None:
        return "; allowed: a mapping of field names to values"
    kind, bounds, several, empty = _taken_apart(field)
    null = " or null" if empty else ""
    if typing.get_origin(kind) is typing.Literal:
        return f".{nearest(str(first['input']), map(str, typing.get_args(kind)))}"
    if first["type"] == "too_short":
        return f"; allowed: at least {first['ctx']['min_length']}"
    if several and first["type"] in {"tuple_type", "list_type"}:
        return f"; allowed: a list, each {_KINDS.get(kind, 'a value')}"
    return f"; allowed: {_KINDS.get(kind, 'a value')}{_range(bounds)}{null}"


def _taken_apart(field: Any) -> tuple[Any, dict[str, float], bool, bool]:
    """(type of a value, its bounds, whether the field holds several, whether null is allowed)."""
    kind, metadata = field.annotation, list(field.metadata)
    empty = isinstance(kind, types.UnionType) and type(None) in typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        kind = next(one for one in typing.get_args(kind) if one is not type(None))
    several = typing.get_origin(kind) is tuple
    if several:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is typing.Annotated:
        kind, *more = typing.get_args(kind)
        metadata += [one for info in more for one in getattr(info, "metadata", [])]
    bounds = {
        name: getattr(one, name)
        for one in metadata
        for name in ("ge", "gt", "le", "lt")
        if getattr(one, name, None) is not None
    }
    return kind, bounds, several, empty


def _range(bounds: Mapping[str, float]) -> str:
    """``from 0 to 1``, ``above 0``, ``from 1 up``."""
    words = {name: f"{value:,.10g}" for name, value in bounds.items()}
    if "ge" in words:
        if "le" in words:
            return f" from {words['ge']} to {words['le']}"
        return f" from {words['ge']} to below {words['lt']}" if "lt" in words else f" from {words['ge']} up"
    said = {"gt": "above", "le": "at most", "lt": "below"}
    return f" {' and '.join(f'{said[name]} {word}' for name, word in words.items())}" if words else ""
