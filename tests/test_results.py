"""What stands above and below the printed tables of a run."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats
from small_markets import small_scenario

from rimsim import measures
from rimsim.scenarios import compare
from rimsim.scenarios.pictures.tables import late_figures
from rimsim.scenarios.report.comparison import print_results, result_tables
from rimsim.scenarios.report.console import markdown
from rimsim.scenarios.report.summary import summary, two_seeds_note
from rimsim.scenarios.report.sweep import undrawn_reason
from rimsim.tracking import event_folder, read_scalars


@pytest.mark.parametrize(
    ("count", "late", "said"),
    [
        (1, [0], "round 0"),
        (2, [1], "round 1"),
        (3, [2], "round 2"),
        (4, [2, 3], "mean of rounds 2–3"),
        (5, [3, 4], "mean of rounds 3–4"),
    ],
)
def test_late_rounds_are_the_last_half_rounded_down(count, late, said):
    """The late rounds, their means and what is said of them are the same rounds, for odd numbers too."""
    assert list(measures.late_rounds(count)) == late
    assert measures.late_words(count) == said
    numbers = np.arange(count)
    rounds = pd.DataFrame(
        {"agent": "a", "seed": 0, "round": numbers, "metric": "utility", "value": numbers**2.0}
    )
    assert measures.late_means(rounds)["value"].tolist() == [np.mean(np.square(late))]


def test_tables_tensorboard_and_titles_are_of_the_same_rounds(tmp_path):
    """Over three rounds, the table, the final figures of TensorBoard and the picture's title are of the last."""
    run = compare(small_scenario(), ("random",), 3, 1, frozen=(), out=tmp_path, workers=1)
    rounds = run.rounds
    (last,) = rounds[(rounds["round"] == 2) & (rounds["metric"] == "utility")]["value"]
    (row,) = summary(run.rounds, ["random"], ("utility",)).itertuples()
    final = read_scalars(event_folder(tmp_path, "random", 0))["final/utility"]
    front = late_figures(run.rounds).loc["random", "utility"]
    assert [row.mean, front] == [last, last]
    assert final == [(2, pytest.approx(last))]


def test_two_seeds_bring_a_note_with_the_widths_of_the_t_distribution():
    """The note's figures are quantiles of Student's t; other numbers of seeds bring none."""
    wide, narrow = (float(stats.t.ppf(0.975, n - 1)) for n in (2, 5))
    assert f"t = {wide:.1f}, with 5 seeds {narrow:.1f}" in two_seeds_note(2)
    assert [two_seeds_note(n) for n in (1, 3, 5)] == [None] * 3


def test_the_note_stands_under_printed_tables_alone(tmp_path):
    """The terminal says that intervals are wide, the Markdown tables stay tables."""
    run = compare(small_scenario(rounds=2), ("random",), 2, out=tmp_path / "run", workers=1, certify=False)
    text = io.StringIO()
    print_results(run, Console(file=text, width=200))
    assert "2 seeds: intervals are wide" in text.getvalue()
    assert "small: round 1, 2 seeds" in text.getvalue()
    assert "intervals are wide" not in markdown(result_tables(run))


def test_a_sweep_says_why_it_has_no_picture():
    """Two fields, or one that is no number, are named; one of numbers has a picture."""
    known = {"agent": ["a"], "seed": [0], "metric": ["utility"], "value": [1.0]}
    assert undrawn_reason(pd.DataFrame(known | {"beta": [0.5]})) is None
    both = undrawn_reason(pd.DataFrame(known | {"beta": [0.5], "cost": [1]}))
    assert both.startswith("2 fields vary (beta, cost)")
    for value in ("gru-hp", True):
        assert "model is no number" in undrawn_reason(pd.DataFrame(known | {"model": [value]}))
