"""Measures from a user's file: found by their place, tried before a run, and in comparisons and sweeps."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kit import cases, refused, said_by
from kit import documented as documented_block
from kit.markets import drawn, small_run, small_scenario, stopped_after_a_round

from rimsim import measures as room
from rimsim import tracking
from rimsim.data import load
from rimsim.errors import ArmsError, ConfigError, MeasureError, RunFolderError
from rimsim.scenarios import load_run, sweep
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.runs.digests import digest
from rimsim.scenarios.study.compare import resume
from rimsim.testing import random_items

MINE = """\
from rimsim.measures import Measure


def share(facts):
    return (facts.slates < 0).mean()


empty = Measure("empty", "share", "#{positions: -1} / (n·k)", of=share, title="Empty positions", better="lower")
again = Measure("empty", "share", "the same", of=share)
taken = Measure("gini", "index", "the same name", of=share)
"""


def test_a_measure_is_found_by_its_place_and_kept_without_its_function(write):
    """What a run folder records of a measure gives back all that tables and pictures show."""
    write(MINE)
    measures = room.own_measures(["mine.py:empty"])
    (record,) = room.records(measures).values()
    recorded = room.recorded(record)
    (measure,) = measures.values()
    assert (recorded.name, recorded.title, recorded.unit, recorded.better) == (
        "empty",
        "Empty positions",
        "share",
        "lower",
    )
    assert recorded.tag == measure.tag == "own/empty"


@cases(
    "places message",
    (["mine.py"], r"measure 'mine.py' is a file. Add a name in it: .*mine.py:empty or mine.py:again"),
    (["mine.py:emty"], r"mine.py has no 'emty'. Did you mean 'empty'\? Use one of again, empty, taken"),
    (["mine.py:share"], r"found a function. Expected a Measure \(mine.py has empty, again, taken\)"),
    (["mime.py:empty"], r"no file 'mime.py'. Did you mean 'mine.py'"),
    (["gini"], "measure 'gini' is built in, so every run has it"),
    (["fresh"], "measure 'fresh' is unknown. Give a measure of your own as file.py:name"),
    (["mine.py:taken"], "is called 'gini', which is the name of a built-in measure"),
    (["mine.py:empty", "mine.py:again"], "is called 'empty', which is the name of 'mine.py:empty'"),
)
def test_what_is_no_measure_is_refused_by_name(write, places, message):
    """A place without a measure, or a name that is taken, is told with what was found and what is allowed."""
    write(MINE)
    refused(ConfigError, message, room.own_measures, places)


def test_a_slip_in_a_measure_is_told_when_it_is_loaded(write):
    """A measure without a unit is refused with its file; NaN where nothing is shown is a gap, not an error."""
    write(MINE.replace('"share", "#{', '"", "#{'))
    message = "'mine.py:empty': cannot import 'mine.py': .*unit is ''"
    refused(ConfigError, message, room.own_measures, ["mine.py:empty"])
    write(MINE.replace("(facts.slates < 0).mean()", "facts.intensity[facts.slates >= 0].mean()"))
    room.try_measures(room.own_measures(["mine.py:empty"]), random_items(), slate=5)


@cases(
    "body message",
    ("facts.slate.mean()", r"'empty' raised AttributeError in round 1: .*'slate'.*mine.py:5"),
    ("facts.exposure / facts.required", r"'empty' returned a ndarray. Expected a number.*"),
    ("1 / facts.exposure.sum().item()", r"'empty' raised ZeroDivisionError.*mine.py:5"),
    ("facts.price.mean()", r"'mine.py:empty' returned nan for a made-up round. Expected a finite"),
)
def test_a_measure_that_cannot_be_computed_is_refused_before_a_run(write, body, message):
    """A measure is tried on made-up rounds, one of them with nothing shown; a slip is told with its line."""
    write(MINE.replace("(facts.slates < 0).mean()", body))
    measures = room.own_measures(["mine.py:empty"])
    refused(MeasureError, message, room.try_measures, measures, random_items(), slate=5)


@pytest.fixture(scope="module")
def documented(tmp_path_factory):
    """The folder of a comparison by the command line with the documentation's measure."""
    folder = tmp_path_factory.mktemp("documented")
    (folder / "my_measure.py").write_text(documented_block("my_measure.py", "measures"))
    line = f"compare --agents relevance,random --measures {folder / 'my_measure.py'}:freshness --rounds 2 "
    line += f"--workers 1 --out {folder / 'run'} --no-certificate --set data.min_item_events=120 "
    line += "--set consumer.truth=gru --set arrivals.per_round=120 --set slate=5 --set platform.model=popularity-hp"
    assert main(line.split()) == 0
    return folder


def test_the_documented_measure_is_in_the_table_of_rounds(documented):
    """In every round of every arm it is the share that a count over the ledger gives."""
    run = load_run(documented / "run")
    year = load("ml-latest-small", min_item_events=120).items["year"].to_numpy(int)
    shown = run.ledger.assign(new=year[run.ledger["item"]] > year.max() - 10)
    expected = shown.groupby(["agent", "seed", "round"], observed=True)["new"].mean()
    freshness = run.rounds[run.rounds["metric"] == "freshness"].set_index(["agent", "seed", "round"])["value"]
    assert len(freshness) == 3 * 3 * 2
    assert freshness.to_dict() == pytest.approx(expected.to_dict())
    assert expected.nunique() > 4


def test_the_documented_measure_is_in_tables_pictures_and_tensorboard(documented, capsys):
    """Report prints and draws it, also where its file is gone; TensorBoard has its series and its band."""
    folder = documented / "run"
    source = documented / "my_measure.py"
    source.rename(documented / "gone.py")
    try:
        with drawn("rounds"):  # which has its panel
            printed = said_by(capsys, f"report {folder}").out
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
    folder = str(documented / "run")
    second_folder = str(documented / "again")
    assert "equal to" in said_by(capsys, f"compare --from {folder} --out {second_folder} --workers 1").out
    place = f"{documented / 'my_measure.py'}:freshness"
    assert main(["compare", "--resume", "--out", folder, "--measures", place]) == 0
    message = "some options differ from those that the run began with: measures ['other.py:freshness']"
    assert message in said_by(capsys, f"compare --resume --out {folder} --measures other.py:freshness", 2).err


def _compare(out, measures=("mine.py:empty",)):
    return small_run(out, measures=measures)


def test_built_in_values_are_the_same_beside_a_measure_of_ones_own(write):
    """What is built in does not depend on which other measures are computed."""
    write(MINE)
    with_mine = _compare("mine")
    without = _compare("plain", ())
    rounds = with_mine.rounds
    mine = rounds["metric"] == "empty"
    shown = with_mine.ledger.groupby("round").size() / (120 * 5)
    assert rounds[mine]["value"].to_list() == pytest.approx((1 - shown).to_list())
    pd.testing.assert_frame_equal(rounds[~mine].reset_index(drop=True), without.rounds, check_exact=True)


def test_a_run_with_a_measure_resumes_and_refuses_a_file_that_changed(write, monkeypatch):
    """Stopped after a round, it ends as the whole run did; with other content in the file it is refused."""
    write(MINE)
    with stopped_after_a_round(monkeypatch, MeasureError):
        refused(ArmsError, "enough", _compare, "run")
    write(MINE + "\n")
    refused(RunFolderError, r"changed since the run began: mine\.py", resume, "run", workers=1)
    write(MINE)
    assert digest(resume("run", workers=1)) == digest(_compare("whole"))


def test_a_sweep_has_the_measure_at_every_point(write, capsys):
    """The table of a sweep holds its late means, and the printed one a column."""
    write(MINE)
    options = {"seeds": 1, "workers": 1, "measures": ["mine.py:empty"], "certify": False}
    table = sweep(small_scenario(rounds=1), {"slate": [2, 3]}, ("random",), out="sweep", **options).sweep
    assert table[table["metric"] == "empty"]["value"].to_list() == [0.0, 0.0]
    assert "empty" in said_by(capsys, "report sweep").out


@cases(
    "field place error message",
    ("slates", "mine.py:emty", ConfigError, "Did you mean 'empty'"),
    ("slate", "mine.py:empty", MeasureError, "no attribute 'slate'.*mine.py:5"),
)
def test_what_cannot_be_measured_is_refused_before_anything_is_written(write, field, place, error, message):
    """A wrong name and a function with a slip are told at once, and no folder appears."""
    write(MINE.replace("slates", field))
    refused(error, message, _compare, "run", [place])
    assert not Path("run").exists()


def test_a_measure_that_fails_in_a_round_is_named_with_its_line(write):
    """What no made-up round showed ends the arm with an error that names measure, round and line."""
    write(MINE.replace("(facts.slates < 0).mean()", "1 / (2 - facts.round)"))
    message = r"measure 'empty' raised ZeroDivisionError in round 2: .*\(mine.py:5\)"
    refused(ArmsError, message, _compare, "run")
    assert np.isclose(load_run("run").rounds.query("metric == 'empty'")["value"].max(), 1.0)
