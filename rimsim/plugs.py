"""Plugs: their names, options and making."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, cast

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic.dataclasses import is_pydantic_dataclass

from rimsim.config.reading import finding
from rimsim.config.records import ScenarioConfig
from rimsim.entry_points import places
from rimsim.errors import ConfigError, RimsimError, nearest, one_line
from rimsim.user_code import imported, quoted_places, without_name

_GROUPS = {
    "agent": "agents",
    "arrivals.kind": "arrivals",
    "consumer.kind": "consumers",
    "providers.kind": "providers",
    "processes": "processes",
}
"""Name of a field with a plug → group of entry points in which packages register such plugs."""
_DURATION_OPTION = re.compile(r"(?<==)\s*((?:\d+\.?\d*\s*[a-zA-Z]+\s*)+)(?=[,)])")
"""Duration without quotes, such as 6h, that is the value of an option."""


def make_plug(
    name: str,
    kind: str,
    built_in: Mapping[str, Callable[..., Any]],
    methods: Sequence[str],
    options: Mapping[str, object],
    scenario: ScenarioConfig | None = None,
) -> Any:
    """Make a plug from its name or place, with options.

    The options of your own class are its fields. Types are checked for a dataclass, and ranges too for a pydantic
    dataclass. Alternatively, the constructor takes one frozen record named ``options``. If the constructor has a
    parameter ``scenario``, this parameter gets the whole config.

    Args:
        name: Built-in name or place of the plug.
        kind: Field that names the plug, such as ``arrivals.kind``, for messages.
        built_in: Built-in classes by name.
        methods: Methods and attributes that the plug must have.
        options: Options of the plug, by name.
        scenario: Config that the plug is made for.

    Raises:
        ConfigError: If a name, file or option does not exist, or if the plug lacks a method or attribute.
    """
    factory = _factory(name, kind, built_in)
    origin = f"{kind} {name!r}"
    arguments = _arguments(factory, origin, options, scenario)
    try:
        plug = factory(**arguments)
    except RimsimError:
        raise
    except ValidationError as error:
        raise _unfit(error, "", origin) from None
    except Exception as error:  # a constructor of the user can raise any exception
        error_text = f"{type(error).__name__}: {one_line(error)}"
        raise ConfigError(
            f"{origin} cannot be made with the options {dict(options) or 'none'}: {error_text}"
        ) from error
    if lacks := [method for method in methods if not hasattr(plug, method)]:
        raise ConfigError(f"{origin} has no {', '.join(lacks)}. Write the methods {', '.join(methods)}")
    return plug


def require_place(name: str, kind: str, built_in: Mapping[str, object]) -> str:
    """Name of a built-in plug, or place of another plug.

    Raises:
        ConfigError: If the text is not a built-in name, an installed name or a place.
    """
    if name in built_in:
        return name
    if name.endswith(".py"):
        raise without_name(name, kind)
    if ":" in name:
        return name
    installed = places(_GROUPS[kind])
    if name not in installed:
        near = nearest(name, {*built_in, *installed})
        raise ConfigError(
            f"{kind} {name!r} is unknown.{near} To use a class of your own, give file.py:Class."
        )
    return installed[name]


def ignored_plug(name: str, kind: str, built_in: Container[str]) -> str | None:
    """Sentence on an installed plug that a built-in name hides."""
    place = places(kind).get(name) if name in built_in else None
    if place is None:
        return None
    return (
        f"{name} is built into rimsim, so {place}, which an installed package offers under this name, is ignored. To "
        f"use it, write {place}"
    )


def _factory(name: str, kind: str, built_in: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """Class or function that makes a plug."""
    place = require_place(name, kind, built_in)
    if place in built_in:
        return built_in[place]
    factory = imported(place, kind)
    if not callable(factory):
        raise ConfigError(f"{kind} {name!r} is a {type(factory).__name__}. Expected a class or a function")
    return cast("Callable[..., Any]", factory)


_YAML_WORDS = {"true": True, "false": False, "null": None}
"""Words that mean in options what they mean elsewhere in a scenario."""


class _WordsAsValues(ast.NodeTransformer):
    """Words without quotes, such as genres, become texts."""

    def visit_Name(self, node: ast.Name) -> ast.Constant:
        """Value of a word."""
        return ast.Constant(_YAML_WORDS.get(node.id, node.id))


def named_options(text: str, kind: str) -> tuple[str, dict[str, object]]:
    """Name and keyword options of ``name(option=value, …)``.

    Raises:
        ConfigError: If the text is not ``name(option=value, …)`` with Python literals, words, durations or places of
            code as values.
    """
    name, bracket, options_text = text.partition("(")
    if not bracket:
        return text, {}
    try:
        try:
            call = ast.parse(f"f({options_text}", mode="eval").body
        except SyntaxError:
            with_quotes = _DURATION_OPTION.sub(
                lambda match: repr(match[1].strip()), quoted_places(options_text)
            )
            call = ast.parse(f"f({with_quotes}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError  # noqa: TRY301  # the handler below reports it like other errors
        values = {str(keyword.arg): _WordsAsValues().visit(keyword.value) for keyword in call.keywords}
        return name, {option: ast.literal_eval(value) for option, value in values.items()}
    except (SyntaxError, ValueError):
        raise ConfigError(
            f"{kind} {text!r}: the options cannot be read. Write name(option=value, …) with plain values"
        ) from None


def option_lines(factory: Callable[..., Any]) -> list[tuple[str, str]]:
    """Options of a plug as ``name=default``, with their meanings."""
    record = factory
    supplied = {"scenario", "seed", "device"}  # parameters that rimsim fills in
    if "options" in inspect.signature(factory).parameters:
        record = _annotation(factory, "options")
    meaning_of = meanings(record) if isinstance(record, type) else {}
    lines = []
    for name, parameter in inspect.signature(record).parameters.items():
        if name not in supplied:
            value = parameter.default
            text = name if value is inspect.Parameter.empty else f"{name}={value!r}"
            lines.append((text, meaning_of.get(name, "")))
    return lines


def meanings(record: type[Any]) -> dict[str, str]:
    """Docstring of each field of a class and its bases."""
    meaning_of: dict[str, str] = {}
    for cls in reversed(record.__mro__):
        if dataclasses.is_dataclass(cls):
            body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
            for field_statement, statement in itertools.pairwise(cast("ast.ClassDef", body).body):
                match field_statement, statement:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                        value=ast.Constant(value=str(meaning))
                    ):
                        meaning_of[name] = " ".join(meaning.split())
    return meaning_of


def _arguments(
    factory: Callable[..., Any], origin: str, options: Mapping[str, object], scenario: ScenarioConfig | None
) -> dict[str, object]:
    """Arguments of a constructor, by the names of its parameters."""
    parameters = inspect.signature(factory).parameters
    arguments: dict[str, object] = {"scenario": scenario} if scenario and "scenario" in parameters else {}
    if "options" in parameters:
        record = _annotation(factory, "options")
        fields = dataclasses.fields(record) if dataclasses.is_dataclass(record) else ()
        require_options(options, [field.name for field in fields], origin)
        return arguments | {"options": _typed(record, "options", dict(options), origin)}
    require_options(options, [name for name in parameters if name != "scenario"], origin)
    if isinstance(factory, type) and is_pydantic_dataclass(factory):
        # pydantic checks the fields of its own classes, and more strictly if a class asks for it.
        return arguments | dict(options)
    return arguments | {
        name: _typed(_annotation(factory, name), name, value, origin) for name, value in options.items()
    }


def require_options(options: Mapping[str, object], allowed: Sequence[str], origin: str) -> None:
    """Refuse an unknown option; the message offers the nearest name."""
    for name in options:
        if name not in allowed:
            raise ConfigError(f"{origin} has no option {name!r}.{nearest(name, allowed)}")


def _annotation(factory: Callable[..., Any], name: str) -> Any:
    """Annotated type of a parameter; ``Any`` if unknown."""
    annotation = inspect.signature(factory).parameters[name].annotation
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, vars(sys.modules[factory.__module__]))  # noqa: S307  # the code is from a file that the user asked to run
        except Exception:  # noqa: BLE001  # an annotation may be a name that only type checkers import
            return Any
    return Any if annotation is inspect.Parameter.empty else annotation


def _typed(annotation: Any, name: str, value: object, origin: str) -> object:
    """Value, checked and converted to an annotated type."""
    try:
        return TypeAdapter(annotation).validate_python(value)
    except PydanticSchemaGenerationError:  # pydantic cannot check this type, so the value stays as it is
        return value
    except ValidationError as error:
        raise _unfit(error, name, origin) from None


def _unfit(error: ValidationError, name: str, origin: str) -> ConfigError:
    """Error for the first option whose value does not fit."""
    first_error = error.errors()[0]
    field = ".".join(str(part) for part in first_error["loc"]) or name
    return ConfigError(finding(first_error, f"{origin}: option {field!r}"))
