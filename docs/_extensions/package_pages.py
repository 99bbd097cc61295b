"""Pages of the API: one for each package, with all its public names.

A page of ``docs/api`` names its packages with ``automodule``. Below the text of a package stand a table of its names
and the names themselves. Attributes have no entries of their own, so that the search finds pages and not fields.
"""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from sphinx.application import Sphinx

MODULE = re.compile(r"^\.\. automodule:: (\S+)$", re.MULTILINE)
SECTIONS = ("Classes", "Settings", "Functions")


@dataclass(frozen=True)
class PublicName:
    """Public name of a package, as its page shows it."""

    module: str
    name: str
    value: object

    @property
    def section(self) -> str:
        """Heading of the table that holds the name."""
        if not inspect.isclass(self.value):
            return "Functions"
        return "Settings" if self.name.endswith("Config") else "Classes"

    @property
    def directive(self) -> str:
        """Directive of autodoc for this kind of object."""
        return "autoclass" if inspect.isclass(self.value) else "autofunction"

    @property
    def is_alias(self) -> bool:
        """Whether the package has the same class under its proper name."""
        return inspect.isclass(self.value) and self.value.__name__ != self.name


def public_names(module: ModuleType) -> list[PublicName]:
    """Classes and functions that a package exports; constants have no docstrings."""
    names = sorted(getattr(module, "__all__", ()), key=str.lower)
    values = {name: getattr(module, name) for name in names}
    return [PublicName(module.__name__, name, value) for name, value in values.items() if _is_shown(value)]


def _is_shown(value: object) -> bool:
    return inspect.isclass(value) or inspect.isroutine(value) or hasattr(value, "py_func")


def contents(module: ModuleType) -> str:
    """Text of a package, a table of its names, and the names by section."""
    names = public_names(module)
    parts = [f".. automodule:: {module.__name__}", "   :no-members:", ""]
    listed = [name for section in SECTIONS for name in names if name.section == section and not name.is_alias]
    if listed:
        parts += [".. autosummary::", "   :nosignatures:", ""]
        parts += [f"   ~{module.__name__}.{name.name}" for name in listed]
        parts += [""]
    for alias in names:
        if alias.is_alias:
            parts += [f"``{alias.name}`` is another name of ``{alias.value.__name__}``.", ""]
    parts += [f".. {name.directive}:: {module.__name__}.{name.name}\n" for name in listed]
    return "\n".join(parts)


def put_contents(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the names of a package where a page of the API names the package."""
    if not docname.startswith("api/"):
        return

    def with_names(directive: re.Match[str]) -> str:
        module = importlib.import_module(directive[1])
        return contents(module) if hasattr(module, "__all__") else directive[0]

    source[0] = MODULE.sub(with_names, source[0])


def skip_attributes(
    _app: Sphinx,
    owner: str,
    _name: str,
    member: object,
    skip: bool,  # noqa: FBT001  # the event's argument
    _options: object,
) -> bool | None:
    """Leave attributes and properties of classes out; the signature and the docstring of the class name them."""
    is_method = inspect.isroutine(member) or hasattr(member, "py_func")
    return True if owner == "class" and not is_method else skip


def show_names_of_aliases() -> None:
    """Make Sphinx write the name of a type alias within a union or a tuple, where it writes a representation."""
    from sphinx.util.inspect import TypeAliasForwardRef  # noqa: PLC0415  # tests of this file need no Sphinx

    TypeAliasForwardRef.__repr__ = lambda alias: alias.name


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the steps."""
    show_names_of_aliases()
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("source-read", put_contents)
    app.connect("autodoc-skip-member", skip_attributes)
    return {"parallel_read_safe": True}
