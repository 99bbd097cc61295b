"""Descriptions, downloads, cuts and commands of logs: what is said of them, and what is refused."""

import hashlib
import http.server
import io
import re
import shutil
import sys
import threading
import time
import zipfile

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kit import ROOT, cases, refused, said_by
from kit.logs import log_of

from rimsim.config import ScenarioConfig, override, scenario_from, to_plain
from rimsim.data import EventLog, Needs, catalogue, describe, download, later_sessions, load, require_usable
from rimsim.data.downloads import Entry
from rimsim.errors import ConfigError, DataError
from rimsim.scenarios.cli.main import main


def _log(tmp_path, rows, name="log.csv"):
    (tmp_path / name).write_text("user,item,time,value\n" + "".join(f"{row}\n" for row in rows))
    return load(tmp_path / name)


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
    assert any("2 repeats" in sentence for sentence in description.cannot)


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
    for user, begin, count in zip(cut.user, cut.time, cut.count, strict=True):
        assert begin in could_be[user]
        assert (cut.past.time[cut.past.user == user] < begin).all()
        later = cut.future.time[cut.future.user == user]
        assert later.min() == begin
        assert count == 1 + np.argmax(np.append(np.diff(later), np.inf) > GAP)
    assert np.isin(cut.future.user, cut.user).all()


def test_all_sessions_that_can_be_drawn_are_drawn_alike() -> None:
    """Over many seeds each of a user's three later sessions is cut about as often as another."""
    log = log_of([0] * 5, range(5), [0.0, 100.0, 200.0, 300.0, 400.0])
    times = [later_sessions(log, gap=GAP, seed=seed).time[0] for seed in range(300)]
    drawn, counts = np.unique(times, return_counts=True)
    assert drawn.tolist() == [200.0, 300.0, 400.0]
    assert counts.min() > 70


TEXT = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_blocks_of_the_page_run_in_order(tmp_path, monkeypatch, capsys):
    """Every block runs after those before it, and gives what the page states; each public name is in the page."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(block, "docs/data.md", "exec"), names)  # noqa: S102 (our own page)
    assert names["bare"].users["id"].tolist() == ["07", "7"]
    assert "bad.csv, line 3: time (column 'time') is 'soon'" in capsys.readouterr().out
    assert len(load("liked")) == len(names["liked"])
    assert (tmp_path / "log.png").stat().st_size > 10_000
    public = "load check describe download catalogue write require_usable Needs EventLog"
    assert [name for name in public.split() if name not in TEXT] == []


_OWN = (
    "--agents random --frozen none --rounds 1 --seeds 1 --workers 1 --no-certificate --set slate=3 "
    "--set platform.model=popularity-hp --set arrivals.per_round=20 "
    "--set consumer.truth=factors --set consumer.rank=1"
)
OWN = _OWN.split()
"""A small market with a truth that is quickly fitted to a log of one's own."""
SWEEP = [word for word in OWN if word not in {"--frozen", "none"}]
BACKTEST = ["--models", "popularity", "--beta", "none", "--caps", "none", "--seeds", "1"]
DAY = 86_400
FIRST = 1_451_606_400
"""2016-01-01."""


@pytest.fixture
def log(tmp_path):
    """2,000 events of 40 users with 30 items over 200 days, two rows of words, and the last event in front."""
    chance = np.random.default_rng(0)
    at = np.sort(chance.integers(0, 200 * DAY, 2000)) + FIRST
    rows = [f"{chance.integers(40)},{chance.integers(30)},{time},{chance.integers(1, 6)}" for time in at]
    rows.insert(0, rows.pop())
    rows[10:10] = ["ann,tea,soon,3", "bob,tea,5,good"]
    (tmp_path / "log.csv").write_text("user,item,time,value\n" + "".join(f"{row}\n" for row in rows))
    return tmp_path / "log.csv"


def _config(folder):
    return yaml.safe_load((folder / "config.yaml").read_text())


PART = {"min_item_events": 2, "min_value": 3, "start": "2016-02-01", "stop": "2016-06-01T12:00:00+02:00"}
PART |= {"min_user_events": 16}
SETTINGS = [word for name, value in PART.items() for word in ("--set", f"data.{name}={value}")]


@pytest.mark.parametrize("job", ["compare", "sweep", "backtest", "check"])
def test_every_command_tells_bad_rows_and_takes_the_same_part_of_a_log(tmp_path, capsys, log, job):
    """Once: rows left out, and that times were sorted; the part is that of load; config.yaml keeps counts and part."""
    part_of_log = load(log, skip_bad_rows=True, **PART)
    assert 0 < len(part_of_log) < 1000
    assert part_of_log.n_users < 40
    options = [word for name, value in PART.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    run = tmp_path / "run"
    log_and_folder = ["--skip-bad-rows", "--data", str(log), "--out", str(run)]
    line = {
        "compare": ["compare", *OWN, *log_and_folder, *SETTINGS],
        "sweep": ["sweep", *SWEEP, "--beta", "0.1,0.2", *log_and_folder, *SETTINGS],
        "backtest": ["backtest", *BACKTEST, *log_and_folder, *options],
        "check": ["data", "check", str(log), "--skip-bad-rows", *options],
    }[job]
    output = said_by(capsys, line).out
    if job == "check":
        assert f"events      {len(part_of_log):,} (" in output
        assert f"users       {part_of_log.n_users:,} (" in output
        return
    for part in (
        "2,000 rows (user from user",
        "2 bad rows skipped, the first of them:",
        "log.csv, line 12: time (column 'time') is 'soon'",
        "times go backwards at 1 row; the log is sorted by time",
        f"the log is {len(part_of_log):,} events of {part_of_log.n_users} users with {part_of_log.n_items} items",
    ):
        assert output.count(part) == 1, part
    for folder in sorted((run / "points").glob("*")) or [run]:
        described = _config(folder)
        reading = described["log"]
        assert (reading["rows"], reading["skipped"], reading["backwards"]) == (2000, 2, 1)
        assert (reading["events"], reading["users"], reading["items"]) == (
            len(part_of_log),
            part_of_log.n_users,
            part_of_log.n_items,
        )
        assert "log.csv, line 13: value (column 'value') is 'good'" in reading["bad_rows"][1]
        assert reading["columns"] == {"user": "user", "item": "item", "time": "time", "value": "value"}
        assert (described.get("backtest") or described["scenario"])["data"].items() >= PART.items()


def test_a_run_on_a_log_with_bad_rows_is_resumed(tmp_path, log):
    """What is kept of the reading does not stand in the way of --resume or --from."""
    out = str(tmp_path / "run")
    line = ["compare", *OWN, *SETTINGS, "--data", str(log), "--skip-bad-rows", "--out", out]
    assert main(line) == 0
    run = tmp_path / "run"
    (run / "rounds.parquet").unlink()  # as if it had been interrupted
    (run / "state").mkdir()
    shutil.copy(run / "config.yaml", run / "state" / "begun.yaml")
    assert main([*line, "--resume"]) == 0
    assert (run / "rounds.parquet").is_file()
    assert main(["compare", "--from", out, "--out", str(tmp_path / "again"), "--workers", "1"]) == 0
    assert _config(tmp_path / "again")["log"] == _config(run)["log"]


def test_a_grid_over_the_range_has_its_dates_as_text(tmp_path, log):
    """Dates on a command line and in a scenario's file are text, so that folders, tables and configs can hold them."""
    out = tmp_path / "run"
    line = ["sweep", *SWEEP, "--data", str(log), "--skip-bad-rows", "--out", str(out)]
    assert main([*line, "--grid", "data.stop=2016-06-01"]) == 0
    assert [path.name for path in (out / "points").iterdir()] == ["stop=2016-06-01"]
    read = scenario_from(yaml.safe_load("data: {start: 2016-05-01, stop: 2016-06-01T02:00:00+02:00}"))
    assert (read.data.start, read.data.stop) == ("2016-05-01", "2016-06-01T02:00:00+02:00")
    assert scenario_from(to_plain(read)) == read


def test_a_time_that_is_none_is_refused_by_its_field_or_option(tmp_path, capsys, log):
    """What load does not take for a time, a scenario and a command do not either; the field or option is named."""
    for wrong in ("yesterday", True, float("nan"), [2016], "1969-01-01"):
        message = "field 'data.start': the time is .*Expected an ISO 8601 time"
        refused(ConfigError, message, override, ScenarioConfig(), {"data.start": wrong})
        refused(ConfigError, "field 'start': the time is .*or seconds since 1970", load, start=wrong)
    out = tmp_path / "run"
    wrong = ["--data", str(log), "--stop", "soon", "--out", str(out)]
    message = said_by(capsys, ["backtest", *BACKTEST, *wrong], 2)
    assert "--stop: the time is 'soon'. Expected" in message.err
    assert not out.exists()
    message = said_by(capsys, f"data check {log} --skip-bad-rows --start 2030-01-01", 2)
    assert "start=2030-01-01 00:00:00 UTC removes all of its 2,000 events" in message.err


@pytest.mark.parametrize("command", [["data", "check"], ["compare", *OWN, "--data"]])
def test_separator_and_encoding_can_be_said_on_the_command_line(tmp_path, capsys, log, command):
    """A message that asks for them names the options, with which the log is then read, and a run keeps them."""
    encoded_log = tmp_path / "other.csv"
    text = log.read_text(encoding="utf-8").replace(",", "^").replace("\n", "é\n", 1)
    encoded_log.write_bytes(text.encode("latin-1"))
    line = [*command, str(encoded_log)]
    advised_options: list[str] = []
    for option, value in (("--encoding", "latin-1"), ("--separator", "^")):
        assert option in said_by(capsys, [*line, *advised_options], 2).err
        advised_options += [option, value]
    out = ["--out", str(tmp_path / "run")] if command[0] == "compare" else []
    assert main([*line, *advised_options, "--skip-bad-rows", *out]) == 0
    if out:
        data_config = _config(tmp_path / "run")["scenario"]["data"]
        assert (data_config["encoding"], data_config["separator"]) == ("latin-1", "^")


_PACKED = io.BytesIO()
with zipfile.ZipFile(_PACKED, "w") as archive:
    archive.writestr("ml/ratings.csv", "userId,movieId,rating,timestamp\n" + "1,2,3,978300760\n" * 20_000)
CONTENT = _PACKED.getvalue()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers each request by the next of the server's ``answers``; the last one stays."""

    def log_message(self, *_):
        """Quiet."""

    def do_GET(self):
        self.server.asked.append(self.path)
        answers = self.server.answers
        ANSWERS[answers.pop(0) if len(answers) > 1 else answers[0]](self)


def _send(handler, body, *, status=200, length=None):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


ANSWERS = {
    "whole": lambda handler: _send(handler, CONTENT),
    "half": lambda handler: _send(handler, CONTENT[: len(CONTENT) // 2], length=len(CONTENT)),
    "portal": lambda handler: _send(handler, b"<html>log in</html>"),
    "other bytes": lambda handler: _send(handler, bytes(len(CONTENT))),
    "endless": lambda handler: _send(handler, CONTENT * 2),
    "silence": lambda handler: time.sleep(1.5),  # longer than the tests wait
    "404": lambda handler: _send(handler, b"no", status=404),
    "500": lambda handler: _send(handler, b"no", status=500),
}


@pytest.fixture
def serve():
    """Starts servers, and stops them after the test."""
    running = []

    def start(*answers):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.answers = list(answers)
        server.asked = []
        server.handle_error = lambda *_: None  # a client that hangs up is part of the tests
        running.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        about = {"name": "made-up", "title": "a made-up log", "users": 1, "items": 1, "events": 20_000}
        url = f"http://127.0.0.1:{server.server_address[1]}/made-up.zip"
        checksum = f"md5:{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"
        entry = Entry(**about, url=url, size=len(CONTENT), checksum=checksum, terms="none")
        return server, entry

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_download_is_whole_and_loads_and_is_not_fetched_again(serve, tmp_path):
    """What comes back is the server's file, progress ends at its size, nothing else is there; one call is enough."""
    server, entry = serve("whole")
    seen = []
    for _ in range(2):
        path = download(entry, tmp_path / "new", progress=lambda have, total: seen.append((have, total)))
    assert path.read_bytes() == CONTENT
    assert len(load(path)) == 20_000
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert _names(tmp_path / "new") == ["made-up.zip"]
    assert len(server.asked) == 1


@cases(
    "answer message",
    ("half", "cannot be fetched|something else"),
    ("portal", "did not send a made-up log"),
    ("other bytes", "did not send a made-up log"),
    ("endless", "sent more than the"),
    ("404", "404 Client Error"),
    ("500", "500 Server Error"),
    ("silence", "cannot be fetched to"),
)
def test_a_server_that_does_not_deliver_is_an_error(serve, tmp_path, answer, message):
    """The error says what happened, and no file has the log's name."""
    patience = 0.3 if answer == "silence" else 30.0
    refused(DataError, message, download, serve(answer)[1], tmp_path, patience=patience)
    assert _names(tmp_path) == []


def test_a_folder_or_server_that_is_not_there_is_an_error(serve, tmp_path):
    """A file where the folder should be, and no server at all, are errors of ours too."""
    server, entry = serve("whole")
    (tmp_path / "file").write_text("")
    refused(DataError, "cannot be fetched to", download, entry, tmp_path / "file")
    server.shutdown()
    server.server_close()
    refused(DataError, "cannot be fetched", download, entry, tmp_path)


def test_names_that_are_unknown_embedded_or_not_here_yet_are_refused(tmp_path, monkeypatch, capsys):
    """An unknown name gets the nearest one, the embedded log needs no download, and loading never fetches by itself."""
    monkeypatch.setenv("RIMSIM_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    refused(ConfigError, r"Did you mean 'ml-10m'|Did you mean 'ml-1m'", download, "ml-1om")
    refused(DataError, "is part of rimsim", download, "ml-latest-small")
    refused(DataError, r"not on this machine yet.*rimsim data download ml-1m.*fetches 6 MB", load, "ml-1m")
    for name, message in (
        ("ml-1om", "no log is known as 'ml-1om'"),
        ("ml-latest-small", "is part of rimsim"),
    ):
        assert message in said_by(capsys, f"data download {name}", 2).err


@pytest.fixture
def fetch(monkeypatch, capsys):
    """What the command says with a catalogue of one log, and a folder for logs."""

    def run(entry, folder, *options, status=0):
        monkeypatch.setattr(sys.modules["rimsim.data.downloads"], "_KNOWN", (entry,))
        monkeypatch.setenv("RIMSIM_DATA", str(folder))
        return said_by(capsys, ["data", "download", entry.name, *options], status)

    return run


def test_the_command_fetches_and_shows_how_far_it_is(serve, fetch, tmp_path, monkeypatch):
    """The bar ends at the whole file, the path is printed, and the log then goes by its name."""
    server, entry = serve("whole")
    output = fetch(entry, tmp_path).out
    assert (tmp_path / "made-up.zip").read_bytes() == CONTENT
    assert f"saved to {tmp_path / 'made-up.zip'}" in output
    kilobytes = f"{len(CONTENT) / 1000:.1f}"
    assert f"{kilobytes}/{kilobytes} kB" in output
    monkeypatch.chdir(tmp_path.parent)
    assert len(load("made-up")) == 20_000
    output = fetch(entry, tmp_path).out
    assert "kB" not in output
    assert "saved to" in output
    assert len(server.asked) == 1


def test_the_command_takes_a_folder_and_says_what_broke(serve, fetch, tmp_path):
    """A refusal ends in one sentence and status 2; the same command again fetches the file into the folder."""
    _, entry = serve("404", "whole")
    folder = tmp_path / "there"
    (message,) = fetch(entry, tmp_path, "--folder", str(folder), status=2).err.splitlines()
    assert message.startswith(f"rimsim: {entry.url}: cannot be fetched to {folder} (404 Client Error")
    assert _names(folder) == []
    fetch(entry, tmp_path, "--folder", str(folder))
    assert (folder / "made-up.zip").read_bytes() == CONTENT


def test_the_catalogue_is_sound():
    """Names are distinct, terms are stated, and what can be fetched has an address, a size and a checksum."""
    entries = catalogue()
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries:
        assert "GroupLens" in entry.terms
        assert entry.name in entry.text()
        if entry.url is not None:
            assert entry.url.startswith("https://")
            assert entry.size > 10**6
            assert len(entry.checksum) == len("md5:") + 32
