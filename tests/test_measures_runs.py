"""Measures of one's own in comparisons and sweeps: computed, shown, resumed and refused as what is built in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kit import documented as documented_code
from kit import refused
from small_markets import drawn, small_run, small_scenario, stopped_after_a_round

from rimsim import tracking
from rimsim.data import load
from rimsim.errors import ArmsError, ConfigError, MeasureError, RunFolderError
from rimsim.scenarios import load_run, sweep
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.runs.status import digest
from rimsim.scenarios.study.compare import resume

FILLED = """\
from rimsim.measures import Measure

filled = Measure("filled", "share", "#{positions: >= 0} / (n·k)", of=lambda facts: (facts.slates >= 0).mean())
"""


@pytest.fixture(scope="module")
def documented(tmp_path_factory):
    """The folder of a comparison by the command line with the documentation's measure."""
    folder = tmp_path_factory.mktemp("documented")
    (folder / "my_measure.py").write_text(documented_code("my_measure.py", "measures"))
    line = f"compare --agents relevance,random --measures {folder / 'my_measure.py'}:freshness --rounds 2 "
    line += f"--workers 1 --out {folder / 'run'} --no-certificate --set data.min_item_events=120 "
    line += "--set arrivals.per_round=120 --set slate=5 --set platform.model=popularity-hp"
    assert main(line.split()) == 0
    return folder


def test_the_documented_measure_is_in_the_table_of_rounds(documented):
    """In every round of every arm it is the share that a count over the ledger gives."""
    run = load_run(documented / "run")
    year = load("ml-latest-small", min_item_events=120).items["year"].to_numpy(int)
    shown = run.ledger.assign(new=year[run.ledger["item"]] > year.max() - 10)
    expected = shown.groupby(["agent", "seed", "round"], observed=True)["new"].mean()
    found = run.rounds[run.rounds["metric"] == "freshness"].set_index(["agent", "seed", "round"])["value"]
    assert len(found) == 3 * 2 * 2
    assert found.to_dict() == pytest.approx(expected.to_dict())
    assert expected.nunique() > 4


def test_the_documented_measure_is_in_tables_pictures_and_tensorboard(documented, capsys):
    """Report prints and draws it, also where its file is gone; TensorBoard has its series and its band."""
    folder = documented / "run"
    source = documented / "my_measure.py"
    source.rename(documented / "gone.py")
    try:
        with drawn("rounds"):  # which has its panel
            assert main(["report", str(folder)]) == 0
        printed = capsys.readouterr().out
    finally:
        (documented / "gone.py").rename(source)
    assert (folder / "pictures" / "rounds.png").is_file()
    assert printed.count("freshness") == 3
    run = load_run(folder)
    rows = run.rounds[(run.rounds["metric"] == "freshness") & (run.rounds["agent"] == "random")]
    series = tracking.read_scalars(tracking.event_folder(folder, "random", 1))["own/freshness"]
    assert [point.value for point in series] == pytest.approx(rows[rows["seed"] == 1]["value"].to_list())
    band = tracking.read_scalars(tracking.summary_folder(folder, "random"))["zz_bands/freshness/mid"]
    assert [point.value for point in band] == pytest.approx(rows.groupby("round")["value"].mean().to_list())


def test_the_documented_run_is_repeated_with_its_measure(documented, capsys):
    """--from repeats the run, measure included, to the same tables; --resume takes the same measure and no other."""
    folder, again = str(documented / "run"), str(documented / "again")
    assert main(["compare", "--from", folder, "--out", again, "--workers", "1"]) == 0
    assert "equal to" in capsys.readouterr().out
    place = f"{documented / 'my_measure.py'}:freshness"
    assert main(["compare", "--resume", "--out", folder, "--measures", place]) == 0
    assert main(["compare", "--resume", "--out", folder, "--measures", "other.py:freshness"]) == 2
    told = "found other options than it began with: measures ['other.py:freshness']"
    assert told in capsys.readouterr().err


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes the measure's file and goes where it lies."""
    monkeypatch.chdir(tmp_path)
    return (tmp_path / "mine.py").write_text


def _compare(out, measures=("mine.py:filled",)):
    return small_run(out, measures=measures)


def test_built_in_values_are_the_same_beside_a_measure_of_ones_own(write):
    """What is built in does not depend on which other measures are computed."""
    write(FILLED)
    with_mine, without = _compare("mine"), _compare("plain", ())
    rounds = with_mine.rounds
    mine = rounds["metric"] == "filled"
    shown = with_mine.ledger.groupby("round").size() / (120 * 5)
    assert rounds[mine]["value"].to_list() == pytest.approx(shown.to_list())
    pd.testing.assert_frame_equal(rounds[~mine].reset_index(drop=True), without.rounds, check_exact=True)


def test_a_run_with_a_measure_resumes_and_refuses_a_file_that_changed(write, monkeypatch):
    """Stopped after a round, it ends as the whole run did; with other content in the file it is refused."""
    write(FILLED)
    with stopped_after_a_round(monkeypatch, MeasureError):
        refused(ArmsError, "enough", _compare, "run")
    write(FILLED + "\n")
    refused(RunFolderError, r"changed since the run began: mine\.py", resume, "run", workers=1)
    write(FILLED)
    assert digest(resume("run", workers=1)) == digest(_compare("whole"))


def test_a_sweep_has_the_measure_at_every_point(write, capsys):
    """The table of a sweep holds its late means, and the printed one a column."""
    write(FILLED)
    asked = {"seeds": 1, "workers": 1, "measures": ["mine.py:filled"], "certify": False}
    table = sweep(small_scenario(rounds=1), {"slate": [2, 3]}, ("random",), out="sweep", **asked).sweep
    assert table[table["metric"] == "filled"]["value"].to_list() == [1.0, 1.0]
    assert main(["report", "sweep"]) == 0
    assert "filled" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("right", "place", "error", "said"),
    [
        ("slates", "mine.py:filed", ConfigError, "Did you mean 'filled'"),
        ("slate", "mine.py:filled", MeasureError, "no attribute 'slate'.*mine.py:3"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_written(write, right, place, error, said):
    """A wrong name and a function with a slip are told at once, and no folder appears."""
    write(FILLED.replace("slates", right))
    refused(error, said, _compare, "run", [place])
    assert not Path("run").exists()


def test_a_measure_that_fails_in_a_round_is_named_with_its_line(write):
    """What no made-up round showed ends the arm with an error that names measure, round and line."""
    write(FILLED.replace("(facts.slates >= 0).mean()", "1 / (2 - facts.round)"))
    told = r"measure 'filled' raised ZeroDivisionError: .*, in round 2 \(mine.py:3\)"
    refused(ArmsError, told, _compare, "run")
    assert np.isclose(load_run("run").rounds.query("metric == 'filled'")["value"].max(), 1.0)
