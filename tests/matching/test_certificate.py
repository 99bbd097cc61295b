"""Certificates of any slates and prices: value, bound, rounding and wrong arguments."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import cases, refused

from rimsim.errors import AgentError, ConfigError
from rimsim.matching import (
    FactorScores,
    certificate,
    certificates,
)


@st.composite
def problems(draw):
    """A small problem with arbitrary admissible slates and arbitrary prices."""
    n = draw(st.integers(1, 6))
    m = draw(st.integers(1, 6))
    k = draw(st.integers(1, m))
    number = st.floats(-10, 10, allow_nan=False, width=32)
    scores = np.array(draw(st.lists(number, min_size=n * m, max_size=n * m))).reshape(n, m)
    flags = st.lists(st.booleans(), min_size=n * m, max_size=n * m)
    admissible = np.array(draw(flags), bool).reshape(n, m)
    slates = np.full((n, k), -1)
    for row in range(n):
        items = draw(st.permutations(list(np.flatnonzero(admissible[row]))))
        size = draw(st.integers(0, min(k, len(items))))
        slates[row, :size] = items[:size]
    floor = np.array(draw(st.lists(st.integers(0, n), min_size=m, max_size=m)))
    price = np.array(draw(st.lists(number, min_size=m, max_size=m)))
    cost = draw(st.floats(0, 20, allow_nan=False))
    return scores, admissible, slates, k, floor, price, cost


@settings(max_examples=300)
@given(problems(), st.integers(0, 2))
def test_bound_holds_for_any_slates_and_prices(case, room):
    """V of any admissible slates is at most D at any prices, clipped into the box or, under caps, of either sign."""
    scores, admissible, slates, k, floor, price, cost = case
    shown = np.bincount(slates[slates >= 0], minlength=scores.shape[1])
    for cap in (None, np.maximum(shown, floor) + room):
        proof = certificate(scores, slates, k, floor, price, cost, max_exposure=cap, admissible=admissible)
        assert proof.value <= proof.bound + 1e-9 * max(1.0, abs(proof.bound))
        assert (proof.price >= -cost).all()
        assert (proof.excess == 0) if cap is not None else (proof.price <= 0).all()


def test_value_and_bound_by_hand():
    """V charges the shortfall, D is the top sum at s − v less w·b; hidden scores count nothing, hard bounds all."""
    scores = np.array([[3.0, 1.0], [2.0, 1.5]])
    proof = certificate(scores, [[0], [0]], 1, [0, 1], [0.0, -0.25], 0.5)
    assert (proof.score, proof.shortfall, proof.value) == (5.0, 1, 4.5)
    assert proof.bound == 3.0 + 2.0 - 0.25
    assert proof.gap == pytest.approx((4.75 - 4.5) / 4.75)
    assert (proof.items_met, proof.items_required, proof.worst_ratio) == (0, 1, 0.0)
    assert (proof.exposure.tolist(), proof.shortfall_share) == ([2, 0], 1.0)
    scores = np.ones((2, 2))
    assert certificate(scores, [[0], [0]], 1, [0, 1], 0.0, None).value == -np.inf
    capped = certificate(scores, [[0], [0]], 1, 0, 0.0, None, max_exposure=[1, 2])
    assert capped.excess == 1
    assert capped.gap == np.inf
    scores = np.array([[np.nan, 1.0], [1e9, 2.0]])
    mask = np.array([[False, True], [False, True]])
    proof = certificate(scores, [[1], [1]], 1, 0, 0.0, None, admissible=mask)
    assert proof.value == proof.bound == 3.0


@cases(
    "slates message",
    ([[0, 0], [1, -1], [-1, -1]], "row 0 shows item 0 twice"),
    ([[0, 2], [1, -1], [-1, -1]], "row 0 shows item 2"),
    ([[0, -2], [1, -1], [-1, -1]], "row 0 shows item -2"),
    ([[-1, -1], [0, 1], [1, -1]], "row 1 shows item 0, which is not admissible"),
    ([[0, 1], [1, -1], [-1, -1]], "row 0 shows 2 items. Expected at most the capacity of this row, 1"),
    ([[0, -1]], r"shape \(1, 2\)"),
)
def test_what_is_no_slate(slates, message):
    """Repeated, unknown and inadmissible items, and more than fit, are named with the first of their rows."""
    mask = np.array([[True, True], [False, True], [True, False]])
    arguments = np.ones((3, 2)), slates, [1 if "capacity" in message else 2, 2, 2], 0, 0.0, None
    refused(AgentError, message, certificate, *arguments, admissible=mask)


@cases(
    "change message",
    ({"min_exposure": 1.5}, "min_exposure holds 1.5"),
    ({"min_exposure": [1, -1]}, "min_exposure holds -1"),
    ({"min_exposure": [1, 2, 3]}, r"min_exposure has shape \(3,\)"),
    ({"capacity": float("nan")}, "capacity holds nan"),
    ({"cost": -1.0}, "cost is -1.0"),
    ({"cost": [1.0, 2.0, 3.0]}, "one per item"),
    ({"cost": [1.0]}, "one per item"),
    ({"cost": [[1.0, 2.0]]}, "one per item"),
    ({"max_exposure": 0, "min_exposure": 1}, "item 0 has min_exposure 1 but max_exposure 0"),
    ({"scores": np.ones(3)}, r"scores have shape \(3,\)"),
    ({"scores": np.array([[1.0, np.nan]])}, "the score of user 0 and item 1 is nan"),
    ({"admissible": np.ones((3, 3))}, r"admissible has shape \(3, 3\)"),
)
def test_bad_arguments_of_a_certificate(change, message):
    """A wrong argument is named with what was found."""
    defaults = {"scores": np.ones((1, 2)), "slates": [[0]], "capacity": 1, "min_exposure": 0, "price": 0.0}
    refused(ConfigError, message, certificate, **({"cost": 1.0} | defaults | change))


@cases("rows starts", (200, [0, 128, 256]), (400, [0]), (100, [0, 100, 200]))
def test_scores_on_demand_are_asked_for_in_the_blocks_they_are_made_in(rows, starts, monkeypatch):
    """A block has 128 rows or a multiple, fewer only where it has no room for as many; value and bound are the same."""
    scores = np.random.default_rng(0).random((300, 20)).astype(np.float32)
    block_starts = []

    class Recorded(FactorScores):
        def rows(self, start, stop):
            block_starts.append(start)
            return scores[start:stop]

    arguments = (np.argsort(-scores, axis=1)[:, :3], 3, np.full(20, 5), np.full(20, -0.5), 1.0)
    in_weights = {"position_weights": [1.0, 0.5, 0.25]}
    of_matrix = [certificate(scores, *arguments, **options) for options in ({}, in_weights)]
    monkeypatch.setattr(certificates, "_CELLS", rows * 20)
    factors = Recorded(np.zeros((300, 1)), np.zeros((20, 1)))
    of_blocks = [certificate(factors, *arguments, **options) for options in ({}, in_weights)]
    assert block_starts == starts * 2
    for block_proof, matrix_proof in zip(of_blocks, of_matrix, strict=True):
        assert (block_proof.value, block_proof.bound) == pytest.approx(
            (matrix_proof.value, matrix_proof.bound), rel=1e-12
        )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_the_bound_is_what_sorting_gives(weighted, precision):
    """D is each user's largest s − v above 0, as many as fit, times their positions' weights, and v·(bounds)."""
    random = np.random.default_rng(3)
    n = 200
    m = 30
    k = 6
    scores = random.normal(size=(n, m)).astype(precision)
    admissible = random.random((n, m)) < 0.7
    capacity = random.integers(0, k + 1, n)
    weights = np.sort(random.random(k))[::-1].copy() if weighted else np.ones(k)
    floor = random.integers(0, 9, m)
    price = -random.random(m)
    value = np.where(admissible, scores.astype(np.float64) - price, -np.inf)
    value = -np.sort(-np.maximum(value, 0.0), axis=1)[:, :k]
    top = (value * weights * (np.arange(k) < capacity[:, None])).sum()
    options = {"admissible": admissible, "position_weights": weights if weighted else None}
    proof = certificate(scores, np.full((n, k), -1), capacity, floor, price, 1.0, **options)
    assert proof.bound == pytest.approx(top + price @ floor, rel=1e-12)


@cases("weight bound", (1.0, 0.5), (10.0, 5.0))
def test_exposures_that_rounding_takes_from_a_bound_reach_it(weight, bound):
    """Less than a share of 10⁻⁹ of a bound, or of 1 where it is smaller, is no shortfall and no excess."""
    weights = [weight, weight / 2]
    slack = 1e-9 * max(bound, 1.0)
    for difference, is_met in ((0.9 * slack, True), (1.1 * slack, False)):
        floor = [0.0, bound + difference, 0.0]
        cap = [weight, bound - difference, weight]
        arguments = (np.ones((1, 3)), [[0, 1]], 2)
        options = {"position_weights": weights}
        proofs = [
            certificate(*arguments, lower, 0.0, None, max_exposure=upper, **options)
            for lower, upper in ((floor, None), (0.0, cap))
        ]
        assert [proof.value > -np.inf for proof in proofs] == [is_met, is_met]
        assert (proofs[0].shortfall == 0, proofs[1].excess == 0) == (is_met, is_met)


@pytest.mark.parametrize("capacity", [0, [0, 2, 1]])
def test_users_without_positions_add_nothing_to_a_bound(capacity):
    """D(w) is Σ_users of the best values for their positions, less the bonuses of all required exposures."""
    scores = np.tile([[0.0, 0.0, 0.0, 2.0]], (3, 1))
    proof = certificate(scores, np.full((3, 2), -1), capacity, 1, -0.5, 1.0)
    assert proof.bound == (0.0 if capacity == 0 else 2.5 + 0.5 + 2.5) - 4 * 0.5
    assert proof.value == -4.0
