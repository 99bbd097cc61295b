"""Measures of exposure, relevance and the loop against their definitions."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rimsim import measures
from rimsim.errors import DataError
from rimsim.measures.loop import late_rounds, late_words

COUNTS = st.lists(st.integers(0, 1000), min_size=1, max_size=40).map(np.array)
SOME_COUNTS = COUNTS.filter(lambda counts: counts.sum() > 0)


def _slates(seed: int, n: int = 40, k: int = 4, items: int = 12) -> np.ndarray:
    rows = np.random.default_rng(seed)
    slates = np.argsort(rows.random((n, items)), axis=1)[:, :k]
    return np.where(rows.random((n, k)) < 0.15, -1, slates)


@given(SOME_COUNTS)
def test_gini_is_half_the_relative_mean_difference(counts):
    """Gini equals the mean absolute difference of all ordered pairs over twice the mean."""
    pairwise = np.abs(counts[:, None] - counts[None, :]).mean() / (2 * counts.mean())
    assert measures.gini(counts) == pytest.approx(pairwise, abs=1e-12)


@given(SOME_COUNTS)
def test_gini_is_twice_the_area_above_the_lorenz_curve(counts):
    """The Lorenz curve is convex from 0 to 1 and encloses the Gini index."""
    curve = measures.lorenz(counts)
    assert (curve[0], curve[-1]) == (0, pytest.approx(1))
    assert (np.diff(curve, 2) >= -1e-12).all()
    area = (curve[1:] + curve[:-1]).sum() / 2 / len(counts)
    assert measures.gini(counts) == pytest.approx(1 - 2 * area, abs=1e-9)


@given(COUNTS, st.integers(1, 9))
def test_concentration_ignores_scale_and_order(counts, factor):
    """Gini, perplexity and coverage do not change when counts are multiplied or items renumbered."""
    other = counts[::-1] * factor
    for measure in (measures.gini, measures.perplexity, measures.coverage):
        assert measure(other) == pytest.approx(measure(counts), rel=1e-9, abs=1e-12)


@given(SOME_COUNTS)
def test_perplexity_lies_between_one_and_the_items_shown(counts):
    """Perplexity is at least 1 and at most the number of items with exposure."""
    assert 1 - 1e-9 <= measures.perplexity(counts) <= (counts > 0).sum() + 1e-9


def test_closed_forms_of_concentration():
    """One item with everything and an even spread give the known ends of every measure."""
    one, even = np.array([0, 0, 0, 8]), np.array([5, 5, 5, 5])
    assert measures.gini(one) == pytest.approx(0.75)
    assert measures.gini(even) == pytest.approx(0)
    assert (measures.perplexity(one), measures.perplexity(even)) == (pytest.approx(1), pytest.approx(4))
    assert (measures.coverage(one), measures.coverage(even)) == (0.25, 1)
    assert measures.effective_items(one) == 1
    assert measures.effective_items(even) == pytest.approx(20 * 19 / 80)


def test_effective_items_is_the_inverse_chance_that_two_draws_meet():
    """It counts the ordered pairs of distinct events that fall on one item."""
    events = np.array([0, 0, 0, 1, 1, 2, 5])
    pairs = [(i, j) for i in range(7) for j in range(7) if i != j]
    meeting = np.mean([events[i] == events[j] for i, j in pairs])
    assert measures.effective_items(np.bincount(events, minlength=6)) == pytest.approx(1 / meeting)


def test_effective_items_does_not_depend_on_the_size_of_the_sample():
    """Over many uniform samples the chance to meet is 1/M at any size, while Gini moves with it."""
    rows = np.random.default_rng(3)
    meeting, spread = [], []
    for size in (60, 600):
        samples = rows.multinomial(size, np.full(30, 1 / 30), size=400)
        meeting.append(np.mean([1 / measures.effective_items(sample) for sample in samples]))
        spread.append(np.mean([measures.gini(sample) for sample in samples]))
    assert meeting == pytest.approx([1 / 30, 1 / 30], rel=0.05)
    assert spread[0] > 2 * spread[1]


@pytest.mark.parametrize("counts", [np.zeros(5, int), np.zeros(0, int)])
def test_nothing_counted_gives_conventions_and_no_nan(counts):
    """Without a count every measure of concentration is 0."""
    values = [
        measures.gini(counts),
        measures.perplexity(counts),
        measures.coverage(counts),
        measures.effective_items(counts),
    ]
    assert values == [0, 0, 0, 0]


def test_effective_items_without_a_meeting_is_the_catalogue():
    """When no item was counted twice nothing speaks against a uniform spread."""
    assert measures.effective_items([1, 0, 1, 1]) == 4


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_examined_exposure_sums_the_chance_of_every_position(seed, gamma):
    """It equals a loop over positions, to the grid of weights; with γ = 1 it is the exposure."""
    slates = _slates(seed)
    expected = np.zeros(12)
    for row in slates:
        for position, item in enumerate(row):
            if item >= 0:
                expected[item] += gamma**position
    assert measures.examined_exposure(slates, gamma, 12) == pytest.approx(expected, abs=1e-4)
    assert (measures.examined_exposure(slates, 1, 12) == measures.exposure_counts(slates, 12)).all()
    assert measures.exposure_counts(slates, 12).sum() == (slates >= 0).sum()


def test_guarantees_by_hand():
    """Shortfall, items met and worst ratio of four items, one of them without a guarantee."""
    exposure, required = np.array([3, 0, 10, 4]), np.array([4, 2, 0, 4])
    assert measures.shortfall_units(exposure, required) == 3
    assert measures.shortfall(exposure, required) == pytest.approx(0.3)
    assert measures.items_met(exposure, required) == pytest.approx(1 / 3)
    assert measures.worst_ratio(exposure, required) == 0


def test_no_guarantee_is_always_kept():
    """With b = 0 for all items nothing is short and everything is met."""
    exposure, required = np.array([3, 0]), np.zeros(2, int)
    assert measures.shortfall(exposure, required) == 0
    assert (measures.items_met(exposure, required), measures.worst_ratio(exposure, required)) == (1, 1)


@given(st.integers(0, 10_000), st.integers(0, 12))
def test_shortfall_falls_with_every_exposure_given_to_a_short_item(seed, item):
    """One more exposure lowers the shortfall by 1/Σb exactly if the item was short."""
    rows = np.random.default_rng(seed)
    exposure, required = rows.integers(0, 9, 13), rows.integers(1, 9, 13)
    more = exposure.copy()
    more[item] += 1
    change = measures.shortfall(exposure, required) - measures.shortfall(more, required)
    assert change == pytest.approx((exposure[item] < required[item]) / required.sum())


def test_examined_shortfall_sees_guarantees_buried_at_the_bottom():
    """The same exposures are short in looks only when they come last in their slates."""
    required = np.array([0, 4])
    last, mixed = np.array([[0, 1]] * 4), np.array([[0, 1], [1, 0]] * 2)
    assert measures.examined_shortfall(mixed, required, 0.5) == pytest.approx(0)
    assert measures.examined_shortfall(last, required, 0.5) == pytest.approx(1 - 0.5 / 0.75)
    assert measures.examined_shortfall(last, required, 1.0) == 0


def test_average_popularity_is_one_for_an_even_spread():
    """An even spread has the catalogue's mean popularity; showing only the head has more."""
    popularity = np.array([8, 1, 1, 2])
    assert measures.average_popularity(np.full(4, 7), popularity) == pytest.approx(1)
    assert measures.average_popularity([5, 0, 0, 0], popularity) == pytest.approx(8 / 3)
    assert measures.average_popularity(np.zeros(4), popularity) == 0
    assert measures.average_popularity(np.ones(4), np.zeros(4)) == 0


def test_who_pays_finds_the_decile_that_carries_the_guarantees():
    """Guaranteed items shown only to the lower half of λ appear in its deciles alone."""
    intensity = np.random.default_rng(0).random(200)
    low = intensity < np.median(intensity)
    slates = np.stack([np.full(200, 0), np.where(low, 3, 1), np.full(200, -1)], axis=1)
    binding = measures.binding_items(unconstrained=[9, 9, 9, 1], required=[2, 2, 0, 5])
    assert binding.tolist() == [False, False, False, True]
    assert measures.who_pays(slates, binding, intensity).tolist() == [1] * 5 + [0] * 5


@given(st.integers(0, 10_000), st.integers(1, 97))
def test_who_pays_adds_up_to_the_exposure_of_binding_items(seed, n):
    """Group means times group sizes give back the exposures of the binding items."""
    rows = np.random.default_rng(seed)
    slates, binding = _slates(seed, n=n), rows.random(12) < 0.4
    means = measures.who_pays(slates, binding, rows.random(n))
    sizes = np.bincount(np.arange(n) * 10 // n, minlength=10)
    assert sizes.max() - sizes.min() <= 1
    assert means @ sizes == pytest.approx(measures.exposure_counts(slates, 12)[binding].sum())


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: measures.gini([1, -2]), r"counts\[1\].*-2"),
        (lambda: measures.perplexity([[1, 2]]), r"counts.*\(1, 2\)"),
        (lambda: measures.shortfall([1, 2], [1]), "2 and 1 rows"),
        (lambda: measures.exposure_counts([[0, 5]], 5), "0 to 4"),
        (lambda: measures.examined_exposure([[0]], 1.5, 1), r"gamma: 1\.5"),
        (lambda: measures.precision([True]), "hits"),
        (lambda: measures.ndcg([[True, True]], [1.5]), r"relevant\[0\]: 1\.5"),
        (lambda: measures.recall([[True]], [1, 1]), "1 and 2 rows"),
        (lambda: measures.per_slate([1.0]), "values"),
        (lambda: measures.sessions_per_user([[1]]), "user"),
    ],
)
def test_wrong_arrays_are_named(call, names):
    """An array of the wrong shape or range is an error that names it and what is allowed."""
    with pytest.raises(DataError, match=names):
        call()


def test_relevance_by_hand():
    """Precision, recall and NDCG of three arrivals, one without a relevant item."""
    hits = np.array([[True, False, True], [False, True, False], [False, False, False]])
    relevant = np.array([2, 4, 0])
    assert measures.precision(hits) == pytest.approx(3 / 9)
    assert measures.recall(hits, relevant) == pytest.approx((2 / 2 + 1 / 4) / 2)
    first = (1 + 1 / 2) / (1 + 1 / np.log2(3))
    second = (1 / np.log2(3)) / (1 + 1 / np.log2(3) + 1 / 2)
    assert measures.ndcg(hits, relevant) == pytest.approx((first + second) / 2)


def test_recall_takes_expected_numbers():
    """With expected numbers of relevant items, hits beyond the expectation count in full."""
    assert measures.recall([[True, True], [False, False]], [1.6, 0.5]) == pytest.approx(2 / 1.6 / 2)


def test_ndcg_is_one_only_for_the_ideal_order():
    """All relevant items at the top give 1; the same hits lower down give less."""
    assert measures.ndcg([[True, True, False]], [2]) == pytest.approx(1)
    assert measures.ndcg([[True, True, True]], [9]) == pytest.approx(1)
    assert measures.ndcg([[False, True, True]], [2]) < 0.8


def test_relevance_of_nothing_is_zero():
    """Without arrivals, or without any relevant item, the measures are 0."""
    none = np.zeros((0, 3), bool)
    assert (measures.precision(none), measures.recall(none, []), measures.ndcg(none, [])) == (0, 0, 0)
    assert measures.recall(np.zeros((2, 3), bool), [0, 0]) == 0
    assert measures.per_slate(np.zeros((0, 3))) == 0


def test_values_by_hand():
    """What a slate is worth in the mean, and the value of all with the penalty for what is missing."""
    worth = np.array([[0.5, 0.25], [0.25, 0.0]])
    assert measures.per_slate(worth) == pytest.approx(0.5)
    assert measures.penalised_value(worth, [1, 5], [3, 2], 0.1) == pytest.approx(1.0 - 0.2)


@given(st.integers(2, 60), st.integers(1, 200), st.integers(0, 9))
def test_sampled_pairs_are_distinct_ordered_and_fixed(n, count, seed):
    """Pairs are distinct, first < second, as many as asked for or all, and the same at every call."""
    pairs = measures.sample_pairs(n, count, seed)
    assert len(pairs) == min(count, n * (n - 1) // 2)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert pairs.min() >= 0
    assert pairs.max() < n
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert (pairs == measures.sample_pairs(n, count, seed)).all()


def test_sampled_pairs_are_uniform_over_all_pairs():
    """Over many seeds each of the ten pairs of five arrivals is drawn equally often."""
    counts = np.zeros((5, 5))
    for seed in range(2000):
        for first, second in measures.sample_pairs(5, 2, seed):
            counts[first, second] += 1
    drawn = counts[np.triu_indices(5, 1)]
    assert drawn.sum() == 4000
    assert ((drawn - 400) ** 2 / 400).sum() < 27.9  # χ² with 9 degrees of freedom at 1e-3


def test_sampled_pairs_of_a_large_market_are_in_range():
    """The triangular root stays exact where doubles round."""
    n = 3_000_000
    pairs = measures.sample_pairs(n, 500, 1)
    assert (pairs[:, 0] >= 0).all()
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert pairs[:, 1].max() < n
    assert pairs[:, 1].max() > n // 2


def test_pairs_of_one_user_are_left_out():
    """With the users given, no pair compares a user with itself."""
    user = np.array([0, 0, 1, 1, 1])
    pairs = measures.sample_pairs(5, 100, 0, user)
    assert len(pairs) == 6
    assert (user[pairs[:, 0]] != user[pairs[:, 1]]).all()


@given(st.integers(0, 10_000))
def test_jaccard_equals_set_arithmetic(seed):
    """The mean over pairs equals Python's sets, empty positions ignored."""
    slates = _slates(seed)
    pairs = measures.sample_pairs(len(slates), 30, seed)
    expected = []
    for first, second in pairs:
        a, b = set(slates[first]) - {-1}, set(slates[second]) - {-1}
        expected.append(len(a & b) / len(a | b) if a | b else 0)
    assert measures.jaccard(slates, pairs) == pytest.approx(np.mean(expected))


def test_jaccard_of_equal_and_of_disjoint_slates():
    """Equal slates are 1 alike in any order, disjoint ones 0; without pairs it is 0."""
    slates = np.array([[1, 2], [2, 1], [3, 4], [-1, -1]])
    assert measures.jaccard(slates, [[0, 1]]) == 1
    assert measures.jaccard(slates, [[0, 2]]) == 0
    assert measures.jaccard(slates, [[3, 3]]) == 0
    assert measures.jaccard(slates, np.zeros((0, 2), int)) == 0


def test_genres_are_split_evenly():
    """An item with two genres counts half for each; one without has a genre of its own."""
    weights, names = measures.genre_weights(["Drama", "Comedy|Drama", ""])
    assert names == ("", "Comedy", "Drama")
    assert weights.tolist() == [[0, 0, 1], [0, 0.5, 0.5], [1, 0, 0]]
    assert measures.genre_shares([2, 2, 0], weights).tolist() == [0, 0.25, 0.75]
    assert measures.genre_shares([0, 0, 0], weights).tolist() == [0, 0, 0]


@given(SOME_COUNTS, st.integers(0, 1000))
def test_genre_drift_is_a_symmetric_divergence_in_bits(counts, seed):
    """It equals the mean Kullback-Leibler divergence to the mixture, lies in [0, 1] and is symmetric."""
    rows = np.random.default_rng(seed)
    other = rows.integers(0, 50, len(counts)) + 1
    weights, _ = measures.genre_weights([str(rows.integers(4)) for _ in counts])
    drift = measures.genre_drift(counts, other, weights)
    p, q = measures.genre_shares(counts, weights), measures.genre_shares(other, weights)
    mixture = (p + q) / 2
    divergence = 0.0
    for share in (p, q):
        some = share > 0
        divergence += 0.5 * (share[some] * np.log2(share[some] / mixture[some])).sum()
    assert drift == pytest.approx(divergence, abs=1e-9)
    assert 0 <= drift <= 1
    assert drift == pytest.approx(measures.genre_drift(other, counts, weights), abs=1e-12)


def test_genre_drift_ends():
    """The same exposure has drifted 0 bits, exposure of other genres 1 bit, no exposure 0."""
    weights, _ = measures.genre_weights(["A", "B"])
    assert measures.genre_drift([3, 1], [6, 2], weights) == pytest.approx(0)
    assert measures.genre_drift([3, 0], [0, 1], weights) == pytest.approx(1)
    assert measures.genre_drift([0, 0], [0, 1], weights) == 0


def test_sessions_per_user_counts_returns():
    """Five arrivals of two users are two and a half sessions a user."""
    assert measures.sessions_per_user([7, 7, 9, 7, 9]) == 2.5
    assert measures.sessions_per_user([]) == 0


def test_measures_are_light():
    """Importing the measures imports neither torch nor pandas nor SciPy."""
    code = "import sys, rimsim.measures; print({'torch', 'pandas', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_guarantee_that_is_just_kept_does_not_bind():
    """An item that has exactly what it must have needs no help."""
    assert measures.binding_items([3, 2, 0], [3, 3, 0]).tolist() == [False, True, False]


def test_ties_of_intensity_keep_the_order_of_arrival():
    """Arrivals of one intensity are cut into groups in their own order."""
    slates = np.repeat(np.arange(10), 10)[:, None]
    binding = np.isin(np.arange(10), [2, 7])
    assert measures.who_pays(slates, binding, np.ones(100)).tolist() == [0, 0, 1, 0, 0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize("m", [1, 2, 4, 5, 8])
def test_the_lorenz_curve_of_nothing_is_the_line_of_equality(m):
    """Without a count every item holds its equal share: i/M for i = 0…M."""
    assert measures.lorenz(np.zeros(m)) == pytest.approx([i / m for i in range(m + 1)], abs=1e-15)


def test_the_worst_ratio_is_the_least_share_of_a_guarantee():
    """Three of four, five of two, one of three: a third; items without a guarantee do not count."""
    assert measures.worst_ratio([3, 5, 1, 0], [4, 2, 3, 0]) == pytest.approx(1 / 3, rel=1e-15)
    assert measures.worst_ratio([9, 4], [3, 2]) == pytest.approx(2.0, rel=1e-15)


@pytest.mark.parametrize(
    ("count", "late"), [(1, [0]), (2, [1]), (3, [2]), (4, [2, 3]), (7, [4, 5, 6]), (8, [4, 5, 6, 7])]
)
def test_late_rounds_are_the_last_half(count, late):
    """The last ⌊n / 2⌋ rounds, and the only one of one; they are named in words by the first and the last."""
    assert list(late_rounds(count)) == late
    words = f"round {late[0]}" if len(late) == 1 else f"mean of rounds {late[0]}–{late[-1]}"
    assert late_words(count) == words
