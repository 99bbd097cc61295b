"""Measures of exposure: concentration, guarantees, who pays, and fairness against its authors' numbers."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import cases, refused
from scipy.spatial.distance import jensenshannon

from rimsim import measures
from rimsim.errors import DataError
from rimsim.measures.example_round import made_up_round
from rimsim.measures.exposure import weighted_exposure

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


def test_the_undelivered_share_of_a_round_counts_what_it_adds():
    """Half of what is required is carried over; it counts neither as missing nor in the sum."""
    facts = made_up_round(pd.DataFrame({"id": np.arange(12), "genres": "x"}))
    facts = dataclasses.replace(facts, due_items=facts.required / 2)
    weights = facts.position_weights
    exposure = weighted_exposure(facts.slates, weights, facts.n_items)
    required = np.concatenate([facts.required, facts.min_exposure])
    due = np.concatenate([facts.due_items, facts.due])
    missing = np.maximum(np.minimum(required, due) - np.concatenate([exposure, facts.counted]), 0).sum()
    assert facts.undelivered(weights, facts.counted) == pytest.approx(missing / due.sum())
