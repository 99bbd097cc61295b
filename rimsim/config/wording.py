"""What is wrong with a config, in words: the field, what was found, what pydantic says is allowed, the nearest name."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from pydantic import TypeAdapter, ValidationError

from rimsim.errors import ConfigError, nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


_UNKNOWN = {"unexpected_keyword_argument", "extra_forbidden", "invalid_key"}
_ALLOWED = {
    "too_short": "at least {min_length} of them",
    "tuple_type": "a list",
    "dataclass_type": "a mapping of field names to values",
}
"""What is allowed, where pydantic's own words are those of Python."""
_QUOTED = re.compile(r"'([^']*)'")
_ALIKE = 0.75
"""How like a field's name must be to be suggested."""


_Record = TypeVar("_Record")


def record_from(
    plain: object,
    record: type[_Record],
    *,
    origin: str,
    options: Mapping[str, str] | None = None,
) -> _Record:
    """A config record from nested mappings, such as a YAML file holds.

    Args:
        plain: Field names and values.
        record: The record's class.
        origin: Where the values came from, for the error message.
        options: Field → option of a command line that stands for it, for the same.

    Raises:
        ConfigError: For what is no mapping, an unknown field (with the nearest name), a wrong type or a value out of
            range.
    """
    if not isinstance(plain, dict):
        raise ConfigError(
            f"{origin}: found {type(plain).__name__}; allowed: a mapping of field names to values"
        )
    try:
        return TypeAdapter(record).validate_python(plain)
    except ValidationError as error:
        raise refusal(error, record, origin=origin, options=options) from None


def refusal(
    error: ValidationError, record: type, *, origin: str, options: Mapping[str, str] | None = None
) -> ConfigError:
    """What to raise where values do not fit a record.

    Args:
        error: What pydantic found; its first finding is told, an unknown field before others.
        record: The record that the values were for.
        origin: Where they came from: a file, an option.
        options: Field → option of a command line that stands for it, which is then named in place of both.
    """
    findings = error.errors()
    first = next((one for one in findings if one["type"] in _UNKNOWN), findings[0])
    path = ".".join(str(part) for part in first["loc"] if not isinstance(part, int))
    if first["type"] in _UNKNOWN:
        return unknown_field(path or str(first["loc"][-1]), record, origin=origin)
    option = (options or {}).get(path)
    return ConfigError(finding(first, option or f"{origin}: field {path!r}", ":" if option else " is"))


def finding(first: ErrorDetails, where: str, verb: str = " is") -> str:
    """One of pydantic's findings as a sentence.

    Args:
        first: The finding.
        where: What was given the value.
        verb: What stands between that and the value.
    """
    if first["type"] == "value_error":  # of a check of ours, which says what is allowed
        return f"{where}: {first['ctx']['error']}"
    if first["type"] in ("missing", "missing_argument"):
        return f"{where} is missing"
    found = f"{where}{verb} {first['input']!r}"
    if first["type"] == "literal_error":
        return f"{found}.{nearest(str(first['input']), _QUOTED.findall(first['ctx']['expected']))}"
    if first["type"] in _ALLOWED:
        return f"{found}; allowed: {_ALLOWED[first['type']].format_map(first.get('ctx', {}))}"
    return f"{found}; allowed: {first['msg'].removeprefix('Input should be ')}"


def unknown_field(path: str, record: type, *, origin: str) -> ConfigError:
    """What to raise for a field that a record has not, with the nearest of those that it has at any depth.

    Args:
        path: The dotted name that was found.
        record: The record at the root.
        origin: Where it came from.
    """
    names = list(_dotted(record))
    parents, _, last = path.rpartition(".")
    ratio = {name: difflib.SequenceMatcher(None, last, name.rpartition(".")[2]).ratio() for name in names}
    best = max(ratio.values(), default=0.0)
    if best < _ALIKE:
        return ConfigError(f"{origin}: unknown field {path!r}.{nearest(path, names)}")
    alike = [name for name in names if ratio[name] == best]
    beside = [name for name in alike if name.rpartition(".")[0] == parents]
    least = min(name.count(".") for name in alike)
    alike = [name for name in alike if name.count(".") == least]
    return ConfigError(
        f"{origin}: unknown field {path!r}. Did you mean {' or '.join(map(repr, beside or alike))}?"
    )


def _dotted(record: type, before: str = "") -> Iterator[str]:
    """Dotted names of all fields, those of records within included."""
    for name, kind in typing.get_type_hints(record).items():
        yield before + name
        for inner in (kind, *typing.get_args(kind)):  # a record, or a tuple of such
            if dataclasses.is_dataclass(inner) and isinstance(inner, type):
                yield from _dotted(inner, f"{before}{name}.")
