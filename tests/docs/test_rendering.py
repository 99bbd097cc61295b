"""Pages as a code host shows them: rendered by GitHub's own renderer, no Markdown is left for readers to see."""

import re
from html.parser import HTMLParser

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from kit import DOCS, ROOT, cases

FOLDERS = (ROOT, ROOT / ".github", ROOT / "benchmarks" / "log", ROOT / "changes")
PAGES = [page for folder in FOLDERS for page in sorted(folder.glob("*.md"))]
PAGES += sorted(
    page for page in DOCS.rglob("*.md") if not {"gallery", "log"} & set(page.relative_to(DOCS).parts)
)
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="not a source checkout")

BLOCKS = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "li", "td", "th", "blockquote"}
LITERAL = {"code", "pre", "script", "style"}
MARKS = {
    "bold": r"\*\*|(?<!\w)__(?=\w)",
    "emphasis": r"(?<!\S)[*_](?=\w)",
    "struck": r"~~",
    "link": r"\]\(|\]\[|!\[",
    "code": r"`",
    "comment": r"<!--|-->",
    "heading": r"(?m)^\s*#{1,6} ",
    "pipe": r"(?m)^\s*\||\|\s*$|\|:?-{2,}",
    "directive": r":::|\{[a-z:-]+\}(?=`)",
    "formula": r"\$\$|\\(frac|sum|lambda|gamma|left)\b",
}
"""Kind of a mark → what is left of it in the text of a page that is badly written."""


class RenderedText(HTMLParser):
    """Text that readers see outside of code, by block; text in no block at all is apart."""

    def __init__(self, page):
        super().__init__()
        self.open = []
        self.blocks = []
        self.loose = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        """Open a block."""
        if tag not in {"br", "hr", "img", "input"}:
            self.open.append(tag)
        if tag in BLOCKS:
            self.blocks.append("")

    def handle_endtag(self, tag):
        """Close the innermost element of this name."""
        if tag in self.open:
            del self.open[len(self.open) - 1 - self.open[::-1].index(tag) :]

    def handle_data(self, data):
        """Add text to its block, unless it is code."""
        if LITERAL & set(self.open):
            return
        if BLOCKS & set(self.open):
            self.blocks[-1] += data
        elif data.strip():
            self.loose.append(data.strip())


def _plain(page):
    """Page without directives and roles, which only the site reads, and without formulas, which GitHub sets apart."""
    parts = re.split(r"(^ *```.*?^ *```$)", page, flags=re.DOTALL | re.MULTILINE)
    for number in range(0, len(parts), 2):
        text = re.sub(r"^ *:::.*\n(?:^ *:[\w-]+:.*\n)*", "\n", parts[number], flags=re.MULTILINE)
        text = re.sub(r"\{[a-z:-]+\}`([^`]*)`", r"\1", text)
        text = re.sub(r"\$\$.*?\$\$", "formula", text, flags=re.DOTALL)
        parts[number] = re.sub(r"\$[^$\n]+\$", "formula", text)
    return "".join(parts)


def _lost_cells(page):
    """Rows of tables with another number of cells than the row of titles, whose last cells nobody sees."""
    text = re.sub(r"^ *```.*?^ *```$", "", page, flags=re.DOTALL | re.MULTILINE)
    for table in re.findall(r"(?:^ *\|.*\n?)+", text, flags=re.MULTILINE):
        title, *rows = [(len(re.findall(r"(?<!\\)\|", row)), row) for row in table.strip().splitlines()]
        yield from (f"cells: {row}" for count, row in rows if count != title[0])


def faults(page):
    """Marks that are left in the rendered text of a page, text in no paragraph, and rows that lose cells."""
    page = _plain(page)
    seen = RenderedText(cmarkgfm.github_flavored_markdown_to_html(page, Options.CMARK_OPT_UNSAFE))
    marks = [
        f"{kind}: {block.strip()}"
        for block in [*seen.blocks, *seen.loose]
        for kind, pattern in MARKS.items()
        if re.search(pattern, block)
    ]
    return [*marks, *(f"no paragraph: {text}" for text in seen.loose), *_lost_cells(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_renders(page):
    """No mark of Markdown is left in the text, no text is outside of a block, and no row loses a cell."""
    assert faults(page.read_text(encoding="utf-8")) == []


@cases(
    "page kinds",
    ("The cost is\n<!-- log: a -->4%<!-- /log --> of **utility**, see [b](b.md).\n", ["bold", "link", "no paragraph"]),
    ("<!-- log: a -->4%<!-- /log --> with `rim-feedback`.\n", ["code", "no paragraph"]),
    ("It is ** bold** and `code.\n", ["bold", "code"]),
    ("Text.\n#Heading of [a](b c).\n", ["link"]),
    ("Text.\n\n    # Heading\n\n    | a |\n", []),
    ("* one\n\n      | a | b |\n", []),
    ("Text\n| a | b |\n", ["pipe"]),
    ("| a | b |\n|---|---|\n| p(y|x) | 1 |\n", ["cells"]),
    ("| a | b |\n|---|---|\n| p(y\\|x) | `**` |\n", []),
    ("A `{term}` of {term}`slate` with $a_b*c*$.\n\n$$\n\\frac{1}{2}\n$$\n", []),
    ("Text.\n\n:::{note}\n:class: tip\n\nA *note* with `code`.\n:::\n\n```{toctree}\na **b**\n```\n", []),
    (":::{note}\nA ** note**.\n:::\n", ["bold"]),
    ("A paragraph.\n\n<!-- towncrier release notes start -->\n\n## 1.0\n", []),
)  # fmt: skip
def test_marks_that_readers_would_see_are_found(page, kinds):
    """A comment that begins a line leaves Markdown raw; code, formulas and directives of the site are no fault."""
    assert list(dict.fromkeys(fault.split(":")[0] for fault in faults(page))) == kinds
