"""Figures and pictures of pages: each is what the benchmark log says, and the leaderboard shows its table."""

import re

import pandas as pd
import pytest
from kit import DOCS, ROOT, cases, refused

from rimsim.agents import BUILT_IN
from rimsim.scenarios.report import charts

LOG = ROOT / "benchmarks" / "log"
README = ROOT / "README.md"
PAGES = sorted(path for path in DOCS.rglob("*.md") if not {"gallery", "log"} & set(path.parts))
pytestmark = pytest.mark.skipif(not (DOCS / "index.md").is_file(), reason="not a source checkout")


def test_every_picture_is_in_a_page_and_no_older_than_its_result(script):
    """Drawn again from its tables, each picture has the title and digest of its file; two others show no table."""
    text = "".join(page.read_text(encoding="utf-8") for page in [README, *PAGES, *LOG.glob("*.md")])
    assert [path.name for path in (DOCS / "pictures").iterdir() if f"pictures/{path.name}" not in text] == []
    pictures = script("pictures")
    files = {f"{name}{picture.ending}" for name, picture in pictures.PICTURES.items()}
    assert {path.name for path in (DOCS / "pictures").iterdir()} == {*files, "round.svg", "report.png"}
    used = {
        place for picture in pictures.PICTURES.values() for place in picture.tables if place.endswith(".csv")
    }
    assert {path.name for path in (LOG / "pictures").iterdir()} == used
    for name, picture in pictures.PICTURES.items():
        with charts.style(picture.width):
            _, title = pictures.drawn(name)
        assert pictures.recorded(name) == pictures.Record(title, pictures.digest(picture.tables)), name


def test_a_title_of_the_site_follows_its_table(script, monkeypatch, tmp_path):
    """Where relevance shows half as much of the catalogue, the title says so, and the digest is another."""
    pictures = script("pictures")
    before = pictures.drawn("coverage")[1]
    (tmp_path / "coverage.csv").write_text(
        re.sub(
            r"(coverage,relevance,29,)[\d.]+",
            r"\g<1>0.06",
            (LOG / "pictures" / "coverage.csv").read_text(encoding="utf-8"),
        ),
        encoding="utf-8",
    )
    digest = pictures.digest(("coverage.csv",))
    monkeypatch.setattr(pictures, "TABLES", tmp_path)
    assert pictures.drawn("coverage")[1] == before.replace("13%", "6.0%") != before
    assert pictures.digest(("coverage.csv",)) != digest


def test_a_changed_table_has_another_digest(script, monkeypatch, tmp_path):
    """The digest is of cells below a heading, not of the text around them; a heading without a table is refused."""
    pictures = script("pictures")
    monkeypatch.setattr(pictures.figures, "LOG", tmp_path)

    def digest(text):
        (tmp_path / "a.md").write_text(text)
        return pictures.digest(("a#b",))

    table = "## B\n\n| x |\n|---|\n| 1 |\n"
    assert digest(table) == digest(f"New words.\n\n{table}\nMore.\n") != digest(table.replace("1", "2"))
    refused(SystemExit, "a#b", digest, "## B\n")


def test_figures_of_pages_are_those_of_the_log(script):
    """Every quoted figure equals its cell of the log, and every page of the log says how its tables were made."""
    figures = script("figures")
    assert len(figures.quotes()) > 50
    assert [path.name for path in figures.outdated()] == []
    made = re.compile(r"^\*Commit \w{7,}, \d{4}-\d\d-\d\d, .+, rimsim [\d.]+:\* `.+`$", re.MULTILINE)
    logs = [path for path in LOG.glob("*.md") if path.stem not in {"README", "turned"}]
    assert [path.name for path in logs if not made.search(path.read_text())] == []


def test_a_figure_is_found_by_row_and_column(script, monkeypatch, tmp_path):
    """A place is a cell in seven forms, below a heading where it names one; unknown and ambiguous rows are refused."""
    figures = script("figures")
    table = "| x | y |\n|---|---|\n"
    text = f"# A\n\n{table}| `n` | -.135 ±.01* |\n| o | 3 |\n\n## B\n\n{table}| n | 2 |\n"
    (tmp_path / "a.md").write_text(text)
    monkeypatch.setattr(figures, "LOG", tmp_path)
    forms = {
        "": "−0.135 ± 0.01",
        "mean": "−0.135",
        "size": "0.135",
        "absolute": "0.135 ± 0.01",
        "starred": "0.135*",
        "points": "14",
        "%": "14%",
    }
    assert {form: figures.figure(f"a#a; n; y; {form}") for form in forms} == forms
    assert figures.figure("a#b; n; y") == figures.figure("a#b; n; y; starred") == "2"
    assert figures.figure("a; o; y") == "3"
    refused(SystemExit, "0 figures", figures.figure, "a; m; y")
    refused(SystemExit, "2 figures", figures.figure, "a; n; y")


@cases(
    "page words places message",
    ("It was 9 here, 8 there.", "It was {} there.", ["a; n; y"], "occurs 0 times"),
    ("It was 9. It was 8.", "was {}.", ["a; n; y"], "occurs 2 times"),
    ("It was 9 of 8.", "was {} of {}.", ["a; n; y"], "one place for each"),
    ("It was 9.", "was {}.", ["a; w; y"], "is not a figure"),
    ids=["no page has the words", "two places have the words", "a figure without a place", "a cell of words"],
)
def test_a_quote_that_fits_no_single_figure_is_refused(
    script, monkeypatch, tmp_path, page, words, places, message
):
    """Words that occur never or twice, and figures without a cell that is one, end the check."""
    figures = script("figures")
    (tmp_path / "a.md").write_text("| x | y |\n|---|---|\n| n | 7 |\n| w | seven |\n")
    monkeypatch.setattr(figures, "LOG", tmp_path)
    quote = figures.Quote("page.md", words, tuple(places))
    refused(SystemExit, message, figures.updated, page, [quote])


def test_figures_that_differ_from_the_log_are_named_and_replaced(script, monkeypatch, tmp_path):
    """Each figure becomes the log's, across line breaks; one that is quoted twice is refused."""
    figures = script("figures")
    (tmp_path / "a.md").write_text("| x | y | z |\n|---|---|---|\n| n | 7.5 ± 1 | 34% [20, 48] |\n")
    monkeypatch.setattr(figures, "LOG", tmp_path)
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setattr(figures, "QUOTES", tmp_path / "figures.yaml")
    (tmp_path / "figures.yaml").write_text('page.md:\n  "It costs {} or {}.": ["a; n; y", "a; n; z"]\n')
    page = tmp_path / "page.md"
    page.write_text("So, **yes**. It\n  costs 1,200 or 35% [21, 49]. Not 1,200.\n")
    corrected = "So, **yes**. It\n  costs 7.5 ± 1 or 34% [20, 48]. Not 1,200.\n"
    assert figures.outdated() == {page: corrected}
    page.write_text(corrected)
    assert figures.outdated() == {}
    quotes = [figures.Quote("page.md", words, ("a; n; y",)) for words in ("costs {} or", "It costs {}")]
    refused(SystemExit, "quotes a figure twice", figures.updated, corrected, quotes)


def test_the_number_of_agents_on_the_first_page_is_that_of_the_registry():
    """README counts the built-in agents."""
    assert f"\n* {len(BUILT_IN)} [agents](docs/agents.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_claims_in_words_are_supported_by_their_data(script):
    """Every registered claim of a page occurs once there, and holds in the tables and curves of the log."""
    figures = script("figures")
    assert len(figures.claims()) >= 7
    assert figures.unsupported() == []


@cases(
    "claim fault",
    ({"starred": ("films",)}, "stars are in films, shop"),
    ({"starred": ("films", "shop")}, None),
    ({"starred": ("films", "shop"), "between": (5, 7)}, None),
    ({"between": (5, 7)}, "not between 5 and 7: news 30"),
    ({"words": "a lot"}, "the words occur 0 times in the page"),
    (
        {"row": "", "curve": "c; x; a", "rounds": (0, 1, 2), "between": (0.5, 1)},
        "not between 0.5 and 1: share 0.4",
    ),
    ({"row": "", "curve": "c; x; a", "rounds": (0, 1, 2), "between": (0.3, 0.5)}, None),
)
def test_a_claim_that_the_data_deny_is_named(script, monkeypatch, tmp_path, claim, fault):
    """A few percent on films and shop, two of five points at once: other words than these fail."""
    figures = script("figures")
    monkeypatch.setattr(figures, "LOG", tmp_path)
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    (tmp_path / "page.md").write_text("It costs a\nfew percent.")
    (tmp_path / "a.md").write_text(
        "## B\n\n| claim | films | shop | news |\n|---|---|---|---|\n| cost | −5.9 ±0.6%* | −6.4 ±1.9%* | −30 ±37% |\n"
    )
    (tmp_path / "pictures").mkdir()
    rows = "".join(f"x,a,{number},{mean}\n" for number, mean in enumerate((10, 8, 5)))
    (tmp_path / "pictures" / "c.csv").write_text(f"panel,line,round,mean\n{rows}")
    defaults = {"page": "page.md", "words": "a few percent", "row": "a#b; cost"}
    assert figures.Claim(**defaults | claim).fault() == fault


def test_the_leaderboard_shows_its_table(script):
    """The page is what its script makes of the committed table, and has every agent that can play its markets."""
    board = script("leaderboard")
    table = pd.read_parquet(board.TABLE)
    page = board.PAGE.read_text(encoding="utf-8")
    assert page == board.page(table, page.splitlines()[2])
    assert set(table["scenario"]) == set(board.BOARDS)
    assert set(table["agent"]) == set(board.AGENTS) == set(BUILT_IN) - {"triage"}
