"""The agent ``entropic-dual``: its smoothed dual, prices and temperature, against solvers and enumerations."""

import itertools

import numpy as np
import pytest
from kit import cases
from kit.logs import arrivals_of, skewed, view_of
from scipy import optimize

from rimsim import measures
from rimsim.agents import States, make_agent
from rimsim.agents.entropic_dual import entropic_prices
from rimsim.agents.gibbs import gibbs_law, inclusion_sums


def test_inclusion_probabilities_of_a_large_catalogue():
    """With thousands of items, at any temperature, they lie in [0, 1], sum to k and follow the order of the scores."""
    draw = np.random.default_rng(0)
    inclusion = np.empty(3_700)
    for scale in (1e-3, 1.0, 50.0, 1e4):
        z = np.sort(draw.standard_normal(3_700)) * scale
        gibbs_law(z, 37, np.empty(3_700), np.empty((3_701, 38)), inclusion, np.empty(0), inclusion)
        assert 0 <= inclusion.min() <= inclusion.max() <= 1
        assert inclusion.sum() == pytest.approx(37, rel=1e-9)
        assert (np.diff(inclusion) >= -1e-12).all()


def smoothed_dual(scores, bonus, k, required, epsilon):
    """Σ ε·log Σ_S exp(Σ_S (s + w)/ε) − w·b, by enumeration."""
    total = 0.0
    for row in scores.astype(float):
        z = (row + bonus) / epsilon
        sums = np.array([z[list(members)].sum() for members in itertools.combinations(range(len(z)), k)])
        total += epsilon * (sums.max() + np.log(np.exp(sums - sums.max()).sum()))
    return total - bonus @ required


@pytest.mark.parametrize("cost", [5.0, 0.2])
def test_entropic_prices_minimise_the_smoothed_dual(cost):
    """The bonuses reach the minimum that a general solver finds over the box, whether the box binds or not."""
    scores = skewed(12, 6, 4)
    k = 2
    epsilon = 0.15
    required = np.full(6, 2.5)
    states = States(scores, np.full(12, k))
    bonus = -entropic_prices(states, required, cost, epsilon, 1e-9)
    value = smoothed_dual(scores, bonus, k, required, epsilon)
    search = {"method": "L-BFGS-B", "options": {"ftol": 1e-14, "gtol": 1e-9}, "bounds": [(0.0, cost)] * 6}
    start = np.full(6, 0.05)
    best = optimize.minimize(lambda w: smoothed_dual(scores, w, k, required, epsilon), start, **search)
    assert 0 <= bonus.min() <= bonus.max() <= cost
    assert value == pytest.approx(best.fun, rel=1e-6)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_entropic_prices_meet_floors_of_any_unit_and_buy_nothing_beyond(k):
    """On their states little is missing in expectation, or bought in excess, whether positions count alike or not."""
    admissible = np.random.default_rng(0).random((60, 8)) < 0.9
    states = States(np.where(admissible, skewed(60, 8), -np.inf).astype(np.float32), np.full(60, k))
    for weights in (measures.position_weights(0.6, k), np.full(k, 0.5)):
        required = np.full(8, 0.4 * 60 * k / 8 * measures.mean_weight(weights))
        price = entropic_prices(states, required, 50.0, 0.2, 1e-3, weights)
        mean, spread, exposure = np.zeros((3, 8))
        inclusion_sums(*states, price, 0.2, mean, spread, weights, exposure)
        assert exposure.sum() == pytest.approx(60 * weights.sum())
        assert np.maximum(required - exposure, 0).sum() <= 0.01 * required.sum()
        assert np.maximum(exposure - required, 0)[price < 0].sum() <= 0.02 * required.sum()


@pytest.mark.parametrize("scale", [0.05, 1.0, 40.0])
def test_the_temperature_is_relative_to_the_last_item_of_a_median_state(scale):
    """ε is a share of the median of the k-th largest scores, of items that may be shown; of c where that is 0."""
    scores = np.float32(scale) * skewed(31, 6)
    admissible = np.random.default_rng(1).random(scores.shape) < 0.7
    view = view_of(31, 6, 2, past=arrivals_of(scores, admissible))
    agent = make_agent("entropic-dual(temperature=0.3)")
    agent.begin_round(view)
    second = [
        sorted([*row[is_admissible], 0.0, 0.0])[-2]
        for row, is_admissible in zip(scores, admissible, strict=True)
    ]
    assert agent._epsilon == pytest.approx(0.3 * np.median(second))
    agent.begin_round(view_of(31, 6, 2, past=arrivals_of(scores, np.zeros(scores.shape, bool))))
    assert agent._epsilon == pytest.approx(0.3 * view.cost)


@cases("n_states places", (4, [1, 4, 7, 10]), (12, range(12)), (99, range(12)))
def test_prices_are_solved_on_evenly_spaced_states(n_states, places):
    """Of twelve past states some are taken, with floors of their share of the 30 arrivals expected."""
    scores = skewed(12, 6, 5)
    view = view_of(30, 6, 2, past=arrivals_of(scores), cost=2.0)
    agent = make_agent(f"entropic-dual(states={n_states})")
    agent.begin_round(view)
    states = States(scores[list(places)], np.full(len(places), 2))
    required = view.required * len(places) / 30
    expected = entropic_prices(states, required, 2.0, agent._epsilon, 1e-3, view.position_weights)
    assert expected.min() < 0
    assert agent.item_price == pytest.approx(expected)
