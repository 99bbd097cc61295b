"""What the scripts in benchmarks/ share: runs that are kept, and names by which time is counted."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest


@pytest.fixture
def module(monkeypatch):
    """A function that imports one of the scripts by name."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    return import_module


@pytest.mark.parametrize(
    ("there", "lines"),
    [
        ([], [["sweep", "two-sided", "--out"]]),
        (["config.yaml"], [["sweep", "--resume", "--out"]]),
        (["config.yaml", "sweep.parquet"], []),
        (["config.yaml", "rounds.parquet"], []),
    ],
    ids=["empty", "begun", "complete sweep", "complete comparison"],
)
def test_a_kept_run_is_played_gone_on_with_or_read(module, monkeypatch, tmp_path, there, lines):
    """An empty folder gets the command, one with a part of a run goes on, and a complete one is only read."""
    said, kept_runs = [], module("kept_runs")
    monkeypatch.setattr(kept_runs, "command_line", lambda line: said.append(line) or 0)
    monkeypatch.setattr(kept_runs, "load_run", lambda folder: folder)
    for name in there:
        (tmp_path / name).touch()
    assert kept_runs.finished(tmp_path, ["sweep", "two-sided"]) == tmp_path
    assert said == [[*line, str(tmp_path)] for line in lines]


@pytest.mark.parametrize("name", ["speed_stages", "scale_costs"])
def test_time_is_counted_by_names_that_the_code_has(module, name):
    """The functions and files that samples of the CPU time are sorted by are there, or importing the script ends."""
    module(name)
    with pytest.raises(SystemExit, match="_write_prices, no/such"):
        module("speed_stages").check_names(["begin_round", "_write_prices"], ["no/such"])
