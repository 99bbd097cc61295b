"""User code: objects at places, errors with their line.

A place is ``module:Name`` or ``path/to/file.py:Name``.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import shlex
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from rimsim.entry_points import place_of
from rimsim.errors import ConfigError, ModelError, RimsimError, nearest, nearest_file, one_line, refuse
from rimsim.session import SESSION, session_object

_PLACE = re.compile(r"[^\s,()='\"]+:[A-Za-z_][\w.]*")
"""Place of code in the text of a plug and its options."""
_PLACE_OPTION = re.compile(rf"(?<==)\s*({_PLACE.pattern})\s*(?=[,)])")
"""Place of code without quotes that is the value of an option."""


def imported(location: str, kind: str, of: type | None = None) -> Any:
    """Object at a place, an instance of ``of`` if given.

    ``kind`` is the word for the object in messages, such as ``agent``.

    Raises:
        ConfigError: If the module or file cannot be imported, lacks the name or has an object of another
            kind. The message has the line or the nearest name.
    """
    source, _, name = location.rpartition(":")
    if location.startswith(SESSION):
        session_value = session_object(location)
        if session_value is None or not isinstance(session_value, of or object):
            allowed = "an agent, a model or a Measure that this Python session gave, or its file.py:Name"
            refuse(ConfigError, f"{kind} {location!r}", "this process has no such object", allowed)
        return session_value
    if source.endswith(".py") and not Path(source).is_file():
        raise ConfigError(f"{kind} {location!r}: there is no file {source!r}.{nearest_file(Path(source))}")
    if not source.endswith(".py"):
        _require_module(source, name, f"{kind} {location!r}")
    try:
        module = _from_file(Path(source)) if source.endswith(".py") else importlib.import_module(source)
    except Exception as error:  # a file of the user can raise any exception when it is imported
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ConfigError(
            f"{kind} {location!r}: cannot import {source!r}{line}: {type(error).__name__}: {one_line(error)}"
            f"{_sibling(Path(source), error)}"
        ) from error
    if not hasattr(module, name):
        raise ConfigError(f"{kind} {location!r}: {source} has no {name!r}.{nearest(name, _own(module, of))}")
    plug = getattr(module, name)
    if of is not None and not isinstance(plug, of):
        offered = ", ".join(_own(module, of)) or "none"
        problem = f"found a {type(plug).__name__}"
        refuse(ConfigError, f"{kind} {location!r}", problem, f"a {of.__name__} ({source} has {offered})")
    return plug


def _require_module(module: str, name: str, origin: str) -> None:
    """Refuse a module that is not installed."""
    try:
        is_there = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        is_there = False
    if is_there:
        return
    file = Path(f"{module.replace('.', '/')}.py")
    hint = f"Did you mean {file}:{name}?" if file.is_file() else "Give a class of your own as file.py:Class"
    raise ConfigError(f"{origin}: there is no module {module!r}. {hint}")


def _sibling(path: Path, error: Exception) -> str:
    """End of a message: how to import a neighbouring file."""
    folder = path.parent
    missing_module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if path.suffix != ".py" or not (missing_module and (folder / f"{missing_module}.py").is_file()):
        return ""
    environment = f"put PYTHONPATH={shlex.quote(str(folder))} before the command"
    return f"; {missing_module}.py lies beside it: {environment}, or install both as a package"


def without_name(place: str, kind: str, of: type | None = None) -> ConfigError:
    """Error for a file given without a name; see :func:`imported`."""
    path = Path(place)
    if not path.is_file():
        return ConfigError(f"{kind} {place!r}: no such file.{nearest_file(path)}")
    try:
        names = _own(_from_file(path), of)
    except Exception:  # noqa: BLE001  # the import later raises the error again
        names = []
    listed = " or ".join(f"{place}:{name}" for name in names) or f"{place}:Name"
    return ConfigError(f"{kind} {place!r} is a file. Add a name in it: {listed}")


def _own(module: Any, of: type | None) -> list[str]:
    """Names of instances of ``of``, or of classes and functions.

    Classes and functions that the module only imports are left out, unless ``__all__`` has them.
    """
    if of is not None:
        return [key for key, value in vars(module).items() if isinstance(value, of)]
    public_names = getattr(module, "__all__", None)
    # A package may import its names on first use, so that its variables lack them.
    if public_names is not None:
        members = {name: getattr(module, name, None) for name in public_names}
    else:
        members = {
            name: value
            for name, value in vars(module).items()
            if getattr(value, "__module__", None) == module.__name__
        }
    return [name for name, value in members.items() if inspect.isclass(value) or inspect.isfunction(value)]


def code_named(texts: Iterable[str]) -> list[str]:
    """Places of code in texts that name plugs.

    A text may have options, which may name code, too. Names without a colon are those of built-in plugs or of installed
    packages.
    """
    places = [place for text in texts for place in _PLACE.findall(text)]
    return list(dict.fromkeys(place for place in places if not place.startswith(SESSION)))


def quoted_places(options: str) -> str:
    """Text of options in which places of code have quotes."""
    return _PLACE_OPTION.sub(lambda match: repr(match[1]), options)


def _names_in(text: str) -> list[str]:
    """Name of a plug, then places of code in options."""
    name, _, options = text.partition("(")
    return [name, *code_named([options])]


def require_trust(origin: str, named: Iterable[str], typed: Iterable[str]) -> None:
    """Refuse code that only a file names.

    Args:
        origin: Folder or file that names the code, for the message.
        named: Texts of plugs in it.
        typed: Texts of plugs that the user typed; their code is trusted.

    Raises:
        ConfigError: If code is named that was not typed; the message lists its places.
    """
    trusted_places = code_named(typed)
    if untrusted := [place for place in code_named(named) if place not in trusted_places]:
        raise ConfigError(
            f"{origin}: names code that would run with your rights: {', '.join(untrusted)}. Nothing of it has run. "
            "Read this code, then add --trust (in Python: trust=True)"
        )


@contextmanager
def own_code(texts: Sequence[str]) -> Iterator[None]:
    """Context manager that adds lines of user code to errors.

    ``texts`` name agents and models as on the command line. An error of rimsim keeps its class, with the line
    added. Any other error from a user's code becomes a :class:`ModelError`.
    """
    try:
        yield
    except Exception as error:
        own_places = [
            place for text in texts for name in _names_in(text) if (place := place_of(name)) is not None
        ]
        line = _line_of(error, own_places)
        if isinstance(error, RimsimError):
            if not line:
                raise
            raise type(error)(f"{error} ({line})", *error.args[1:]) from error
        if not own_places or isinstance(error, OSError):
            raise
        error_text = f"{type(error).__name__}: {one_line(error)}"
        raise ModelError(
            f"{line}: {error_text}" if line else f"{error_text}, with {', '.join(own_places)}"
        ) from error


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


def files_of(texts: Sequence[str]) -> list[Path]:
    """Sorted files that plugs and their options name."""
    names = [name for text in texts for name in _names_in(text)]
    return [
        Path(file) for file in sorted({f"{name.partition('.py:')[0]}.py" for name in names if ".py:" in name})
    ]


class _UncachedLoader(SourceFileLoader):
    """Loader that compiles a file on each import."""

    # Python uses cached bytecode as long as the size of the file and the second of its last change stay the same. So an
    # edit within a second that keeps the size would have no effect.
    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _from_file(path: Path) -> Any:
    """Module of a file, imported without a cache."""
    name = f"rimsim_user_{path.stem}"
    absolute_path = str(path.resolve())
    spec = importlib.util.spec_from_file_location(
        name, absolute_path, loader=_UncachedLoader(name, absolute_path)
    )
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"no file {path.resolve()}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
