"""Old public names, with a warning for one release."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def renamed_attribute(old: str, new: str) -> property:
    """Property under the old name of an attribute."""

    def read(owner: object) -> Any:
        kind = type(owner).__name__
        warn_renamed(f"{kind}.{old}", f"{kind}.{new}")
        return getattr(owner, new)

    return property(read, doc=f"Old name of ``{new}``, until 0.3.")


def renamed_names(
    module: str, names: Mapping[str, str], fallback: Callable[[str], Any] | None = None
) -> Callable[[str], Any]:
    """``__getattr__`` for a module that has old names.

    Args:
        names: Old name → new name.
        fallback: ``__getattr__`` for names that are not old.
    """

    def read(name: str) -> Any:
        """Object of a name; an old name causes a warning."""
        if name in names:
            warn_renamed(f"{module}.{name}", f"{module}.{names[name]}")
            return getattr(sys.modules[module], names[name])
        if fallback is not None:
            return fallback(name)
        raise AttributeError(
            f"module {module!r} has no attribute {name!r}", name=name, obj=sys.modules[module]
        )

    return read


def warn_renamed(old: str, new: str) -> None:
    """Warn at the line that uses an old name.

    Python shows these deprecation warnings only for the user's script, so frames of imports are skipped.
    """
    # Frame 1 is the function under the old name, which calls this one; frame 2 is its user.
    frame = sys._getframe(2)  # noqa: SLF001
    while frame.f_back is not None and frame.f_globals["__name__"].partition(".")[0] in (
        "importlib",
        "lazy_loader",
    ):
        frame = frame.f_back
    warnings.warn_explicit(
        f"{old} is now {new}. The old name works until 0.3.",
        DeprecationWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals["__name__"],
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )
