"""Sweeps and what may be claimed: points, fronts and matrices; family-wise rates, equivalence, trends, overlaps."""

import itertools
import math
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from kit import calls_of, refused, said_by
from kit.logs import rounds_of
from kit.markets import drawn, in_file, small_run, small_scenario
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rimsim import measures
from rimsim.config import ConsumerConfig, PlatformConfig, Seeds, override
from rimsim.errors import ConfigError, DataError, RunFolderError
from rimsim.market import Market, build_world
from rimsim.scenarios import compare, load_run, sweep
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.kinds.backtest.split import SplitConfig
from rimsim.scenarios.report import sweep as sweep_report
from rimsim.scenarios.report.console import markdown
from rimsim.scenarios.report.sweep import contrasts, matrix, matrix_figure, matrix_table
from rimsim.scenarios.report.tables import over_seeds, pivoted, trends
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
    played = calls_of(monkeypatch, controls, "play_replica")
    platform, consumer = PlatformConfig(model="ease-hp"), ConsumerConfig(attraction=3.0)
    config = small_scenario(rounds=2, platform=platform, consumer=consumer)
    asked = {"seeds": 1, "control": ("random",), "certify": False, "workers": 1}
    run = sweep(config, {"exposure.beta": [0.2, 0.8]}, ("relevance",), out=tmp_path / "run", **asked)
    replicas = [one["replica"] for one in played]
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
    scenario, out = in_file(small_scenario(rounds=1), tmp_path), str(tmp_path / "run")
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


def test_a_table_of_arms_that_do_not_differ_holds_a_claim_as_seldom_as_one_comparison():
    """Of 1,000 A/A comparisons, and of as many tables of 12 by Holm, 5% ± 1.5 claim; without it 30% of tables."""
    draws = np.random.default_rng(16)
    shared = draws.normal(0, 3.0, (1000, 1, 5))  # noise that seeds have in common
    found = [
        [measures.paired_difference(one, other) for one, other in zip(ones, others, strict=True)]
        for ones, others in zip(*(shared + draws.normal(0, 1.0, (2, 1000, 12, 5))), strict=True)
    ]
    p = np.array([[one.p for one in row] for row in found])
    clear = [one.clear for row in found for one in row]
    assert ((p < 0.05).ravel() == clear).all()
    assert np.mean(clear[::12]) == pytest.approx(0.05, abs=0.015)
    claimed = np.mean([(measures.holm(row) <= measures.LEVEL).any() for row in p])
    assert claimed == pytest.approx(0.05, abs=0.015)
    assert (p.min(1) < measures.LEVEL).mean() > 0.3


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0.01, 0.3))
def test_holm_rejects_what_every_family_with_it_rejects(p, level):
    """A hypothesis falls where each set that holds it has a p of at most level over its size: the closed procedure."""
    adjusted = measures.holm(p)
    for number in range(len(p)):
        others = [place for place in range(len(p)) if place != number]
        families = [[number, *some] for k in range(len(p)) for some in itertools.combinations(others, k)]
        needed = max(min(p[place] for place in family) * len(family) for family in families)
        assert adjusted[number] == pytest.approx(min(needed, 1.0), abs=1e-12)


def test_what_was_not_compared_does_not_count_for_holm():
    """A NaN stays and makes the others no dearer; a p beyond 1 is an error."""
    adjusted = measures.holm([[0.01, math.nan], [0.2, 0.03]])
    np.testing.assert_allclose(adjusted, [[0.03, math.nan], [0.2, 0.06]])
    for p, wrong in (([0.5, 1.5], r"1\.5"), ([0.5, 0.2, -0.1], r"-0\.1"), ([math.nan, 7.0, -1.0], "7")):
        refused(DataError, f"p: {wrong}", measures.holm, p)


@given(st.integers(0, 99), st.floats(0.05, 3.0))
def test_equivalence_is_two_one_sided_tests(seed, margin):
    """It holds exactly where SciPy's tests against ±margin both reject at 5%, and never for one seed."""
    a, b = np.random.default_rng(seed).normal(0, 0.7, (2, 6))
    above = scipy.stats.ttest_1samp(a - b, -margin, alternative="greater").pvalue
    below = scipy.stats.ttest_1samp(a - b, margin, alternative="less").pvalue
    assert measures.equivalence(a, b, margin).holds == (max(above, below) < 0.05)
    assert not measures.equivalence(a[:1], a[:1], margin).holds
    refused(DataError, "margin", measures.equivalence, a, b, 0.0)


def test_splits_that_overlap_have_wider_intervals():
    """Nadeau and Bengio's error, s·√(1/n + n₂/n₁): with halves and three splits twice as wide; by time not."""
    values = [0.30, 0.34, 0.29]
    error = np.std(values, ddof=1) * math.sqrt(1 / 3 + 1)
    half = scipy.stats.t.ppf(0.975, 2) * error
    found = measures.mean_interval(values, overlap=SplitConfig().overlap)
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))
    plain = measures.mean_interval(values, overlap=SplitConfig(kind="time").overlap)
    assert found.high - found.low == pytest.approx(2 * (plain.high - plain.low))
    table = pd.DataFrame({"model": "m", "metric": "precision", "value": values})
    assert over_seeds(table, ["model"], ["precision"], 1.0)["high"].item() == pytest.approx(found.high)


def test_trends_are_the_baselines_own_and_the_others_against_it():
    """Slopes are NumPy's over rounds 4 to 7, those of others against relevance, with a star where Holm settles it."""
    draws = np.random.default_rng(1)
    slopes = itertools.product((("relevance", -0.5), ("mine", -0.2)), range(8))
    values = {
        (agent, n): slope * n + np.arange(4) + 0.01 * draws.normal(size=4) for (agent, slope), n in slopes
    }
    rounds = rounds_of(values)
    found = measures.late_slopes(rounds)
    for row in found.itertuples():
        curve = rounds.query("agent == @row.agent and seed == @row.seed and round >= 4")
        assert row.value == pytest.approx(np.polyfit(curve["round"], curve["value"], 1)[0])
    assert len(found) == 8
    assert measures.late_slopes(rounds[rounds["round"] < 4]).empty
    table = trends(rounds, ["relevance", "mine"], ["utility"])
    assert list(table["agent"]) == ["relevance", "mine − relevance"]
    np.testing.assert_allclose(table["mean"], [-0.5, 0.3], atol=0.02)
    text = pivoted("Change", table, ["agent"], ["utility"])
    assert text.title == "Change (* not 0: Holm over 2 comparisons)"
    assert all(row[1].endswith("*") for row in text.rows)


def test_no_star_stands_where_the_table_as_a_whole_allows_none():
    """A difference that is clear by itself has a star alone, and none among three others; a null is a point too."""
    rows = [(f"a{number}", "utility", 1.0, 0.1, 1.9, 0.03) for number in range(4)]
    table = pd.DataFrame(rows, columns=["agent", "metric", "mean", "low", "high", "p"])
    assert not any("*" in row[1] for row in pivoted("T", table, ["agent"], ["utility"]).rows)
    assert pivoted("T", table[:1], ["agent"], ["utility"]).rows[0][1].endswith("*")
    table = pd.DataFrame({"agent": "a", "rounds": [3.0, math.nan], "metric": "utility", "value": [1.0, 2.0]})
    assert list(over_seeds(table, ["agent", "rounds"], ["utility"])["mean"]) == [1.0, 2.0]


def _swept():
    """A made-up sweep: the loop takes coverage at the first truth alone; the guarantee is kept everywhere."""
    draws, rows = np.random.default_rng(2), []
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
    found = matrix(table, FIELDS, "examined")
    titles = [one.title for one in contrasts(["relevance", "relevance-random"], "examined")]
    assert titles == ["loop: coverage", "loop: effective items", "loop: utility"]
    assert list(found["contrast"].unique()) == ["loop: coverage", "guarantee: undelivered"]
    for row in found.itertuples():
        at = table.query("truth == @row.truth and model == @row.model and metric == @row.metric")
        wide = at.pivot(index="seed", columns="agent", values="value")
        expected = measures.paired_difference(wide[row.agent], wide[row.minus])
        assert (row.mean, row.low, row.p) == pytest.approx((expected.mean, expected.low, expected.p))
    np.testing.assert_allclose(found["adjusted"], measures.holm(found["p"]))
    signs = found.pivot(index=FIELDS, columns="contrast", values="sign")
    assert list(signs.loc["factors", "loop: coverage"]) == [-1, -1]
    assert list(signs.loc["bag", "loop: coverage"]) == [0, 0]
    assert (signs["guarantee: undelivered"] == -1).all()
    (ax,) = matrix_figure(found, FIELDS).axes  # the picture leaves cells that are not settled blank
    centres = {(0.5, 0.5), (0.5, 1.5), *((1.5, row + 0.5) for row in range(4))}
    assert {text.get_position() for text in ax.texts} == centres
    shade = ax.collections[0].get_array().filled(0)
    assert (shade[2:, 0] == 0).all()
    assert (shade[:2, 0] < 0).all()
    text = matrix_table(found, FIELDS, "T")
    assert text.rows[-1] == ("settled", "− in 2 of 4", "− in 4 of 4")
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
    """Significant, open, equal and absent changes each have their words; the undelivered share is told beside them."""
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
        for agent, less in (("relevance", 0.0), ("rim-feedback", 0.3))
        for seed, value in enumerate(0.5 - less + step * np.arange(3) * (less > 0) + 0.1 * np.arange(3))
    ]
    found = matrix(pd.DataFrame(rows), FIELDS, "examined")
    assert found["sign"].tolist() == [0, -1]
    assert found["adjusted"].tolist()[1] == pytest.approx(found["p"].tolist()[1])
    text = matrix_table(found, FIELDS, "T")
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
    found = sweep_report.sweep_matrix(table, again.scenario.exposure.unit)
    pd.testing.assert_frame_equal(again.matrix, found, check_dtype=False)
    assert list(again.matrix["model"].unique()) == ["popularity-hp", "popularity"]
    assert "settled" in markdown(sweep_report.sweep_report(again).tables)
