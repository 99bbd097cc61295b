"""The tables and the report of a run: columns, sentences, notes, each way to show them, and differences of runs."""

import dataclasses
import errno
import io
import os
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from kit import cases, refused, said_by
from kit.logs import rounds_of
from kit.markets import drawn, small_cold_start, small_replay, small_run, small_scenario
from rich.console import Console
from scipy import stats

from rimsim import measures
from rimsim.config import ArrivalsConfig, ExposureConfig
from rimsim.data import load
from rimsim.errors import ConfigError, MissingTableError, RunFolderError
from rimsim.market.ledger import LEDGER_COLUMNS
from rimsim.measures import mean_interval, paired_difference
from rimsim.scenarios import compare, load_run, sweep
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.kinds.registry import KINDS
from rimsim.scenarios.report import charts, comparison, numbers, sentences, tables
from rimsim.scenarios.report import items as of_items
from rimsim.scenarios.report.console import markdown, show
from rimsim.scenarios.report.html import html, write_page
from rimsim.scenarios.report.picture_tables import item_names, picture_tables
from rimsim.scenarios.report.record import Plot, Report, Section, TextTable
from rimsim.scenarios.report.sweep import sweep_report, undrawn_reason
from rimsim.scenarios.report.tables import (
    cell,
    late_figures,
    summary,
    two_seeds_note,
)
from rimsim.scenarios.run import Run
from rimsim.scenarios.runs.records import catalogue_table
from rimsim.scenarios.runs.schema import TABLES
from rimsim.scenarios.runs.store import RunTables
from rimsim.scenarios.study.plan import study_of
from rimsim.scenarios.study.play import AT_OPENING, opening_utilities
from rimsim.tracking import event_folder, read_scalars

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in _NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A comparison of two agents with controls, while items come, which reveals the truth."""
    folder, asked = tmp_path_factory.mktemp("report") / "run", {"seeds": 2, "control": ["frozen", "random"]}
    agents, config = ["relevance", "rim-feedback"], small_cold_start(rounds=2)
    made = compare(config, agents, workers=1, out=folder, reveal=["truth"], **asked)
    return load_run(made.folder)


@pytest.fixture(scope="module")
def report(run):
    """The comparison's report."""
    return comparison.comparison_report(run)


@pytest.fixture(scope="module")
def page(run, report):
    """The comparison's page as text."""
    return write_page(report, run).read_text(encoding="utf-8")


def _printed(report, width=80):
    """What the console shows of a report at a width, a terminal's or a file's."""
    text = io.StringIO()
    show(report, Console(file=text, width=width))
    return text.getvalue()


class _Tags(HTMLParser):
    """Tags in order, and whether each that is opened is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def _rounds(values, metrics=("utility",), number=0):
    """A table of one round: values by agent of each metric at each seed."""
    parts = (
        rounds_of({(agent, number): each[place] for agent, each in values.items()}, metric)
        for place, metric in enumerate(metrics)
    )
    return pd.concat(parts, ignore_index=True)


def test_sentences_say_the_tables_figures():
    """Late means and paired differences with their intervals; where one holds 0 the two cannot be told apart."""
    rng = np.random.default_rng(0)
    values = {name: [rng.normal(mean, 0.01, 4) for mean in means]
              for name, means in (("relevance", (0.5, 0.8)), ("mine", (0.4, 0.05)))}  # fmt: skip
    late = [_rounds(values, ("utility", "examined_shortfall"), number) for number in (2, 3)]
    early = [late[0].assign(round=number, value=9 + late[0]["value"]) for number in (0, 1)]  # do not count
    first, second = sentences.comparison_sentences(pd.concat(early + late), ["relevance", "mine"], "examined")
    left = mean_interval(values["relevance"][1])
    figure = numbers.figure
    assert f"`relevance` leaves {figure(100 * left.mean)}% ({figure(100 * left.low)} to" in first
    paired = paired_difference(values["relevance"][0], values["mine"][0])
    told = f"{figure(paired.mean)} ({figure(paired.low)} to {figure(paired.high)})"
    assert f"brings {told} consumptions" in second
    assert "less than `relevance`" in second
    rounds = _rounds({"relevance": [[0.5] * 4], "mine": [[0.6, 0.4] * 2]})
    said = sentences.comparison_sentences(rounds, ["relevance", "mine"], "examined")[0]
    assert "does not differ significantly from" in said


def test_a_difference_in_percent_is_of_the_baseline():
    """With 0.5 for the baseline and 0.4 for the other agent, 0.1 less is 20%, and not a quarter."""
    rounds = _rounds({"relevance": [[0.5, 0.501, 0.499]], "mine": [[0.4, 0.402, 0.398]]})
    (said,) = sentences.comparison_sentences(rounds, ["relevance", "mine"], "examined")
    assert "less than `relevance` (20.0%)" in said


def test_an_equal_difference_is_told_without_a_claim():
    """The same difference in all seeds has no interval, no direction and no star; the sentence says why."""
    rounds = _rounds({"relevance": [[0.11, 0.12, 0.10]], "mine": [[0.107, 0.117, 0.097]]})
    (said,) = sentences.comparison_sentences(rounds, ["relevance", "mine"], "examined")
    assert "does not differ significantly from that of `relevance` (difference −0.0030 consumptions" in said
    assert "the same in all 3 seeds, which allows no test)" in said
    assert " to " not in said
    differences = tables.reported_differences(rounds, ["relevance", "mine"])
    text = tables.pivoted("T", differences, ["agent"], ("utility",))
    assert text.rows == (("mine", "−0.003="),)
    assert text.title == "T (= the same in all 3 seeds)"


@cases("seeds announced", (1, False), (2, True))
def test_intervals_are_announced_only_where_there_are_some(seeds, announced):
    """With one seed the answer has no brackets, and so does not explain them."""
    draws = np.random.default_rng(0).normal(0, 0.01, (4, seeds))
    values = {"relevance": [0.5 + draws[0], 0.8 + draws[1]], "mine": [0.4 + draws[2], 0.1 + draws[3]]}
    said = sentences.comparison_sentences(
        _rounds(values, ("utility", "examined_shortfall")), ["relevance", "mine"], "examined"
    )
    assert ("in brackets: 95% intervals" in said[0]) == announced
    assert (" to " in " ".join(said)) == announced


def test_prices_at_their_limit_are_told_since_their_first_round(monkeypatch):
    """Prices that reach the limit in rounds 2, 3 and 4 do so since round 2."""
    values = {
        ("rim-feedback", number): [share] for number, share in enumerate((0.0, 0.0, 0.2, 0.3, 0.3, 0.0))
    }
    rounds = pd.concat(
        [
            rounds_of(values, "prices_at_bound"),
            rounds_of({key: [0.4] for key in values}, "examined_shortfall"),
        ]
    )
    monkeypatch.setattr(sentences, "shown_rounds", lambda run: rounds)
    exposure = SimpleNamespace(unit="examined", hard=False)
    run = SimpleNamespace(
        scenario=SimpleNamespace(exposure=exposure), undeliverable=None, agents=["rim-feedback"]
    )
    (note,) = sentences.undelivered_notes(run)
    assert "some since round 2)" in note


@cases("examined how", (0.25, "in positions"), (0.5, "as examined"))
def test_where_positions_count_alike_guarantees_are_told_in_positions(examined, how):
    """Equal shortfalls, as in a replay, are told as positions, whatever the scenario's unit."""
    both = [[0.25] * 2, [examined] * 2]
    rounds = _rounds({"relevance": both, "mine": both}, ("shortfall", "examined_shortfall"))
    assert f"counted {how}" in sentences.comparison_sentences(rounds, ["relevance", "mine"], "examined")[0]


def test_figures_are_short_and_two_seeds_bring_a_note():
    """Two significant digits, shares in per cent within 0 and 100; widths are quantiles of Student's t."""
    figures = [numbers.figure(value) for value in (0, 0.01234, -0.5, 7.26, 34.56, 1234.5)]
    assert figures == ["0", "0.012", "−0.50", "7.3", "34.6", "1234"]
    assert sentences.with_interval("coverage", 0.97, 0.9, 1.04) == "97.0% (90.0 to 100)"
    assert sentences.with_interval("coverage", 0.5, None, None) == "50.0%"
    difference = sentences.with_interval("coverage", -0.1, -0.2, 0.0, difference=True)
    assert difference == "−10.0 points (−20.0 to 0)"
    wide, narrow = (float(stats.t.ppf(0.975, n - 1)) for n in (2, 5))
    assert f"t = {wide:.1f}, with 5 seeds {narrow:.1f}" in two_seeds_note(2)
    assert [two_seeds_note(n) for n in (1, 3, 5)] == [None] * 3


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
        told = last[last["agent"] == name].sort_values("seed")["value"].tolist()
        assert [(ratio >= 1).mean() for ratio in ratios] == pytest.approx(told)
    assert len(set(last["value"])) > 2


def test_a_report_holds_its_answer_cautions_plots_and_tables(run, report):
    """The record has all that any sink shows: sentences, pictures by name, tables, settings and places."""
    assert report.question == "What does guaranteeing exposure cost and bring? (small)"
    assert report.answer[0].startswith("`relevance` leaves ")
    assert report.answer[-2].startswith("The loop")
    assert report.answer[-1].startswith("The truth `factors` is fit for this log")
    assert any(note.startswith("2 seeds: intervals are wide") for note in report.cautions)
    assert sorted(plot.name for plot in report.plots) == sorted(comparison.PICTURES)
    assert report.tables == tuple(comparison.result_tables(run))
    titles = [table.title.split(",")[0] for table in report.tables]
    assert titles == ["small: round 1", "Minus relevance", "What retraining does"]
    assert "per_round: 120" in report.settings
    assert [name for name, _ in report.places()] == ["tables", "pictures", "events", "more"]


def test_the_console_prints_the_answer_first_and_cuts_no_number(report):
    """At 80 columns it precedes tables, cautions and places, and numbers stand whole; Markdown is tables alone."""
    text = _printed(report)
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
    lines = _printed(Report("?", sections=(Section("", tables=(table,)),)), width).splitlines()
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
    grid, agents = {"exposure.beta": [0.0, 0.5]}, ["relevance", "rim-feedback"]
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
    assert "rim-feedback beta=0.5" in _printed(content, 140)
    known = {"agent": ["a"], "seed": [0], "metric": ["utility"], "value": [1.0]}
    assert undrawn_reason(pd.DataFrame(known | {"beta": [0.5]})) is None
    both = undrawn_reason(pd.DataFrame(known | {"beta": [0.5], "cost": [1]}))
    assert both.startswith("2 fields vary (beta, cost)")
    for value in ("gru-hp", True):
        assert "model is no number" in undrawn_reason(pd.DataFrame(known | {"model": [value]}))


def test_runs_differ_in_what_was_set(run, tmp_path):
    """Settings by their field, results as the second run's minus the first's; without a common seed there are none."""
    other = tmp_path / "other"
    shutil.copytree(run.folder, other)
    text = (other / "config.yaml").read_text(encoding="utf-8").replace("per_round: 120", "per_round: 121")
    (other / "config.yaml").write_text(text, encoding="utf-8")
    rounds = run.rounds.assign(value=run.rounds["value"] + (run.rounds["metric"] == "coverage") * 0.25)
    rounds.to_parquet(other / "rounds.parquet", index=False)
    told = load_run(other)
    assert comparison.setting_differences(run, told).rows == (("arrivals.per_round", "120", "121"),)
    table = comparison.result_differences(run, told)
    coverage = table.columns.index("coverage")
    assert {row[coverage] for row in table.rows} == {"0.250="}
    assert {row[table.columns.index("utility")] for row in table.rows} == {"0.000="}
    run.rounds.assign(seed=run.rounds["seed"] + 7).to_parquet(other / "rounds.parquet", index=False)
    said = "do not share a combination of agent and seed"
    refused(RunFolderError, said, comparison.result_differences, run, load_run(other))


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
        told = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True).stdout
        assert re.search(r"<title>wide 0 flat 0 on rgb\(255, 255, 255\)", told), width


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
    assert all(note in _printed(report, 400).replace("\n", " ") for note in report.checks if "`" not in note)


def test_an_unfinished_run_claims_no_seed_that_it_lacks(run, tmp_path):
    """With one seed of an agent and two of another, the heading of the table names both numbers."""
    folder = tmp_path / "part"
    shutil.copytree(run.folder, folder)
    rounds = run.rounds[~((run.rounds["agent"] == "rim-feedback") & (run.rounds["seed"] == 1))]
    rounds.to_parquet(folder / "rounds.parquet", index=False)
    made = comparison.result_tables(load_run(folder))
    assert "1 to 2 seeds, ± half a 95% interval where there is more than one" in made[0].title
    assert "2 seeds, ± half a 95% interval" in comparison.result_tables(run)[0].title


@cases(
    "ends text",
    ((17.93, 15.51, 20.35), "17.9 ±2.4"),
    ((818.2, 817.44, 818.96), "818 ±1"),
    ((818.2, 818.0, 818.4), "818.2 ±0.2"),
    ((-0.0284, -0.0304, -0.0264), "−0.028 ±0.002"),
    ((0.25, 0.25, 0.25), "0.250 ±0.000"),
    ((0.5, None, None), "0.500"),
    ((float("nan"), None, None), "–"),
)
def test_a_mean_and_its_interval_have_equal_decimals(ends, text):
    """Half-widths are rounded like their means, unless they would be 0; negative numbers have one kind of minus."""
    assert cell(*ends) == text


def test_the_opening_has_the_utility_of_round_0_where_nobody_comes_twice(tmp_path):
    """Where each visitor comes once, the values at the opening are the utilities of the arms in round 0."""
    config = small_scenario(arrivals=ArrivalsConfig(per_round=120, max_visits=1), rounds=1)
    run = small_run(tmp_path / "run", AT_OPENING, config, seeds=2)
    rounds = run.rounds[run.rounds["metric"] == "utility"].set_index(["agent", "seed"])["value"]
    found = run.opening.set_index(["agent", "seed"])["utility"]
    assert found.to_dict() == pytest.approx(rounds.to_dict())


def test_the_opening_counts_hits_of_a_replay_and_keeps_to_a_cap_on_users():
    """The oracle knows the sessions, so no slate hits more than its slates; positions beyond a cap are empty."""
    configs = small_replay(), small_scenario(), small_scenario(user_cap=1)
    replay, whole, capped = (opening_utilities(one, seed=0).set_index("agent")["utility"] for one in configs)
    for name in ("popularity", "relevance"):
        assert 0 < replay[name] <= replay["oracle"]
    assert (capped < 0.7 * whole).all()


@cases("model warns", (0.9, False), (0.5, True))
def test_a_run_says_when_bestsellers_beat_its_model(model, warns):
    """The note is a warning where bestsellers are ahead at some seed, and names the share of the oracle."""
    values = pd.DataFrame({"agent": AT_OPENING, "utility": (model, 0.8, 1.0)})
    note = sentences.opening_note(pd.concat([values.assign(seed=seed) for seed in (0, 1)]))
    assert note.startswith("warning") == warns
    assert f"{100 * model:.0f}% of the oracle's 1.000" in note
    assert "bestsellers have 0.800" in note


def test_prices_at_the_bound_are_counted_over_guaranteed_items():
    """Items with a guarantee whose v = −c; where hardly any is, a larger c is not advised, nor for hard ones."""
    price, required = np.array([-2.0, -1.9, 0.0, -2.0]), np.array([1.0, 1.0, 2.0, 0.0])
    assert measures.prices_at_bound(price, required, 2.0) == pytest.approx(1 / 3)
    assert measures.prices_at_bound(price, np.zeros(4), 2.0) == 0.0
    for agent in ("rim-dual", "rim-feedback"):  # prices that move with delivery may miss a little, too
        said = sentences.undelivered_sentence(agent, 0.2, 0.0, None, unit="shown", hard=False)
        assert "a higher `exposure.cost` would not help" in said
        assert "raise" not in said
    assert "do not follow" not in said
    assert "hard" in sentences.undelivered_sentence("rim-feedback", 0.2, 0.0, None, unit="shown", hard=True)


@pytest.mark.parametrize("unit", ["examined", "shown"])
def test_a_run_says_what_is_undelivered_and_what_would_help(tmp_path, unit):
    """With a c that buys nothing, prices are at the bound, both shortfalls stand in the table, and the note names c."""
    config = small_scenario(rounds=2, exposure=ExposureConfig(unit=unit, cost=0.01, beta=0.9))
    run = small_run(tmp_path / "run", ["relevance", "rim-feedback"], config)
    (note,) = sentences.undelivered_notes(run)
    assert note.startswith("rim-feedback leaves")
    assert f"late rounds, as {unit}" in note
    assert "Raise `exposure.cost`" in note
    first, second = ("undelivered (examined)", "undelivered (shown)")[:: 1 if unit == "examined" else -1]
    made = comparison.comparison_report(run)
    assert made.tables[0].columns.index(first) < made.tables[0].columns.index(second)
    assert first in made.tables[0].main
    assert second not in made.tables[0].main
    assert note[:60] in _printed(made, 200).replace("\n", " ")


@cases("first warned", (0.5, True), (0.8, False), (1.45, False), (1.6, True))
def test_a_report_warns_where_one_type_of_visit_is_valued_above_the_other(first, warned):
    """From a ratio of 1.5 on, in either direction; nothing of controls, or where visits are all of one type."""
    both = {"calibration_first": first, "calibration_returning": 1.0, "utility": 0.5}
    rounds = _rounds({"relevance": [[value] for value in both.values()]}, tuple(both), 1)
    notes = sentences.calibration_notes(rounds)
    assert [note.startswith("warning: for each actual consumption") for note in notes] == [True] * warned
    assert sentences.calibration_notes(rounds[1:]) == []
    assert sentences.calibration_notes(rounds.assign(agent="relevance-frozen")) == []


def test_a_run_says_before_a_round_what_no_agent_could_deliver(tmp_path):
    """Where items together ask for more than all slates hold, a table says so in every round, and the report once."""
    config = small_scenario(rounds=2, exposure=ExposureConfig(items=30, each=20, hard=True))
    few = dataclasses.replace(config, arrivals=dataclasses.replace(config.arrivals, per_round=20))
    run, kept = (small_run(tmp_path / str(n), ["rim-feedback"], one) for n, one in enumerate((few, config)))
    table = run.undeliverable
    assert set(table["round"]) == {0, 1}
    assert (table["required"] > table["reachable"]).all()
    told = "warning: in 2 rounds of arms, some guarantees"
    assert sentences.undelivered_notes(run)[0].startswith(told)
    assert kept.undeliverable is None


@cases(
    "config",
    (small_scenario(rounds=2),),
    (small_scenario(rounds=2, exposure=ExposureConfig(unit="shown")),),
    (small_replay(),),
    (small_scenario(exposure=ExposureConfig(examination="harvested", prior_decay=0.9)),),
    ids=["examined", "shown", "replay", "estimated"],
)
def test_delivery_by_item_adds_up_to_the_shortfall_of_each_round(tmp_path, config):
    """Missing exposures of items, in the unit of the guarantee, sum to those of the table of rounds, to the bit.

    Where consumption does not depend on positions, what is examined is what is shown, and so is the shortfall.
    """
    run = small_run(tmp_path / "run", ["relevance", "rim-feedback"], config)
    keys = ["agent", "seed", "round"]
    assert run.delivery.columns.tolist() == [*keys, "item", "id", "required", "delivered"]
    lacking = (run.delivery["required"] - run.delivery["delivered"]).clip(lower=0)
    missing = lacking.groupby([run.delivery[name] for name in keys]).sum()
    rounds = run.rounds.set_index(keys)
    said = rounds.loc[rounds["metric"] == "shortfall_units", "value"].sort_index()
    assert said.sum() > 0
    assert missing.to_dict() == said.to_dict()
    by_metric = run.rounds.set_index([*keys, "metric"])["value"].unstack()
    alike = (by_metric["examined_shortfall"] == by_metric["shortfall"]).all()
    assert alike == (config.consumer.kind == "replay")
    assert set(run.delivery["id"]) <= set(run.catalogue["id"])


def test_users_have_their_id_and_their_consumptions_under_each_agent(run, tmp_path):
    """Ids are the log's own, sums over users those of the ledger per seed; a run without a ledger has ids alone."""
    log = load("ml-latest-small", min_item_events=120)
    assert run.users["id"].tolist() == log.users["id"].astype(str).tolist()
    assert run.users.columns.tolist() == ["log_user", "id", *run.agents]
    taken = run.ledger[run.ledger["consumed"]].groupby("agent").size() / 2
    assert run.users[run.agents].sum().to_dict() == taken.to_dict()
    never = ~run.users["log_user"].isin(run.ledger["log_user"])
    assert never.any()
    assert run.users.loc[never, run.agents].isna().all(axis=None)
    bare = small_run(tmp_path / "bare", config=small_scenario(rounds=1), ledger=False)
    assert bare.users.columns.tolist() == ["log_user", "id"]
    refused(MissingTableError, "neither ledger.parquet", getattr, bare, "delivery")


def test_pictures_of_a_run_are_figures(run):
    """A picture has its panels; a wrong name is answered with the names, a picture without data with the reason."""
    assert len(run.plot("rounds").axes) > 5
    said = refused(ConfigError, "plot: 'round'. Did you mean 'rounds'", run.plot, "round")
    assert "front, lorenz" in said
    refused(MissingTableError, "no data for the picture 'campaigns'", run.plot, "campaigns")


def test_every_table_of_a_run_is_described(run):
    """Every Parquet file of a comparison is in the schema, with its columns in order."""
    files = [path.relative_to(run.folder).parts[0] for path in run.folder.rglob("*.parquet")]
    found = {name.removesuffix(".parquet") for name in files}
    assert found <= set(TABLES)
    assert {"rounds", "ledger", "arrivals", "catalogue", "users", "required", "prices", "adoption"} <= found
    for name in sorted(found):
        columns, described = list(getattr(run, name).columns), list(TABLES[name].columns)
        assert columns[: len(described)] == described, name
        assert len(columns) == len(described) or TABLES[name].further_columns, name


def test_the_schema_names_what_a_run_reads_and_a_digest_holds():
    """Tables are attributes of ``Run``; equal ones have columns to order rows by; docs/tables.md says the same."""
    named = {name: kind for name, kind in RunTables.__annotations__.items() if name != "folder"}
    assert named.keys() == TABLES.keys()
    optional = {name for name, table in TABLES.items() if table.optional}
    assert {name for name, kind in named.items() if "None" in kind} == optional
    assert set(TABLES) <= set(dir(Run(Path("run"))))
    refused(AttributeError, "nothing", getattr, Run(Path("run")), "nothing")
    for kind in KINDS.values():
        assert set(kind.tables) <= set(TABLES)
    for name in KINDS["comparison"].tables:
        assert TABLES[name].order, name
    for name, table in TABLES.items():
        assert set(table.order) <= set(table.columns), name


def test_arrivals_know_the_logs_users(run):
    """The log's user of an arrival is the same for all agents, and in the ledger."""
    by_arrival = run.arrivals.groupby(["round", "arrival"])["log_user"].nunique()
    assert (by_arrival == 1).all()
    keys = ["agent", "seed", "round", "arrival"]
    both = run.ledger.merge(run.arrivals[[*keys, "log_user"]], on=keys)
    assert (both["log_user_x"] == both["log_user_y"]).all()
    assert run.arrivals["log_user"].isin(run.users["log_user"]).all()


def test_the_catalogue_keeps_what_the_log_knows():
    """Items have their number, their events, their id as text, and all columns of the log's table, own ones too."""
    items = pd.DataFrame({"id": [7, "b"], "title": ["A", ""], "provider": ["x", "y"]}, index=[3, 4])
    table = catalogue_table(items, np.array([1, 1, 0]))
    known = {"item": [0, 1], "events": [1, 2], "id": ["7", "b"], "title": ["A", ""], "provider": ["x", "y"]}
    assert table.to_dict("list") == known
    assert item_names(table) == ["A", "b"]
    assert item_names(table[["item", "events"]]) == ["item 0", "item 1"]


def test_exposures_of_items_are_counted_in_late_rounds_and_shared_by_groups():
    """Two agents, one late round of two: a is shown 4 and 1 times, c never and 3 times.

    Items come by their change against the baseline, if any; groups by size, an item of two counts in both.
    """
    rows = [("relevance", 1, item) for item in (0, 0, 0, 0, 1)]
    rows += [("mine", 1, item) for item in (0, 1, 2, 2, 2)]
    rows += [("mine", 0, 2)] * 9  # an early round does not count
    ledger = pd.DataFrame(rows, columns=["agent", "round", "item"]).assign(seed=0, consumed=False)
    ledger.loc[0, "consumed"] = True
    exposures = of_items.item_exposures(ledger, {(0, 1): np.array([2, 2, 2])}, 3, 2)
    table = exposures.set_index(["agent", "item"])
    assert table.loc["relevance"]["exposures"].to_dict() == {0: 4, 1: 1, 2: 0}
    assert table.loc["mine"]["exposures"].to_dict() == {0: 1, 1: 1, 2: 3}
    assert table.loc[("relevance", 0), "consumed"] == 1
    assert table.loc["relevance"]["delivered"].tolist() == [1.0, 0.5, 0.0]
    catalogue = pd.DataFrame({"item": [0, 1, 2], "events": [9, 5, 1], "title": ["Head", "Mid", "Tail"]})
    told = of_items.items_table(exposures, catalogue, ["relevance", "mine"], 2)
    assert [row[0] for row in told.rows] == ["Tail", "Head"]
    assert [row[told.columns.index("change")] for row in told.rows] == ["3.0", "−3.0"]
    shares = of_items.group_shares(exposures, catalogue.assign(genres=["x", "y|x", ""]), "genres")
    assert list(shares.index) == [("x", 2), ("y", 1)]
    assert shares.loc[("x", 2)].to_dict() == pytest.approx({"relevance": 1.0, "mine": 0.4})
    assert shares.loc[("y", 1)].to_dict() == pytest.approx({"relevance": 0.2, "mine": 0.2})


def test_the_truth_has_a_row_an_exposure_and_chances_of_what_was_consumed(run):
    """It joins the ledger one to one and tells what neither it nor arrivals do; consumptions are within 5 errors."""
    keys = ["agent", "seed", "round", "arrival", "position", "item"]
    both = run.ledger.merge(run.truth, on=keys, validate="1:1")
    assert len(both) == len(run.ledger) == len(run.truth) > 1000
    assert not {"probability", "true_intensity"} & {*LEDGER_COLUMNS, *run.arrivals.columns}
    chance = both["probability"].to_numpy()
    assert ((chance >= 0) & (chance < 1)).all()
    assert (chance <= 1 - np.exp(-both["true_intensity"].to_numpy()) + 1e-12).all()
    error = np.sqrt((chance * (1 - chance)).sum())
    assert abs(both["consumed"].sum() - chance.sum()) < 5 * error
    utility = run.rounds.set_index(["metric", "agent", "seed", "round"])["value"]["utility"]
    expected = run.truth.groupby(["agent", "seed", "round"], observed=True)["probability"].sum() / 120
    assert utility.to_dict() == pytest.approx(expected.to_dict())


def test_a_run_that_was_not_asked_reveals_nothing(run, tmp_path):
    """An unknown thing is refused; a folder whose config does not say, as of an earlier version, has no such table."""
    refused(ConfigError, "reveal: 'thruth'.*truth", small_run, tmp_path / "b", reveal=["thruth"])
    shutil.copytree(run.folder, tmp_path / "old", ignore=shutil.ignore_patterns("truth*"))
    config = tmp_path / "old" / "config.yaml"
    told = config.read_text(encoding="utf-8")
    assert "reveal:\n- truth\n" in told
    config.write_text(told.replace("reveal:\n- truth\n", ""), encoding="utf-8")
    old = load_run(tmp_path / "old")
    refused(MissingTableError, "truth", getattr, old, "truth")
    (plan,) = study_of(old).plans
    assert plan.options.reveal == ()
    assert all(arm.options.reveal == () for arm in plan.arms)
    assert not list(small_run(tmp_path / "a", rounds=1).folder.glob("truth*"))
