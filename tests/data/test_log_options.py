"""Options of commands that read a log: which rows and which part of it they take, and what a run keeps of them."""

import shutil

import numpy as np
import pytest
import yaml
from kit import refused, said_by

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
        "2 bad rows skipped, by kind of problem the first:",
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


def test_a_part_of_a_log_begins_at_its_start_and_ends_before_its_stop(tmp_path):
    """Of events at 100, 200, 300 and 400 s, those from 200 to 400 s are the second and the third."""
    path = tmp_path / "log.csv"
    path.write_text("user,item,time\n" + "".join(f"{n % 2},{n},{100 * n}\n" for n in range(1, 5)))
    assert load(path, start=200.0, stop=400.0, time_unit="s").time.tolist() == [200.0, 300.0]
