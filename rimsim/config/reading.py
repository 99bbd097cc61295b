"""Scenarios from YAML files and mappings, and back."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import TypeAdapter

from rimsim.config.paths import paths_from
from rimsim.config.scenario import ScenarioConfig
from rimsim.config.wording import record_from, unknown_field
from rimsim.errors import ConfigError, nearest, reason
from rimsim.loading import nearest_file


def scenario_from(plain: object, *, origin: str = "scenario") -> ScenarioConfig:
    """Build a scenario from nested mappings.

    Args:
        plain: What a YAML file holds: a mapping of field names to values.
        origin: Where it came from, for the error message.

    Raises:
        ConfigError: For an unknown field (with the nearest name), a wrong type or a value out of range.
    """
    return record_from({} if plain is None else plain, ScenarioConfig, origin=origin)


def read_scenario(path: Path) -> ScenarioConfig:
    """Read a scenario from a YAML file, from whose folder its paths begin; without a ``name`` it has the file's.

    Raises:
        ConfigError: If the file is missing, is no YAML, or does not describe a scenario.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file.{nearest_file(path)}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read as a scenario: {reason(error)}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: cannot be read as a scenario: byte {error.start} is no UTF-8; allowed: UTF-8 text"
        ) from None
    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if isinstance(plain, dict):
        plain = {"name": path.stem} | plain
    return paths_from(path.parent, scenario_from(plain, origin=str(path)))


def scenario_names() -> list[str]:
    """Names of the built-in scenarios."""
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in resources.files("rimsim.scenarios").iterdir()
        if entry.name.endswith(".yaml")
    )


def find_scenario(name: str) -> ScenarioConfig:
    """A built-in scenario by name, or one of the user's own by the path of its YAML file.

    Raises:
        ConfigError: If there is none, with the nearest name; or as :func:`read_scenario`.
    """
    if name.endswith((".yaml", ".yml")):
        return read_scenario(Path(name))
    known = scenario_names()
    if name not in known:
        raise ConfigError(
            f"scenario {name!r} is unknown.{nearest(name, known)} Your own: a path to a YAML file."
        )
    with resources.as_file(resources.files("rimsim.scenarios") / f"{name}.yaml") as path:
        return read_scenario(path)


def to_plain(config: object) -> dict[str, Any]:
    """The nested mapping of a config record, as JSON and YAML can hold it."""
    return cast("dict[str, Any]", TypeAdapter(type(config)).dump_python(config, mode="json"))


def flat(plain: object, name: str = "") -> dict[str, object]:
    """Dotted names and values of nested mappings, such as ``exposure.beta``.

    Args:
        plain: Nested mappings, or a value.
        name: That of ``plain``, which all names begin with; empty: it has none.
    """
    if not isinstance(plain, dict):
        return {name: plain}
    named: dict[str, object] = {}
    for key, value in plain.items():
        named |= flat(value, f"{name}.{key}" if name else str(key))
    return named


def override(config: ScenarioConfig, changes: dict[str, object], *, origin: str = "--set") -> ScenarioConfig:
    """A scenario with some fields changed.

    Args:
        config: The scenario to start from.
        changes: Dotted field names, such as ``exposure.beta``, and their new values.
        origin: Named in errors.

    Raises:
        ConfigError: As :func:`scenario_from`.
    """
    plain = to_plain(config)
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        place = plain
        for name in parents:
            inner = place.get(name)
            if not isinstance(inner, dict):
                raise unknown_field(dotted, ScenarioConfig, origin=origin)
            place = inner
        place[last] = value
    return scenario_from(plain, origin=origin)
