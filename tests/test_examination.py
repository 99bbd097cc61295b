"""γ estimated from ledgers: against closed forms, brute force, and made-up ledgers whose γ is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from rimsim.errors import DataError
from rimsim.evaluation import DecayEstimate, decay_of_counts, decay_of_slates, taken_by_position
from rimsim.rng import Purpose, generator


def drawn(seed: int) -> np.random.Generator:
    """The generator of a made-up ledger."""
    return generator(seed, Purpose.MEASURE, 15)


def random_ledger(seed: int, *, decay: float, n: int = 800, m: int = 50, k: int = 6):
    """Uniform slates over items of different worth, and what is taken of them."""
    draw = drawn(seed)
    item = np.argsort(draw.random((n, m)), 1)[:, :k]
    rate = np.exp(draw.normal(-3.0, 0.5, m))[item] * decay ** np.arange(k)
    return item, draw.random((n, k)) < -np.expm1(-rate)


def confounded_ledger(seed: int, *, decay: float, n: int = 1500, m: int = 40, k: int = 8):
    """Slates of the largest scores, so that better items stand above; scores err, and levels differ by state.

    Two models share the states. Returns items, what is taken of them, and scores, each (n, k).
    """
    draw = drawn(seed)
    worth = draw.normal(0, 0.5, m) + draw.normal(0, 0.5, (n, m)) + draw.normal(-2.5, 0.7, (n, 1))
    model = np.where(draw.random((n, 1)) < 0.5, draw.normal(0, 0.3, m), draw.normal(0, 0.3, m))
    score = 0.7 * worth + model + draw.normal(0, 0.3, (n, m)) - 0.5
    item = np.argsort(-score, 1)[:, :k]
    rate = np.exp(np.take_along_axis(worth, item, 1)) * decay ** np.arange(k)
    taken = draw.random((n, k)) < -np.expm1(-rate)
    return item, taken, np.exp(np.take_along_axis(score, item, 1))


def test_two_positions_have_a_closed_form():
    """With two positions the likelihood is saturated: γ is the ratio of the two log chances of not being taken."""
    found = decay_of_counts([[400, 500], [120, 90]])
    assert found.decay == pytest.approx(np.log1p(-90 / 500) / np.log1p(-120 / 400), rel=1e-4)


def test_the_estimate_and_its_error_are_those_of_the_likelihood():
    """The estimate minimises the binomial likelihood, and its error is the root of that function's inverse Hessian."""
    shown, taken = np.array([[300, 280, 310, 200], [60, 41, 33, 25]])

    def loss(theta):
        rate = np.exp(theta[0] + theta[1] * np.arange(4))
        return (-taken * np.log(-np.expm1(-rate)) + (shown - taken) * rate).sum()

    best = minimize(loss, [-1.0, 0.0], method="BFGS", options={"gtol": 1e-8})
    found = decay_of_counts([shown, taken])
    step = 1e-3
    eye = np.eye(2) * step
    hessian = [
        [
            (loss(best.x + a + b) - loss(best.x + a - b) - loss(best.x - a + b) + loss(best.x - a - b))
            for b in eye
        ]
        for a in eye
    ]
    error = np.sqrt(np.linalg.inv(np.array(hessian) / (4 * step**2))[1, 1])
    assert found.log_decay == pytest.approx(best.x[1], abs=1e-4)
    assert found.error == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("decay", [0.6, 0.85, 1.0])
def test_random_slates_give_the_decay_within_its_interval_at_the_right_rate(decay):
    """Of 100 made-up ledgers of uniform slates, about 95 % have the true γ in the interval."""
    inside = 0
    for seed in range(100):
        low, high = decay_of_counts(taken_by_position(*random_ledger(seed, decay=decay))).interval
        inside += low <= decay <= high
    assert inside >= 89


@pytest.mark.parametrize("decay", [0.7, 0.85])
def test_harvested_positions_give_the_decay_where_better_items_stand_above(decay):
    """At least 90 % of confounded ledgers have the true γ in its interval, where rates by position hardly ever do."""
    right, naive, estimates = 0, 0, []
    for seed in range(60):
        item, taken, score = confounded_ledger(seed, decay=decay)
        found = decay_of_slates(item, taken, score)
        estimates.append(found)
        right += found.interval[0] <= decay <= found.interval[1]
        low, high = decay_of_counts(taken_by_position(item, taken)).interval
        naive += low <= decay <= high
    assert right >= 54
    assert naive <= 6
    assert DecayEstimate.pooled(estimates).decay == pytest.approx(decay, abs=0.01)


def test_order_of_slates_and_names_of_items_do_not_matter():
    """Neither the order of the slates nor the items' numbers move the estimate; empty positions count nothing."""
    item, taken, score = confounded_ledger(3, decay=0.8)
    found = decay_of_slates(item, taken, score)
    order = drawn(4).permutation(len(item))
    other = decay_of_slates(1000 - 7 * item[order], taken[order], score[order])
    assert other.log_decay == pytest.approx(found.log_decay, abs=1e-6)
    empty = np.full((5, item.shape[1]), -1)
    more = [
        np.concatenate(pair)
        for pair in ((item, empty), (taken, empty < 0), (score, np.full(empty.shape, np.nan)))
    ]
    assert decay_of_slates(*more).log_decay == pytest.approx(found.log_decay, abs=1e-6)
    assert taken_by_position(*more[:2]).tolist() == taken_by_position(item, taken).tolist()


def test_nothing_taken_gives_no_estimate():
    """Without a single consumption there is nothing to estimate from."""
    item = np.arange(6).reshape(2, 3)
    assert decay_of_counts([[5, 5], [0, 0]]) is None
    assert decay_of_slates(item, np.zeros((2, 3), bool), np.ones((2, 3))) is None
    assert DecayEstimate.pooled([]) is None


def test_pooling_weighs_by_precision():
    """Two estimates of errors 1 and 1/2 have the weights 1 and 4; their mean has the error (1 + 4)^(−1/2)."""
    found = DecayEstimate.pooled([DecayEstimate(-0.5, 1.0), DecayEstimate(-0.25, 0.5)])
    assert found.log_decay == pytest.approx(-0.3)
    assert found.error == pytest.approx(5**-0.5)


def test_a_decay_is_brought_into_its_bounds():
    """γ is at most 1 and at least .2, while the interval keeps what the data say."""
    assert DecayEstimate(0.2, 0.1).decay == 1.0
    assert DecayEstimate(-9.0, 0.1).decay == 0.2
    assert DecayEstimate(0.2, 0.1).interval[1] > 1.2


def test_bad_ledgers_are_refused():
    """Arrays that do not belong together, impossible counts and scores that are no intensities are errors."""
    item, taken = np.arange(6).reshape(2, 3), np.ones((2, 3), bool)
    with pytest.raises(DataError, match="item and taken"):
        taken_by_position(item, taken[:, :2])
    with pytest.raises(DataError, match="taken ≤ shown"):
        decay_of_counts([[1, 1], [2, 0]])
    with pytest.raises(DataError, match="score"):
        decay_of_slates(item, taken, np.full((2, 3), -1.0))
    with pytest.raises(DataError, match="score"):
        decay_of_slates(item, taken, np.ones((2, 2)))
