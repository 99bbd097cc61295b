"""Sweeps: points, resuming, grids, fronts and the matrix of contrasts."""

import itertools
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kit import calls_of, refused, said_by
from kit.markets import drawn, in_file, small_run, small_scenario
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rimsim import measures
from rimsim.config import ConsumerConfig, PlatformConfig, Seeds, override
from rimsim.errors import ConfigError, RunFolderError
from rimsim.market import Market, build_world
from rimsim.scenarios import compare, load_run, sweep
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.report import sweep as sweep_report
from rimsim.scenarios.report.console import markdown
from rimsim.scenarios.report.sweep import contrasts, matrix, matrix_figure, matrix_table
from rimsim.scenarios.report.tables import over_seeds
from rimsim.scenarios.runs.arms import StudyOptions
from rimsim.scenarios.runs.points import points_of
from rimsim.scenarios.study import controls, runner
from rimsim.scenarios.study.compare import resume
from rimsim.scenarios.study.plan import planned
from rimsim.scenarios.study.repetition import require_unchanged

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
    point = run.sweep[run.sweep["beta"] == beta].drop(columns="beta").reset_index(drop=True)
    expected = measures.late_means(alone.rounds)
    pd.testing.assert_frame_equal(point, expected, check_exact=True, check_dtype=False)


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
    played = calls_of(monkeypatch, controls, "play_replica")
    platform = PlatformConfig(model="ease-hp")
    consumer = ConsumerConfig(attraction=3.0)
    config = small_scenario(rounds=2, platform=platform, consumer=consumer)
    asked = {"seeds": 1, "control": ("random",), "certify": False, "workers": 1}
    run = sweep(config, {"exposure.beta": [0.2, 0.8]}, ("relevance",), out=tmp_path / "run", **asked)
    replicas = [event["replica"] for event in played]
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
    scenario = in_file(small_scenario(rounds=1), tmp_path)
    out = str(tmp_path / "run")
    line = f"sweep {scenario} --beta 0.2,0.4 --grid exposure.cost=1,3 --agents rim-dual".split()
    assert main([*line, "--seeds", "1", "--workers", "1", "--no-certificate", "--out", out]) == 0
    assert len(load_run(out).sweep[["beta", "cost"]].drop_duplicates()) == 4
    said = said_by(capsys, ["report", out]).out
    assert "rim-dual cost=1 beta=0.2" in said
    assert "none: 2 fields vary" in said
    assert not (tmp_path / "run" / "pictures").exists()
    assert main([*line, "--resume", "--out", out]) == 0
    line[3] = "0.2,0.6"
    said = said_by(capsys, [*line, "--resume", "--out", out], 2).err
    assert "some options differ from those that the run began with: sweep " in said


def test_a_sweep_is_not_begun_in_the_folder_of_another_run(swept, tmp_path):
    """A comparison's folder is refused and stays as it was, as is that of a sweep."""
    shutil.copytree(swept.folder / "points" / "beta=0.8", tmp_path / "one")
    before = (tmp_path / "one" / "config.yaml").read_bytes()
    for folder in (tmp_path / "one", swept.folder):
        refused(RunFolderError, "already holds a run", sweep, small_scenario(), GRID, ("random",), out=folder)
    assert (tmp_path / "one" / "config.yaml").read_bytes() == before
    assert not (tmp_path / "one" / "points").exists()


def test_bad_grids_are_refused_and_nested_fields_have_whole_names(tmp_path):
    """An unknown field, no value, one twice or out of range: no folder. ``rounds`` is the scenario's own."""
    for grid, message in (
        ({"exposure.betta": [0.1]}, "Did you mean 'exposure.beta'"),
        ({"exposure.beta": []}, "at least one value"),
        ({"exposure.beta": [0.1, 0.1]}, "has a value twice"),
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
    with monkeypatch.context() as patch:
        calls_of(patch, runner, "begin", interrupted_at=2)
        refused(KeyboardInterrupt, None, go)
    assert (tmp_path / "run" / "points" / "beta=0.1" / "config.yaml").is_file()
    assert set(go().sweep["beta"]) == {0.1, 0.8}
    (tmp_path / "run" / "config.yaml").unlink()
    refused(RunFolderError, "holds", go)


FIELDS = ["truth", "model"]


def _swept():
    """A made-up sweep: the loop takes coverage at the first truth alone; the guarantee is kept everywhere."""
    draws = np.random.default_rng(2)
    rows = []
    points = itertools.product(("factors", "bag"), ("ease", "gru"), range(5))
    for truth, model, seed in points:
        for agent in ("relevance", "relevance-random", "rim-feedback"):
            moved = -0.2 if (agent, truth) == ("relevance", "factors") else 0.0
            owed = 0.0 if agent == "rim-feedback" else 0.9
            for metric, value in (("coverage", moved), ("examined_shortfall", owed)):
                rows.append((agent, seed, truth, model, metric, value + seed + 0.01 * draws.normal()))
    return pd.DataFrame(rows, columns=["agent", "seed", "truth", "model", "metric", "value"])


def test_the_matrix_is_pairs_at_each_point_and_holm_over_all():
    """Each cell is a paired difference of its point's arms; signs are those that Holm over all cells settles."""
    table = _swept()
    claims = matrix(table, FIELDS, "examined")
    titles = [contrast.title for contrast in contrasts(["relevance", "relevance-random"], "examined")]
    assert titles == ["loop: coverage", "loop: effective items", "loop: utility"]
    assert list(claims["contrast"].unique()) == ["loop: coverage", "guarantee: undelivered"]
    for row in claims.itertuples():
        at = table.query("truth == @row.truth and model == @row.model and metric == @row.metric")
        wide = at.pivot(index="seed", columns="agent", values="value")
        expected = measures.paired_difference(wide[row.agent], wide[row.minus])
        assert (row.mean, row.low, row.p) == pytest.approx((expected.mean, expected.low, expected.p))
    np.testing.assert_allclose(claims["adjusted"], measures.holm(claims["p"]))
    signs = claims.pivot(index=FIELDS, columns="contrast", values="sign")
    assert list(signs.loc["factors", "loop: coverage"]) == [-1, -1]
    assert list(signs.loc["bag", "loop: coverage"]) == [0, 0]
    assert (signs["guarantee: undelivered"] == -1).all()
    (ax,) = matrix_figure(claims, FIELDS).axes  # the picture leaves cells that are not settled blank
    centres = {(0.5, 0.5), (0.5, 1.5), *((1.5, row + 0.5) for row in range(4))}
    assert {text.get_position() for text in ax.texts} == centres
    shade = ax.collections[0].get_array().filled(0)
    assert (shade[2:, 0] == 0).all()
    assert (shade[:2, 0] < 0).all()
    text = matrix_table(claims, FIELDS, "T")
    assert text.rows[-1] == ("significant", "− in 2 of 4", "− in 4 of 4")
    assert [row[1].endswith("*") for row in text.rows[:-1]] == [True, True, False, False]


def _over_beta(values):
    """A sweep over β = 0 and 0.5: metric → agent → values at each seed, at each end."""
    rows = [
        {"agent": agent, "seed": seed, "beta": beta, "metric": metric, "value": value}
        for metric, agents in values.items()
        for agent, ends in agents.items()
        for beta, of_seeds in zip((0.0, 0.5), ends, strict=True)
        for seed, value in enumerate(of_seeds)
    ]
    return pd.DataFrame(rows)


def test_sentences_of_a_sweep_claim_what_their_table_stars():
    """Significant, open, equal and absent changes each have their words, and so has what groups miss at β = 0."""
    still = [0.5, 0.52, 0.48]
    table = _over_beta(
        {
            "utility": {
                "relevance": (still, still),
                "mine": (still, [0.4, 0.421, 0.381]),
                "wide": (still, [0.6, 0.3, 0.5]),
            },
            "coverage": {
                "relevance": (still, still),
                "mine": (still, [value + 0.003 for value in still]),
                "wide": (still, [0.4, 0.7, 0.35]),
            },
            "examined_shortfall": {"relevance": ([0.0] * 3, [0.91, 0.90, 0.92])},
        }
    )
    of_relevance, of_mine, of_wide = sweep_report.sweep_sentences(table, "beta", "examined")
    assert of_relevance == (
        "`relevance`: beta from 0 to 0.5 does not change utility or coverage; at 0.5, 91% of the guaranteed exposure "
        "is undelivered."
    )
    missing = {"utility": {"relevance": (still, still)}}
    missing["examined_shortfall"] = {"relevance": ([0.31, 0.30, 0.32], [0.91, 0.90, 0.925])}
    (beside_groups,) = sweep_report.sweep_sentences(_over_beta(missing), "beta", "examined")
    assert "changes the undelivered share by 60.2 points (" in beside_groups
    assert "changes utility by −0.099 (" in of_mine
    assert "no significant effect on coverage (by 0.30 points, the same in all 3 seeds)" in of_mine
    assert "has no significant effect on utility (−0.033 (" in of_wide
    text = sweep_report._changes_table(table, "beta", "examined")
    stars = {row[0]: [cell.endswith("*") for cell in row[1:]] for row in text.rows}
    assert stars == {"relevance": [False, False], "mine": [True, False], "wide": [False, False]}
    assert "Holm over 3 comparisons; = the same in all 3 seeds" in text.title
    swept = sweep_report._front_message(
        pd.concat([table, table[table["metric"] == "utility"].assign(metric="perplexity")]),
        over_seeds(
            pd.concat([table, table[table["metric"] == "utility"].assign(metric="perplexity")]),
            ["agent", "beta"],
            ("utility", "perplexity"),
        ),
        "beta",
        "examined",
        {"relevance", "mine"},
    )
    assert swept.endswith("; utility does not change significantly")


def test_a_cell_that_is_the_same_at_all_seeds_has_no_sign():
    """A matrix marks it and leaves it blank; the family of the others is as if it were not there."""
    rows = [
        {"agent": agent, "seed": seed, "truth": truth, "model": "m", "metric": "utility", "value": value}
        for truth, step in (("bag", 0.0), ("factors", 0.01))
        for agent, shortfall in (("relevance", 0.0), ("rim-feedback", 0.3))
        for seed, value in enumerate(
            0.5 - shortfall + step * np.arange(3) * (shortfall > 0) + 0.1 * np.arange(3)
        )
    ]
    claims = matrix(pd.DataFrame(rows), FIELDS, "examined")
    assert claims["sign"].tolist() == [0, -1]
    assert claims["adjusted"].tolist()[1] == pytest.approx(claims["p"].tolist()[1])
    text = matrix_table(claims, FIELDS, "T")
    assert [row[1][-1] for row in text.rows[:-1]] == ["=", "*"]
    assert text.title == "T (* not 0: Holm over 1 comparison; = the same in all 3 seeds)"


def test_a_sweep_of_models_has_a_matrix(tmp_path):
    """Table, picture and report of a sweep over words, which has no front."""
    asked = {"rounds": 1, "out": tmp_path / "run", "workers": 1, "certify": False}
    grid = {"platform.model": ["popularity-hp", "popularity"]}
    with drawn("matrix"):
        run = sweep(small_scenario(), grid, ("relevance", "rim-feedback"), seeds=2, **asked)
    assert (run.folder / "pictures" / "matrix.png").is_file()
    again = load_run(run.folder)
    table = sweep_report.sweep_table(again)
    claims = sweep_report.sweep_matrix(table, again.scenario.exposure.unit)
    pd.testing.assert_frame_equal(again.matrix, claims, check_dtype=False)
    assert list(again.matrix["model"].unique()) == ["popularity-hp", "popularity"]
    assert "significant" in markdown(sweep_report.sweep_report(again).tables)
