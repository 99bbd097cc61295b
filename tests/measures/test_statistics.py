"""Intervals and paired differences, against SciPy's tests."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from kit import cases

from rimsim import measures

VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=12)


@given(VALUES, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_mean_interval_is_the_t_interval(values, level):
    """Bounds agree with SciPy's one-sample t test."""
    interval = measures.mean_interval(values, level)
    spread = np.std(values, ddof=1)
    if spread > 1e-6:
        expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(level)
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-8)
        assert interval.low <= interval.mean <= interval.high
    assert interval.n == len(values)


@given(VALUES, st.integers(0, 99))
def test_paired_difference_is_the_paired_t_test(values, seed):
    """Bounds agree with SciPy's paired t test and d_z with its definition; swapping changes the sign."""
    a = np.array(values)
    b = a + np.random.default_rng(seed).normal(1, 1, len(a))
    result = measures.paired_difference(a, b)
    expected = scipy.stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert result.dz == pytest.approx((a - b).mean() / (a - b).std(ddof=1))
    swapped = measures.paired_difference(b, a)
    assert (swapped.mean, swapped.dz) == pytest.approx((-result.mean, -result.dz))
    assert result.clear == (expected.low > 0 or expected.high < 0)


def test_few_values_have_no_interval():
    """One value gives its mean alone, none no mean; NaN drops its value or pair."""
    assert measures.mean_interval([0.3]) == measures.Interval(0.3, None, None, 1)
    assert measures.mean_interval([]) == measures.Interval(None, None, None, 0)
    assert measures.paired_difference([0.5], [0.25]) == measures.PairedDifference(0.25, None, None, None, 1)
    assert not measures.paired_difference([0.5], [0.25]).clear
    assert measures.mean_interval([1.0, math.nan, 3.0]).n == 2
    result = measures.paired_difference([1.0, math.nan, 4.0], [0.0, 1.0, 2.0])
    assert (result.mean, result.n) == (1.5, 2)


@cases(
    "first second mean",
    ([0.11, 0.12, 0.10], [0.107, 0.117, 0.097], 0.003),  # up to rounding
    ([1 / 3] * 3, [0.0] * 3, 1 / 3),
    ([0.2, 0.4, 0.7], [0.2, 0.4, 0.7], 0.0),
    ([2.0, 3.0], [1.0, 2.0], 1.0),
    ([sum([0.1] * 10), 1.0], [1.0, sum([0.1] * 10)], 0.0),  # the same figures, summed in another order
)
def test_equal_differences_claim_nothing(first, second, mean):
    """Differences without a spread have a mean alone: no interval, no p value, no effect size, no equivalence."""
    difference = measures.paired_difference(first, second)
    assert difference.mean == pytest.approx(mean, abs=1e-15)
    assert difference.n == len(first)
    assert difference.equal
    assert difference.low is difference.high is difference.p is difference.dz is None
    assert not difference.clear
    assert not measures.equivalence(first, second, 10.0).holds
    nearly = measures.paired_difference([*first, first[0] + 1e-6], [*second, second[0]])
    assert not nearly.equal
    assert nearly.p < 1 or mean == 0


def test_values_that_are_equal_have_no_interval():
    """The mean of three equal values is known, its spread is not; a spread beyond rounding counts."""
    assert measures.mean_interval([1 / 3] * 3) == measures.Interval(1 / 3, None, None, 3, equal=True)
    assert measures.mean_interval([0.0, 0.0]) == measures.Interval(0.0, None, None, 2, equal=True)
    interval = measures.mean_interval([1.0, 1.0 + 1e-7])
    assert not interval.equal
    assert interval.low < 1.0 < interval.high


def test_what_cannot_be_tested_is_not_in_the_family():
    """An equal difference is never significant, and makes the other comparisons of its table no dearer."""
    p = [0.04, math.nan, 0.9]
    assert measures.significant(p).tolist() == [False, False, False]
    assert measures.significant(p[:2]).tolist() == [True, False]
    assert not measures.significant([math.nan, math.nan]).any()


def test_splits_that_overlap_have_larger_p_values():
    """With an overlap, p is that of t = mean / (s·√(1/n + overlap)), as wide as the interval."""
    first = np.array([0.31, 0.36, 0.28, 0.33])
    second = np.array([0.30, 0.31, 0.29, 0.30])
    interval = measures.paired_interval(first, second, 0.95, overlap=1.0)
    difference = first - second
    t = difference.mean() / (difference.std(ddof=1) * math.sqrt(1 / 4 + 1))
    assert interval.p == pytest.approx(2 * scipy.stats.t.sf(abs(t), 3))
    half = scipy.stats.t.ppf(0.975, 3) * difference.std(ddof=1) * math.sqrt(1 / 4 + 1)
    assert (interval.low, interval.high) == pytest.approx((interval.mean - half, interval.mean + half))
    plain = measures.paired_interval(first, second, 0.95)
    assert plain == measures.paired_difference(first, second)


def test_a_number_of_items_has_an_interval_within_the_catalogue():
    """Three seeds far apart: the interval is symmetric on the log scale, and within 1 and M like the mean."""
    values = [160.0, 300.0, 560.0]
    plain = measures.mean_interval(values)
    assert plain.high > 343
    wide = measures.number_interval(values)
    assert (
        wide.high / wide.mean
        == pytest.approx(wide.mean / wide.low)
        == pytest.approx(math.exp(plain.half / 340))
    )
    assert measures.number_interval(values, most=343).high == 343
    extreme = measures.number_interval([1.0, 2.0, 30.0], most=343)
    assert (extreme.low, extreme.mean, extreme.high) == (1, pytest.approx(11), 343)
    chance = measures.number_interval([300.0, 400.0, 500.0], most=343)
    assert 1 <= chance.low < chance.mean == chance.high == 343
    with_zero = measures.number_interval([0.0, 2.0, 30.0], most=343)
    assert (with_zero.low, with_zero.high) == (1, 343)
    assert measures.number_interval([0.0, 0.0]).mean == 0
    assert measures.number_interval([7.0]).low is None
    assert measures.number_interval([7.0, 7.0]).equal
    assert measures.number_interval([]).mean is None
