"""The table of claims: figures by hand from rounds, verdicts that blank a column, and the command that makes it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from kit import cases
from kit.news import news_scenario

from rimsim.scenarios import claims
from rimsim.scenarios.cli.main import main
from rimsim.scenarios.report import claims as report
from rimsim.scenarios.report.claims import CLAIMS, Claim, claims_of, claims_table

SMALL = {"rounds": 2, "seeds": 2, "arrivals": 60, "min_item_events": 120}
LINE = "study claims --rounds 2 --seeds 2 --arrivals 60 --min-item-events 120 --workers 1"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished small run of claims on the embedded log."""
    return claims(out=tmp_path_factory.mktemp("claims") / "films", workers=1, **SMALL)


def _late(run, metric, arm):
    """Value of an arm in the last round, by seed."""
    rounds = run.rounds
    chosen = (
        (rounds["metric"] == metric) & (rounds["agent"] == arm) & (rounds["round"] == rounds["round"].max())
    )
    return rounds[chosen].sort_values("seed")["value"].to_numpy()


def test_figures_of_claims_follow_from_the_rounds(finished):
    """Levels and points are shares times 100; percentages are of the mean of the arm that is subtracted."""
    table = claims_of(finished).set_index("claim")
    assert list(table.index) == [claim.title for claim in CLAIMS]
    undelivered = 100 * _late(finished, "examined_shortfall", "flat-budget")
    assert table.loc["undelivered by one flat bonus", "mean"] == pytest.approx(undelivered.mean())
    coverage = 100 * (
        _late(finished, "coverage", "relevance") - _late(finished, "coverage", "relevance-frozen")
    )
    assert table.loc["retraining: coverage", "mean"] == pytest.approx(coverage.mean())
    relevance = _late(finished, "utility", "relevance")
    cost = 100 * (_late(finished, "utility", "rim-feedback") - relevance) / relevance.mean()
    row = table.loc["cost of the guarantee"]
    half = scipy.stats.t.ppf(0.975, 1) * cost.std(ddof=1) / np.sqrt(2)
    assert [row["mean"], row["low"], row["high"]] == pytest.approx(
        [cost.mean(), cost.mean() - half, cost.mean() + half]
    )


def test_the_answer_counts_differences_and_not_levels(finished):
    """Levels are never tested, so they are not among the claims that may be significant."""
    n_levels = sum(claim.scale == "level" for claim in CLAIMS)
    assert n_levels > 0
    (answer,) = report.claims_report([finished]).answer
    assert f" of {len(CLAIMS) - n_levels} differences are significant" in answer


def test_the_first_round_has_claims_of_its_own(finished):
    """They are of round 0 alone, in which nothing has been learnt."""
    rounds = finished.rounds
    first = rounds[(rounds["round"] == 0) & (rounds["metric"] == "utility")]
    means = first.groupby("agent", observed=True)["value"].mean()
    table = claims_of(finished).set_index("claim")
    expected = 100 * (means["relevance"] / means["popularity"] - 1)
    assert table.loc["model over bestsellers, round 0", "mean"] == pytest.approx(expected)


def _made_up(values):
    """Rounds table from (agent, seed) → (utility, coverage)."""
    rows = []
    for (agent, seed), figures in values.items():
        rows += [
            (agent, seed, 0, name, value)
            for name, value in zip(("utility", "coverage"), figures, strict=True)
        ]
    return pd.DataFrame(rows, columns=["agent", "seed", "round", "metric", "value"])


def test_signs_are_significant_by_holm_over_the_differences(finished, monkeypatch):
    """A level has no sign; a clear difference has one; an arm that was not played leaves its claims out."""
    draw = np.random.default_rng(0)
    values = {}
    for seed in range(6):
        values["relevance", seed] = (0.50 + 0.01 * draw.normal(), 0.3)
        values["rim-feedback", seed] = (0.40 + 0.01 * draw.normal(), 1.0)
        values["popularity", seed] = (0.50 + 0.01 * draw.normal(), 0.1)
    monkeypatch.setattr(report.status, "shown_rounds", lambda run: _made_up(values))
    monkeypatch.setattr(report, "late_means", lambda rounds: rounds.drop(columns="round"))
    table = claims_of(finished).set_index("claim")
    assert "prices over one flat bonus" not in table.index
    assert table.loc["cost of the guarantee", "sign"] == -1
    assert table.loc["bestsellers over the guarantee", "sign"] == 1
    assert table.loc["model over bestsellers", "sign"] == 0
    assert (table.loc[table["scale"] == "level", "sign"] == 0).all()


@cases("verdict is_blank", ("fit", False), ("unfit", True), ("cannot tell", True))
def test_cells_are_blank_unless_the_truth_is_fit(finished, monkeypatch, verdict, is_blank):
    """The row of the truth says why."""
    judged = dataclasses.replace(report.fitness_of(finished), verdict=verdict)
    monkeypatch.setattr(report, "fitness_of", lambda run: judged)
    table = claims_table([finished])
    assert table.rows[0] == ("truth", f"{judged.truth}: {verdict}")
    assert all((row[1] == "") == is_blank for row in table.rows[1:])


def test_two_logs_have_a_column_each(finished):
    """Two runs of one log are told apart by their folders."""
    table = claims_table([finished, finished])
    assert table.columns == (
        "claim",
        f"ml-latest-small ({finished.folder})",
        f"ml-latest-small ({finished.folder})",
    )
    assert {len(row) for row in table.rows} == {3}


def test_a_cell_has_unit_sign_and_star():
    """Levels have no sign, points and percentages have one; a star marks significance."""
    row = {"mean": -10.04, "low": -12.0, "high": -8.0, "scale": "points", "sign": -1}
    assert report._cell(row) == "−10.0 ±2.0 points*"
    assert report._cell(row | {"scale": "percent", "sign": 0, "mean": 10.0}) == "+10.0 ±2.0%"
    assert (
        report._cell(row | {"scale": "level", "sign": 0, "mean": 7.0, "low": np.nan, "high": np.nan})
        == "7.0%"
    )


@pytest.mark.thorough
def test_the_command_writes_and_resumes_the_table(finished, tmp_path, capsys):
    """Its table equals that of Python; the resumed run stays as it is."""
    out = tmp_path / "run"
    assert main([*LINE.split(), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Which claims hold" in printed
    assert "cost of the guarantee" in printed
    table = pd.read_parquet(out / "claims.parquet")
    pd.testing.assert_frame_equal(table, pd.read_parquet(finished.folder / "claims.parquet"))
    (out / "claims.parquet").unlink()
    assert main(["study", "claims", "--resume", "--out", str(out), "--beside", str(finished.folder)]) == 0
    pd.testing.assert_frame_equal(table, pd.read_parquet(out / "claims.parquet"))
    assert str(finished.folder) in capsys.readouterr().out.replace("\n", "")


def test_resuming_needs_the_folder_of_a_comparison(tmp_path, capsys):
    """Without a folder, or with another folder, the command says what is missing."""
    assert main(["study", "claims", "--resume"]) == 2
    assert "--out RUN" in capsys.readouterr().err
    assert main(["study", "claims", "--resume", "--out", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err.replace("\n", "")


def test_a_claim_names_arms_that_are_played():
    """Every arm of a claim is an agent of the command, or a control of relevance."""
    from rimsim.scenarios.study.claims import AGENTS

    arms = {*AGENTS, "relevance-frozen", "relevance-static", "relevance-random"}
    assert {name for claim in CLAIMS for name in (claim.arm, claim.minus) if name is not None} <= arms
    assert all(isinstance(claim, Claim) for claim in CLAIMS)


@pytest.mark.thorough
def test_a_replay_has_blank_parts_of_retraining(tmp_path):
    """Its visitors are the same in every round, so the controls of selection and feedback cannot be played."""
    run = claims(news_scenario(tmp_path), rounds=2, seeds=2, arrivals=20, out=tmp_path / "run", workers=1)
    absent = {claim.title for claim in CLAIMS} - set(claims_of(run)["claim"])
    assert absent == {"of this, selection", "of this, feedback"}
