"""Numbers that agents take from the states of past rounds, against counts by hand."""

from dataclasses import replace

import numpy as np
import pytest
from kit import calls_of, cases
from kit.logs import Chunks, arrivals_of, skewed, view_of

from rimsim.agents import States, prices
from rimsim.agents.feasibility import _seen, _Times
from rimsim.agents.past_states import admissible_shares, capacities
from rimsim.agents.prices import SAMPLED_TOL, cost_of_missing, solved_prices
from rimsim.requirements.rows import Requirements, Row

M = 6
K = 2


@pytest.mark.parametrize("scale", [0.01, 1.0, 9.0])
def test_a_missing_exposure_costs_more_than_any_is_worth_where_floors_are_hard(scale):
    """Soft, it costs c; hard, four times the largest λ where that is more, and c where there are no states."""
    scores = np.float32(scale) * np.random.default_rng(0).random((5, M)).astype(np.float32)
    states = States(scores, np.full(5, K))
    for n in (5, 0):
        first_states = states.rows(slice(n))
        largest = float(scores[:n].max()) if n else 0.0
        assert cost_of_missing(view_of(5, M, K, cost=0.5), first_states) == 0.5
        assert cost_of_missing(view_of(5, M, K, cost=0.5, hard=True), first_states) == max(0.5, 4.0 * largest)


@pytest.mark.parametrize("n_arrived", [10, 40])
@pytest.mark.parametrize("floor", [0.4, 1.4, 1.6])
@pytest.mark.parametrize("tol", [1e-4, 0.1])
def test_prices_of_a_sample_with_few_positions_an_item_need_not_be_near(monkeypatch, n_arrived, floor, tol):
    """Floors stay real, and a wider gap does, where states are a sample that has fewer than 1.5 positions an item."""
    view = view_of(40, M, K, past=arrivals_of(skewed(10, M)), n_past_arrivals=n_arrived)
    view = replace(view, required=np.full(M, 4 * floor))
    calls = calls_of(monkeypatch, prices, "solve_prices")
    solved_prices(view, tol)
    (arguments,) = calls
    is_sample = n_arrived == 40 and floor < 1.5
    assert arguments["options"]["for_bound"] == is_sample
    assert arguments["tol"] == (max(tol, SAMPLED_TOL) if is_sample else tol)
    if is_sample:
        assert arguments["min_exposure"] == pytest.approx(np.full(M, floor))
    else:
        assert arguments["min_exposure"].dtype == np.int64
        assert set(arguments["min_exposure"]) <= {np.floor(floor), np.floor(floor) + 1}


@pytest.mark.parametrize("hard", [False, True])
def test_an_item_that_no_past_state_could_show_starts_at_the_cost(hard):
    """Past states do not tell its price, so it is −c, also if hard floors let other prices fall below."""
    admissible = np.arange(M) > 0
    past = arrivals_of(skewed(20, M) * admissible, np.tile(admissible, (20, 1)))
    price, _ = solved_prices(view_of(20, M, K, cost=0.5, past=past, hard=hard), 1e-4)
    assert price[0] == -0.5


def test_what_a_round_knows_of_last_rounds_states_is_a_count_over_them():
    """To what share an item could be shown, and what a slate holds of each row, by loops over two chunks of states."""
    draw = np.random.default_rng(4)
    weights = np.array([1.0, 0.5])
    released = np.array([-np.inf, -np.inf, 5.0, 14.5, 19.0, 99.0])
    rows = [
        Row("all", np.array([0, 1, 3]), 9.0, arrivals=20.0),
        Row("once", np.array([1, 2]), 9.0, arrivals=1.0, audience=0),
        Row("never", np.array([4]), 9.0, arrivals=1.0, audience=1),
        Row("some", np.array([5, 0]), 9.0, arrivals=9.0, audience=2),
    ]
    admissible = draw.random((20, M)) < 0.6
    capacity = draw.integers(0, 4, 20)
    counts = np.column_stack([np.arange(20) == 13, np.zeros(20, bool), draw.random(20) < 0.5])
    arrivals = arrivals_of(skewed(20, M), admissible)
    arrivals = replace(arrivals, capacity=capacity, audiences=counts)
    parts = [arrivals.rows(slice(0, 12)), arrivals.rows(slice(12, 20))]
    view = replace(view_of(20, M, K, unit="examined", decay=0.5), promises=Requirements.of(rows))
    knowledge = _seen(
        replace(view, calibration=Chunks(parts)), _Times(released, None), np.array([0.0, 1.0, 1.5])
    )
    for item in range(M):
        rows_after_release = [row for row in range(20) if row >= released[item]]
        chance = np.mean([admissible[row, item] for row in rows_after_release]) if rows_after_release else 1.0
        assert knowledge.chance[item] == pytest.approx(chance)
    assert knowledge.filled == pytest.approx(np.mean([weights[: min(size, K)].sum() for size in capacity]))
    for number, row in enumerate(rows):
        positions = []
        for visit in range(20):
            if row.audience < 0 or counts[visit, row.audience]:
                n_items = sum(admissible[visit, item] or visit < released[item] for item in row.items)
                positions.append(weights[: min(capacity[visit], n_items)].sum())
        assert knowledge.of_rows[number] == pytest.approx(np.mean(positions) if positions else 1.5)


def test_chances_are_shares_of_states_and_one_where_nobody_may_be_shown_an_item():
    """(M,) shares over all chunks; an item that none of the states may be shown has 1, as all have without states."""
    admissible = np.random.default_rng(2).random((9, M)) < 0.5
    admissible[:, 2] = False
    parts = [arrivals_of(skewed(9, M)[part], admissible[part]) for part in (slice(0, 4), slice(4, 9))]
    view = replace(view_of(9, M, K), calibration=Chunks(parts))
    assert admissible_shares(view) == pytest.approx(np.where(np.arange(M) == 2, 1.0, admissible.mean(0)))
    assert admissible_shares(view_of(9, M, K)).tolist() == [1.0] * M
    chunks = [arrivals_of(skewed(3, M)), arrivals_of(skewed(2, M), capacity=1)]
    assert capacities(chunks, K).tolist() == [K] * 3 + [1] * 2
    assert capacities(chunks[1:], K).tolist() == [1] * 2


@cases("pace n_arrived scale", ("arrivals", None, 10 / 40), ("clock", None, 1.0), ("clock", 25, 10 / 25))
def test_floors_are_scaled_to_the_states_that_represent_the_round(monkeypatch, pace, n_arrived, scale):
    """By arrivals, ten states stand for the 40 expected; by the clock, for as many as came in the last round."""
    view = view_of(40, M, K, past=arrivals_of(skewed(10, M)), n_past_arrivals=n_arrived, pace=pace)
    required = np.arange(M) * 2.0
    calls = calls_of(monkeypatch, prices, "solve_prices")
    solved_prices(replace(view, required=required), 1e-3)
    floors = calls[0]["min_exposure"]
    assert (np.abs(floors - np.minimum(required * scale, 10)) < 1.0).all()
    assert abs(floors.sum() - np.minimum(required * scale, 10).sum()) < M / 2
