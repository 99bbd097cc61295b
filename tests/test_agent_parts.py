"""Parts of agents called by themselves: what a missing exposure costs, how near prices are solved, who takes turns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_online_agents import Chunks, arrivals_of, skewed, view_of

from rimsim.agents import States, prices
from rimsim.agents.fair_rec import _chosen, _turns
from rimsim.agents.feasibility import _seen
from rimsim.agents.prices import SAMPLED_TOL, admissible_shares, capacities, cost_of_missing, solved_prices
from rimsim.matching import tie_rank
from rimsim.requirements.rows import Requirements, Row

M, K = 6, 2
BITS = np.uint64(77)


@pytest.mark.parametrize("scale", [0.01, 1.0, 9.0])
def test_a_missing_exposure_costs_more_than_any_is_worth_where_floors_are_hard(scale):
    """Soft, it costs c; hard, four times the largest λ where that is more, and c where there are no states."""
    scores = np.float32(scale) * np.random.default_rng(0).random((5, M)).astype(np.float32)
    states = States(scores, np.ones((5, M), bool), np.full(5, K))
    for n in (5, 0):
        some = states.rows(slice(n))
        largest = float(scores[:n].max()) if n else 0.0
        assert cost_of_missing(view_of(5, M, K, cost=0.5), some) == 0.5
        assert cost_of_missing(view_of(5, M, K, cost=0.5, hard=True), some) == max(0.5, 4.0 * largest)


@pytest.mark.parametrize("came", [10, 40])
@pytest.mark.parametrize("floor", [0.4, 1.4, 1.6])
@pytest.mark.parametrize("tol", [1e-4, 0.1])
def test_prices_of_a_sample_with_few_positions_an_item_need_not_be_near(monkeypatch, came, floor, tol):
    """Floors stay real, and a wider gap does, where states are a sample that has fewer than 1.5 positions an item."""
    view = view_of(40, M, K, past=arrivals_of(skewed(10, M)), came=came)
    view = replace(view, required=np.full(M, 4 * floor))
    asked = {}

    def noted(scores, capacity, required, most, **given_):
        asked.update(given_, required=required)
        return solve(scores, capacity, required, most, **given_)

    solve = prices.solve_prices
    monkeypatch.setattr(prices, "solve_prices", noted)
    solved_prices(view, tol)
    real = came == 40 and floor < 1.5
    assert asked["for_bound"] == real
    assert asked["tol"] == (max(tol, SAMPLED_TOL) if real else tol)
    if real:
        assert asked["required"] == pytest.approx(np.full(M, floor))
    else:
        assert asked["required"].dtype == np.int64
        assert set(asked["required"]) <= {np.floor(floor), np.floor(floor) + 1}


def test_what_a_round_knows_of_last_rounds_states_is_a_count_over_them():
    """To what share an item could be shown, and what a slate holds of each row, by loops over two chunks of states."""
    draw, weights = np.random.default_rng(4), np.array([1.0, 0.5])
    released = np.array([-np.inf, -np.inf, 5.0, 14.5, 19.0, 99.0])
    rows = [
        Row("all", np.array([0, 1, 3]), 9.0, arrivals=20.0),
        Row("once", np.array([1, 2]), 9.0, arrivals=1.0, audience=0),
        Row("never", np.array([4]), 9.0, arrivals=1.0, audience=1),
        Row("some", np.array([5, 0]), 9.0, arrivals=9.0, audience=2),
    ]
    admissible, capacity = draw.random((20, M)) < 0.6, draw.integers(0, 4, 20)
    counts = np.column_stack([np.arange(20) == 13, np.zeros(20, bool), draw.random(20) < 0.5])
    whole = arrivals_of(skewed(20, M), admissible)
    parts = [
        replace(
            arrivals_of(skewed(20, M)[part], admissible[part]),
            time=whole.time[part],
            capacity=capacity[part],
            audiences=counts[part],
        )
        for part in (slice(0, 12), slice(12, 20))
    ]
    view = replace(view_of(20, M, K, unit="examined", decay=0.5), promises=Requirements.of(rows))
    seen = _seen(replace(view, calibration=Chunks(parts)), released, np.array([0.0, 1.0, 1.5]))
    for item in range(M):
        there = [row for row in range(20) if row >= released[item]]
        chance = np.mean([admissible[row, item] for row in there]) if there else 1.0
        assert seen.chance[item] == pytest.approx(chance)
    assert seen.filled == pytest.approx(np.mean([weights[: min(size, K)].sum() for size in capacity]))
    for number, row in enumerate(rows):
        held = [
            weights[
                : min(capacity[at], sum(admissible[at, item] or at < released[item] for item in row.items))
            ]
            for at in range(20)
            if row.audience < 0 or counts[at, row.audience]
        ]
        assert seen.of_rows[number] == pytest.approx(np.mean([one.sum() for one in held]) if held else 1.5)


def test_chances_are_shares_of_states_and_one_where_nobody_may_be_shown_an_item():
    """(M,) shares over all chunks; an item that none of the states may be shown has 1, as all have without states."""
    admissible = np.random.default_rng(2).random((9, M)) < 0.5
    admissible[:, 2] = False
    parts = [arrivals_of(skewed(9, M)[part], admissible[part]) for part in (slice(0, 4), slice(4, 9))]
    view = replace(view_of(9, M, K), calibration=Chunks(parts))
    assert admissible_shares(view) == pytest.approx(np.where(np.arange(M) == 2, 1.0, admissible.mean(0)))
    assert admissible_shares(view_of(9, M, K)).tolist() == [1.0] * M
    some = [arrivals_of(skewed(3, M)), arrivals_of(skewed(2, M), capacity=1)]
    assert capacities(some, K).tolist() == [K] * 3 + [1] * 2
    assert capacities(some[1:], K).tolist() == [1] * 2


levels = st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 2)), min_size=1, max_size=9)


@settings(max_examples=150, deadline=None)
@given(levels, st.integers(1, 4), st.integers(0, 4))
@example([(0, 0)] * 9, 2, 0)  # values of nothing, with ties at the end of the slate
@example([(0, 1), (0, 0)] * 4, 3, 2)
def test_turns_take_copies_first_and_slates_stand_in_order(items, k, turns):
    """By sorts: the best items of which copies are left, then the best others, all by value, ties by seeded rank."""
    value = np.array([-np.inf if level < 0 else level / 4.0 for level, _ in items])
    copies = np.array([number / 2.0 for _, number in items])

    def key(item):
        return (-value[item], -int(tie_rank(BITS, item)))

    may = sorted(np.flatnonzero(value > -np.inf).tolist(), key=key)
    taken = [item for item in may if copies[item] > 0][: min(turns, k)]
    slate = sorted([*taken, *[item for item in may if item not in taken][: k - len(taken)]], key=key)
    found = np.full(k, -1)
    size = _chosen(value, copies, min(turns, k), BITS, found)
    assert found[:size].tolist() == slate


def test_turns_are_as_many_as_deliver_what_is_due():
    """The last positions are added up from the last one on; nothing due needs none, too much needs all."""
    weight = np.array([1.0, 0.5, 0.25])
    for most, due, turns in (
        (3, 0.0, 0),
        (3, 0.25, 1),
        (3, 0.26, 2),
        (3, 0.8, 3),
        (3, 9.0, 3),
        (1, 0.1, 1),
        (0, 1.0, 0),
    ):
        assert _turns(due, most, weight) == turns
