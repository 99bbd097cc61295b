"""The description of a log, its picture, and the refusal of logs that are too little."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from kit import refused

from rimsim.data import Needs, check, describe, load, require_usable
from rimsim.errors import DataError


def _log(tmp_path, rows, name="log.csv"):
    (tmp_path / name).write_text("user,item,time,value\n" + "".join(f"{row}\n" for row in rows))
    return load(tmp_path / name)


def test_the_numbers_of_a_description_are_those_of_the_log(tmp_path):
    """Counts, ties, repeats, silences and shares of a small log are what one counts by hand."""
    day = 86_400
    rows = ["a,x,0,1", "a,y,0,2", "a,x,100,3", "b,x,100,1", f"b,z,{10 * day},1", f"b,x,{20 * day},1"]
    found = describe(_log(tmp_path, rows))
    assert found.sessions == 4
    assert found.ties == pytest.approx(
        2 / 6
    )  # the first two of a; a's and b's common instant is no tie of a user
    assert found.repeats == 2
    assert found.longest_silence == 10 * day
    assert found.silence_start == 10 * day
    assert found.popularity.tolist() == [4, 1, 1]
    assert found.gini == pytest.approx(np.abs(np.subtract.outer([4, 1, 1], [4, 1, 1])).mean() / (2 * 2))
    assert found.top_decile == pytest.approx(4 / 6)
    assert found.late_items == 0
    assert any("2 repeats" in sentence for sentence in found.cannot)


def test_the_text_says_what_is_in_the_embedded_log():
    """The text for a person names counts, span, ties, abilities and how the file was read."""
    text = check().text()
    counts = ("671", "9,066", "100,004", "1995-01-09", "2016-10-16", "Gini 0.719")
    for part in (*counts, "rimsim can", "follow genres"):
        assert part in text


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_a_picture_is_written_whole(tmp_path, ending):
    """A picture of a log, however small, is a file of its kind, and nothing else is left."""
    log = _log(tmp_path, ["a,x,5,1"])
    describe(log).picture(tmp_path / "out" / f"log{ending}")
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[ending]
    assert (tmp_path / "out" / f"log{ending}").read_bytes().startswith(start)
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_picture_of_another_kind_is_refused(tmp_path):
    """An ending that is no picture is an error that lists those that are."""
    with pytest.raises(DataError, match=r"ends in .png, .pdf, .svg; found '.doc'"):
        check().picture(tmp_path / "log.doc")


DEGENERATE = {
    "one user": ([f"a,{n},{n * 4000},1" for n in range(9)], "1 users with events; at least 2 needed"),
    "one item": ([f"{n % 3},x,{n * 4000},1" for n in range(9)], "1 items with events; at least 2 needed"),
    "one event": (["a,x,5,1"], "1 events; at least 4 needed"),
    "all ties": ([f"{n % 3},{n},5,1" for n in range(9)], "all events are ties"),
    "no second visit": (
        [f"{n},{n % 3},{n * 4000},1" for n in range(9)],
        "0 events that follow an earlier one",
    ),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_a_degenerate_log_is_described_and_refused_with_its_reason(tmp_path, name):
    """A log that no fit could use is refused by what it lacks, and its description says so."""
    rows, message = DEGENERATE[name]
    log = _log(tmp_path, rows)
    refused(DataError, f"log.csv: too little to fit and simulate: .*{message}", require_usable, log)
    found = describe(log)
    assert not found.can
    assert message in found.text()


def test_gaps_of_years_are_usable(tmp_path):
    """A log with silences of years is no less a log."""
    years = 365 * 86_400
    log = _log(tmp_path, [f"{n % 3},{n % 4},{n * years},1" for n in range(12)])
    require_usable(log)
    assert "365.0 days without events" in describe(log).text()


def test_needs_can_be_raised(tmp_path):
    """A use that asks more than the defaults says so, and all that is lacking is listed."""
    log = _log(tmp_path, [f"{n % 3},{n % 4},{n * 4000},1" for n in range(12)])
    with pytest.raises(
        DataError, match=r"too little to run the market: 4 items .* 11 needed; 12 events; .* 100"
    ):
        require_usable(log, Needs(items=11, events=100), use="run the market")


def test_importing_the_room_is_light():
    """Reading logs needs no torch, and neither pictures nor downloads are imported before they are wanted."""
    code = "import sys, rimsim.data; print([m for m in ('torch', 'matplotlib', 'pooch') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
