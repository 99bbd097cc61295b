"""The agent ``p-mmf``: its averaged errors, its projection and its budget."""

import numpy as np
import pytest
from kit.logs import arrivals_of, skewed, view_of
from scipy import optimize

from rimsim.agents import make_agent
from rimsim.agents.p_mmf import projected


def test_p_mmf_averages_its_errors():
    """D ← α·(b/N − x) + (1 − α)·d and μ ← μ − η·c/√b·d, clipped to D; with a wide budget the clip is at 0 alone."""
    n = 30
    m = 6
    k = 2
    alpha = 0.3
    eta = 0.5
    view = view_of(n, m, k)
    agent = make_agent(f"p-mmf(momentum={1 - alpha},eta={eta},strength=1000)")
    agent.begin_round(view)
    required = view.required.astype(float)
    error = np.zeros(m)
    price = np.zeros(m)
    for t, row in enumerate(skewed(n, m)):
        slates = agent.act(arrivals_of(row[None], first=t))
        shown = np.bincount(slates.items[0], minlength=m)
        error = alpha * (required / n - shown) + (1 - alpha) * error
        price = np.minimum(price - eta * view.cost / np.sqrt(required) * error, 0.0)
        assert agent.item_price == pytest.approx(price, abs=1e-12)
    assert price.min() < 0


def test_the_projection_is_that_of_a_quadratic_programme():
    """By sorting, the nearest point of {x ≥ 0, Σ b·x ≤ L}; SciPy finds none that is nearer."""
    draw = np.random.default_rng(0)
    for trial in range(40):
        m = int(draw.integers(1, 12))
        y = draw.standard_normal(m)
        weight = draw.integers(0, 5, m).astype(float)
        metric = np.sqrt(np.maximum(weight, 1.0)) if trial % 2 else draw.random(m) + 0.1
        limit = float(draw.choice([0.0, 0.3, 2.0, 100.0]))
        x = projected(y, weight, metric, limit)
        assert x.min() >= 0
        assert weight @ x <= limit + 1e-9

        def distance(z, y=y, metric=metric):
            return float(metric @ (z - y) ** 2)

        within = {"type": "ineq", "fun": lambda z, w=weight, top=limit: top - w @ z}
        search = {"bounds": [(0.0, None)] * m, "constraints": within, "method": "SLSQP"}
        best = optimize.minimize(distance, np.zeros(m), **search, options={"ftol": 1e-13, "maxiter": 500})
        assert distance(x) <= best.fun + 1e-7


def test_the_budget_of_p_mmf_is_kept():
    """Σ b·(−μ) never exceeds its budget, and a small budget is used up."""
    n = 150
    m = 40
    k = 3
    view = view_of(n, m, k)
    agent = make_agent("p-mmf(strength=0.05,eta=1)")
    agent.begin_round(view)
    used = []
    for t, row in enumerate(skewed(n, m)):
        agent.act(arrivals_of(row[None], first=t))
        used.append(-agent.item_price @ view.required)
    limit = 0.05 * view.cost * view.required.sum()
    assert max(used) <= limit * (1 + 1e-9)
    assert used[-1] == pytest.approx(limit)
