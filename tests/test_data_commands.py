"""What the commands say of a log: bad rows, order, the part that is taken."""

import shutil

import numpy as np
import pytest
import yaml
from kit import refused

from rimsim.config import ScenarioConfig, override, scenario_from, to_plain
from rimsim.data import load
from rimsim.errors import ConfigError
from rimsim.scenarios.cli.main import main

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
    left = load(log, skip_bad_rows=True, **PART)
    assert 0 < len(left) < 1000
    assert left.n_users < 40
    options = [word for name, value in PART.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    run = tmp_path / "run"
    there = ["--skip-bad-rows", "--data", str(log), "--out", str(run)]
    line = {
        "compare": ["compare", *OWN, *there, *SETTINGS],
        "sweep": ["sweep", *SWEEP, "--beta", "0.1,0.2", *there, *SETTINGS],
        "backtest": ["backtest", *BACKTEST, *there, *options],
        "check": ["data", "check", str(log), "--skip-bad-rows", *options],
    }[job]
    assert main(line) == 0
    said = capsys.readouterr().out
    if job == "check":
        assert f"events      {len(left):,} (" in said
        assert f"users       {left.n_users:,} (" in said
        return
    for part in (
        "2,000 rows (user from user",
        "2 bad rows skipped, the first of them:",
        "log.csv, line 12: time (column 'time') is 'soon'",
        "times go backwards at 1 rows; the log is sorted by time",
        f"the log is {len(left):,} events of {left.n_users} users with {left.n_items} items",
    ):
        assert said.count(part) == 1, part
    for folder in sorted((run / "points").glob("*")) or [run]:
        described = _config(folder)
        kept = described["log"]
        assert (kept["rows"], kept["skipped"], kept["backwards"]) == (2000, 2, 1)
        assert (kept["events"], kept["users"], kept["items"]) == (len(left), left.n_users, left.n_items)
        assert "log.csv, line 13: value (column 'value') is 'good'" in kept["bad_rows"][1]
        assert kept["columns"] == {"user": "user", "item": "item", "time": "time", "value": "value"}
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


def test_the_embedded_log_is_not_told(tmp_path, capsys):
    """Nobody needs to read again how the log that ships with rimsim was read; its counts are kept all the same."""
    line = ["compare", *OWN, "--set", "data.min_item_events=120", "--out", str(tmp_path / "run")]
    assert main(line) == 0
    assert "the log is" not in capsys.readouterr().out
    assert _config(tmp_path / "run")["log"]["rows"] == 100_004


def test_a_grid_over_the_range_has_its_dates_as_text(tmp_path, log):
    """Dates on a command line and in a scenario's file are text, so that folders, tables and configs can hold them."""
    out = tmp_path / "run"
    line = ["sweep", *SWEEP, "--data", str(log), "--skip-bad-rows", "--out", str(out)]
    assert main([*line, "--grid", "data.stop=2016-05-01,2016-06-01"]) == 0
    assert sorted(path.name for path in (out / "points").iterdir()) == ["stop=2016-05-01", "stop=2016-06-01"]
    read = scenario_from(yaml.safe_load("data: {start: 2016-05-01, stop: 2016-06-01T02:00:00+02:00}"))
    assert (read.data.start, read.data.stop) == ("2016-05-01", "2016-06-01T02:00:00+02:00")
    assert scenario_from(to_plain(read)) == read


def test_a_time_that_is_none_is_refused_by_its_field_or_option(tmp_path, capsys, log):
    """What load does not take for a time, a scenario and a command do not either; the field or option is named."""
    for time in ("yesterday", True, float("nan"), [2016], "1969-01-01"):
        said = "field 'data.start': the time is .*allowed: an ISO 8601 time"
        refused(ConfigError, said, override, ScenarioConfig(), {"data.start": time})
        refused(ConfigError, "field 'start': the time is .*or seconds since 1970", load, start=time)
    out = tmp_path / "run"
    assert main(["backtest", *BACKTEST, "--data", str(log), "--stop", "soon", "--out", str(out)]) == 2
    assert "--stop: the time is 'soon'; allowed" in capsys.readouterr().err
    assert not out.exists()
    assert main(["data", "check", str(log), "--skip-bad-rows", "--start", "2030-01-01"]) == 2
    assert "start=2030-01-01 00:00:00 UTC leaves none of 2,000 events" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["data", "check"], ["compare", *OWN, "--data"]])
def test_separator_and_encoding_can_be_said_on_the_command_line(tmp_path, capsys, log, command):
    """A message that asks for them names the options, with which the log is then read, and a run keeps them."""
    other = tmp_path / "other.csv"
    text = log.read_text(encoding="utf-8").replace(",", "^").replace("\n", "é\n", 1)
    other.write_bytes(text.encode("latin-1"))
    line = [*command, str(other)]
    said: list[str] = []
    for option, value in (("--encoding", "latin-1"), ("--separator", "^")):
        assert main([*line, *said]) == 2
        assert option in capsys.readouterr().err
        said += [option, value]
    out = ["--out", str(tmp_path / "run")] if command[0] == "compare" else []
    assert main([*line, *said, "--skip-bad-rows", *out]) == 0
    if out:
        kept = _config(tmp_path / "run")["scenario"]["data"]
        assert (kept["encoding"], kept["separator"]) == ("latin-1", "^")
