"""Makes a thing that an experiment varies by its name, or by the place of a user's own class."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic.dataclasses import is_pydantic_dataclass

from rimsim.config.wording import finding
from rimsim.errors import ConfigError, RimsimError, nearest, one_line
from rimsim.loading import imported, without_name

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig


def make_plug(
    where: str,
    kind: str,
    built_in: Mapping[str, Callable[..., Any]],
    methods: Sequence[str],
    options: Mapping[str, object],
    scenario: ScenarioConfig | None = None,
) -> Any:
    """Make what a name or a place stands for.

    A class of one's own takes its options by the names of its fields; make it a dataclass, and their types are
    checked, or one of pydantic's, and so are their ranges. Or its constructor takes one frozen record named
    ``options``. It may also name ``scenario``, and is then given the whole config.

    Args:
        where: A built-in name, ``path/to/file.py:Name`` or ``module:Name``.
        kind: The field that names it, such as ``arrivals.kind``, for errors.
        built_in: Name → class.
        methods: Methods and attributes that it must have.
        options: Its options, by name.
        scenario: The config that it is made for; None where there is none.

    Raises:
        ConfigError: If there is no such name, file or option, or what is made lacks a method or attribute.
    """
    factory = _factory(where, kind, built_in)
    origin = f"{kind} {where!r}"
    arguments = _arguments(factory, origin, options, scenario)
    try:
        plug = factory(**arguments)
    except RimsimError:
        raise
    except ValidationError as error:
        raise _refused(error, "", origin) from None
    except Exception as error:  # whatever a user's constructor does
        raise ConfigError(
            f"{kind} {where!r} cannot be made from {dict(options) or 'no options'}: "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
    lacks = [method for method in methods if not hasattr(plug, method)]
    if lacks:
        raise ConfigError(
            f"{kind} {where!r} has no {', '.join(lacks)}; allowed: what has {', '.join(methods)}"
        )
    return plug


def _factory(where: str, kind: str, built_in: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    if where in built_in:
        return built_in[where]
    if where.endswith(".py"):
        raise without_name(where, kind)
    if ":" not in where:
        raise ConfigError(f"{kind} is {where!r}.{nearest(where, built_in)} Your own: file.py:Class.")
    factory = imported(where, kind)
    if not callable(factory):
        raise ConfigError(f"{kind} {where!r} is a {type(factory).__name__}; allowed: a class or function")
    return cast("Callable[..., Any]", factory)


def _arguments(
    factory: Callable[..., Any], origin: str, options: Mapping[str, object], scenario: ScenarioConfig | None
) -> dict[str, object]:
    """What a constructor is called with, by the names of its parameters."""
    parameters = inspect.signature(factory).parameters
    given: dict[str, object] = {"scenario": scenario} if scenario and "scenario" in parameters else {}
    if "options" in parameters:
        record = _annotation(factory, "options")
        fields = (
            [field.name for field in dataclasses.fields(record)] if dataclasses.is_dataclass(record) else []
        )
        _require_known(options, fields, origin)
        return given | {"options": _typed(record, "options", dict(options), origin)}
    _require_known(options, [name for name in parameters if name != "scenario"], origin)
    if isinstance(factory, type) and is_pydantic_dataclass(factory):
        return given | dict(options)  # it checks them by itself, and more strictly if it says so
    return given | {
        name: _typed(_annotation(factory, name), name, value, origin) for name, value in options.items()
    }


def _require_known(options: Mapping[str, object], allowed: Sequence[str], origin: str) -> None:
    for name in options:
        if name not in allowed:
            raise ConfigError(f"{origin} has no option {name!r}.{nearest(name, allowed)}")


def _annotation(factory: Callable[..., Any], name: str) -> Any:
    """The type with which a constructor annotates a parameter; anything, where it is known to type checkers alone."""
    annotation = inspect.signature(factory).parameters[name].annotation
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, vars(sys.modules[factory.__module__]))  # noqa: S307  # the file just ran
        except Exception:  # noqa: BLE001  # imported for type checkers alone, or made in another way
            return Any
    return Any if annotation is inspect.Parameter.empty else annotation


def _typed(annotation: Any, name: str, value: object, origin: str) -> object:
    """A value of an annotated type."""
    try:
        return TypeAdapter(annotation).validate_python(value)
    except PydanticSchemaGenerationError:  # a type that cannot be checked
        return value
    except ValidationError as error:
        raise _refused(error, name, origin) from None


def _refused(error: ValidationError, name: str, origin: str) -> ConfigError:
    """What to raise where the value of an option does not fit."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or name
    return ConfigError(finding(first, f"{origin}: option {field!r}"))
