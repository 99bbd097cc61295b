"""What each exposure was truly worth, in a table apart from what agents and logs know."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from small_markets import small_scenario

from rimsim.errors import ConfigError, MissingTableError
from rimsim.market.ledger import LEDGER_COLUMNS
from rimsim.scenarios import compare, load_run
from rimsim.scenarios.study.plan import study_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that reveals the truth."""
    folder = tmp_path_factory.mktemp("truth") / "run"
    made = compare(
        small_scenario(rounds=2),
        ["random"],
        seeds=1,
        frozen=[],
        out=folder,
        workers=1,
        certify=False,
        reveal=["truth"],
    )
    return load_run(made.folder)


def test_the_table_of_the_truth_has_a_row_an_exposure(run):
    """It joins the ledger one to one, and what it says is in neither the ledger nor the arrivals."""
    keys = ["agent", "seed", "round", "arrival", "position", "item"]
    both = run.ledger.merge(run.truth, on=keys, validate="1:1")
    assert len(both) == len(run.ledger) == len(run.truth) > 1000
    assert not {"probability", "true_intensity"} & {*LEDGER_COLUMNS, *run.arrivals.columns}


def test_chances_of_the_truth_are_those_of_what_was_consumed(run):
    """Consumptions are as many as the chances add up to, within five standard errors, and none is certain."""
    keys = ["agent", "seed", "round", "arrival", "position", "item"]
    both = run.ledger.merge(run.truth, on=keys)
    chance = both["probability"].to_numpy()
    assert ((chance >= 0) & (chance < 1)).all()
    assert (chance <= 1 - np.exp(-both["true_intensity"].to_numpy()) + 1e-12).all()
    error = np.sqrt((chance * (1 - chance)).sum())
    assert abs(both["consumed"].sum() - chance.sum()) < 5 * error


def test_utility_is_the_mean_of_the_table(run):
    """Expected consumptions of a slate are the measure ``utility`` of the round."""
    for number, rows in run.truth.groupby("round"):
        of_round = run.rounds[(run.rounds["metric"] == "utility") & (run.rounds["round"] == number)]
        measured = of_round["value"].item()
        assert rows["probability"].sum() / 120 == pytest.approx(measured)


def test_a_run_that_was_not_asked_has_no_such_table(tmp_path):
    """Without ``reveal`` the table is missing, and a thing that cannot be revealed is refused with the nearest."""
    made = compare(
        small_scenario(rounds=1), ["random"], seeds=1, frozen=[], out=tmp_path / "a", workers=1, certify=False
    )
    with pytest.raises(MissingTableError):
        _ = made.truth
    with pytest.raises(ConfigError, match="reveal: 'thruth'.*truth"):
        compare(small_scenario(), ["random"], out=tmp_path / "b", reveal=["thruth"])


def test_a_run_of_an_earlier_version_goes_on_without_the_truth(run, tmp_path):
    """A folder whose config does not say what is revealed is of a version that could not; it reveals nothing."""
    shutil.copytree(run.folder, tmp_path / "old")
    config = tmp_path / "old" / "config.yaml"
    told = config.read_text(encoding="utf-8")
    assert "reveal:\n- truth\n" in told
    config.write_text(told.replace("reveal:\n- truth\n", ""), encoding="utf-8")
    (plan,) = study_of(load_run(tmp_path / "old")).plans
    assert plan.options.reveal == ()
    assert all(arm.options.reveal == () for arm in plan.arms)
