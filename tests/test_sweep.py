"""Sweeps: a compare at every point of a grid, one table, one front."""

import shutil
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import yaml
from kit import refused
from matplotlib.image import imread
from small_markets import drawn, small_run, small_scenario
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rimsim import measures
from rimsim.config import ConsumerConfig, PlatformConfig, Seeds, override, to_plain
from rimsim.errors import ConfigError, RunFolderError
from rimsim.market import Market, build_world
from rimsim.scenarios import compare, load_run, sweep
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.runs.job import StudyOptions
from rimsim.scenarios.runs.status import points_of
from rimsim.scenarios.study.compare import begin, resume
from rimsim.scenarios.study.controls import play_replica
from rimsim.scenarios.study.plan import planned, require_unchanged

AGENTS = ("relevance", "rim-feedback")
GRID = {"exposure.beta": [0.0, 0.8]}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two agents, two values of β, two seeds."""
    out = tmp_path_factory.mktemp("sweep") / "run"
    with drawn("front"):
        return sweep(small_scenario(rounds=2), GRID, AGENTS, seeds=2, out=out, workers=1, certify=False)


def _same_point(run, beta, alone):
    """Check that the rows of a point of a sweep are the late means of a comparison."""
    found = run.sweep[run.sweep["beta"] == beta].drop(columns="beta").reset_index(drop=True)
    expected = measures.late_means(alone.rounds)
    pd.testing.assert_frame_equal(found, expected, check_exact=True, check_dtype=False)


def test_a_point_is_what_compare_gives(swept, tmp_path):
    """The rows of a point are the late means of a comparison with that setting."""
    config = override(small_scenario(rounds=2), {"exposure.beta": 0.8})
    _same_point(swept, 0.8, small_run(tmp_path / "alone", AGENTS, config, seeds=2))


def test_the_table_and_the_front_are_of_the_swept_field(swept):
    """β costs relevance nothing and buys items exposure; a picture is drawn, and event files of a point know its β."""
    assert list(load_run(swept.folder).sweep.columns) == ["agent", "seed", "beta", "metric", "value"]
    mean = swept.sweep.groupby(["agent", "beta", "metric"])["value"].mean()
    assert mean["relevance", 0.0, "utility"] == mean["relevance", 0.8, "utility"]
    assert mean["rim-feedback", 0.8, "perplexity"] > 1.3 * mean["rim-feedback", 0.0, "perplexity"]
    assert mean["rim-feedback", 0.8, "shortfall"] < 0.05 < mean["relevance", 0.8, "shortfall"]
    assert imread(swept.folder / "pictures" / "front.png").shape[1] == 1200
    events = EventAccumulator(str(swept.folder / "points" / "beta=0.8" / "events" / "relevance" / "seed-0"))
    events.Reload()
    tags = events.SummaryMetadata("_hparams_/session_start_info")
    assert b"beta" in tags.plugin_data.content


def test_controls_of_a_sweep_are_those_of_comparisons_and_share_their_random_slates(tmp_path, monkeypatch):
    """Each point has the rows that ``compare --control`` gives it, and the shadow market is played once for both."""
    played = []
    monkeypatch.setattr(
        "rimsim.scenarios.study.controls.play_replica",
        lambda *given: played.append(given) or play_replica(*given),
    )
    platform, consumer = PlatformConfig(model="ease-hp"), ConsumerConfig(attraction=3.0)
    config = small_scenario(rounds=2, platform=platform, consumer=consumer)
    asked = {"seeds": 1, "control": ("random",), "certify": False, "workers": 1}
    run = sweep(config, {"exposure.beta": [0.2, 0.8]}, ("relevance",), out=tmp_path / "run", **asked)
    replicas = [replica for *_, replica, _ in played]
    assert replicas == list(range(len(replicas)))
    assert not (run.folder / "state").exists()
    config = override(config, {"exposure.beta": 0.8})
    _same_point(run, 0.8, compare(config, ("relevance",), out=tmp_path / "alone", ledger=False, **asked))
    assert set(run.sweep["agent"]) == {"relevance", "relevance-random"}


def test_a_truth_can_move_with_the_seed_and_have_no_figure(tmp_path):
    """Arms of a seed play under the truth of its bootstrap; where its class is given, NaN is the same on resuming."""
    config = small_scenario(consumer=ConsumerConfig(truth="factors", truth_seed="seed"))
    options = StudyOptions(("random",), [], seeds=(0, 3), certify=False)
    arms = planned(Path("unused"), config, {}, options).plans[0].arms
    assert [arm.config.consumer.truth_seed for arm in arms] == [0, 3]
    assert Market(config, seeds=Seeds.all(3)).world.truth.report.bootstrap == 3
    assert build_world(config).truth.report.bootstrap is None
    config = small_scenario(rounds=1, consumer=ConsumerConfig(truth="factors"))
    run = small_run(tmp_path / "run", config=config)
    (run.folder / "state").mkdir()
    shutil.copy(run.folder / "config.yaml", run.folder / "state" / "begun.yaml")
    require_unchanged(load_run(run.folder))


def test_an_interrupted_sweep_resumes_to_the_same_table(swept, tmp_path):
    """Points that are complete stay, the others are run again."""
    shutil.copytree(swept.folder, tmp_path / "cut")
    point = tmp_path / "cut" / "points" / "beta=0.8"
    for name in ("rounds.parquet", "rounds", "arrivals", "required"):
        path = point / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    (point / "state").mkdir()
    shutil.copy(point / "config.yaml", point / "state" / "begun.yaml")
    (tmp_path / "cut" / "sweep.parquet").unlink()
    resumed = resume(tmp_path / "cut", batch_size=9, workers=1)
    pd.testing.assert_frame_equal(resumed.sweep, swept.sweep, check_exact=True)


def test_the_command_sweeps_a_grid_of_fields(tmp_path, capsys):
    """Two fields make four points; the report says them again, and that two fields have no picture."""
    scenario = tmp_path / "small.yaml"
    scenario.write_text(yaml.safe_dump(to_plain(small_scenario(rounds=1))))
    out = str(tmp_path / "run")
    line = f"sweep {scenario} --beta 0.2,0.4 --grid exposure.cost=1,3 --agents rim-dual".split()
    assert main([*line, "--seeds", "1", "--workers", "1", "--no-certificate", "--out", out]) == 0
    assert len(load_run(out).sweep[["beta", "cost"]].drop_duplicates()) == 4
    capsys.readouterr()
    assert main(["report", out]) == 0
    said = capsys.readouterr().out
    assert "rim-dual cost=1 beta=0.2" in said
    assert "none: 2 fields vary" in said
    assert not (tmp_path / "run" / "pictures").exists()
    assert main([*line, "--resume", "--out", out]) == 0
    line[3] = "0.2,0.6"
    assert main([*line, "--resume", "--out", out]) == 2
    assert "found other options than it began with: sweep " in capsys.readouterr().err


def test_a_sweep_is_not_begun_in_the_folder_of_another_run(swept, tmp_path):
    """A comparison's folder is refused and stays as it was, as is that of a sweep."""
    shutil.copytree(swept.folder / "points" / "beta=0.8", tmp_path / "one")
    before = (tmp_path / "one" / "config.yaml").read_bytes()
    for folder in (tmp_path / "one", swept.folder):
        with pytest.raises(RunFolderError, match="already holds a run"):
            sweep(small_scenario(), GRID, ("random",), seeds=1, out=folder)
    assert (tmp_path / "one" / "config.yaml").read_bytes() == before
    assert not (tmp_path / "one" / "points").exists()


def test_bad_grids_are_refused_and_nested_fields_have_whole_names(tmp_path):
    """An unknown field, no value, one twice or out of range: no folder. ``rounds`` is the scenario's own."""
    for grid, message in (
        ({"exposure.betta": [0.1]}, "Did you mean 'exposure.beta'"),
        ({"exposure.beta": []}, "at least one value"),
        ({"exposure.beta": [0.1, 0.1]}, "distinct values"),
        ({"exposure.beta": [0.1, 7]}, "exposure.beta"),
    ):
        refused(ConfigError, message, sweep, small_scenario(), grid, ("random",), out=tmp_path / "run")
        assert not (tmp_path / "run").exists()
    grid = {"platform.log_window.rounds": [1], "exposure.beta": [0.5]}
    (point,) = points_of(tmp_path, small_scenario(), grid)
    assert point.folder.name == "platform.log_window.rounds=1,beta=0.5"
    assert points_of(tmp_path, small_scenario(), {"rounds": [2]})[0].labels == (("rounds", 2),)


def test_a_sweep_that_was_interrupted_while_it_began_can_be_begun_anew(tmp_path, monkeypatch):
    """Points that were begun, and nothing more, are no run that is in the way; points that were played are."""
    asked = {"seeds": 1, "out": tmp_path / "run", "workers": 1, "certify": False}
    go = partial(sweep, small_scenario(rounds=1), {"exposure.beta": [0.1, 0.8]}, ("random",), **asked)
    begun = []

    def interrupted(plan, command):
        if begun:
            raise KeyboardInterrupt
        begun.append(plan)
        begin(plan, command)

    with monkeypatch.context() as patch:
        patch.setattr("rimsim.scenarios.study.compare.begin", interrupted)
        with pytest.raises(KeyboardInterrupt):
            go()
    assert (tmp_path / "run" / "points" / "beta=0.1" / "config.yaml").is_file()
    assert set(go().sweep["beta"]) == {0.1, 0.8}
    (tmp_path / "run" / "config.yaml").unlink()
    refused(RunFolderError, "holds", go)
