"""The site's table of contents, its links and its length: what can be seen without building it (``make docs``)."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest

import rimsim
from rimsim.agents import BUILT_IN

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "gallery" not in path.parts)
pytestmark = pytest.mark.skipif(not (DOCS / "index.md").is_file(), reason="not a source checkout")


def _listed(page):
    """Names in the tables of contents of a page, by caption."""
    text = page.read_text(encoding="utf-8")
    for table in re.findall(r"```{toctree}\n(.*?)```", text, re.DOTALL):
        options = dict(re.findall(r"^:(\w+): *(.*)$", table, re.MULTILINE))
        yield options.get("caption"), re.findall(r"^(?!:)(\S+)$", table, re.MULTILINE)


def _anchors(path):
    """Anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_every_page_is_in_the_sites_contents_once():
    """Tutorials, how-to, reference and explanation hold each page once."""
    sections = dict(_listed(DOCS / "index.md"))
    assert list(sections) == ["Tutorials", "How to", "Reference", "Explanation", "Appendix"]
    listed = [name for names in sections.values() for name in names]
    listed += [f"api/{name}" for _, names in _listed(DOCS / "api" / "index.md") for name in names]
    there = [str(path.relative_to(DOCS).with_suffix("")) for path in PAGES]
    assert sorted(listed) == sorted({*there, "gallery/index"} - {"index"})


def test_every_room_has_a_page_of_its_api():
    """What the root lends as a room is in the reference."""
    rooms = [name for name in dir(rimsim) if (DOCS.parent / "rimsim" / name).is_dir()]
    assert len(rooms) >= 8
    assert [name for name in rooms if not (DOCS / "api" / f"{name}.md").is_file()] == []


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda path: path.stem)
def test_links_lead_somewhere(page):
    """Every link within the repository leads to a file, and to a heading of it where it names one."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        place, _, anchor = target.partition("#")
        path = page.parent / place if place else page
        assert path.exists(), target
        assert not anchor or anchor in _anchors(path), target


def test_pages_are_short_enough_to_be_read():
    """README has 900 words at most; a page to learn or work from, or one that explains, 1,500."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900
    sections = dict(_listed(DOCS / "index.md"))
    names = [name for title in ("Tutorials", "How to", "Explanation") for name in sections[title]]
    texts = {name: DOCS / f"{name}.md" for name in names if name != "gallery/index"}
    words = {name: len(path.read_text(encoding="utf-8").split()) for name, path in texts.items()}
    assert {name: count for name, count in words.items() if count > 1500} == {}


def test_the_leaderboard_shows_its_table(monkeypatch):
    """The page is what its script makes of the committed table, and has every built-in agent."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    board = import_module("leaderboard")
    table = pd.read_parquet(board.TABLE)
    assert board.PAGE.read_text(encoding="utf-8") == board.page(table)
    assert set(table["scenario"]) == set(board.BOARDS)
    assert set(table["agent"]) == set(BUILT_IN)
