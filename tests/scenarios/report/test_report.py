"""The report of a run: its parts on the console, as a page and in a folder, and differences of runs."""

import errno
import os
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser

import pandas as pd
import pytest
from kit import refused, said_by
from kit.commands import printed_report
from kit.markets import drawn, small_scenario

from rimsim.errors import ConfigError, MissingTableError, RunFolderError
from rimsim.scenarios import load_run, sweep
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.report import charts, comparison, sentences
from rimsim.scenarios.report import items as of_items
from rimsim.scenarios.report.console import markdown
from rimsim.scenarios.report.html import html, write_page
from rimsim.scenarios.report.picture_tables import picture_tables
from rimsim.scenarios.report.record import Plot, Report, Section, TextTable
from rimsim.scenarios.report.sweep import sweep_report, undrawn_reason
from rimsim.scenarios.report.tables import late_figures, summary
from rimsim.scenarios.run import Run
from rimsim.tracking import event_folder, read_scalars

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in _NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def report(run):
    """The comparison's report."""
    return comparison.comparison_report(run)


@pytest.fixture(scope="module")
def page(run, report):
    """The comparison's page as text."""
    return write_page(report, run).read_text(encoding="utf-8")


def test_no_text_of_a_table_is_markup():
    """Titles, columns and cells that look like markup of the terminal, or like emoji, are printed as they are."""
    names = ("[/b]", "[red]x", "[link=http://evil]y", ":apple:", "[bold]z[/bold]")
    rows = tuple((name, "[/i]1") for name in names)
    table = TextTable("Groups of [/title]", ("[red]seller", "[b]value"), rows)
    printed = printed_report(Report(question="", sections=(Section("", tables=(table,)),)))
    for text in (*names, "[/i]1", "Groups of [/title]", "[red]seller", "[b]value"):
        assert text in printed


class _Tags(HTMLParser):
    """Tags in order, and whether each that is opened is closed."""

    def __init__(self):
        super().__init__()
        self.open = []
        self.seen = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_pictures_and_tensorboard_are_of_the_tables_rounds_and_unit(run):
    """The table, final figures and titles are of the last round; items with their guarantee are counted in its unit."""
    rounds = run.rounds[(run.rounds["agent"] == "relevance") & (run.rounds["metric"] == "utility")]
    last = rounds[rounds["round"] == 1].set_index("seed")["value"]
    (row,) = summary(run.rounds, ["relevance"], ("utility",)).itertuples()
    assert row.mean == late_figures(run.rounds).loc["relevance", "utility"] == pytest.approx(last.mean())
    final = read_scalars(event_folder(run.folder, "relevance", 0))["final/utility"]
    assert final == [(1, pytest.approx(last[0]))]
    tables = picture_tables(run)
    assert tables.unit == "examined"
    assert set(tables.ledger["round"]) == {1}
    last = run.rounds[(run.rounds["round"] == 1) & (run.rounds["metric"] == "items_met")]
    for name, ratios in of_items.delivery_ratios(tables, 1).items():
        measured = last[last["agent"] == name].sort_values("seed")["value"].tolist()
        assert [(ratio >= 1).mean() for ratio in ratios] == pytest.approx(measured)
    assert len(set(last["value"])) > 2


def test_a_report_holds_its_answer_cautions_plots_and_tables(run, report):
    """The record has all that any sink shows: sentences, pictures by name, tables, settings and places."""
    assert report.question == "What does guaranteeing exposure cost and bring? (small)"
    assert report.answer[0].startswith("`relevance` leaves ")
    assert report.answer[-2].startswith("Two seeds cannot tell if the loop changes")
    assert report.answer[-1].startswith("The truth `gru` is fit for this log")
    assert any(note.startswith("2 seeds: intervals are wide") for note in report.cautions)
    assert sorted(plot.name for plot in report.plots) == sorted(comparison.PICTURES)
    assert report.tables == tuple(comparison.result_tables(run))
    titles = [table.title.split(",")[0] for table in report.tables]
    assert titles == ["small: round 1", "Minus relevance", "What retraining does"]
    assert "per_round: 120" in report.settings
    assert [name for name, _ in report.places()] == ["tables", "pictures", "events", "more"]


def test_the_console_prints_the_answer_first_and_cuts_no_number(report):
    """At 80 columns it precedes tables, cautions and places, and numbers stand whole; Markdown is tables alone."""
    text = printed_report(report)
    parts = ("relevance leaves", "small: round 1", "2 seeds: inter", "tables  ")
    assert sorted(parts, key=text.index) == list(parts)
    assert "…" not in text
    assert max(map(len, re.sub(r"(?m)^\S.*$", "", text).splitlines())) <= 80
    for table in report.tables:
        for row in table.rows:
            cells = dict(zip(table.columns, row, strict=True))
            assert all(cells[name] in text for name in table.main if name in cells)
    assert "log gini" not in text  # Markdown and the page have it
    assert "log gini" in markdown(report.tables)
    text = markdown(report.tables)
    assert "intervals are wide" not in text
    assert text.count("|---|") == len(report.tables)
    assert all(cell in text for table in report.tables for row in table.rows for cell in row)


@pytest.mark.parametrize("width", [80, 60, 40])
@pytest.mark.parametrize("columns", [1, 4, 11])
def test_wide_tables_continue_below(width, columns):
    """A table that is too wide is printed in parts with its labels, and each line fits."""
    cells = tuple(f"{number}.123 ±0.456*" for number in range(columns))
    names = tuple(f"column {number}" for number in range(columns))
    row = ("an agent of a long name", "a part of retraining (self − random)", *cells)
    table = TextTable("Title", ("agent", "what", *names), (row,), labels=2)
    lines = printed_report(Report("?", sections=(Section("", tables=(table,)),)), width).splitlines()
    assert all(any(cell in line for line in lines) for cell in cells)
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)


def test_the_page_is_one_file_that_needs_no_network(page):
    """Nothing is loaded from elsewhere, no script runs, and the file is small."""
    assert len(page.encode()) < 2_000_000
    assert not re.search(r"<script|<link|<img|\bsrc=|@import|url\((?!#)|href=\"(?!#)", page)
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in tags.seen
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]*)\)", page)) <= set(ids)


def test_the_page_has_every_part_and_the_pictures_of_the_folder(run, report, page):
    """Figures with their titles as text, all sections, settings and versions, and items by their titles."""
    drawings = re.findall(r"<svg .*?</svg>", page, re.DOTALL)
    figures = re.findall(r"<figure>.*?</figure>", page, re.DOTALL)
    assert len(figures) == len(drawings) / 2 == sum(plot.make() is not None for plot in report.plots) == 10
    assert all("</text>" in drawing and "<metadata>" not in drawing for drawing in drawings)
    for figure in figures:  # title and caption are text of the page, and no drawing has them
        title, caption = re.search(r"<b>(.+?)</b>(.+?)</figcaption>", figure, re.DOTALL).groups()
        assert f'aria-label="{title}"' in figure
        assert f">{title}" not in figure.partition("</figcaption>")[2]
        assert len(caption) > 20
    assert "Utility</text>" in page
    for section in report.sections:
        assert f"<h2>{section.title}" in page
    assert "nan" not in re.sub(r"<[^>]*>", "", page).lower().split()
    assert "per_round: 120" in page
    assert f"rimsim {run.config['versions']['rimsim']}" in page
    named = re.findall(r'<td class="text" title="([^"]*)">', page)
    assert set(map(unescape, named)) & set(run.catalogue["title"])


@pytest.fixture
def _one_picture(monkeypatch):
    """Reports of comparisons have one picture alone, which takes less time."""
    monkeypatch.setattr(comparison, "PICTURES", {"rounds": comparison.PICTURES["rounds"]})


@pytest.mark.usefixtures("_one_picture")
def test_a_finished_run_alone_has_a_page(run, capsys, tmp_path):
    """``report RUN --html`` says where it is and refuses a second form; without a finished round there is none."""
    assert said_by(capsys, f"report {run.folder} --html").out.strip().endswith("report.html")
    refused(SystemExit, "2", main, ["report", str(run.folder), "--html", "--markdown"])
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in ("config.yaml", "catalogue.parquet"):
        shutil.copy(run.folder / name, empty)
    made = comparison.comparison_report(Run(empty))
    assert "arms are not finished" in made.cautions[0]
    refused(MissingTableError, "has not finished a round yet", html, made, Run(empty))


@pytest.mark.usefixtures("_one_picture")
def test_a_folder_that_cannot_be_written_to_is_reported(run, tmp_path, capsys, monkeypatch):
    """Its tables are printed and one line says why there are no pictures; a page goes elsewhere (F7)."""

    def read_only(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(charts, "draft_file", read_only)
    with drawn("rounds"):
        shown = said_by(capsys, f"report {run.folder}").out
    assert "late rounds" in shown
    said = f"no picture was drawn: {run.folder / 'pictures'} cannot be written to (the disk is read-only)"
    assert shown.splitlines()[-1] == said
    page = tmp_path / "pages" / "one.html"
    assert said_by(capsys, f"report {run.folder} --html --out {page}").out == f"{page}\n"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    said = "--out names the file of the HTML page, so it needs --html. Add --html"
    assert said in said_by(capsys, f"report {run.folder} --out {page}", 2).err


def test_a_sweep_has_a_page_and_says_why_it_has_no_picture(tmp_path):
    """The largest value against the smallest, agent by agent; two fields, or one that is no number, are named."""
    grid = {"exposure.beta": [0.0, 0.5]}
    agents = ["relevance", "rim-feedback"]
    made = sweep(small_scenario(rounds=1), grid, agents, seeds=2, workers=1, out=tmp_path / "s")
    content = sweep_report(made)
    (of_relevance,) = (text for text in content.answer if text.startswith("`relevance`"))
    assert of_relevance.startswith(
        "`relevance`: beta from 0 to 0.5 does not change utility or coverage; at 0.5, "
    )
    assert of_relevance.endswith("% of the guaranteed exposure is undelivered.")
    assert any(text.startswith("`rim-feedback`: beta from 0 to 0.5 ") for text in content.answer)
    assert html(content, made).count("<figure>") == 2
    assert [plot.name for plot in content.plots if plot.png] == ["front"]
    assert "rim-feedback beta=0.5" in printed_report(content, 140)
    columns = {"agent": ["a"], "seed": [0], "metric": ["utility"], "value": [1.0]}
    assert undrawn_reason(pd.DataFrame(columns | {"beta": [0.5]})) is None
    reason = undrawn_reason(pd.DataFrame(columns | {"beta": [0.5], "cost": [1]}))
    assert reason.startswith("2 fields vary (beta, cost)")
    for value in ("gru-hp", True):
        assert "model is no number" in undrawn_reason(pd.DataFrame(columns | {"model": [value]}))


def test_runs_differ_in_what_was_set(run, tmp_path):
    """Settings by their field, results as the second run's minus the first's; without a common seed there are none."""
    other_folder = tmp_path / "other"
    shutil.copytree(run.folder, other_folder)
    text = (
        (other_folder / "config.yaml").read_text(encoding="utf-8").replace("per_round: 120", "per_round: 121")
    )
    (other_folder / "config.yaml").write_text(text, encoding="utf-8")
    rounds = run.rounds.assign(value=run.rounds["value"] + (run.rounds["metric"] == "coverage") * 0.25)
    rounds.to_parquet(other_folder / "rounds.parquet", index=False)
    other_run = load_run(other_folder)
    assert comparison.setting_differences(run, other_run).rows == (("arrivals.per_round", "120", "121"),)
    table = comparison.result_differences(run, other_run)
    coverage = table.columns.index("coverage")
    assert {row[coverage] for row in table.rows} == {"0.250="}
    assert {row[table.columns.index("utility")] for row in table.rows} == {"0.000="}
    run.rounds.assign(seed=run.rounds["seed"] + 7).to_parquet(other_folder / "rounds.parquet", index=False)
    said = "do not share a combination of agent and seed"
    refused(RunFolderError, said, comparison.result_differences, run, load_run(other_folder))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_shows_the_page_at_every_width(page, tmp_path):
    """In Chromium nothing but tables is wider than a phone, and of each chart exactly one drawing has a size."""
    probe = (
        "<script>addEventListener('load', () => { const wide = [...document.querySelectorAll('main *')].filter(e => "
        "!e.closest('.table, pre, svg') && e.getBoundingClientRect().right > innerWidth + 1).length; const flat = "
        "[...document.querySelectorAll('figure')].filter(e => [...e.querySelectorAll('svg')].map(s => "
        "s.getBoundingClientRect()).filter(s => s.height > 100 && s.width > 200).length != 1).length; "
        "const paper = getComputedStyle(document.body).backgroundColor; "
        "document.title = `wide ${wide} flat ${flat} on ${paper}`; })</script>"
    )
    path = tmp_path / "page.html"
    path.write_text(page.replace("</head>", f"{probe}</head>"), encoding="utf-8")
    usual = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    usual += [f"--user-data-dir={tmp_path / 'profile'}"]
    for width in (500, 1200):
        line = [*usual, f"--window-size={width},900", path.as_uri()]
        dump = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True).stdout
        assert re.search(r"<title>wide 0 flat 0 on rgb\(255, 255, 255\)", dump), width


HOSTILE = "<script>alert(1)</script><b>$x</b> {{ 7 * 7 }} <!-- --> \" onload='x'"


def test_a_page_escapes_every_text_that_comes_from_data(run, report):
    """Titles, labels, sentences and settings with tags, braces and quotes are on the page as they are written."""

    def plot():
        figure = charts.frame(HOSTILE, HOSTILE, 2.0)
        figure.subplots().set_title(HOSTILE)
        return figure

    table = TextTable(HOSTILE, (HOSTILE, "x"), ((HOSTILE, HOSTILE),))
    section = Section(HOSTILE, HOSTILE, (Plot("p", plot),), (table,))
    texts = (HOSTILE,)
    hostile = Report(HOSTILE, texts, texts, texts, texts, (section,), HOSTILE)
    page = html(hostile, run)
    assert "<script" not in page
    assert "<b>$x" not in page
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert not {"script", "iframe", "object"} & {tag for tag, _ in tags.seen}
    assert not any(name.startswith("on") for _, attributes in tags.seen for name in attributes)
    assert unescape(page).count(HOSTILE) >= 12


def test_a_passed_check_is_no_warning(run, report, page):
    """Checks without a warning stand outside of the box of cautions; a warning stands in it."""
    assert report.checks
    box = re.search(r'<section class="cautions".*?</section>', page, re.DOTALL)[0]
    for note in report.checks:
        assert not note.startswith("warning")
        assert sentences.as_sentence(note).split("`")[0] not in unescape(box)
    assert all(
        note in printed_report(report, 400).replace("\n", " ") for note in report.checks if "`" not in note
    )


def test_an_unfinished_run_claims_no_seed_that_it_lacks(run, tmp_path):
    """With one seed of an agent and two of another, the heading of the table names both numbers."""
    folder = tmp_path / "part"
    shutil.copytree(run.folder, folder)
    rounds = run.rounds[~((run.rounds["agent"] == "rim-feedback") & (run.rounds["seed"] == 1))]
    rounds.to_parquet(folder / "rounds.parquet", index=False)
    made = comparison.result_tables(load_run(folder))
    assert "1 to 2 seeds, ± half a 95% interval where there is more than one" in made[0].title
    assert "2 seeds, ± half a 95% interval" in comparison.result_tables(run)[0].title


def test_pictures_of_a_run_are_figures(run):
    """A picture has its panels; a wrong name is answered with the names, a picture without data with the reason."""
    assert len(run.plot("rounds").axes) > 5
    said = refused(ConfigError, "plot: 'round'. Did you mean 'rounds'", run.plot, "round")
    assert "front, lorenz" in said
    refused(MissingTableError, "no data for the picture 'campaigns'", run.plot, "campaigns")
