"""Measures of relevance and of the likeness of slates: values by hand, pairs, sets and genres."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rimsim import measures

COUNTS = st.lists(st.integers(0, 1000), min_size=1, max_size=40).map(np.array)
SOME_COUNTS = COUNTS.filter(lambda counts: counts.sum() > 0)


def _slates(seed: int, n: int = 40, k: int = 4, items: int = 12) -> np.ndarray:
    rows = np.random.default_rng(seed)
    slates = np.argsort(rows.random((n, items)), axis=1)[:, :k]
    return np.where(rows.random((n, k)) < 0.15, -1, slates)


def test_relevance_by_hand():
    """Precision, recall and NDCG of three arrivals, one without a relevant item, of expected numbers and of nothing."""
    hits = np.array([[True, False, True], [False, True, False], [False, False, False]])
    relevant = np.array([2, 4, 0])
    assert measures.precision(hits) == pytest.approx(3 / 9)
    assert measures.recall(hits, relevant) == pytest.approx((2 / 2 + 1 / 4) / 2)
    first = (1 + 1 / 2) / (1 + 1 / np.log2(3))
    second = (1 / np.log2(3)) / (1 + 1 / np.log2(3) + 1 / 2)
    assert measures.ndcg(hits, relevant) == pytest.approx((first + second) / 2)
    # Hits beyond an expected number count in full.
    assert measures.recall([[True, True], [False, False]], [1.6, 0.5]) == pytest.approx(2 / 1.6 / 2)
    none = np.zeros((0, 3), bool)
    assert (measures.precision(none), measures.recall(none, []), measures.ndcg(none, [])) == (0, 0, 0)
    assert measures.recall(np.zeros((2, 3), bool), [0, 0]) == 0


def test_values_by_hand():
    """Worth of a slate in the mean, the value of all with the penalty for what is missing, and sessions a user."""
    worth = np.array([[0.5, 0.25], [0.25, 0.0]])
    assert measures.per_slate(worth) == pytest.approx(0.5)
    assert measures.per_slate(np.zeros((0, 3))) == 0
    assert measures.penalised_value(worth, [1, 5], [3, 2], 0.1) == pytest.approx(1.0 - 0.2)
    assert (measures.sessions_per_user([7, 7, 9, 7, 9]), measures.sessions_per_user([])) == (2.5, 0)


@given(st.integers(2, 60), st.integers(1, 200), st.integers(0, 9))
def test_sampled_pairs_are_distinct_ordered_and_fixed(n, count, seed):
    """Pairs are distinct, first < second, as many as asked for or all, and the same at every call."""
    pairs = measures.sample_pairs(n, count, seed)
    assert len(pairs) == min(count, n * (n - 1) // 2)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert 0 <= pairs.min() <= pairs.max() < n
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert (pairs == measures.sample_pairs(n, count, seed)).all()


def test_sampled_pairs_are_uniform_in_range_and_of_two_users():
    """Ten pairs of five arrivals come equally often; the root is exact where doubles round; no pair is of one user."""
    counts = np.zeros((5, 5))
    for seed in range(2000):
        for first, second in measures.sample_pairs(5, 2, seed):
            counts[first, second] += 1
    drawn = counts[np.triu_indices(5, 1)]
    assert drawn.sum() == 4000
    assert ((drawn - 400) ** 2 / 400).sum() < 27.9  # χ² with 9 degrees of freedom at 1e-3
    n = 3_000_000
    pairs = measures.sample_pairs(n, 500, 1)
    assert (pairs[:, 0] >= 0).all()
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert n // 2 < pairs[:, 1].max() < n
    user = np.array([0, 0, 1, 1, 1])
    pairs = measures.sample_pairs(5, 100, 0, user)
    assert len(pairs) == 6
    assert (user[pairs[:, 0]] != user[pairs[:, 1]]).all()


@given(st.integers(0, 10_000))
def test_jaccard_equals_set_arithmetic(seed):
    """The mean over pairs equals Python's sets, empty positions ignored; of empty slates and no pairs it is 0."""
    slates = _slates(seed)
    slates[:2] = -1
    pairs = np.concatenate([measures.sample_pairs(len(slates), 30, seed), [[0, 1], [2, 2]]])
    expected = []
    for first, second in pairs:
        a = set(slates[first]) - {-1}
        b = set(slates[second]) - {-1}
        expected.append(len(a & b) / len(a | b) if a | b else 0)
    assert measures.jaccard(slates, pairs) == pytest.approx(np.mean(expected))
    assert measures.jaccard(slates, np.zeros((0, 2), int)) == 0


def test_genres_are_split_evenly_and_drift_between_0_and_1_bit():
    """An item of two genres counts half for each, one without has its own; other genres are 1 bit away, none 0."""
    weights, names = measures.genre_weights(["Drama", "Comedy|Drama", ""])
    assert names == ("", "Comedy", "Drama")
    assert weights.tolist() == [[0, 0, 1], [0, 0.5, 0.5], [1, 0, 0]]
    assert measures.genre_shares([2, 2, 0], weights).tolist() == [0, 0.25, 0.75]
    assert measures.genre_shares([0, 0, 0], weights).tolist() == [0, 0, 0]
    weights, _ = measures.genre_weights(["A", "B"])
    for before, now, bits in (([3, 1], [6, 2], 0), ([3, 0], [0, 1], 1), ([0, 0], [0, 1], 0)):
        assert measures.genre_drift(before, now, weights) == pytest.approx(bits)


@given(SOME_COUNTS, st.integers(0, 1000))
def test_genre_drift_is_a_symmetric_divergence_in_bits(counts, seed):
    """It equals the mean Kullback-Leibler divergence to the mixture, lies in [0, 1] and is symmetric."""
    rows = np.random.default_rng(seed)
    other_counts = rows.integers(0, 50, len(counts)) + 1
    weights, _ = measures.genre_weights([str(rows.integers(4)) for _ in counts])
    drift = measures.genre_drift(counts, other_counts, weights)
    p = measures.genre_shares(counts, weights)
    q = measures.genre_shares(other_counts, weights)
    mixture = (p + q) / 2
    divergence = 0.0
    for share in (p, q):
        is_positive = share > 0
        divergence += 0.5 * (share[is_positive] * np.log2(share[is_positive] / mixture[is_positive])).sum()
    assert drift == pytest.approx(divergence, abs=1e-9)
    assert 0 <= drift <= 1
    assert drift == pytest.approx(measures.genre_drift(other_counts, counts, weights), abs=1e-12)
