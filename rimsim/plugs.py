"""Plugs, found by built-in name, installed name or place.

A place is ``module:Name`` or ``path/to/file.py:Name``.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import itertools
import shlex
import sys
import textwrap
import traceback
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any, cast

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic.dataclasses import is_pydantic_dataclass

from rimsim.config.reading import finding
from rimsim.config.records import ScenarioConfig
from rimsim.declarations import require_module
from rimsim.entry_points import place_of, places
from rimsim.errors import ConfigError, ModelError, RimsimError, nearest, nearest_file, one_line, refuse
from rimsim.session import SESSION, session_object

_GROUPS = {
    "agent": "agents",
    "arrivals.kind": "arrivals",
    "consumer.kind": "consumers",
    "providers.kind": "providers",
}
"""Name of a field with a plug → group of entry points in which packages register such plugs."""


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
        said = f"{type(error).__name__}: {one_line(error)}"
        raise ConfigError(
            f"{origin} cannot be made with the options {dict(options) or 'none'}: {said}"
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
    place = require_place(name, kind, built_in)
    if place in built_in:
        return built_in[place]
    factory = imported(place, kind)
    if not callable(factory):
        raise ConfigError(f"{kind} {name!r} is a {type(factory).__name__}. Expected a class or a function")
    return cast("Callable[..., Any]", factory)


def named_options(text: str, kind: str) -> tuple[str, dict[str, object]]:
    """Name and keyword options of ``name(option=value, …)``.

    Raises:
        ConfigError: If the text is not ``name(option=value, …)`` with Python literals as values.
    """
    name, bracket, inside = text.partition("(")
    if not bracket:
        return text, {}
    try:
        call = ast.parse(f"f({inside}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError  # noqa: TRY301  # reported below, like other errors
        return name, {str(part.arg): ast.literal_eval(part.value) for part in call.keywords}
    except (SyntaxError, ValueError):
        raise ConfigError(
            f"{kind} {text!r}: the options cannot be read. Write name(option=value, …) with plain values"
        ) from None


def option_lines(factory: Callable[..., Any]) -> list[tuple[str, str]]:
    """Options of a plug as ``name=default``, with their meanings."""
    record = factory
    supplied = {"scenario", "seed", "device"}
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
    for kind in reversed(record.__mro__):
        if dataclasses.is_dataclass(kind):
            body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
            for field, text in itertools.pairwise(cast("ast.ClassDef", body).body):
                match field, text:
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
            annotation = eval(annotation, vars(sys.modules[factory.__module__]))  # noqa: S307  # the file just ran
        except Exception:  # noqa: BLE001  # such as names that only type checkers import
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
    """Error for an option's value that does not fit."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or name
    return ConfigError(finding(first, f"{origin}: option {field!r}"))


def imported(location: str, kind: str, of: type | None = None) -> Any:
    """Object at a place, an instance of ``of`` if given.

    ``kind`` is the word for the object in messages, such as ``agent``.

    Raises:
        ConfigError: If the module or file cannot be imported, lacks the name or has an object of another
            kind. The message has the line or the nearest name.
    """
    place, _, name = location.rpartition(":")
    if location.startswith(SESSION):
        session_value = session_object(location)
        if session_value is None or not isinstance(session_value, of or object):
            allowed = "an agent, a model or a Measure that this Python session gave, or its file.py:Name"
            refuse(ConfigError, f"{kind} {location!r}", "this process has no such object", allowed)
        return session_value
    if place.endswith(".py") and not Path(place).is_file():
        raise ConfigError(f"{kind} {location!r}: there is no file {place!r}.{nearest_file(Path(place))}")
    if not place.endswith(".py"):
        require_module(place, name, f"{kind} {location!r}")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:  # a file of the user can raise any exception when it is imported
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ConfigError(
            f"{kind} {location!r}: cannot import {place!r}{line}: {type(error).__name__}: {one_line(error)}"
            f"{_sibling(Path(place), error)}"
        ) from error
    if not hasattr(module, name):
        raise ConfigError(f"{kind} {location!r}: {place} has no {name!r}.{nearest(name, _own(module, of))}")
    plug = getattr(module, name)
    if of is not None and not isinstance(plug, of):
        offered = ", ".join(_own(module, of)) or "none"
        problem = f"found a {type(plug).__name__}"
        refuse(ConfigError, f"{kind} {location!r}", problem, f"a {of.__name__} ({place} has {offered})")
    return plug


def _sibling(path: Path, error: Exception) -> str:
    """End of a message: how to import a neighbouring file."""
    folder = path.parent
    wanted = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if path.suffix != ".py" or not (wanted and (folder / f"{wanted}.py").is_file()):
        return ""
    before = f"put PYTHONPATH={shlex.quote(str(folder))} before the command"
    return f"; {wanted}.py lies beside it: {before}, or install both as a package"


def without_name(place: str, kind: str, of: type | None = None) -> ConfigError:
    """Error for a file given without a name; see :func:`imported`."""
    path = Path(place)
    if not path.is_file():
        return ConfigError(f"{kind} {place!r}: no such file.{nearest_file(path)}")
    try:
        names = _own(_from_file(path), of)
    except Exception:  # noqa: BLE001  # the import raises it again once the user has added a name
        names = []
    listed = " or ".join(f"{place}:{name}" for name in names) or f"{place}:Name"
    return ConfigError(f"{kind} {place!r} is a file. Add a name in it: {listed}")


def _own(module: Any, of: type | None) -> list[str]:
    """Names of instances of ``of``, or of classes and functions."""
    if of is not None:
        return [key for key, value in vars(module).items() if isinstance(value, of)]
    offered = getattr(module, "__all__", None)
    return [
        key
        for key, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and (key in offered if offered is not None else value.__module__ == module.__name__)
    ]


@contextmanager
def own_code(texts: Sequence[str]) -> Iterator[None]:
    """Context manager that adds lines of user code to errors.

    ``texts`` name agents and models as on the command line. An error of rimsim keeps its class, with the line
    added. Any other error from a user's code becomes a :class:`ModelError`.
    """
    try:
        yield
    except Exception as error:
        own_places = [place for text in texts if (place := place_of(text)) is not None]
        place = _line_of(error, own_places)
        if isinstance(error, RimsimError):
            if not place:
                raise
            raise type(error)(f"{error} ({place})", *error.args[1:]) from error
        if not own_places or isinstance(error, OSError):
            raise
        said = f"{type(error).__name__}: {one_line(error)}"
        raise ModelError(f"{place}: {said}" if place else f"{said}, with {', '.join(own_places)}") from error


def _line_of(error: BaseException | None, texts: Sequence[str]) -> str:
    """File and line of the innermost call in users' files."""
    files = {str(file.resolve()): str(file) for file in files_of(texts)}
    for text in texts:
        module = sys.modules.get(text.partition(":")[0])
        if (file := getattr(module, "__file__", None)) is not None:
            files[str(Path(file).resolve())] = file
    line = ""
    while error is not None:
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename in files:
                line = f"{files[frame.filename]}:{frame.lineno}"
        error = error.__cause__ or error.__context__
    return line


def files_of(places: Sequence[str]) -> list[Path]:
    """Sorted files among the given places of plugs."""
    return [
        Path(file)
        for file in sorted({f"{text.partition('.py:')[0]}.py" for text in places if ".py:" in text})
    ]


class _UncachedLoader(SourceFileLoader):
    """Loader that compiles a file on each import."""

    # Python's cached bytecode is used as long as the time (in seconds) and size of the file stay the same. So a quick
    # edit that keeps the size would have no effect.
    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _from_file(path: Path) -> Any:
    name = f"rimsim_user_{path.stem}"
    place = str(path.resolve())
    spec = importlib.util.spec_from_file_location(name, place, loader=_UncachedLoader(name, place))
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"no file {path.resolve()}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
