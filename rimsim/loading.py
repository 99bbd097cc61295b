"""Classes and functions of a user's own, by their place: ``module:Name`` or ``path/to/file.py:Name``."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

from rimsim.errors import ConfigError, nearest

__all__ = ["files_of", "imported"]


def imported(where: str, kind: str) -> Any:
    """What stands at a place.

    Args:
        where: ``module:Name`` or ``path/to/file.py:Name``.
        kind: What it is to be, such as ``agent``, for errors.

    Raises:
        ConfigError: If the module or file cannot be imported (with the line of a slip in it) or lacks the name (with
            the nearest).
    """
    place, _, name = where.rpartition(":")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:  # whatever a user's file does when it is imported
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ConfigError(
            f"{kind} {where!r}: cannot import {place!r}{line}: {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, name):
        own = [
            key for key, value in vars(module).items() if inspect.isclass(value) or inspect.isfunction(value)
        ]
        raise ConfigError(f"{kind} {where!r}: {place} has no {name!r}.{nearest(name, own)}")
    return getattr(module, name)


def files_of(texts: list[str]) -> list[Path]:
    """The files among places, sorted; what a run hangs on beside its config."""
    return [
        Path(text) for text in sorted({text.partition(".py:")[0] + ".py" for text in texts if ".py:" in text})
    ]


def _from_file(path: Path) -> Any:
    name = f"rimsim_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"no file {path.resolve()}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
