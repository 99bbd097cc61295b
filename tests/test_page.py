"""The page of a run: one file with sentences, charts and tables, no network needed; what differs between runs."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from small_markets import small_scenario

from rimsim.errors import MissingTableError, RunFolderError
from rimsim.measures import mean_interval, paired_difference
from rimsim.scenarios import compare, load_run, sweep
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.page.chart import Axis, Chart, Curve, nice_ticks
from rimsim.scenarios.page.svg import MARKERS, svg
from rimsim.scenarios.page.write import html, page_of, write_page
from rimsim.scenarios.pictures.tables import delivery_ratios, picture_tables
from rimsim.scenarios.report.answer import comparison_sentences, figure, with_interval
from rimsim.scenarios.report.difference import result_differences, setting_differences
from rimsim.scenarios.runs.store import Run

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in _NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A comparison of two agents with controls, two rounds and two seeds."""
    folder = tmp_path_factory.mktemp("page") / "run"
    return compare(
        small_scenario(rounds=2),
        ["relevance", "rim-feedback"],
        seeds=[0, 1],
        control=["frozen", "random"],
        workers=1,
        out=folder,
    )


@pytest.fixture(scope="module")
def page(run):
    """The comparison's page as text."""
    return write_page(run).read_text(encoding="utf-8")


class _Tags(HTMLParser):
    """Tags in order, and whether each that is opened is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.2, 0.8), (-0.3, 0.05), (3, 4_000), (0.0012, 0.0019)])
def test_ticks_are_round_and_within(low, high):
    """Ticks are equally spaced multiples of 1, 2 or 5 times a power of ten, and all between the ends."""
    ticks = nice_ticks(low, high, 5)
    steps = np.diff(ticks)
    step = steps[0]
    assert 3 <= len(ticks) <= 7
    assert np.allclose(steps, step)
    assert min(abs(step / 10 ** math.floor(math.log10(step) + 1e-9) - lead) for lead in (1, 2, 5)) < 1e-9
    assert low <= ticks[0] + 1e-12
    assert ticks[-1] <= high + 1e-12
    assert ticks[0] - step < low
    assert ticks[-1] + step > high


def test_ticks_of_a_logarithmic_axis_are_within():
    """On a log axis at least three ticks of a wide range are drawn, all within the ends."""
    ticks = nice_ticks(0.9, 450, 5, "log")
    assert ticks == [1, 10, 100]
    assert all(1.3 <= tick <= 8 for tick in nice_ticks(1.3, 8, 5, "log"))


def test_points_stand_where_the_axes_say():
    """Values map linearly, or by their logarithm, between the ends of the frame."""
    curve = Curve("a", "#000", "o", (1.0, 10.0, 100.0), (0.0, 1.0, 2.0))
    chart = Chart("t", Axis("x", scale="log", least=1, most=100), Axis("y", least=0, most=2), (curve,))
    left, top, right, bottom = chart.inside
    assert [chart.across(x) for x in curve.x] == pytest.approx([left, (left + right) / 2, right])
    assert [chart.up(y) for y in curve.y] == pytest.approx([bottom, (top + bottom) / 2, top])


def test_wide_intervals_do_not_flatten_the_points():
    """An interval of two seeds widens an axis by the points' own extent at most."""
    curve = Curve("a", "#000", "o", (0.0, 1.0), (2.0, 3.0), (-100.0, -90.0), (100.0, 90.0))
    low, high = Chart("t", Axis("x"), Axis("y"), (curve,)).y_limits
    assert low >= 2 - 1 - 0.2
    assert high <= 3 + 1 + 0.2


def test_intervals_that_seeds_are_drawn_for_take_no_room():
    """Where thin lines stand in place of a band, the axis holds the lines alone."""
    wide = Curve("a", "#000", "o", (0.0, 1.0), (2.0, 3.0), (-1.0, -1.0), (9.0, 9.0), threads=((1.9, 3.2),))
    low, high = Chart("t", Axis("x"), Axis("y"), (wide,)).y_limits
    assert 1.8 < low <= 1.9
    assert 3.2 <= high < 3.3


def test_the_axis_of_a_share_ends_at_nothing_and_at_the_whole():
    """Intervals below 0 % and beyond 100 % make no room for shares that there cannot be."""
    curve = Curve("a", "#000", "o", (0.0, 1.0), (0.2, 0.9), (-0.6, 0.8), (0.3, 1.6))
    chart = Chart("t", Axis("x"), Axis("", share=True, zero=True), (curve,))
    labels = [label for _, label in chart.y_ticks()]
    assert (labels[0], labels[-1]) == ("0 %", "100 %")


def test_bars_end_within_a_logarithmic_axis():
    """A bar over a log axis is drawn to its end, unless that is far beyond the points."""
    curve = Curve(
        "a", "#000", "o", (50.0, 800.0), (1.0, 2.0), (), (), (20.0, 700.0), (80.0, 900.0), line=False
    )
    low, high = Chart("t", Axis("x", scale="log"), Axis("y"), (curve,)).x_limits
    assert 15 < low < 20
    assert 900 < high < 1200


def test_a_chart_leaves_out_what_is_missing_and_escapes_names():
    """A missing point breaks the line, a missing interval leaves no bar, and a name cannot bring in markup."""
    nan = math.nan
    curve = Curve("<b>", "#000000", "s", (0, 1, 2, 3, 4), (1, 2, nan, 1, 2), (nan,) * 5, (nan,) * 5)
    text = str(svg(Chart("<i>", Axis("x"), Axis("y"), (curve,)), "c1"))
    assert "nan" not in text
    assert "<b>" not in text
    assert "<i>" not in text
    assert text.count("M") >= 2
    assert text.count("translate(") == 4


@pytest.mark.parametrize("marker", sorted(MARKERS))
def test_every_marker_of_pictures_has_an_outline(marker):
    """Markers are closed outlines."""
    assert MARKERS[marker].startswith("M")
    assert MARKERS[marker].endswith("Z")


def test_sentences_say_the_tables_figures():
    """Figures in sentences are late means and paired differences with their intervals."""
    rng = np.random.default_rng(0)
    values = {
        ("relevance", "utility"): rng.normal(0.5, 0.01, 4),
        ("mine", "utility"): rng.normal(0.4, 0.01, 4),
        ("relevance", "examined_shortfall"): rng.normal(0.8, 0.01, 4),
        ("mine", "examined_shortfall"): rng.normal(0.05, 0.01, 4),
    }
    rows = [
        (agent, seed, number, metric, value + 9 * (number < 2))  # early rounds do not count
        for (agent, metric), of_seeds in values.items()
        for seed, value in enumerate(of_seeds)
        for number in range(4)
    ]
    rounds = pd.DataFrame(rows, columns=["agent", "seed", "round", "metric", "value"])
    first, second = comparison_sentences(rounds, ["relevance", "mine"], "examined")
    left = mean_interval(values["relevance", "examined_shortfall"])
    assert f"`relevance` leaves {figure(100 * left.mean)} % ({figure(100 * left.low)} to" in first
    paired = paired_difference(values["relevance", "utility"], values["mine", "utility"])
    assert (
        f"brings {figure(paired.mean)} ({figure(paired.low)} to {figure(paired.high)}) consumptions" in second
    )
    assert "less than `relevance`" in second


def test_an_interval_over_zero_is_no_difference():
    """Where the interval holds 0 the sentence says that the two cannot be told apart."""
    rows = [
        (agent, seed, 0, "utility", 0.5 + shift * (-1) ** seed)
        for agent, shift in (("relevance", 0.0), ("mine", 0.1))
        for seed in range(4)
    ]
    rounds = pd.DataFrame(rows, columns=["agent", "seed", "round", "metric", "value"])
    assert "cannot be told from" in comparison_sentences(rounds, ["relevance", "mine"], "examined")[0]


@pytest.mark.parametrize(("examined", "how"), [(0.25, "in positions"), (0.5, "as examined")])
def test_where_positions_count_alike_guarantees_are_told_in_positions(examined, how):
    """Equal shortfalls, as in a replay, are told as positions, whatever the scenario's unit."""
    rows = [
        (agent, seed, 0, metric, value)
        for agent in ("relevance", "mine")
        for seed in range(2)
        for metric, value in (("shortfall", 0.25), ("examined_shortfall", examined))
    ]
    rounds = pd.DataFrame(rows, columns=["agent", "seed", "round", "metric", "value"])
    assert f"counted {how}" in comparison_sentences(rounds, ["relevance", "mine"], "examined")[0]


def test_figures_are_short():
    """Two significant digits below 10, shares in per cent within 0 and 100, one seed without interval."""
    assert [figure(value) for value in (0, 0.01234, -0.5, 7.26, 34.56, 1234.5)] == [
        "0",
        "0.012",
        "−0.50",
        "7.3",
        "34.6",
        "1234",
    ]
    assert with_interval("coverage", 0.97, 0.9, 1.04) == "97.0 % (90.0 to 100)"
    assert with_interval("coverage", 0.5, None, None) == "50.0 %"
    assert with_interval("coverage", -0.1, -0.2, 0.0, difference=True) == "−10.0 points (−20.0 to 0)"


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


def test_no_chart_is_empty_and_every_part_is_there(page):
    """Every chart has points within its frame, and the page has all its sections."""
    charts = re.findall(r'<svg viewBox="0 0 360 232".*?</svg>', page, re.DOTALL)
    assert len(charts) >= 10
    for chart in charts:
        places = re.findall(r"translate\(([-\d.]+),([-\d.]+)\)", chart)
        assert places
        assert all(-1 <= float(x) <= 361 and -1 <= float(y) <= 233 for x, y in places)
    for title in (
        "By round",
        "The front",
        "What retraining does",
        "Delivery",
        "Who pays",
        "Items",
        "All figures",
    ):
        assert f"<h2>{title}" in page
    assert "nan" not in re.sub(r"<[^>]*>", "", page).lower().split()


def test_few_seeds_are_thin_lines_in_what_retraining_does(run, page):
    """With two seeds a part of what retraining does is drawn seed by seed, and no band of t = 12.7 floods its chart."""
    section = page[page.index("What retraining does, in parts</h2>") :].partition("</section>")[0]
    assert len(run.seeds) == 2
    charts = section.split("<figure>")[1:]
    assert len(charts) >= 4
    for chart in charts:
        assert chart.count('class="thread"') == 2 * chart.count('class="line"') > 0
        assert 'class="band"' not in chart
    assert "thin: each seed" in section


def test_items_are_met_in_pictures_as_in_tables(run):
    """What share of the items has its guarantee is counted in the unit of the guarantee, as the measure is."""
    tables = picture_tables(run)
    assert tables.unit == "examined"
    last = run.rounds[(run.rounds["round"] == 1) & (run.rounds["metric"] == "items_met")]
    for name, ratios in delivery_ratios(tables, 1).items():
        told = last[last["agent"] == name].sort_values("seed")["value"].tolist()
        assert [(ratio >= 1).mean() for ratio in ratios] == pytest.approx(told)
    assert len(set(last["value"])) > 2


def test_the_page_says_what_makes_it_again(run, page):
    """Command, settings and versions stand at the end."""
    assert "per_round: 120" in page
    assert f"rimsim {run.config['versions']['rimsim']}" in page
    assert "Toy Story" in page or '<td class="text" title="' in page


def test_items_go_by_their_titles(run, page):
    """The table of items names films, as the catalogue of the run keeps them."""
    titles = set(run.catalogue["title"])
    assert {"item", "events", "id", "title", "genres"} <= set(run.catalogue.columns)
    named = re.findall(r'<td class="text" title="([^"]*)">', page)
    assert any(name.replace("&#39;", "'").replace("&amp;", "&") in titles for name in named)


def test_an_unfinished_run_has_no_page(tmp_path, run):
    """A run without a finished round is refused by name; a cut one has the arms that are whole."""
    empty = tmp_path / "empty"
    empty.mkdir()
    shutil.copy(run.folder / "config.yaml", empty)
    with pytest.raises(MissingTableError, match="no round is finished|holds neither"):
        page_of(Run(empty))


def test_the_command_writes_the_page(run, capsys):
    """``rimsim report RUN --html`` says where the page is, and refuses a second form of output."""
    assert main(["report", str(run.folder), "--html"]) == 0
    assert capsys.readouterr().out.strip().endswith("report.html")
    with pytest.raises(SystemExit):
        main(["report", str(run.folder), "--html", "--markdown"])


def test_a_sweep_has_a_page(tmp_path):
    """A sweep's page says what the largest value does against the smallest, agent by agent."""
    made = sweep(
        small_scenario(rounds=1),
        {"exposure.beta": [0.0, 0.5]},
        ["relevance", "rim-feedback"],
        seeds=[0, 1],
        workers=1,
        out=tmp_path / "s",
    )
    content = page_of(made)
    assert content.answer[0] == "`relevance`: beta from 0 to 0.5 changes nothing."
    assert content.answer[1].startswith("`rim-feedback`: beta from 0 to 0.5 changes utility by")
    assert html(content, made).count('<svg viewBox="0 0 360 232"') == 5


def test_runs_differ_in_what_was_set(run, tmp_path):
    """Settings that differ are named by their field, and results are the second run's minus the first's."""
    other = tmp_path / "other"
    shutil.copytree(run.folder, other)
    text = (other / "config.yaml").read_text(encoding="utf-8").replace("per_round: 120", "per_round: 121")
    (other / "config.yaml").write_text(text, encoding="utf-8")
    rounds = run.rounds.assign(value=run.rounds["value"] + (run.rounds["metric"] == "coverage") * 0.25)
    rounds.to_parquet(other / "rounds.parquet", index=False)
    told = load_run(other)
    assert setting_differences(run, told).rows == (("arrivals.per_round", "120", "121"),)
    table = result_differences(run, told)
    coverage = table.columns.index("coverage")
    assert {row[coverage] for row in table.rows} == {"0.250 ±0.000"}
    assert {row[table.columns.index("utility")] for row in table.rows} == {"0.000 ±0.000"}


def test_only_runs_of_a_kind_are_compared(run, tmp_path):
    """A comparison and a sweep have no differences, nor have runs without a seed in common."""
    other = tmp_path / "other"
    shutil.copytree(run.folder, other)
    run.rounds.assign(seed=run.rounds["seed"] + 7).to_parquet(other / "rounds.parquet", index=False)
    with pytest.raises(RunFolderError, match="at the same seed"):
        result_differences(run, load_run(other))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_shows_the_page_at_every_width(page, tmp_path):
    """In Chromium nothing but tables is wider than a phone, every chart has a size, and no text lies outside."""
    probe = (
        "<script>addEventListener('load', () => { const wide = [...document.querySelectorAll('main *')].filter(e => "
        "!e.closest('.table, pre, svg') && e.getBoundingClientRect().right > innerWidth + 1).length; const flat = "
        "[...document.querySelectorAll('figure svg')].filter(e => e.getBoundingClientRect().height < 100).length; "
        "const paper = getComputedStyle(document.body).backgroundColor; "
        "document.title = `wide ${wide} flat ${flat} on ${paper}`; })</script>"
    )
    path = tmp_path / "page.html"
    path.write_text(page.replace("</head>", f"{probe}</head>"), encoding="utf-8")
    for width in (500, 1200):
        told = subprocess.run(
            [
                CHROMIUM,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                f"--user-data-dir={tmp_path / 'profile'}",
                f"--window-size={width},900",
                "--dump-dom",
                path.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout
        assert re.search(r"<title>wide 0 flat 0 on rgb\(255, 255, 255\)", told), width
