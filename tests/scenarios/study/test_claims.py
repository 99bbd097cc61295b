"""Claims about several agents: family-wise rates, equivalence, trends, and intervals of splits that overlap."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from kit import refused
from kit.logs import rounds_of

from rimsim import measures
from rimsim.errors import DataError
from rimsim.scenarios.kinds.backtest.split import SplitConfig
from rimsim.scenarios.report.tables import over_seeds, pivoted, trends


def test_a_table_of_arms_that_do_not_differ_holds_a_claim_as_seldom_as_one_comparison():
    """Of 1,000 A/A comparisons, and of as many tables of 12 by Holm, 5% ± 1.5 claim; without it 30% of tables."""
    draws = np.random.default_rng(16)
    shared = draws.normal(0, 3.0, (1000, 1, 5))  # noise that seeds have in common
    differences = [
        [
            measures.paired_difference(first, second)
            for first, second in zip(first_values, second_values, strict=True)
        ]
        for first_values, second_values in zip(
            *(shared + draws.normal(0, 1.0, (2, 1000, 12, 5))), strict=True
        )
    ]
    p = np.array([[difference.p for difference in row] for row in differences])
    clear = [difference.clear for row in differences for difference in row]
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
        remaining = [place for place in range(len(p)) if place != number]
        families = [
            [number, *subset] for k in range(len(p)) for subset in itertools.combinations(remaining, k)
        ]
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
    interval = measures.mean_interval(values, overlap=SplitConfig().overlap)
    assert (interval.low, interval.high) == pytest.approx((interval.mean - half, interval.mean + half))
    plain = measures.mean_interval(values, overlap=SplitConfig(kind="time").overlap)
    assert interval.high - interval.low == pytest.approx(2 * (plain.high - plain.low))
    table = pd.DataFrame({"model": "m", "metric": "precision", "value": values})
    assert over_seeds(table, ["model"], ["precision"], 1.0)["high"].item() == pytest.approx(interval.high)


def test_trends_are_the_baselines_own_and_the_others_against_it():
    """Slopes are NumPy's over rounds 4 to 7, those of others against relevance, with a star where Holm settles it."""
    draws = np.random.default_rng(1)
    curves = itertools.product((("relevance", -0.5), ("mine", -0.2)), range(8))
    values = {
        (agent, n): slope * n + np.arange(4) + 0.01 * draws.normal(size=4) for (agent, slope), n in curves
    }
    rounds = rounds_of(values)
    slopes = measures.late_slopes(rounds)
    for row in slopes.itertuples():
        curve = rounds.query("agent == @row.agent and seed == @row.seed and round >= 4")
        assert row.value == pytest.approx(np.polyfit(curve["round"], curve["value"], 1)[0])
    assert len(slopes) == 8
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
