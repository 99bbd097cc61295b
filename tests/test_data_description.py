"""The description of a log, its picture, the logs that are too little, its later sessions, and docs/data.md."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import cases, refused
from made_logs import log_of

from rimsim.data import EventLog, Needs, describe, later_sessions, load, require_usable
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
    assert found.ties == pytest.approx(2 / 6)  # of a alone: an instant of two users is no tie
    assert found.repeats == 2
    assert found.longest_silence == 10 * day
    assert found.silence_start == 10 * day
    assert found.popularity.tolist() == [4, 1, 1]
    assert found.gini == pytest.approx(np.abs(np.subtract.outer([4, 1, 1], [4, 1, 1])).mean() / (2 * 2))
    assert found.top_decile == pytest.approx(4 / 6)
    assert found.late_items == 0
    assert any("2 repeats" in sentence for sentence in found.cannot)


@cases("ending start", (".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".doc", None))
def test_a_picture_is_written_whole_or_refused(tmp_path, ending, start):
    """A picture of a log, however small, is a file of its kind, and nothing else is left; other endings are refused."""
    found, path = describe(_log(tmp_path, ["a,x,5,1"])), tmp_path / "out" / f"log{ending}"
    if start is None:
        refused(DataError, r"ends in .png, .pdf, .svg; found '.doc'", found.picture, path)
        return
    found.picture(path)
    assert path.read_bytes().startswith(start)
    assert len(list((tmp_path / "out").iterdir())) == 1


DEGENERATE = {
    "one user": ([f"a,{n},{n * 4000},1" for n in range(9)], "1 users with events; at least 2 needed"),
    "one item": ([f"{n % 3},x,{n * 4000},1" for n in range(9)], "1 items with events; at least 2 needed"),
    "one event": (["a,x,5,1"], "1 events; at least 4 needed"),
    "all ties": ([f"{n % 3},{n},5,1" for n in range(9)], "all events are ties"),
    "no second visit": ([f"{n},{n % 3},{n * 4000},1" for n in range(9)], "0 events that follow an earlier"),
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


def test_gaps_of_years_are_usable_and_needs_can_be_raised(tmp_path):
    """A log with silences of years is no less a log; a use that asks more says so, and lists all that is lacking."""
    years = 365 * 86_400
    log = _log(tmp_path, [f"{n % 3},{n % 4},{n * years},1" for n in range(12)])
    require_usable(log)
    assert "365.0 days without events" in describe(log).text()
    told = r"too little to run the market: 4 items .* 11 needed; 12 events; .* 100"
    refused(DataError, told, require_usable, log, Needs(items=11, events=100), use="run the market")


def test_importing_the_room_is_light():
    """Reading logs needs no torch, and neither pictures nor downloads are imported before they are wanted."""
    code = "import sys, rimsim.data; sys.exit(bool({'torch', 'matplotlib', 'pooch'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True)


GAP = 10.0


@st.composite
def _logs(draw: st.DrawFn) -> EventLog:
    n_users = draw(st.integers(1, 5))
    event = st.tuples(st.integers(0, n_users - 1), st.integers(0, 120))
    events = draw(st.lists(event, min_size=1, max_size=40))
    user, time = zip(*events, strict=True)
    return log_of(user, np.arange(len(user)), time, n_users)


@given(_logs(), st.integers(0, 3))
def test_every_cut_is_the_beginning_of_a_session_that_can_be_drawn(log: EventLog, seed: int) -> None:
    """A cut lies after a silence and after the wanted share of the user's events, and divides them by time."""
    could_be = {}
    for user in range(log.n_users):
        times = log.time[log.user == user]
        could_be[user] = {
            times[n] for n in range(1, len(times)) if times[n] - times[n - 1] > GAP and n >= 0.3 * len(times)
        }
    if not any(could_be.values()):
        refused(DataError, "some user came back", later_sessions, log, gap=GAP, seed=seed)
        return
    cut = later_sessions(log, gap=GAP, seed=seed)
    assert cut.user.tolist() == [user for user in range(log.n_users) if could_be[user]]
    assert len(cut.past) + len(cut.future) == len(log)
    for user, time, count in zip(cut.user, cut.time, cut.count, strict=True):
        assert time in could_be[user]
        assert (cut.past.time[cut.past.user == user] < time).all()
        later = cut.future.time[cut.future.user == user]
        assert later.min() == time
        assert count == 1 + np.argmax(np.append(np.diff(later), np.inf) > GAP)
    assert np.isin(cut.future.user, cut.user).all()


def test_all_sessions_that_can_be_drawn_are_drawn_alike() -> None:
    """Over many seeds each of a user's three later sessions is cut about as often as another."""
    log = log_of([0] * 5, range(5), [0.0, 100.0, 200.0, 300.0, 400.0])
    times = [later_sessions(log, gap=GAP, seed=seed).time[0] for seed in range(300)]
    drawn, counts = np.unique(times, return_counts=True)
    assert drawn.tolist() == [200.0, 300.0, 400.0]
    assert counts.min() > 70


TEXT = (Path(__file__).parent.parent / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_blocks_of_the_page_run_in_order(tmp_path, monkeypatch, capsys):
    """Every block runs after those before it, and the results that the page states come out."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(block, "docs/data.md", "exec"), names)  # noqa: S102 (our own page)
    assert names["bare"].users["id"].tolist() == ["07", "7"]
    assert "bad.csv, line 3: time (column 'time') is 'soon'" in capsys.readouterr().out
    assert len(load("liked")) == len(names["liked"])
    assert (tmp_path / "log.png").stat().st_size > 10_000


def test_the_page_names_every_public_function():
    """What the room offers is in its page."""
    names = "load check describe download catalogue write require_usable Needs EventLog"
    assert [name for name in names.split() if name not in TEXT] == []
