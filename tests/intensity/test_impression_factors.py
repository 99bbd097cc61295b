"""Factors of impressions by policy, position and user: known factors of made-up impressions are found again."""

import dataclasses

import numpy as np
import pytest

from rimsim.intensity.impression_factors import GroupFactors, Grouping, fit_by_turns
from rimsim.intensity.impressions import Impressions, LayerFit

M = 30
N_USERS = 300
FACTORS = np.array([0.2, 1.0, 2.0])
SHAPE = 2.0


def _made_up(seed, m=40_000):
    """Impressions with factors of policies and gamma factors of users; items of one popularity."""
    draw = np.random.default_rng(seed)
    policy = draw.choice(3, m, p=[0.2, 0.5, 0.3])
    user = draw.integers(N_USERS, size=m)
    worth = draw.gamma(SHAPE, 1 / SHAPE, N_USERS)
    score = draw.uniform(0.05, 0.6, m)
    rate = score * FACTORS[policy] * worth[user]
    shown = Impressions(
        item=draw.integers(M, size=m),
        score=score,
        examination=np.ones(m),
        taken=draw.random(m) < -np.expm1(-rate),
        history=np.zeros(m, np.int64),
    )
    return shown, policy, user, worth, rate


def _start():
    return LayerFit.nothing(np.zeros(M, bool), (1.0, 1.0))


def test_without_groups_the_fit_is_that_of_a_round():
    """To the last bit."""
    shown, *_ = _made_up(0, 3000)
    by_turns = fit_by_turns(_start(), shown, {}).layer_fit
    of_round = _start().after(shown)
    for field in dataclasses.fields(LayerFit):
        np.testing.assert_array_equal(getattr(by_turns, field.name), getattr(of_round, field.name))


def test_known_factors_are_found():
    """Ratios of policies, the factors of users, their spread, and the level of the layer, which has slope 1."""
    shown, policy, user, worth, rate = _made_up(1)
    groupings = {"policy": Grouping(policy, 3, is_centred=True), "user": Grouping(user, N_USERS)}
    fit = fit_by_turns(_start(), shown, groupings)
    factor = fit.factors["policy"].mean
    assert factor / factor[1] == pytest.approx(FACTORS, rel=0.12)  # 500 events of the rarest
    assert np.average(factor, weights=np.bincount(policy, rate / FACTORS[policy])) == pytest.approx(
        1, abs=0.05
    )
    users = fit.factors["user"]
    assert users.shape == pytest.approx(SHAPE, rel=0.2)
    error = np.log(users.mean) - np.log(worth)
    enough = worth > 0.2
    assert np.sqrt((error[enough] ** 2).mean()) < 0.25
    assert fit.layer_fit.slope[0] == pytest.approx(1.0, abs=0.05)
    predicted = fit.rate(shown, {"policy": policy, "user": user})
    tenths = np.array_split(np.argsort(predicted), 10)
    for rows in tenths:
        assert predicted[rows].mean() == pytest.approx(rate[rows].mean(), rel=0.1)


def test_a_layer_without_factors_predicts_the_mean_policy():
    """With centred factors, the layer alone expects as many taken items as there are."""
    shown, policy, *_ = _made_up(2)
    fit = fit_by_turns(_start(), shown, {"policy": Grouping(policy, 3, is_centred=True)})
    predicted = -np.expm1(-fit.rate(shown, {"policy": policy}))
    assert predicted.sum() == pytest.approx(shown.taken.sum(), rel=0.01)
    for code in range(3):
        rows = policy == code
        assert predicted[rows].sum() == pytest.approx(shown.taken[rows].sum(), rel=0.03)


def test_unknown_groups_have_the_factor_one():
    """A group −1, in the fit and afterwards; without evidence all factors are 1."""
    factors = GroupFactors.nothing(2)
    assert factors.at(np.array([0, 1, -1])).tolist() == [1.0, 1.0, 1.0]
    grouping = Grouping(np.array([0, 0, -1, -1]), 2)
    fitted = GroupFactors.fitted(grouping, np.array([1.0, 1.0, 1.0, 0.0]), np.full(4, 0.5))
    assert (fitted.count.tolist(), fitted.expected.tolist()) == ([2.0, 0.0], [1.0, 0.0])
    assert fitted.at(np.array([-1, 1])).tolist() == [1.0, 1.0]
    assert fitted.at(np.array([0]))[0] == pytest.approx((fitted.shape + 2) / (fitted.shape + 1))
    assert fitted.shape_at(np.array([0, -1])).tolist() == [fitted.shape + 2, fitted.shape]
