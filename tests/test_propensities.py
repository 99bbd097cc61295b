"""Propensities against an enumeration of all slates."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from made_arrivals import arrivals_of
from small_markets import small_scenario

from rimsim.agents import make_agent
from rimsim.market import Market

ADMISSIBLE = ("111111", "101101", "110000")
"""Three arrivals' admissible ones of six items; the last has fewer than a slate holds."""
RELEVANCE = np.array([0.1, 0.6, 0.2, 0.5, 0.3, 0.4])
SLATE = 3


def _answered(agent, capacity):
    """The answer of an agent to the three arrivals."""
    admissible = np.array([[letter == "1" for letter in row] for row in ADMISSIBLE])
    agent = make_agent(agent)
    agent.begin_round(Market(small_scenario(rounds=1, slate=SLATE)).round_view())
    return agent.act(arrivals_of(np.where(admissible, RELEVANCE, 0.0), admissible, capacity))


@pytest.mark.parametrize("capacity", [None, 2, 1])
@pytest.mark.parametrize(
    ("agent", "epsilon"),
    [("random", 1.0)]
    + [(f"epsilon-greedy(epsilon={epsilon})", epsilon) for epsilon in (0.0, 0.1, 0.35, 1.0)],
)
def test_a_propensity_is_the_share_of_all_slates_that_show_the_item(agent, epsilon, capacity):
    """It is (1 − ε)·[among the best shown] + ε·(share of ordered uniform slates that show it), in float32."""
    slates = _answered(agent, capacity)
    shown = SLATE if capacity is None else capacity
    for row, letters in enumerate(ADMISSIBLE):
        items = [item for item, letter in enumerate(letters) if letter == "1"]
        best = sorted(items, key=lambda item: -RELEVANCE[item])[:shown]
        uniform = list(permutations(items, min(SLATE, len(items))))
        for item, propensity in zip(slates.items[row], slates.propensity[row], strict=True):
            if item >= 0:
                share = sum(item in slate[:shown] for slate in uniform) / len(uniform)
                assert propensity == pytest.approx((1 - epsilon) * (item in best) + epsilon * share, rel=1e-6)


def test_the_share_of_arrivals_that_are_explored_is_epsilon():
    """Of 40,000 arrivals, those with another slate than the best are ε·(1 − 1/slates) within four standard errors."""
    n, epsilon = 40_000, 0.1
    agent = make_agent(f"epsilon-greedy(epsilon={epsilon})")
    agent.begin_round(Market(small_scenario(rounds=1, slate=SLATE)).round_view())
    arrivals = arrivals_of(np.tile(RELEVANCE, (n, 1)))
    items = agent.act(arrivals).items
    others = (np.sort(items, axis=1) != np.sort(np.argsort(-RELEVANCE)[:SLATE])[None, :]).any(1)
    expected = epsilon * (1 - 1 / 20)  # 20 sets of three among six
    assert abs(others.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / n)
