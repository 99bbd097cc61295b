"""Welfare, survival, expected exposure and break-even, against brute force and closed forms."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from rimsim import measures
from rimsim.errors import DataError
from rimsim.measures import MEASURES, made_up_round
from rimsim.testing import random_items


def test_expected_exposure_is_that_of_its_definition():
    """EE-L is the squared distance of shares, and EE-D − EE-R + Σ ε*² of the other two (Diaz et al.)."""
    draw = np.random.default_rng(0)
    exposure, target = draw.gamma(0.5, size=(2, 40))
    shares, wanted = exposure / exposure.sum(), target / target.sum()
    found = measures.expected_exposure(exposure, target)
    assert found.loss == pytest.approx(((shares - wanted) ** 2).sum())
    assert found.loss == pytest.approx(found.disparity - found.relevance + (wanted**2).sum())
    alike = measures.expected_exposure(3 * target, target)
    assert alike.loss == pytest.approx(0)


@pytest.mark.parametrize(
    ("decay", "shown", "due", "theirs"),
    [
        (0.85, [[1, 1, 1], [0, 0, 1]], [[0, 2, 2], [1, 0, 0]], (3.56988125, 3.79229375, 2.351159375)),
        (
            0.5,
            [[0, 2, 1, 1], [2, 0, 0, 1], [0, 0, 0, 0]],
            [[2, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 2]],
            (1.7378472222222219, 2.7864583333333335, 0.3185763888888889),
        ),
        (
            0.7,
            [[0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]],
            [[2, 1], [1, 1], [1, 0], [1, 0]],
            (4.1192945, 2.9072125, 2.5667695),
        ),
    ],
)
def test_expected_exposure_is_that_of_lenskits_authors_in_shares(decay, shown, due, theirs):
    """Frozen numbers of rank-fairness-metrics (a357139, ``ee_for_ds`` with ``rbp``), which has no shares of a whole.

    Groups of the items at each position of some users' slates, and of the items that each of them wants.
    """
    slates, wanted = np.array(shown), np.array(due)
    exposure = np.bincount(slates.ravel(), np.tile(decay ** np.arange(slates.shape[1]), len(slates)), 3)
    target = np.bincount(wanted.ravel(), minlength=3)
    found = measures.expected_exposure(exposure, target)
    given, asked = ((1 - decay**count) / (1 - decay) for count in (slates.shape[1], wanted.shape[1]))
    squares = ((target / target.sum()) ** 2).sum()
    loss = given**2 * found.disparity - given * asked * found.relevance + asked**2 * squares
    ours = (given**2 * found.disparity, given * asked * found.relevance, loss)
    assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(
    ("slate", "target", "theirs"),
    [
        ([1, 1, 1], [0.23323323323323325, 0.2782782782782783, 0.48848848848848847], 0.6417480324919319),
        ([0, 2, 1, 1], [0.068, 0.097, 0.835], 0.8555204800802394),
        ([0, 1, 1, 1], [0.441, 0.013, 0.546], 0.5977912819381288),
    ],
)
def test_awrf_is_that_of_lenskits_authors_in_bits(slate, target, theirs):
    """Frozen numbers of TREC's fair ranking track of 2021 (``qr_awrf``), whose divergence is in nats."""
    attention = 1 / np.log2(np.maximum(np.arange(1, len(slate) + 1), 2))
    found = measures.awrf(np.bincount(slate, attention, 3), target)
    assert 1 - np.log(2) * (1 - found) == pytest.approx(theirs, abs=1e-9)


def test_awrf_is_one_less_the_divergence():
    """It is 1 − JS of SciPy, 1 for the target itself, 0 for exposure that lies elsewhere."""
    exposure, target = np.array([4.0, 1, 0, 2]), np.array([1.0, 1, 1, 1])
    assert measures.awrf(exposure, target) == pytest.approx(1 - jensenshannon(exposure, target, 2) ** 2)
    assert measures.awrf(5 * target, target) == pytest.approx(1)
    assert measures.awrf([1, 0], [0, 1]) == 0


def test_the_long_tail_is_beyond_four_fifths_of_events():
    """The most popular items that reach 80 % are the head; the share of a slate's other items is averaged."""
    tail = measures.long_tail([10, 50, 30, 6, 4])
    np.testing.assert_array_equal(tail, [True, False, False, True, True])
    assert measures.long_tail_share([[0, 1], [2, -1], [-1, -1], [3, 4]], tail) == pytest.approx(
        (0.5 + 0 + 1) / 3
    )


def test_survival_is_the_product_over_those_at_risk():
    """The Kaplan-Meier curve by hand, with one who came late and is there still."""
    curve = measures.survival([1, 3, 3, 2, 4], [True, True, False, False, False], 4)
    np.testing.assert_allclose(curve, [4 / 5, 4 / 5, 4 / 5 * 2 / 3, 4 / 5 * 2 / 3])
    with pytest.raises(DataError, match="rounds: 0"):
        measures.survival([0], [True], 2)


@pytest.mark.parametrize(
    ("guaranteed", "plain", "round_"),
    [
        ([1, 1, 4, 4], [2, 2, 2, 2], 3),  # −1, −2, 0, 2: level is not above
        ([3, 1, 1, 1], [2, 2, 2, 2], None),  # ahead once, not to the last
        ([3, 3], [2, 2], 0),
        ([2, 2], [2, 2], None),
    ],
)
def test_break_even_is_when_the_sum_stays_above(guaranteed, plain, round_):
    """The first round from whose end on the cumulated difference is positive, or None."""
    assert measures.break_even(guaranteed, plain) == round_


def test_welfare_of_a_round_is_counted_by_brute_force():
    """Users' welfare is all expected consumption, providers' the mean logarithm of theirs, whoever left included."""
    facts = made_up_round(random_items(12))
    facts = dataclasses.replace(
        facts, provider=np.arange(12) % 5, there=np.ones(5, bool), came=np.arange(5) < 4
    )
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
