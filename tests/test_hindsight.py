"""Plans for a whole round: their optimum by a linear programme, and how a plan that was overtaken is mended."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from test_online_agents import Chunks, arrivals_of, view_of

from rimsim.agents import make_agent

N, M, K, COST = 14, 6, 3, 0.3
CAPACITY = np.array([3, 2, 1, 0, 3, 3, 2, 1, 3, 3, 3, 2, 3, 3])


def _round(seed, share=0.7):
    """A view and the arrivals of its round, of which some have few positions, and some few items to be shown."""
    draw = np.random.default_rng(seed)
    scores = (draw.random((N, M)) * np.exp(draw.standard_normal(M))).astype(np.float32)
    admissible = draw.random((N, M)) < 0.8
    admissible[4] = np.arange(M) < 2
    arrivals = replace(arrivals_of(scores * admissible, admissible), capacity=CAPACITY)
    arrivals = replace(
        arrivals, ground_intensity=torch.from_numpy(draw.uniform(0.5, 2.0, N).astype(np.float32))
    )
    view = view_of(N, M, K, share=share, cost=COST, unit="examined")
    return replace(view, audience=Chunks([arrivals])), arrivals


def _optimum(scores, admissible, required):
    """Maximise Σ λ·x − c·Σ s over 0 ≤ x ≤ admissible, Σ_y x ≤ capacity, Σ_x x + s ≥ b."""
    rows = np.zeros((N + M, N * M + M))
    for row in range(N):
        rows[row, row * M : (row + 1) * M] = 1.0
    for item in range(M):
        rows[N + item, item : N * M : M] = -1.0
        rows[N + item, N * M + item] = -1.0
    bounds = [(0, float(ok)) for ok in admissible.ravel()] + [(0, None)] * M
    found = linprog(
        np.concatenate([-scores.ravel(), np.full(M, COST)]),
        A_ub=rows,
        b_ub=np.concatenate([CAPACITY, -required]).astype(float),
        bounds=bounds,
    )
    return -found.fun


@pytest.mark.parametrize("name", ["hindsight", "offline-match"])
@pytest.mark.parametrize("seed", range(4))
def test_a_plan_is_the_optimum_of_the_round(name, seed):
    """Its value is that of the linear programme; slates stand in descending λ − v, with their prices beside them."""
    view, arrivals = _round(seed)
    agent = make_agent(name)
    agent.begin_round(view)
    slates = agent.act(arrivals)
    scores = arrivals.intensity.numpy().astype(np.float64)
    admissible = arrivals.admissible.numpy()
    shown = [[int(item) for item in row if item >= 0] for row in slates.items]
    assert all(len(row) == len(set(row)) for row in shown)
    assert [len(row) for row in shown] == np.minimum(CAPACITY, admissible.sum(1)).tolist()
    assert all(admissible[number, row].all() for number, row in enumerate(shown))
    exposure = np.bincount([item for row in shown for item in row], minlength=M)
    value = sum(scores[number, row].sum() for number, row in enumerate(shown))
    value -= COST * np.maximum(view.required - exposure, 0).sum()
    assert value == pytest.approx(_optimum(scores, admissible, view.required), rel=2e-4)
    for number, row in enumerate(shown):
        assert slates.items[number, len(row) :].tolist() == [-1] * (K - len(row))
        worth = scores[number, row] - agent.item_price[row]
        assert (np.diff(worth) <= 1e-12).all()
        assert slates.price[number, : len(row)] == pytest.approx(agent.item_price[row], rel=1e-6)
        assert np.isnan(slates.price[number, len(row) :]).all()
    assert (agent.item_price <= 0).all()
    assert (agent.item_price >= -COST).all()


@pytest.mark.parametrize(("share", "scale"), [(0.7, 1.0), (0.3, 1.0), (0.7, 0.2)])
@pytest.mark.parametrize("seed", range(6))
def test_what_can_no_longer_be_shown_is_owed_and_paid_back(seed, share, scale):
    """Slates equal a transcription: what is owed first, then by λ − v; owed is what has a price."""
    view, arrivals = _round(seed, share)
    arrivals = replace(arrivals, ground_intensity=np.float32(scale) * arrivals.ground_intensity)
    view = replace(view, audience=Chunks([arrivals]))
    planner, agent = make_agent("hindsight"), make_agent("hindsight")
    for each in (planner, agent):
        each.begin_round(view)
    plan, price = planner.act(arrivals).items, planner.item_price
    barred = np.random.default_rng(seed + 50).random((N, M)) < 0.35
    admissible = arrivals.admissible.numpy() & ~barred
    found = agent.act(replace(arrivals, admissible=torch.from_numpy(admissible))).items
    scores = arrivals.intensity.numpy().astype(np.float64)
    owed = [0] * M
    paid = 0
    for row in range(N):
        kept = [int(item) for item in plan[row] if item >= 0 and admissible[row, item]]
        lost = [int(item) for item in plan[row] if item >= 0 and not admissible[row, item]]
        for item in lost:
            owed[item] += price[item] < 0
        rank = {
            item: scores[row, item] + COST if owed[item] else scores[row, item] - price[item]
            for item in range(M)
            if admissible[row, item] and item not in kept
        }
        new = sorted(rank, key=lambda item: (-rank[item], item))[: len(lost)]
        for item in new:
            paid += owed[item] > 0
            owed[item] = max(owed[item] - 1, 0)
        slate = sorted(kept + new, key=lambda item: -(scores[row, item] - price[item]))
        assert found[row].tolist() == slate + [-1] * (K - len(slate))
    assert paid > 0 or share < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_guaranteed_items_choose_their_users(seed):
    """``user-rec``: each item its best users, as many as it is guaranteed; then what else a user likes, all by λ."""
    view, arrivals = _round(seed)
    view = replace(view, required=np.arange(M) % 4 * (np.arange(M) != 5))
    agent = make_agent("user-rec")
    agent.begin_round(view)
    found = agent.act(arrivals)
    scores, admissible = arrivals.intensity.numpy().astype(np.float64), arrivals.admissible.numpy()
    chosen = np.zeros((N, M), bool)
    for item in range(M):
        users = sorted(np.flatnonzero(admissible[:, item]), key=lambda user: -scores[user, item])
        chosen[users[: int(view.required[item])], item] = True
    assert chosen.any()
    for row in range(N):
        items = np.flatnonzero(admissible[row]).tolist()
        slate = sorted(items, key=lambda item: (not chosen[row, item], -scores[row, item]))[:K]
        assert found[row].tolist() == slate + [-1] * (K - len(slate))
