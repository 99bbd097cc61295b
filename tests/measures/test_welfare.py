"""Welfare of users and providers, counted by brute force."""

import dataclasses

import numpy as np
import pytest

from rimsim.measures import MEASURES, made_up_round
from rimsim.testing import random_items


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
    facts = dataclasses.replace(facts, sold=np.arange(12) % 4, on_offer=np.arange(12) % 5 < 2)
    assert MEASURES["items_sold"].value(facts) == 0.75
    assert MEASURES["catalogue_on_offer"].value(facts) == 0.5
    assert MEASURES["users_active"].value(facts) == len(set(facts.user.tolist()))
    weighted = dataclasses.replace(facts, position_weights=0.5 ** np.arange(4), cost=0.0)
    true = facts.true_intensity.sum(0)
    assert MEASURES["value_true"].value(weighted) == pytest.approx(true @ [1, 0.5, 0.25, 0.125])
