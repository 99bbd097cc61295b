"""Pages of the API and the search of the site: what is listed on which page, and what is found first."""

import importlib
import re
import sys
from functools import partial
from typing import get_origin

import pytest
import yaml
from kit import DOCS

from rimsim.agents import PopularityAgent

pytestmark = pytest.mark.skipif(not (DOCS / "_extensions").is_dir(), reason="not a source checkout")


@pytest.fixture
def pages(monkeypatch):
    """Module that writes the pages."""
    monkeypatch.syspath_prepend(DOCS / "_extensions")
    monkeypatch.delitem(sys.modules, "package_pages", raising=False)
    return importlib.import_module("package_pages")


@pytest.mark.parametrize("page", sorted(DOCS.glob("api/*.md")), ids=lambda page: page.stem)
def test_every_class_and_function_of_a_package_is_in_its_tables(pages, page):
    """Each callable name of a package is in a table once, or is named as a second name of a class that is."""
    for package in pages.MODULE.findall(page.read_text(encoding="utf-8")):
        module = importlib.import_module(package)
        values = {name: getattr(module, name) for name in getattr(module, "__all__", ())}
        # A type alias such as a Literal can be called, but it is neither a class nor a function.
        names = {name for name, value in values.items() if callable(value) and get_origin(value) is None}
        lines = pages.contents(module).splitlines()
        listed = [line.rpartition(".")[2] for line in lines if line.startswith(f"   ~{package}.")]
        aliases = [line.split("``")[1] for line in lines if "is another name of" in line]
        described = [
            line.rpartition(".")[2] for line in lines if re.match(r"\.\. auto(class|function)::", line)
        ]
        assert sorted(listed + aliases) == sorted(names)
        assert sorted(described) == sorted(listed)


def test_a_class_is_shown_with_its_methods_alone(pages):
    """Methods stay, also compiled ones; attributes, properties and skipped members have no entries."""
    skip = partial(pages.skip_attributes, None, "class", "name", skip=False, _options=None)
    assert skip(member=PopularityAgent.act) is False
    assert skip(member=PopularityAgent.name) is True
    assert skip(member=property(str)) is True
    is_skipped = True
    assert pages.skip_attributes(None, "module", "name", PopularityAgent, is_skipped, None) is True


def test_a_package_with_a_page_shows_its_text_before_its_names(pages):
    """A page with ``automodule`` gets the text of the package, a table and the names; other pages stay."""
    source = ["# Agents\n\n.. automodule:: rimsim.agents\n"]
    pages.put_contents(None, "api/agents", source)
    text = source[0]
    places = ("automodule", "autosummary", "~rimsim.agents.Agent\n", ".. autoclass:: rimsim.agents.Agent\n")
    assert [text.index(place) for place in places] == sorted(text.index(place) for place in places)
    assert ".. autofunction:: rimsim.agents.make_agent\n" in text
    plain = [".. automodule:: rimsim.agents\n"]
    pages.put_contents(None, "guarantees", plain)
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


def test_each_subject_of_the_search_has_one_place():
    """Places are pages and headings of them; no subject has two places."""
    places = yaml.safe_load((DOCS / "search.yaml").read_text(encoding="utf-8"))
    subjects = [subject.lower() for of_place in places.values() for subject in of_place]
    assert len(subjects) >= 14
    assert len(set(subjects)) == len(subjects)
    for place in places:
        page, _, anchor = place.partition("#")
        titles = re.findall(r"^#+ (.+)$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors, place


def test_a_subject_is_searched_as_a_browser_does(script, tmp_path):
    """A main entry of the index comes before a title, a title before words; the script's index is Sphinx's."""
    pytest.importorskip("quickjs")
    application = pytest.importorskip("sphinx.application")
    source = tmp_path / "source"
    source.mkdir()
    (source / "conf.py").write_text("")
    (source / "index.rst").write_text("Site\n====\n\n.. toctree::\n\n   a\n   b\n   c\n")
    (source / "a.rst").write_text("First\n=====\n\nWords of a slate at a price.\n")
    (source / "b.rst").write_text("Price\n=====\n\nOther words.\n")
    (source / "c.rst").write_text("Third\n=====\n\n.. index:: ! price\n\nOther words.\n")
    site = tmp_path / "site"
    application.Sphinx(source, source, site, tmp_path / "trees", "html", status=None, warning=None).build()
    search = script("site_search").search(site)
    assert search.eval("first('price')").startswith("c")
    assert search.eval("first('third')") == "c"
    assert search.eval("first('slate')") == "a"
    assert search.eval("first('absent')") == "nothing"
