"""Measures over rounds: late rounds, break-even and the times until items are adopted."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import cases

from rimsim import measures
from rimsim.measures.loop import late_rounds, late_words


@cases("count late", (1, [0]), (2, [1]), (3, [2]), (4, [2, 3]), (7, [4, 5, 6]), (8, [4, 5, 6, 7]))
def test_late_rounds_are_the_last_half(count, late):
    """The last ⌊n / 2⌋ rounds, or the only one; they are named by the first and the last, and means are of them."""
    assert list(late_rounds(count)) == late
    words = f"round {late[0]}" if len(late) == 1 else f"mean of rounds {late[0]}–{late[-1]}"
    assert late_words(count) == words
    rounds = pd.DataFrame({"agent": "a", "seed": 0, "round": range(count), "metric": "utility"})
    means = measures.late_means(rounds.assign(value=rounds["round"] ** 2.0))
    assert means["value"].tolist() == [np.mean(np.square(late))]


@cases(
    "guaranteed plain round_",
    ([1, 1, 4, 4], [2, 2, 2, 2], 3),  # −1, −2, 0, 2: level is not above
    ([3, 1, 1, 1], [2, 2, 2, 2], None),  # ahead once, not to the last
    ([3, 3], [2, 2], 0),
    ([2, 2], [2, 2], None),
)
def test_break_even_is_when_the_sum_stays_above(guaranteed, plain, round_):
    """The first round from whose end on the cumulated difference is positive, or None."""
    assert measures.break_even(guaranteed, plain) == round_


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=30))
def test_the_median_is_where_the_product_limit_falls_to_a_half(items):
    """The median under censoring is found by multiplying the shares that survive each adoption, in fractions."""
    alive = Fraction(1)
    expected = None
    for time in sorted({duration for duration, observed in items if observed}):
        at_risk = sum(duration >= time for duration, _ in items)
        alive *= 1 - Fraction(sum(item == (time, True) for item in items), at_risk)
        if alive <= Fraction(1, 2):
            expected = time
            break
    times = measures.AdoptionTimes(*map(np.array, zip(*items, strict=True)))
    assert measures.adoption_median(times) == expected


def test_adoption_counts_arrivals_from_release_to_the_mth_consumption():
    """The first and the second consumption of three items, one never consumed and one only once; of none."""
    item = [0, 1, 0, 0]
    arrival = [9, 4, 3, 5]
    first = measures.adoption_times([0, 4, 6], item, arrival, arrivals=10)
    assert (first.duration.tolist(), first.observed.tolist()) == ([4, 1, 4], [True, True, False])
    second = measures.adoption_times([0, 4, 6], item, arrival, arrivals=10, m=2)
    assert (second.duration.tolist(), second.observed.tolist()) == ([6, 6, 4], [True, False, False])
    assert measures.adoption_median(first) == 4
    times = measures.adoption_times(release=[2, 5], item=[], arrival=[], arrivals=9)
    assert times.duration.tolist() == [7, 4]
    assert not times.observed.any()
    assert measures.adoption_median(times) is None
    times = measures.adoption_times([0, 2, 4], [0, 2], [3, 5], arrivals=6)
    assert measures.adopted_share(times) == pytest.approx(2 / 3)
    assert measures.adopted_share(measures.adoption_times([], [], [], arrivals=6)) is None
