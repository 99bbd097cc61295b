"""Guarantees that are not kept are reported with their cause."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from small_markets import small_replay, small_scenario

from rimsim import measures
from rimsim.config import ExposureConfig
from rimsim.scenarios import compare
from rimsim.scenarios.report.comparison import comparison_report
from rimsim.scenarios.report.console import show
from rimsim.scenarios.report.sentences import calibration_notes, undelivered_notes, undelivered_sentence


def test_prices_at_the_bound_are_counted_over_guaranteed_items():
    """Of three guaranteed items one has v = −c; an item without a guarantee does not count, nor does a price of 0."""
    price, required = np.array([-2.0, -1.9, 0.0, -2.0]), np.array([1.0, 1.0, 2.0, 0.0])
    assert measures.prices_at_bound(price, required, 2.0) == pytest.approx(1 / 3)
    assert measures.prices_at_bound(price, np.zeros(4), 2.0) == 0.0


@pytest.mark.parametrize("unit", ["examined", "shown"])
def test_a_run_says_what_is_undelivered_and_what_would_help(tmp_path, unit):
    """With a c that buys nothing, prices are at the bound, both shortfalls stand in the table, and the note names c."""
    config = small_scenario(rounds=2, exposure=ExposureConfig(unit=unit, cost=0.01, beta=0.9))
    run = compare(config, ["relevance", "rim-feedback"], seeds=1, out=tmp_path / "run", workers=1)
    (note,) = undelivered_notes(run)
    assert note.startswith("rim-feedback leaves")
    assert f"counted as {unit}" in note
    assert "raise `exposure.cost`" in note
    text = io.StringIO()
    show(comparison_report(run), Console(file=text, width=200))
    first, second = (
        ("examined shortfall", "shortfall") if unit == "examined" else ("shortfall", "examined shortfall")
    )
    (table, *_) = comparison_report(run).tables
    assert table.columns.index(first) < table.columns.index(second)
    assert first in table.main
    assert second not in table.main
    said = text.getvalue()
    assert note[:60] in said.replace("\n", " ")


def test_a_shortfall_without_prices_at_the_bound_has_another_cause():
    """Where hardly a price is at the bound, a larger c is not advised; of hard guarantees it is said that they are."""
    said = undelivered_sentence("rim-dual", 0.2, 0.0, None, unit="shown", hard=False)
    assert "would not help" in said
    assert "raise" not in said
    assert "hard" in undelivered_sentence("rim-feedback", 0.2, 0.0, None, unit="shown", hard=True)


@pytest.mark.parametrize(("first", "warned"), [(0.5, True), (0.8, False), (1.45, False), (1.6, True)])
def test_a_report_warns_where_one_type_of_visit_is_valued_above_the_other(first, warned):
    """From a ratio of 1.5 on, in either direction; where visits are all of one type nothing is said."""
    both = {"calibration_first": first, "calibration_returning": 1.0, "utility": 0.5}
    rounds = pd.DataFrame(
        [
            {"agent": "relevance", "seed": 0, "round": 1, "metric": key, "value": value}
            for key, value in both.items()
        ]
    )
    notes = calibration_notes(rounds)
    assert [note.startswith("warning: for each consumption") for note in notes] == [True] * warned
    assert calibration_notes(rounds[1:]) == []


def test_a_run_says_before_a_round_what_no_agent_could_deliver(tmp_path):
    """Where items together ask for more than all slates hold, a table says so in every round, and the report once."""
    exposure = ExposureConfig(items=30, each=20, hard=True)
    config = small_scenario(rounds=2, exposure=exposure)
    fewer = dataclasses.replace(config, arrivals=dataclasses.replace(config.arrivals, per_round=20))
    run = compare(fewer, ["rim-feedback"], seeds=1, frozen=(), out=tmp_path / "run", workers=1)
    table = run.undeliverable
    if table is None:
        pytest.fail("nothing was said")
    assert set(table["round"]) == {0, 1}
    assert (table["required"] > table["reachable"]).all()
    assert undelivered_notes(run)[0].startswith("warning: guarantees cannot all be delivered in 2 rounds")
    kept = compare(config, ["rim-feedback"], seeds=1, frozen=(), out=tmp_path / "kept", workers=1)
    assert kept.undeliverable is None


def test_a_replay_counts_all_positions_alike(tmp_path):
    """Where consumption does not depend on positions, what is examined is what is shown, and so is the shortfall."""
    run = compare(small_replay(), ["rim-feedback"], seeds=1, frozen=(), out=tmp_path / "run", workers=1)
    by_metric = run.rounds.set_index(["round", "metric"])["value"].unstack()
    assert (by_metric["examined_shortfall"] == by_metric["shortfall"]).all()
