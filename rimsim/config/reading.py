"""Config records from YAML files and mappings, with error messages."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import yaml
from pydantic import TypeAdapter, ValidationError

from rimsim.config.documents import read_yaml
from rimsim.config.records import ScenarioConfig
from rimsim.errors import ConfigError, nearest, nearest_file, reason, refuse

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


_UNKNOWN = {"unexpected_keyword_argument", "extra_forbidden", "invalid_key"}
"""Kinds of errors by which pydantic reports an unknown field."""
_ALLOWED = {
    "too_short": "have at least {min_length} entries",
    "tuple_type": "be a list",
    "dataclass_type": "be a mapping of field names to values",
}
"""Kind of an error → end of the sentence "It must …". Pydantic's own sentences name types of Python."""
_QUOTED = re.compile(r"'([^']*)'")
"""Pattern of an allowed value in pydantic's message."""
_ALIKE = 0.75
"""Smallest similarity of a suggested name to the given name."""
_LONGEST_VALUE = 80
"""Number of letters of a value that a message shows."""
_Record = TypeVar("_Record")


def record_from(
    plain: object, record: type[_Record], *, origin: str, options: Mapping[str, str] | None = None
) -> _Record:
    """Config record from nested mappings, such as those of YAML.

    Args:
        plain: Field names and values.
        record: Class of the record.
        origin: Source of the values, which messages name.
        options: Command-line option that sets each field, for messages.

    Raises:
        ConfigError: If a field is unknown (the message gives the nearest name), or a value has a wrong type or range.
    """
    if not isinstance(plain, dict):
        refuse(ConfigError, origin, f"found {type(plain).__name__}", "a mapping of field names to values")
    _require_names(plain, origin)
    try:
        return TypeAdapter(record).validate_python(plain)
    except ValidationError as error:
        raise refusal(error, record, origin=origin, options=options) from None


def _require_names(plain: Mapping[object, object], origin: str, parents: str = "") -> None:
    """Refuse keys that are no texts, as in ``{beta: 0,3}``."""
    previous: object = None
    for key, value in plain.items():
        if not isinstance(key, str):
            subject = f"{origin}: field {parents.removesuffix('.')!r}" if parents else origin
            hint = " Write NAME: VALUE"
            if isinstance(previous, str) and value is None:
                # YAML reads ``{beta: 0,3}`` as two entries: beta is 0, and the key 3 has no value.
                hint = f" A decimal point is written as in {previous}: {plain[previous]}.{key}"
            raise ConfigError(f"{subject}: {key!r} is not the name of a field.{hint}")
        if isinstance(value, dict):
            _require_names(value, origin, f"{parents}{key}.")
        previous = key


def refusal(
    error: ValidationError, record: type, *, origin: str, options: Mapping[str, str] | None = None
) -> ConfigError:
    """Error for values that do not fit a record.

    Of several errors, an unknown field is reported first. If an option set the field, the message names the option
    instead of origin and field; see :func:`record_from`.
    """
    findings = error.errors()
    first = next((detail for detail in findings if detail["type"] in _UNKNOWN), findings[0])
    path = ".".join(str(part) for part in first["loc"] if not isinstance(part, int))
    if first["type"] in _UNKNOWN:
        return unknown_field(path or str(first["loc"][-1]), record, origin=origin)
    option = (options or {}).get(path)
    return ConfigError(finding(first, option or f"{origin}: field {path!r}", ":" if option else " is"))


def finding(first: ErrorDetails, subject: str, verb: str = " is") -> str:
    """Sentence about the error that pydantic found in a value."""
    if first["type"] == "value_error":  # rimsim raised this error, so its text is complete
        return f"{subject}: {first['ctx']['error']}"
    if first["type"] in ("missing", "missing_argument"):
        return f"{subject} is missing"
    problem = f"{subject}{verb} {_shortened(first['input'])}"
    if first["type"] == "literal_error":
        return f"{problem}.{nearest(str(first['input']), _QUOTED.findall(first['ctx']['expected']))}"
    if first["type"] in _ALLOWED:
        return f"{problem}. It must {_ALLOWED[first['type']].format_map(first.get('ctx', {}))}"
    return f"{problem}. It must {first['msg'].removeprefix('Input should ')}"


def _shortened(value: object) -> str:
    """Representation of a value of at most 80 letters."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def unknown_field(path: str, record: type, *, origin: str) -> ConfigError:
    """Error for an unknown dotted name; gives the nearest field."""
    names = list(dotted_names(record))
    parents, _, field = path.rpartition(".")
    similarity = {
        name: difflib.SequenceMatcher(None, field, name.rpartition(".")[2]).ratio() for name in names
    }
    highest = max(similarity.values(), default=0.0)
    if highest < _ALIKE:
        return ConfigError(f"{origin}: unknown field {path!r}.{nearest(path, names)}")
    alike = [name for name in names if similarity[name] == highest]
    siblings = [name for name in alike if name.rpartition(".")[0] == parents]
    min_depth = min(name.count(".") for name in alike)
    # A name that is alike at several places is probably meant among its siblings, or else in the outermost record.
    guesses = siblings or [name for name in alike if name.count(".") == min_depth]
    return ConfigError(f"{origin}: unknown field {path!r}. Did you mean {' or '.join(map(repr, guesses))}?")


def dotted_names(record: type, before: str = "") -> Iterator[str]:
    """Dotted names of all fields, also those of nested records."""
    for name, kind in typing.get_type_hints(record).items():
        yield before + name
        for inner in (kind, *typing.get_args(kind)):  # a record, or a tuple of records
            if dataclasses.is_dataclass(inner) and isinstance(inner, type):
                yield from dotted_names(inner, f"{before}{name}.")


def scenario_from(plain: object, *, origin: str = "scenario") -> ScenarioConfig:
    """Scenario from nested mappings of field names to values.

    Raises:
        ConfigError: If a field is unknown (the message gives the nearest name), or a value has a wrong type or range.
    """
    return record_from({} if plain is None else plain, ScenarioConfig, origin=origin)


def read_scenario(path: Path) -> ScenarioConfig:
    """Scenario from a YAML file.

    The default of ``name`` is the name of the file. Relative paths in the file begin at the file's folder.

    Raises:
        ConfigError: If the file is missing, is not YAML, or does not describe a scenario.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file.{nearest_file(path)}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read as a scenario: {reason(error)}") from None
    except UnicodeDecodeError as error:
        problem = f"cannot be read as a scenario: byte {error.start} is not UTF-8"
        refuse(ConfigError, str(path), problem, "UTF-8 text")
    try:
        plain = read_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if plain is None:
        raise ConfigError(f"{path}: holds nothing. Write at least one field, such as rounds: 8")
    if isinstance(plain, dict):
        plain = {"name": path.stem} | plain
    return _paths_from(path.parent, scenario_from(plain, origin=str(path)))


def _paths_from(folder: Path, config: ScenarioConfig) -> ScenarioConfig:
    """Scenario whose relative paths (log, plugs, answers) begin at a folder."""

    def plug_from_folder(text: str) -> str:
        """Plug whose file begins at the folder; other names unchanged."""
        file, ending, name = text.partition(".py")
        return f"{folder / file}.py{name}" if ending and name[:1] in {"", ":"} else text

    def file_from_folder(text: str) -> str:
        """File that begins at the folder; names of logs unchanged."""
        # A log that is one word without a dot, such as ``ml-1m``, is a name unless the folder has such an entry.
        is_path = "." in text or "/" in text or (folder / text).exists()
        return str(folder / text) if is_path else text

    return relocated(config, plug_from_folder, file_from_folder)


def relocated(
    config: ScenarioConfig, place: Callable[[str], str], path: Callable[[str], str]
) -> ScenarioConfig:
    """Scenario in which plugs and files have other paths.

    Args:
        place: Function from a plug's text, such as ``file.py:Class``, to its new text.
        path: Function from the text of a file to its new text.
    """
    consumer = config.consumer
    if consumer.table is not None:
        options = dict(consumer.options) | {"table": path(consumer.table)}
        consumer = replace(consumer, options=tuple(options.items()))
    return replace(
        config,
        data=replace(
            config.data,
            source=path(config.data.source),
            items=None if config.data.items is None else path(config.data.items),
        ),
        arrivals=replace(config.arrivals, kind=place(config.arrivals.kind)),
        consumer=replace(consumer, kind=place(consumer.kind)),
        platform=replace(config.platform, model=place(config.platform.model)),
        providers=replace(config.providers, kind=place(config.providers.kind)),
        processes=tuple(place(process) for process in config.processes),
    )


def scenario_names() -> list[str]:
    """Names of the built-in scenarios."""
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in resources.files("rimsim.scenarios").iterdir()
        if entry.name.endswith(".yaml")
    )


def find_scenario(name: str) -> ScenarioConfig:
    """Built-in scenario by name, or your scenario by YAML file.

    Raises:
        ConfigError: If there is no such scenario (the message gives the nearest name), or its file is wrong.
    """
    if name.endswith((".yaml", ".yml")):
        return read_scenario(Path(name))
    names = scenario_names()
    if name not in names:
        raise ConfigError(
            f"scenario {name!r} is unknown.{nearest(name, names)} For a scenario of your own, give the "
            "path of its YAML file."
        )
    with resources.as_file(resources.files("rimsim.scenarios") / f"{name}.yaml") as path:
        return read_scenario(path)


def to_plain(config: object) -> dict[str, Any]:
    """Config record as a nested mapping, for JSON and YAML."""
    return cast("dict[str, Any]", TypeAdapter(type(config)).dump_python(config, mode="json"))


def flat(plain: object, name: str = "") -> dict[str, object]:
    """Values of nested mappings by dotted name, prefixed with ``name``."""
    if not isinstance(plain, dict):
        return {name: plain}
    flat_fields: dict[str, object] = {}
    for key, value in plain.items():
        flat_fields |= flat(value, f"{name}.{key}" if name else str(key))
    return flat_fields


def _entry(entries: list[Any], name: str) -> object:
    """Entry of a list by its first field's value."""
    return next(
        (entry for entry in entries if isinstance(entry, dict) and next(iter(entry.values()), None) == name),
        None,
    )


def override(config: ScenarioConfig, changes: dict[str, object], *, origin: str = "--set") -> ScenarioConfig:
    """Scenario with some fields changed.

    Args:
        config: Scenario to start from.
        changes: New values by dotted field name, such as ``exposure.beta``; the value of a model may be a model object.
            An entry of a list has the name of its first field: ``exposure.groups.seller.beta``.
        origin: Source of the changes, for messages.

    Raises:
        ConfigError: In the same cases as :func:`scenario_from`.
    """
    plain = to_plain(config)
    for dotted, value in changes.items():
        *parents, field = dotted.split(".")
        branch: dict[str, Any] | list[Any] = plain
        for name in parents:
            inner = branch.get(name) if isinstance(branch, dict) else _entry(branch, name)
            if not isinstance(inner, dict | list):
                raise unknown_field(dotted, ScenarioConfig, origin=origin)
            branch = inner
        if not isinstance(branch, dict):
            raise unknown_field(dotted, ScenarioConfig, origin=origin)
        branch[field] = value
    return scenario_from(plain, origin=origin)
