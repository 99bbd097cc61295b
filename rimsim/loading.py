"""Classes, functions and objects of a user's own, by their place: ``module:Name`` or ``path/to/file.py:Name``."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from rimsim.errors import ConfigError, ModelError, RimsimError, nearest, one_line


def imported(where: str, kind: str, of: type | None = None) -> Any:
    """What stands at a place.

    Args:
        where: ``module:Name`` or ``path/to/file.py:Name``.
        kind: What it is to be, such as ``agent``, for errors.
        of: The class that it must be an instance of; None: it is a class or a function.

    Raises:
        ConfigError: If the module or file cannot be imported (with the line of a slip in it), lacks the name (with
            the nearest) or has something else under it.
    """
    place, _, name = where.rpartition(":")
    if place.endswith(".py") and not Path(place).is_file():
        raise ConfigError(f"{kind} {where!r}: no file {place!r}.{nearest_file(Path(place))}")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:  # whatever a user's file does when it is imported
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ConfigError(
            f"{kind} {where!r}: cannot import {place!r}{line}: {type(error).__name__}: {one_line(error)}"
            f"{_beside(Path(place), error)}"
        ) from error
    if not hasattr(module, name):
        raise ConfigError(f"{kind} {where!r}: {place} has no {name!r}.{nearest(name, _own(module, of))}")
    found = getattr(module, name)
    if of is not None and not isinstance(found, of):
        others = ", ".join(_own(module, of)) or "none"
        raise ConfigError(
            f"{kind} {where!r}: found a {type(found).__name__}; allowed: a {of.__name__} ({place} has {others})"
        )
    return found


def _beside(path: Path, error: Exception) -> str:
    """What to do where a file imports one that lies beside it, as the tail of an error message."""
    folder = path.parent
    wanted = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if path.suffix != ".py" or not (wanted and (folder / f"{wanted}.py").is_file()):
        return ""
    return (
        f"; {wanted}.py lies beside it: put PYTHONPATH={shlex.quote(str(folder))} before the command, or install both "
        "as a package"
    )


def without_name(place: str, kind: str, of: type | None = None) -> ConfigError:
    """What to raise where a file stands without the name of what is wanted from it.

    Args:
        place: ``path/to/file.py``.
        kind: What is wanted, such as ``agent``.
        of: As in :func:`imported`.
    """
    path = Path(place)
    if not path.is_file():
        return ConfigError(f"{kind} {place!r}: no such file.{nearest_file(path)}")
    try:
        own = _own(_from_file(path), of)
    except Exception:  # noqa: BLE001  # it is told when the name has been given
        own = []
    listed = " or ".join(f"{place}:{name}" for name in own) or f"{place}:Name"
    return ConfigError(f"{kind} {place!r} is a file; allowed: the file and a name in it, {listed}")


def _own(module: Any, of: type | None) -> list[str]:
    """Names of what a module has of a class.

    Args:
        module: The module.
        of: The class; None: classes and functions that it offers, or else defines: what it imports is not its own.
    """
    if of is not None:
        return [key for key, value in vars(module).items() if isinstance(value, of)]
    offered = getattr(module, "__all__", None)
    return [
        key
        for key, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and (key in offered if offered is not None else value.__module__ == module.__name__)
    ]


def nearest_file(path: Path) -> str:
    """Say which file beside a missing one was probably meant, as the tail of an error message."""
    if not path.parent.is_dir():
        return f" There is no folder {str(path.parent)!r}."
    names = [entry.name for entry in path.parent.iterdir() if entry.suffix == path.suffix]
    if not names:
        return f" There is no {path.suffix or 'such'} file in {str(path.parent)!r}."
    return nearest(path.name, names)


@contextmanager
def own_code(texts: Sequence[str]) -> Iterator[None]:
    """Let an error that came up in a user's own file say at which line of it.

    Args:
        texts: Agents and models that take part, as they stand on a command line.

    Raises:
        RimsimError: An error of ours keeps its kind, and is told the line; any other of a user's own code becomes a
            :class:`ModelError`, since agents are told by their own kind before.
    """
    try:
        yield
    except Exception as error:
        own = [text for text in texts if ":" in text]
        place = _line_of(error, own)
        if isinstance(error, RimsimError):
            if not place:
                raise
            raise type(error)(f"{error} ({place})", *error.args[1:]) from error
        if not own or isinstance(error, OSError):
            raise
        said = f"{type(error).__name__}: {one_line(error)}"
        text = f"{place}: {said}" if place else f"{said}, with {', '.join(own)}"
        raise ModelError(text) from error


def _line_of(error: BaseException | None, texts: Sequence[str]) -> str:
    """``file.py:line`` of the innermost call within a user's own file, or an empty text."""
    files = {str(file.resolve()): str(file) for file in files_of(texts)}
    for text in texts:
        module = sys.modules.get(text.partition(":")[0])
        if (file := getattr(module, "__file__", None)) is not None:
            files[str(Path(file).resolve())] = file
    found = ""
    while error is not None:
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename in files:
                found = f"{files[frame.filename]}:{frame.lineno}"
        error = error.__cause__ or error.__context__
    return found


def files_of(texts: Sequence[str]) -> list[Path]:
    """The files among places, sorted; what a run hangs on beside its config."""
    return [
        Path(text) for text in sorted({text.partition(".py:")[0] + ".py" for text in texts if ".py:" in text})
    ]


class _AsItStands(SourceFileLoader):
    """Compiles a file each time: Python's cache would miss a change within a second that leaves the size."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _from_file(path: Path) -> Any:
    name = f"rimsim_user_{path.stem}"
    place = str(path.resolve())
    spec = importlib.util.spec_from_file_location(name, place, loader=_AsItStands(name, place))
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"no file {path.resolve()}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
