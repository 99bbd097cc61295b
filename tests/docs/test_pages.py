"""Pages of the site and release notes: contents, length, links and commands."""

import re
import shlex
import shutil
import subprocess
import sys

import pytest
from kit import DOCS, ROOT

import rimsim
from rimsim.scenarios.cli.main import _rimsim as COMMANDS  # noqa: N812

LOG = ROOT / "benchmarks" / "log"
PAGES = sorted(path for path in DOCS.rglob("*.md") if not {"gallery", "log"} & set(path.parts))
pytestmark = pytest.mark.skipif(not (DOCS / "index.md").is_file(), reason="not a source checkout")


def _listed(page):
    """Names in the tables of contents of a page, by caption."""
    text = page.read_text(encoding="utf-8")
    for table in re.findall(r"```{toctree}\n(.*?)```", text, re.DOTALL):
        options = dict(re.findall(r"^:(\w+): *(.*)$", table, re.MULTILINE))
        names = re.findall(r"^(?!:)(?:.+ <)?([\w/-]+)>?$", table, re.MULTILINE)
        yield options.get("caption"), names


def _words(path):
    """Number of words of a page, without formulas and tables of contents."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"\$\$.*?\$\$|```{toctree}.*?```", "", text, flags=re.DOTALL)
    return len(re.findall(r"\S*\w\S*", text))


def _anchors(path):
    """Anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_every_page_and_every_room_is_in_the_sites_contents_and_short():
    """25 entries hold each page and package once; README has 800 words at most, a page 2,000, all pages 36,600."""
    sections = dict(_listed(DOCS / "index.md"))
    assert list(sections) == ["Start", "Guides", "Understand", "Look up"]
    entries = [name for names in sections.values() for name in names]
    assert len(entries) == 25
    parents = [page for page in DOCS.glob("*.md") if page.stem != "index"]
    listed = [name for page in parents for _, names in _listed(page) for name in names]
    listed += [f"api/{name}" for _, names in _listed(DOCS / "api" / "index.md") for name in names]
    pages = [str(path.relative_to(DOCS).with_suffix("")) for path in PAGES]
    assert sorted(entries + listed) == sorted({*pages, "gallery/index", "self"} - {"index"})
    rooms = [name for name in dir(rimsim) if hasattr(getattr(rimsim, name), "__path__")]
    assert len(rooms) >= 8
    assert [name for name in rooms if not (DOCS / "api" / f"{name}.md").is_file()] == []
    assert _words(ROOT / "README.md") <= 800
    words = {path.stem: _words(path) for path in DOCS.glob("*.md")}
    generated = {"scenarios", "command-line", "measures", "tables"}
    assert {name: count for name, count in words.items() if count > 2000 and name not in generated} == {}
    assert sum(count for name, count in words.items() if name not in generated) <= 36_600


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES, *LOG.glob("*.md")], ids=str)
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


def test_a_link_to_the_glossary_names_one_of_its_terms():
    """The site leads such a link to the row of the term, so its text is a term, also in the plural."""
    rows = re.findall(r"^\| ([^|]+?) \|", (DOCS / "words.md").read_text(encoding="utf-8"), re.MULTILINE)
    terms = {term for row in rows[1:] for term in row.split(", ")}
    text = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    marked = {words.lower() for words in re.findall(r"\[([^\]]+)\]\(words\.md\)", text)} - {"glossary"}
    assert len(marked) > 20
    assert [words for words in marked if not {words, words.removesuffix("s")} & terms] == []


def _commands(page):
    """Words of each `rimsim` command in the shell blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", text, re.DOTALL):
        for line in re.split(r"[;\n]|&&", block.replace("\\\n", " ")):
            words = shlex.split(line, comments=True)
            if words[:1] == ["rimsim"]:
                yield words[1:]


def test_commands_of_pages_are_read_by_the_command_line():
    """Each command in a page names commands and options that there are, with values of their types."""
    commands = [words for page in [ROOT / "README.md", *PAGES] for words in _commands(page)]
    assert len(commands) > 40
    for words in commands:
        command = COMMANDS
        rest = words
        while hasattr(command, "commands"):
            command = command.commands[rest[0]]
            rest = rest[1:]
        command.make_context(words[0], rest)


def test_release_notes_are_short_and_begin_with_results():
    """A version has a date and at most 400 words; a heading *Results change* comes first."""
    versions = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    titles = [text.split("\n")[0] for text in versions]
    assert [title for title in titles if not re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", title)] == []
    assert titles[0].startswith(f"{rimsim.__version__} ")
    assert [text.split("\n")[0] for text in versions if len(re.findall(r"\S*\w\S*", text)) > 400] == []
    for text in versions:
        headings = re.findall(r"^### (.+)$", text, re.MULTILINE)
        assert "Results change" not in headings[1:]


def test_fragments_become_the_notes_of_the_next_version(tmp_path):
    """Each file of changes/ is a short sentence of a known kind, and all stand above the last version."""
    pytest.importorskip("towncrier")
    fragments = [path for path in (ROOT / "changes").iterdir() if path.name != "README.md"]
    kinds = "results|breaking|added|faster|fixed"
    assert [p.name for p in fragments if not re.fullmatch(rf"[+\w-]+\.({kinds})(\.\d+)?\.md", p.name)] == []
    texts = [path.read_text(encoding="utf-8").strip() for path in fragments]
    assert [text for text in texts if len(text.split()) > 20 or not text.endswith(".")] == []
    shutil.copytree(ROOT / "changes", tmp_path / "changes")
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    line = [sys.executable, "-m", "towncrier", "build", "--yes", "--version", "9.0.0"]
    subprocess.run([*line, "--dir", str(tmp_path)], cwd=tmp_path, check=True, capture_output=True)
    notes = (tmp_path / "CHANGELOG.md").read_text(encoding="utf-8")
    new = notes.partition("## 9.0.0")[2].partition(f"## {rimsim.__version__}")[0]
    assert [text for text in texts if text not in new] == []
    assert re.match(r" \(\d{4}-\d\d-\d\d\)\n", new)
    assert notes.replace(f"## 9.0.0{new}", "") == (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
