"""Bound of consumptions plus fees, against all slates of a tiny market."""

import itertools

import numpy as np
import pytest

from rimsim.evaluation import ProviderTask, bound_at, provider_bound

ROUNDS = 2
ARRIVALS = 2
ITEMS = 3
DECAY = 0.5


def tiny_task(seed):
    """Two rounds of two arrivals with one position, three items, and what the items need to stay."""
    draw = np.random.default_rng(seed)
    need = draw.uniform(0.3, 1.2, ITEMS)
    satisfaction = np.full(ITEMS, draw.uniform(0.8, 1.8))
    start = satisfaction.copy()
    keeping = np.zeros((ROUNDS + 1, ITEMS))
    for number in range(ROUNDS):
        exposure = np.maximum(1 - DECAY * satisfaction, 0) * need
        satisfaction = DECAY * satisfaction + exposure / need
        keeping[number + 1] = keeping[number] + exposure
    task = ProviderTask(
        intensity=draw.gamma(1.0, 0.5, (ROUNDS * ARRIVALS, ITEMS)),
        admissible=draw.random((ROUNDS * ARRIVALS, ITEMS)) < 0.8,
        examination=np.ones(1),
        fee=float(draw.uniform(0.1, 1.0)),
        keeping=keeping,
    )
    return task, need, start


def best_objective(task, need, start):
    """Largest objective over all slates of all arrivals; items that left are not shown."""
    best = 0.0
    probability = -np.expm1(-task.intensity)
    for slates in itertools.product(range(-1, ITEMS), repeat=ROUNDS * ARRIVALS):
        total = 0.0
        satisfaction = start.copy()
        there = np.ones(ITEMS, bool)
        for number in range(ROUNDS):
            exposure = np.zeros(ITEMS)
            for row in range(number * ARRIVALS, (number + 1) * ARRIVALS):
                item = slates[row]
                if item >= 0 and there[item] and task.admissible[row, item]:
                    total += probability[row, item]
                    exposure[item] += 1
            satisfaction = DECAY * satisfaction + exposure / need
            there &= satisfaction >= 1 - 1e-9
            total += task.fee * there.sum()
        best = max(best, total)
    return best


@pytest.mark.parametrize("seed", range(12))
def test_no_slates_exceed_the_bound_at_any_prices(seed):
    """The bound is above the best of all slates at prices of 0, at any other prices, and after its search."""
    task, need, start = tiny_task(seed)
    best = best_objective(task, need, start)
    draw = np.random.default_rng(seed)
    prices = [np.zeros(ITEMS), *draw.gamma(1.0, 0.5, (5, ITEMS))]
    bounds = [bound_at(task, price)[0] for price in prices]
    solution = provider_bound(task, steps=60, step=0.2)
    assert min(*bounds, solution.value) >= best - 1e-9
    assert solution.value <= bounds[0]
    assert solution.value == bound_at(task, solution.price)[0]
    assert solution.value <= 1.5 * best + 0.2  # it says something


def test_the_bound_is_exact_without_fees():
    """Without fees, prices of 0 give the sum of each arrival's best slate."""
    task, _, _ = tiny_task(1)
    free = ProviderTask(task.intensity, task.admissible, task.examination, 0.0, task.keeping)
    best = np.where(task.admissible, -np.expm1(-task.intensity), 0).max(1).sum()
    assert bound_at(free, np.zeros(ITEMS))[0] == pytest.approx(best)
