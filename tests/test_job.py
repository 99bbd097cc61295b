"""The engine of all kinds of runs: parts, workers, folders, refusals, whatever the kind."""

from __future__ import annotations

from functools import partial

import pytest
from small_markets import small_scenario
from worker_tasks import play_part

from rimsim import system
from rimsim.errors import ConfigError, ModelError, RunFolderError
from rimsim.scenarios import compare, load_run
from rimsim.scenarios.runs import job
from rimsim.scenarios.runs.job import Execution, Job, Stage, executor, make_run, require_memory, run_stages
from rimsim.scenarios.runs.store import locked


def _job(parts, finish=lambda run: None, play=play_part):
    return Job({"backtest": {"x": 1}, "seeds": [0]}, parts, play, finish, "parts", len(parts))


def _made(folder, parts=("a", "b", "c"), workers=1, **more):
    return make_run(_job(list(parts), **more), folder, "rimsim backtest", Execution(workers=workers))


def test_a_run_holds_the_tables_of_its_parts_in_their_order(tmp_path):
    """Config, joined tables and what is drawn are in the folder, and neither parts nor drafts."""
    seen = []
    run = _made(tmp_path / "run", finish=lambda run: seen.append(run.backtest))
    assert run.kind == "backtest"
    assert list(run.config) == ["command", "backtest", "seeds", "versions"]
    assert run.table["part"].tolist() == ["a", "a", "b", "b", "c", "c"]
    assert run.table.equals(seen[0])
    assert len(run.fits) == 3
    assert sorted(path.name for path in run.folder.iterdir() if path.name != ".lock") == [
        "backtest.parquet",
        "config.yaml",
        "fits.parquet",
    ]


def test_workers_change_nothing(tmp_path):
    """Parts that are played on other processes leave the same tables."""
    alone, shared = _made(tmp_path / "one"), _made(tmp_path / "two", workers=2)
    assert shared.table.equals(alone.table)


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_left_of_a_run_that_fails(tmp_path, workers):
    """The folder of a part that raises can be used again."""
    with pytest.raises(ModelError, match="it does not fit"):
        _made(tmp_path, ["a", "bad"], workers)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == []
    assert len(_made(tmp_path, ["a"]).table) == 2


def test_a_folder_that_is_taken_is_refused(tmp_path):
    """A run, another process and a foreign file keep their folder."""
    _made(tmp_path / "run")
    with pytest.raises(RunFolderError, match="already holds a run; allowed: a new folder$"):
        _made(tmp_path / "run")
    with locked(tmp_path / "held"), pytest.raises(RunFolderError, match="in use by another process"):
        _made(tmp_path / "held")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(RunFolderError, match=r"holds 'notes\.txt', which is no run's"):
        _made(tmp_path / "mine")


def test_a_run_of_another_kind_is_refused_with_the_command_that_repeats_it(tmp_path):
    """Who asks for a comparison is told what the folder holds."""
    _made(tmp_path / "run")
    with pytest.raises(
        RunFolderError, match=r"holds a back-test; allowed: a comparison, .* by: rimsim backtest$"
    ):
        load_run(tmp_path / "run", "comparison")


def _fail_for(names, task, report):
    report(1)
    if task in names:
        raise ModelError(f"{task} fails")


def test_a_stage_that_is_not_vital_goes_on_after_an_error():
    """Errors are returned with their tasks; those of a vital stage end the stages."""
    first = Stage("bar", partial(_fail_for, {"b"}), ["a", "b"], 2, vital=False)
    second = Stage("bar", partial(_fail_for, {"c"}), ["c", "d"], 2)
    with executor(Execution(workers=1)) as run:
        ((task, error),) = run_stages([first], run, None)
        assert (task, str(error)) == ("b", "b fails")
        with pytest.raises(ModelError, match="c fails"):
            run_stages([first, second], run, None)


@pytest.mark.parametrize(
    ("there", "named"), [(5 * 10**9, "--workers 3 or fewer"), (10**9, "a lower arrivals")]
)
def test_a_run_that_needs_more_memory_than_there_is_is_refused(monkeypatch, there, named):
    """The message has both figures and names the option to lower: workers as long as one fits."""
    monkeypatch.setattr(job, "memory", lambda: there)
    with pytest.raises(ConfigError, match=rf"10\.0 GB.*{there / 1e9:.1f} GB.*{named}"):
        require_memory(2e9, 1e9, 8, "arrivals")
    monkeypatch.setattr(job, "memory", lambda: 10**10)
    require_memory(2e9, 1e9, 8, "arrivals")
    monkeypatch.setattr(job, "memory", lambda: None)
    require_memory(2e9, 1e9, 8, "arrivals")


def test_a_comparison_that_does_not_fit_writes_nothing(monkeypatch, tmp_path):
    """It is refused before its folder is made and its truth fitted."""
    monkeypatch.setattr(job, "memory", lambda: 1000)
    config = small_scenario(name="never-fitted")
    with pytest.raises(ConfigError, match=r"arrivals\.per_round"):
        compare(config, ["random"], seeds=1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_this_machine_says_how_much_memory_it_has(monkeypatch):
    """It is a positive number, or none where the system does not say."""
    there = system.memory()
    assert there is None or there > 2**28
    monkeypatch.setattr(system.os, "sysconf", lambda _: (_ for _ in ()).throw(ValueError))
    assert system.memory() is None
