"""Adoption curves, intervals over seeds, and the register of measures."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from kit import DOCS, refused

from rimsim import measures
from rimsim.errors import ConfigError, DataError

VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=12)


def test_the_median_is_that_of_the_leukaemia_trial():
    """The 6-mercaptopurine arm of Freireich et al. (1963) has the median remission that textbooks print, 23 weeks."""
    duration = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    censored = [3, 5, 7, 8, 11, 12, 13, 16, 17, 18, 19, 20]
    observed = np.isin(np.arange(21), censored, invert=True)
    times = measures.AdoptionTimes(np.array(duration), observed)
    assert measures.adoption_median(times) == 23


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=30))
def test_the_median_is_where_the_product_limit_falls_to_a_half(items):
    """The median under censoring is found by multiplying the shares that survive each adoption, in fractions."""
    alive, expected = Fraction(1), None
    for time in sorted({duration for duration, observed in items if observed}):
        at_risk = sum(duration >= time for duration, _ in items)
        alive *= 1 - Fraction(sum(item == (time, True) for item in items), at_risk)
        if alive <= Fraction(1, 2):
            expected = time
            break
    durations, observed = zip(*items, strict=True)
    times = measures.AdoptionTimes(np.array(durations), np.array(observed))
    assert measures.adoption_median(times) == expected


def test_nothing_adopted_has_no_median_and_nothing_released_no_share():
    """With every item censored the curve is empty; the share adopted is of what was released."""
    times = measures.adoption_times(release=[2, 5], item=[], arrival=[], arrivals=9)
    assert times.duration.tolist() == [7, 4]
    assert not times.observed.any()
    assert measures.adoption_median(times) is None
    times = measures.adoption_times([0, 2, 4], [0, 2], [3, 5], arrivals=6)
    assert measures.adopted_share(times) == pytest.approx(2 / 3)
    assert measures.adopted_share(measures.adoption_times([], [], [], arrivals=6)) is None


def test_adoption_counts_arrivals_from_release_to_the_mth_consumption():
    """The first and the second consumption of three items, one never consumed and one only once."""
    item, arrival = [0, 1, 0, 0], [9, 4, 3, 5]
    first = measures.adoption_times([0, 4, 6], item, arrival, arrivals=10)
    assert first.duration.tolist() == [4, 1, 4]
    assert first.observed.tolist() == [True, True, False]
    second = measures.adoption_times([0, 4, 6], item, arrival, arrivals=10, m=2)
    assert second.duration.tolist() == [6, 6, 4]
    assert second.observed.tolist() == [True, False, False]
    assert measures.adoption_median(first) == 4


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


def test_mean_interval_covers_as_often_as_it_says():
    """Of 4,000 intervals at 80 % from five normal values, 80 % hold the true mean (within four errors)."""
    rows = np.random.default_rng(5).normal(2.0, 3.0, (4000, 5))
    intervals = [measures.mean_interval(row, 0.8) for row in rows]
    covered = np.mean([interval.low <= 2.0 <= interval.high for interval in intervals])
    assert covered == pytest.approx(0.8, abs=4 * math.sqrt(0.8 * 0.2 / 4000))


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


def test_few_values_have_no_interval_and_equal_ones_no_effect_size():
    """One value gives its mean alone, none no mean; NaN drops its value or pair; d_z needs a spread above 0."""
    assert measures.mean_interval([0.3]) == measures.Interval(0.3, None, None, 1)
    assert measures.mean_interval([]) == measures.Interval(None, None, None, 0)
    assert measures.paired_difference([0.5], [0.25]) == measures.PairedDifference(0.25, None, None, None, 1)
    assert not measures.paired_difference([0.5], [0.25]).clear
    assert measures.mean_interval([1.0, math.nan, 3.0]).n == 2
    result = measures.paired_difference([1.0, math.nan, 4.0], [0.0, 1.0, 2.0])
    assert (result.mean, result.n) == (1.5, 2)
    apart, equal = (measures.paired_difference([2.0, 3.0], other) for other in ([1.0, 2.0], [2.0, 3.0]))
    assert (apart.dz, apart.p) == (None, 0.0)
    assert (equal.dz, equal.p) == (0.0, 1.0)


def test_statistics_reject_what_has_no_meaning():
    """Unequal lengths, an infinite value, a level outside (0, 1), and consumption out of an item's time are errors."""
    refused(DataError, "2 and 1 values", measures.paired_difference, [1, 2], [1])
    refused(DataError, "1 and 2 values", measures.paired_difference, [1], [1, 2])
    refused(DataError, "infinite", measures.mean_interval, [1, math.inf])
    refused(DataError, "level", measures.mean_interval, [1, 2], level=95)
    refused(DataError, "item 0 is consumed by arrival 1", measures.adoption_times, [3], [0], [1], arrivals=10)
    refused(DataError, "release: 12", measures.adoption_times, [12], [], [], arrivals=10)


def test_register_holds_the_metrics_of_the_tables():
    """Every metric that the tables promise is registered under its own name; another is told with the nearest."""
    promised = """precision recall ndcg utility coverage gini perplexity log_gini items_met shortfall
        examined_shortfall effective_items value_model value_true return bound gap average_popularity jaccard
        genre_drift worst_ratio sessions_per_user calibration_ratio"""
    assert set(promised.split()) <= set(measures.MEASURES)
    assert all(name == measure.name for name, measure in measures.MEASURES.items())
    refused(ConfigError, "Did you mean 'coverage'", measures.find_measure, "covrage")


def test_documentation_holds_the_register_and_its_lines_run():
    """docs/measures.md has the table that the register writes; its Python lines give what their comments say."""
    table = measures.markdown_table()
    assert table in (DOCS / "measures.md").read_text(encoding="utf-8")
    assert [line.split("`")[1] for line in table.splitlines()[2:]] == list(measures.MEASURES)
    page = (DOCS / "measures.md").read_text(encoding="utf-8")
    lines = page.split("```python\n")[1].split("```")[0].splitlines()
    names = {"measures": measures}
    shown = {}
    for line in lines[1:]:
        code, _, said = line.partition("  # ")
        if code and "=" in code.split("(")[0]:
            exec(code, names)  # noqa: S102 - the documentation is ours
            shown[repr(names[code.split(" ")[0]])] = said
        elif code:
            shown[repr(eval(code, names))] = said  # noqa: S307 - the same
    assert len(shown) == 4
    assert all(value == said for value, said in shown.items())
