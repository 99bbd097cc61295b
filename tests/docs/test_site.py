"""Pages of the API: every public name is found on the page of its package, and has a page of its own."""

import importlib
import sys
from types import SimpleNamespace
from typing import get_origin

import pytest
from kit import DOCS

pytestmark = pytest.mark.skipif(not (DOCS / "_extensions").is_dir(), reason="not a source checkout")


@pytest.fixture
def pages(monkeypatch):
    """Module that writes the pages."""
    monkeypatch.syspath_prepend(DOCS / "_extensions")
    monkeypatch.delitem(sys.modules, "object_pages", raising=False)
    return importlib.import_module("object_pages")


@pytest.fixture
def site(tmp_path):
    """Folder of a site with the page of one package."""
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "agents.md").write_text("# Agents\n\n.. automodule:: rimsim.agents\n")
    return SimpleNamespace(srcdir=tmp_path)


@pytest.mark.parametrize("page", sorted(DOCS.glob("api/*.md")), ids=lambda page: page.stem)
def test_every_class_and_function_of_a_package_is_in_its_tables(pages, page):
    """Each callable name of a package is in a table once, or is named as a second name of a class that is."""
    for package in pages.MODULE.findall(page.read_text(encoding="utf-8")):
        module = importlib.import_module(package)
        values = {name: getattr(module, name) for name in getattr(module, "__all__", ())}
        # A type alias such as a Literal can be called, but it is neither a class nor a function.
        names = {name for name, value in values.items() if callable(value) and get_origin(value) is None}
        lines = pages.tables(module).splitlines()
        listed = [line.rpartition(".")[2] for line in lines if line.startswith(f"   ~{package}.")]
        aliases = [line.split("``")[1] for line in lines if "is another name of" in line]
        assert sorted(listed + aliases) == sorted(names)


def test_a_public_name_has_a_page_and_a_removed_one_has_none(pages, site):
    """A class, a function and a compiled function get the directive of their kind; an alias and a stale page go."""
    folder = site.srcdir / "api" / "objects"
    folder.mkdir()
    (folder / "rimsim.agents.Forgotten.rst").write_text("Forgotten\n")
    pages.write_pages(site)
    texts = {path.stem: path.read_text() for path in folder.iterdir()}
    assert ".. autoclass:: rimsim.agents.PopularityAgent" in texts["rimsim.agents.PopularityAgent"]
    assert ".. autofunction:: rimsim.agents.make_agent" in texts["rimsim.agents.make_agent"]
    assert ":doc:`rimsim.agents <../agents>`" in texts["rimsim.agents.make_agent"]
    assert not {"rimsim.agents.Forgotten", "rimsim.agents.Popularity", "rimsim.agents.BUILT_IN"} & set(texts)


def test_an_unchanged_page_is_not_written_again(pages, site):
    """Sphinx reads a page again where its file is newer, so that a second build leaves the files alone."""
    pages.write_pages(site)
    (page,) = (site.srcdir / "api" / "objects").glob("*.make_agent.rst")
    page.touch()
    before = page.stat().st_mtime_ns
    pages.write_pages(site)
    assert page.stat().st_mtime_ns == before


def test_a_package_with_a_page_shows_its_text_before_its_tables(pages):
    """A page with ``automodule`` gets the text of the package, then the tables; other pages stay as they are."""
    source = ["# Agents\n\n.. automodule:: rimsim.agents\n"]
    pages.put_tables(None, "api/agents", source)
    text = source[0]
    assert text.index("automodule") < text.index("Classes") < text.index("~rimsim.agents.Agent\n")
    plain = [".. automodule:: rimsim.agents\n"]
    pages.put_tables(None, "guarantees", plain)
    assert plain == [".. automodule:: rimsim.agents\n"]


def test_types_have_readable_names(pages, monkeypatch):
    """An alias within a union is written by its name, as one that stands alone is."""
    inspect = pytest.importorskip("sphinx.util.inspect")
    typing = pytest.importorskip("sphinx.util.typing")
    monkeypatch.setattr(inspect.TypeAliasForwardRef, "__repr__", inspect.TypeAliasForwardRef.__repr__)
    pages.show_names_of_aliases()
    alias = inspect.TypeAliasForwardRef("Ints")
    assert typing.stringify_annotation(alias | None) == "Ints | None"
    assert typing.stringify_annotation(tuple[alias, alias]) == "tuple[Ints, Ints]"
