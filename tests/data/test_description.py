"""Descriptions of logs: their numbers and pictures, and what too small a log lacks."""

import numpy as np
import pytest
from kit import cases, refused

from rimsim.data import Needs, describe, load, require_usable
from rimsim.errors import DataError


def _log(tmp_path, rows, name="log.csv", **options):
    (tmp_path / name).write_text("user,item,time,value\n" + "".join(f"{row}\n" for row in rows))
    return load(tmp_path / name, **options)


def test_the_numbers_of_a_description_are_those_of_the_log(tmp_path):
    """Counts, ties, repeats, silences and shares of a small log are what one counts by hand."""
    day = 86_400
    rows = ["a,x,0,1", "a,y,0,2", "a,x,100,3", "b,x,100,1", f"b,z,{10 * day},1", f"b,x,{20 * day},1"]
    description = describe(_log(tmp_path, rows))
    assert description.sessions == 4
    assert description.ties == pytest.approx(2 / 6)  # of a alone: an instant of two users is no tie
    assert description.repeats == 2
    assert description.longest_silence == 10 * day
    assert description.silence_start == 10 * day
    assert description.popularity.tolist() == [4, 1, 1]
    assert description.gini == pytest.approx(np.abs(np.subtract.outer([4, 1, 1], [4, 1, 1])).mean() / (2 * 2))
    assert description.top_decile == pytest.approx(4 / 6)
    assert description.late_items == 0
    assert any("took before" in sentence for sentence in description.can)
    as_history = describe(_log(tmp_path, rows, repeats="history"))
    assert any("2 repeats" in sentence for sentence in as_history.cannot)


@cases("ending start", (".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".doc", None))
def test_a_picture_is_written_whole_or_refused(tmp_path, ending, start):
    """A picture of a log, however small, is a file of its kind, and nothing else is left; other endings are refused."""
    description = describe(_log(tmp_path, ["a,x,5,1"]))
    path = tmp_path / "out" / f"log{ending}"
    if start is None:
        refused(DataError, r"found the ending '.doc'", description.picture, path)
        return
    description.picture(path)
    assert path.read_bytes().startswith(start)
    assert len(list((tmp_path / "out").iterdir())) == 1


@cases(
    "rows message",
    ([f"a,{n},{n * 4000},1" for n in range(9)], "1 user with events, but needs 2"),
    ([f"{n % 3},x,{n * 4000},1" for n in range(9)], "1 item with events, but needs 2"),
    (["a,x,5,1"], "1 event, but needs 4"),
    ([f"{n % 3},{n},5,1" for n in range(9)], "all events are ties"),
    ([f"{n},{n % 3},{n * 4000},1" for n in range(9)], "0 events with an earlier"),
)
def test_a_degenerate_log_is_described_and_refused_with_its_reason(tmp_path, rows, message):
    """A log that no fit could use is refused by what it lacks, and its description says so."""
    log = _log(tmp_path, rows)
    refused(DataError, f"log.csv: the log is too small to fit and simulate. .*{message}", require_usable, log)
    description = describe(log)
    assert not description.can
    assert message in description.text()


def test_gaps_of_years_are_usable_and_needs_can_be_raised(tmp_path):
    """A log with silences of years is no less a log; a use that asks more says so, and lists all that is lacking."""
    years = 365 * 86_400
    log = _log(tmp_path, [f"{n % 3},{n % 4},{n * years},1" for n in range(12)])
    require_usable(log)
    assert "365.0 days without events" in describe(log).text()
    message = r"too small to run the market. It has 4 items .* 11; 12 events, .* 100"
    refused(DataError, message, require_usable, log, Needs(items=11, events=100), use="run the market")
