"""Pages of the API: one for each public name, with tables of these names on the page of their package.

A page of ``docs/api`` names its packages with ``automodule``. The members of a package with ``__all__`` move to pages
of their own in ``docs/api/objects``, which Git ignores.
"""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from sphinx.application import Sphinx

FOLDER = "objects"
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

    def page(self, package_page: str) -> str:
        """Text of the page, which begins with links to the pages above it.

        The table of contents, which stands on every page, leaves it out: 300 entries would make each page slower.
        """
        return (
            f":orphan:\n\n{self.name}\n{'=' * len(self.name)}\n\n"
            f":doc:`API <../index>` / :doc:`{self.module} <../{package_page}>`\n\n"
            f".. {self.directive}:: {self.module}.{self.name}\n"
        )


def public_names(module: ModuleType) -> list[PublicName]:
    """Classes and functions that a package exports; constants have no docstrings."""
    names = sorted(getattr(module, "__all__", ()), key=str.lower)
    values = {name: getattr(module, name) for name in names}
    return [PublicName(module.__name__, name, value) for name, value in values.items() if _has_page(value)]


def _has_page(value: object) -> bool:
    return inspect.isclass(value) or inspect.isroutine(value) or hasattr(value, "py_func")


def tables(module: ModuleType) -> str:
    """Tables of a package's names, and a line for each second name of a class."""
    names = public_names(module)
    parts = [f".. automodule:: {module.__name__}", "   :no-members:", ""]
    for section in SECTIONS:
        members = [name for name in names if name.section == section and not name.is_alias]
        if members:
            parts += [f".. rubric:: {section}", ""]
            parts += [".. autosummary::", "   :nosignatures:", ""]
            parts += [f"   ~{module.__name__}.{member.name}" for member in members]
            parts += [""]
    for alias in names:
        if alias.is_alias:
            parts += [f"``{alias.name}`` is another name of ``{alias.value.__name__}``.", ""]
    return "\n".join(parts)


def _packages(page: Path) -> Iterator[ModuleType]:
    """Packages of a page whose names have pages of their own."""
    for name in MODULE.findall(page.read_text(encoding="utf-8")):
        module = importlib.import_module(name)
        if hasattr(module, "__all__"):
            yield module


def write_pages(app: Sphinx) -> None:
    """Write the page of each public name; unchanged files stay, so that Sphinx does not read them again."""
    folder = Path(app.srcdir) / "api" / FOLDER
    folder.mkdir(exist_ok=True)
    stale = set(folder.glob("*.rst"))
    for package_page in sorted(folder.parent.glob("*.md")):
        for module in _packages(package_page):
            for name in public_names(module):
                if name.is_alias:
                    continue
                path = folder / f"{name.module}.{name.name}.rst"
                text = name.page(package_page.stem)
                stale.discard(path)
                if not path.is_file() or path.read_text(encoding="utf-8") != text:
                    path.write_text(text, encoding="utf-8")
    for path in stale:
        path.unlink()


def put_tables(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the tables of names where a page of the API names a package."""
    if not docname.startswith("api/") or docname.startswith(f"api/{FOLDER}/"):
        return

    def with_tables(directive: re.Match[str]) -> str:
        module = importlib.import_module(directive[1])
        return tables(module) if hasattr(module, "__all__") else directive[0]

    source[0] = MODULE.sub(with_tables, source[0])


def show_names_of_aliases() -> None:
    """Make Sphinx write the name of a type alias within a union or a tuple, where it writes a representation."""
    from sphinx.util.inspect import TypeAliasForwardRef  # noqa: PLC0415  # tests of this file need no Sphinx

    TypeAliasForwardRef.__repr__ = lambda alias: alias.name


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the steps."""
    show_names_of_aliases()
    app.connect("builder-inited", write_pages)
    app.connect("source-read", put_tables)
    return {"parallel_read_safe": True}
