"""Measures of exposure, relevance, the loop and both sides, and statistics, against definitions and closed forms."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from kit import DOCS, cases, refused
from kit.markets import facts_of, played, small_scenario
from scipy.spatial.distance import jensenshannon

from rimsim import measures
from rimsim.config import ConsumerConfig
from rimsim.errors import ConfigError, DataError
from rimsim.measures import MEASURES, made_up_round
from rimsim.measures.loop import late_rounds, late_words
from rimsim.testing import random_items

COUNTS = st.lists(st.integers(0, 1000), min_size=1, max_size=40).map(np.array)
SOME_COUNTS = COUNTS.filter(lambda counts: counts.sum() > 0)


def _slates(seed: int, n: int = 40, k: int = 4, items: int = 12) -> np.ndarray:
    rows = np.random.default_rng(seed)
    slates = np.argsort(rows.random((n, items)), axis=1)[:, :k]
    return np.where(rows.random((n, k)) < 0.15, -1, slates)


@given(SOME_COUNTS)
def test_gini_is_half_the_relative_mean_difference_and_twice_the_area_above_the_lorenz_curve(counts):
    """By all ordered pairs; the curve is convex from 0 to 1; perplexity is that of shares, coverage of items shown."""
    pairwise = np.abs(counts[:, None] - counts[None, :]).mean() / (2 * counts.mean())
    assert measures.gini(counts) == pytest.approx(pairwise, abs=1e-12)
    curve = measures.lorenz(counts)
    assert (curve[0], curve[-1]) == (0, pytest.approx(1))
    assert (np.diff(curve, 2) >= -1e-12).all()
    area = (curve[1:] + curve[:-1]).sum() / 2 / len(counts)
    assert measures.gini(counts) == pytest.approx(1 - 2 * area, abs=1e-9)
    share = counts[counts > 0] / counts.sum()
    assert measures.perplexity(counts) == pytest.approx(np.prod(share**-share))
    assert measures.coverage(counts) == (counts > 0).mean()


@cases(
    "counts expected",
    ([0, 0, 0, 8], (0.75, 1, 0.25, 1)),
    ([5, 5, 5, 5], (0, 4, 1, 20 * 19 / 80)),
    ([1, 0, 1, 1], (0.25, 3, 0.75, 4)),  # no item twice: nothing speaks against a uniform spread
    (np.zeros(5, int), (0, 0, 0, 0)),
    (np.zeros(0, int), (0, 0, 0, 0)),
)
def test_closed_forms_of_concentration(counts, expected):
    """Gini, perplexity, coverage and effective items of one item with all, an even spread, no meeting and nothing."""
    functions = (measures.gini, measures.perplexity, measures.coverage, measures.effective_items)
    assert [measure(counts) for measure in functions] == pytest.approx(expected)
    if not np.sum(counts):  # every item holds its equal share
        assert measures.lorenz(counts) == pytest.approx(np.linspace(0, 1, len(counts) + 1), abs=1e-15)


def test_effective_items_is_the_inverse_chance_that_two_draws_meet():
    """It counts ordered pairs of events on one item: 1/M of a uniform sample of any size, while Gini moves with it."""
    events = np.array([0, 0, 0, 1, 1, 2, 5])
    pairs = [(i, j) for i in range(7) for j in range(7) if i != j]
    meeting = np.mean([events[i] == events[j] for i, j in pairs])
    assert measures.effective_items(np.bincount(events, minlength=6)) == pytest.approx(1 / meeting)
    rows = np.random.default_rng(3)
    meeting = []
    spread = []
    for size in (60, 600):
        samples = rows.multinomial(size, np.full(30, 1 / 30), size=400)
        meeting.append(np.mean([1 / measures.effective_items(sample) for sample in samples]))
        spread.append(np.mean([measures.gini(sample) for sample in samples]))
    assert meeting == pytest.approx([1 / 30, 1 / 30], rel=0.05)
    assert spread[0] > 2 * spread[1]


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_examined_exposure_sums_the_chance_of_every_position(seed, gamma):
    """It equals a loop over positions, to the grid of weights; with γ = 1 it is the exposure."""
    slates = _slates(seed)
    expected = np.zeros(12)
    for row in slates:
        for position, item in enumerate(row):
            if item >= 0:
                expected[item] += gamma**position
    weights = measures.position_weights(gamma, slates.shape[1])
    assert measures.weighted_exposure(slates, weights, 12) == pytest.approx(expected, abs=1e-4)
    equal_weights = measures.position_weights(1, slates.shape[1])
    assert (
        measures.weighted_exposure(slates, equal_weights, 12) == measures.exposure_counts(slates, 12)
    ).all()
    assert measures.exposure_counts(slates, 12).sum() == (slates >= 0).sum()


@cases(
    "exposure required expected",
    ([3, 0, 10, 4], [4, 2, 0, 4], (3, 0.3, 1 / 3, 0)),
    ([3, 0], [0, 0], (0, 0, 1, 1)),
    ([3, 5, 1, 0], [4, 2, 3, 0], (3, 1 / 3, 1 / 3, 1 / 3)),
    ([9, 4], [3, 2], (0, 0, 1, 2)),
    ([0, 3], [1, 3], (1, 0.25, 0.5, 0)),
)
def test_guarantees_by_hand(exposure, required, expected):
    """Units and share that are missing, items met and the worst ratio; items without a guarantee do not count."""
    functions = measures.shortfall_units, measures.shortfall, measures.items_met, measures.worst_ratio
    values = [measure(np.array(exposure), np.array(required)) for measure in functions]
    assert values == pytest.approx(expected, rel=1e-15)


def test_shortfalls_and_popularity_by_hand():
    """The same exposures lack looks only if they come last; an even spread has the catalogue's mean popularity."""
    required = np.array([0, 4])
    last = np.array([[0, 1]] * 4)
    mixed = np.array([[0, 1], [1, 0]] * 2)
    assert measures.examined_shortfall(mixed, required, 0.5) == pytest.approx(0)
    assert measures.examined_shortfall(last, required, 0.5) == pytest.approx(1 - 0.5 / 0.75)
    assert measures.examined_shortfall(last, required, 1.0) == 0
    popularity = np.array([8, 1, 1, 2])
    assert measures.average_popularity(np.full(4, 7), popularity) == pytest.approx(1)
    assert measures.average_popularity([5, 0, 0, 0], popularity) == pytest.approx(8 / 3)
    assert measures.average_popularity(np.zeros(4), popularity) == 0
    assert measures.average_popularity(np.ones(4), np.zeros(4)) == 0


def test_who_pays_finds_the_decile_that_carries_the_guarantees():
    """Guaranteed items shown only to the lower half of λ appear in its deciles; ties keep the order of arrival."""
    intensity = np.random.default_rng(0).random(200)
    low = intensity < np.median(intensity)
    slates = np.stack([np.full(200, 0), np.where(low, 3, 1), np.full(200, -1)], axis=1)
    binding = measures.binding_items(unconstrained=[9, 9, 9, 1], required=[2, 2, 0, 5])
    assert binding.tolist() == [False, False, False, True]
    assert measures.who_pays(slates, binding, intensity).tolist() == [1] * 5 + [0] * 5
    just_kept = measures.binding_items([3, 2, 0], [3, 3, 0])  # it needs no help
    assert just_kept.tolist() == [False, True, False]
    slates = np.repeat(np.arange(10), 10)[:, None]
    binding = np.isin(np.arange(10), [2, 7])
    assert measures.who_pays(slates, binding, np.ones(100)).tolist() == [0, 0, 1, 0, 0, 0, 0, 1, 0, 0]


@given(st.integers(0, 10_000), st.integers(1, 97))
def test_who_pays_adds_up_to_the_exposure_of_binding_items(seed, n):
    """Group means times group sizes give back the exposures of the binding items."""
    rows = np.random.default_rng(seed)
    slates = _slates(seed, n=n)
    binding = rows.random(12) < 0.4
    means = measures.who_pays(slates, binding, rows.random(n))
    sizes = np.bincount(np.arange(n) * 10 // n, minlength=10)
    assert sizes.max() - sizes.min() <= 1
    assert means @ sizes == pytest.approx(measures.exposure_counts(slates, 12)[binding].sum())


@cases(
    "call names",
    (lambda: measures.gini([1, -2]), r"counts\[1\].*-2"),
    (lambda: measures.perplexity([[1, 2]]), r"counts.*\(1, 2\)"),
    (lambda: measures.shortfall([1, 2], [1]), "2 and 1 rows"),
    (lambda: measures.exposure_counts([[0, 5]], 5), "-1 .empty. to 4"),
    (lambda: measures.position_weights(1.5, 1), r"decay: 1\.5"),
    (lambda: measures.precision([True]), "hits"),
    (lambda: measures.ndcg([[True, True]], [1.5]), r"relevant\[0\]: 1\.5"),
    (lambda: measures.recall([[True]], [1, 1]), "1 and 2 rows"),
    (lambda: measures.per_slate([1.0]), "values"),
    (lambda: measures.sessions_per_user([[1]]), "user"),
    (lambda: measures.calibration_ratio([[0.5, 0.5]], [[True, False]], [1.0]), r"\(n, k\) and \(k,\)"),
    (lambda: measures.reliability([0.1, 0.2, 0.3], [True, False]), "3 and 2 rows"),
    (lambda: measures.survival([0], [True], 2), "rounds: 0"),
    (lambda: measures.paired_difference([1, 2], [1]), "2 and 1 values"),
    (lambda: measures.paired_difference([1], [1, 2]), "1 and 2 values"),
    (lambda: measures.mean_interval([1, math.inf]), "infinite"),
    (lambda: measures.mean_interval([1, 2], level=95), "level"),
    (lambda: measures.adoption_times([3], [0], [1], arrivals=10), "item 0 is consumed by arrival 1"),
    (lambda: measures.adoption_times([12], [], [], arrivals=10), "release: 12"),
)
def test_wrong_arrays_are_named(call, names):
    """An array or a level of the wrong shape or range is an error that names it and what is allowed."""
    refused(DataError, names, call)


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


@cases("count late", (1, [0]), (2, [1]), (3, [2]), (4, [2, 3]), (7, [4, 5, 6]), (8, [4, 5, 6, 7]))
def test_late_rounds_are_the_last_half(count, late):
    """The last ⌊n / 2⌋ rounds, or the only one; they are named by the first and the last, and means are of them."""
    assert list(late_rounds(count)) == late
    words = f"round {late[0]}" if len(late) == 1 else f"mean of rounds {late[0]}–{late[-1]}"
    assert late_words(count) == words
    rounds = pd.DataFrame({"agent": "a", "seed": 0, "round": range(count), "metric": "utility"})
    means = measures.late_means(rounds.assign(value=rounds["round"] ** 2.0))
    assert means["value"].tolist() == [np.mean(np.square(late))]


def test_expected_exposure_is_that_of_its_definition():
    """EE-L is the squared distance of shares, and EE-D − EE-R + Σ ε*² of the other two (Diaz et al.)."""
    draw = np.random.default_rng(0)
    exposure, target = draw.gamma(0.5, size=(2, 40))
    shares = exposure / exposure.sum()
    target_share = target / target.sum()
    result = measures.expected_exposure(exposure, target)
    assert result.loss == pytest.approx(((shares - target_share) ** 2).sum())
    assert result.loss == pytest.approx(result.disparity - result.relevance + (target_share**2).sum())
    alike = measures.expected_exposure(3 * target, target)
    assert alike.loss == pytest.approx(0)


@cases(
    "decay shown due theirs",
    (0.85, [[1, 1, 1], [0, 0, 1]], [[0, 2, 2], [1, 0, 0]], (3.56988125, 3.79229375, 2.351159375)),
    (
        0.7,
        [[0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]],
        [[2, 1], [1, 1], [1, 0], [1, 0]],
        (4.1192945, 2.9072125, 2.5667695),
    ),
)
def test_expected_exposure_is_that_of_lenskits_authors_in_shares(decay, shown, due, theirs):
    """Frozen numbers of rank-fairness-metrics (a357139, ``ee_for_ds`` with ``rbp``), which has no shares of a whole.

    Groups of the items at each position of some users' slates, and of the items that each of them wants.
    """
    slates = np.array(shown)
    due_slates = np.array(due)
    exposure = np.bincount(slates.ravel(), np.tile(decay ** np.arange(slates.shape[1]), len(slates)), 3)
    target = np.bincount(due_slates.ravel(), minlength=3)
    result = measures.expected_exposure(exposure, target)
    total_shown = (1 - decay ** slates.shape[1]) / (1 - decay)
    total_due = (1 - decay ** due_slates.shape[1]) / (1 - decay)
    squares = ((target / target.sum()) ** 2).sum()
    loss = (
        total_shown**2 * result.disparity
        - total_shown * total_due * result.relevance
        + total_due**2 * squares
    )
    ours = (total_shown**2 * result.disparity, total_shown * total_due * result.relevance, loss)
    assert ours == pytest.approx(theirs, rel=1e-9)


@cases(
    "slate target theirs",
    ([1, 1, 1], [0.23323323323323325, 0.2782782782782783, 0.48848848848848847], 0.6417480324919319),
    ([0, 2, 1, 1], [0.068, 0.097, 0.835], 0.8555204800802394),
    ([0, 1, 1, 1], [0.441, 0.013, 0.546], 0.5977912819381288),
)
def test_awrf_is_that_of_lenskits_authors_in_bits(slate, target, theirs):
    """Frozen numbers of TREC's fair ranking track of 2021 (``qr_awrf``), whose divergence is in nats."""
    attention = 1 / np.log2(np.maximum(np.arange(1, len(slate) + 1), 2))
    fairness = measures.awrf(np.bincount(slate, attention, 3), target)
    assert 1 - np.log(2) * (1 - fairness) == pytest.approx(theirs, abs=1e-9)


def test_awrf_long_tail_and_survival_by_hand():
    """1 − JS of SciPy; items beyond four fifths of events; the Kaplan-Meier curve with one who came late and stays."""
    exposure = np.array([4.0, 1, 0, 2])
    target = np.array([1.0, 1, 1, 1])
    assert measures.awrf(exposure, target) == pytest.approx(1 - jensenshannon(exposure, target, 2) ** 2)
    assert measures.awrf(5 * target, target) == pytest.approx(1)
    assert measures.awrf([1, 0], [0, 1]) == 0
    tail = measures.long_tail([10, 50, 30, 6, 4])
    np.testing.assert_array_equal(tail, [True, False, False, True, True])
    share = measures.long_tail_share([[0, 1], [2, -1], [-1, -1], [3, 4]], tail)
    assert share == pytest.approx((0.5 + 0 + 1) / 3)
    curve = measures.survival([1, 3, 3, 2, 4], [True, True, False, False, False], 4)
    np.testing.assert_allclose(curve, [4 / 5, 4 / 5, 4 / 5 * 2 / 3, 4 / 5 * 2 / 3])


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


def test_welfare_of_a_round_is_counted_by_brute_force():
    """Users' welfare is all expected consumption, providers' the mean logarithm of theirs, whoever left included."""
    facts = made_up_round(random_items(12))
    sides = {"provider": np.arange(12) % 5, "there": np.ones(5, bool), "came": np.arange(5) < 4}
    facts = dataclasses.replace(facts, **sides)
    worth = np.zeros(5)
    for items, chances in zip(facts.slates, facts.probability, strict=True):
        for item, chance in zip(items, chances, strict=True):
            if item >= 0:
                worth[item % 5] += chance
    expected = np.log1p(worth[:4]).mean()
    assert MEASURES["user_welfare"].value(facts) == pytest.approx(worth.sum())
    assert MEASURES["provider_welfare"].value(facts) == pytest.approx(expected)
    assert MEASURES["nash_welfare"].value(facts) == pytest.approx(worth.sum() * expected)
    assert MEASURES["providers_alive"].value(facts) == 1.25  # made up: more there than ever came
    assert MEASURES["catalogue_on_offer"].value(facts) == 1
    facts = dataclasses.replace(facts, sold=np.arange(12) % 4, there=np.arange(5) < 2)
    assert MEASURES["items_sold"].value(facts) == 0.75
    assert MEASURES["catalogue_on_offer"].value(facts) == 0.5  # of twelve items, those of providers 0 and 1
    assert MEASURES["users_active"].value(facts) == len(set(facts.user.tolist()))
    weighted = dataclasses.replace(facts, position_weights=0.5 ** np.arange(4), cost=0.0)
    true = facts.true_intensity.sum(0)
    assert MEASURES["value_true"].value(weighted) == pytest.approx(true @ [1, 0.5, 0.25, 0.125])


def test_the_ratio_of_two_slates_by_hand():
    """Three predictions over two consumptions, none over none; where hits are counted all positions are examined."""
    intensity = np.array([[0.5, 2.0], [0.25, np.nan]])
    consumed = np.array([[True, True], [False, False]])
    expected = ((1 - math.exp(-0.5)) + (1 - math.exp(-2.0 * 0.8)) + (1 - math.exp(-0.25))) / 2
    ratio = measures.calibration_ratio(intensity, consumed, [1.0, 0.8])
    assert ratio == pytest.approx(expected, rel=1e-12)
    assert measures.calibration_ratio([[0.5]], [[False]], [1.0]) is None
    counted = made_up_round(random_items())
    drawn = dataclasses.replace(counted, counts_items=False, attraction=2.0)
    assert counted.examination.tolist() == [1.0] * 4
    assert drawn.examination == pytest.approx([2.0, 1.6, 1.28, 1.024])


def test_first_and_returning_visits_are_told_apart():
    """Half of what comes is predicted of first visits, twice as much of returning ones; pooled it looks right."""
    intensity = -np.log1p(-np.array([[0.25], [0.25], [0.5], [0.5], [0.5], [0.5]]))
    consumed = np.array([[True], [False], [True], [False], [False], [False]])
    history = [0, 0, 1, 7, 2, 90]
    assert measures.calibration_by_history(intensity, consumed, [1.0], history) == pytest.approx(0.5 / 2.0)
    fields = {"intensity": intensity.astype(np.float32), "consumed": consumed, "history": np.array(history)}
    facts = made_up_round(random_items())
    facts = dataclasses.replace(facts, slates=np.arange(6)[:, None], counts_items=True, **fields)
    names = ("calibration_first", "calibration_returning", "calibration_by_history", "calibration_ratio")
    values = [MEASURES[name].value(facts) for name in names]
    assert values == pytest.approx([0.5, 2.0, 0.25, 1.25], rel=1e-6)
    for rows in (slice(0, 2), slice(2, 6)):
        ratio = measures.calibration_by_history(intensity[rows], consumed[rows], [1.0], history[rows])
        assert ratio is None
    by_history = measures.calibration_by_history
    refused(DataError, "history and consumed", by_history, intensity, consumed, [1.0], history[:5])


@pytest.mark.parametrize("attraction", [1.0, 2.5])
def test_the_measure_is_recomputed_from_the_ledger(attraction):
    """Row by row over the saved table of a round, in plain Python."""
    config = small_scenario(rounds=1, consumer=ConsumerConfig(position_decay=0.7, attraction=attraction))
    market = played(config)
    closed = market.closed[0]
    predicted = actual = 0.0
    for row in closed.ledger.table("relevance", 0, 0).itertuples():
        predicted += 1 - math.exp(-row.intensity * attraction * 0.7 ** (row.position - 1))
        actual += row.consumed
    ratio = MEASURES["calibration_ratio"].value(facts_of(market, closed))
    assert ratio == pytest.approx(predicted / actual, rel=1e-6)


def test_groups_of_a_reliability_curve_are_quantiles_of_the_prediction():
    """Sums by group equal those of pandas' quantiles, and nothing is lost."""
    draw = np.random.default_rng(0)
    chance = draw.random(200)
    consumed = draw.random(200) < chance
    curve = measures.reliability(chance, consumed, 8)
    groups = pd.DataFrame({"chance": chance, "consumed": consumed}).groupby(pd.qcut(chance, 8))
    assert curve.exposures.tolist() == groups.size().tolist() == [25] * 8
    assert curve.predicted == pytest.approx(groups["chance"].sum().to_numpy())
    assert curve.consumed.tolist() == groups["consumed"].sum().tolist()
    assert len(measures.reliability(chance[:3], consumed[:3]).exposures) == 3


VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=12)


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


def test_documented_lines_run():
    """The Python lines of docs/measures.md give what their comments say."""
    page = (DOCS / "measures.md").read_text(encoding="utf-8")
    lines = page.split("```python\n")[1].split("```")[0].splitlines()
    names = {"measures": measures}
    shown = {}
    for line in lines[1:]:
        code, _, comment = line.partition("  # ")
        if code and "=" in code.split("(")[0]:
            exec(code, names)  # noqa: S102 - the documentation is ours
            shown[repr(names[code.split(" ")[0]])] = comment
        elif code:
            shown[repr(eval(code, names))] = comment  # noqa: S307 - the same
    assert len(shown) == 4
    assert all(value == comment for value, comment in shown.items())
    refused(ConfigError, "Did you mean 'coverage'", measures.find_measure, "covrage")
