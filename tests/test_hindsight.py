"""Plans for a whole round: their optimum by a linear programme, plans that were overtaken, and whose plans are one."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from small_markets import small_replay
from test_online_agents import Chunks, arrivals_of, view_of

from rimsim.agents import make_agent
from rimsim.matching import Rows, solve_prices
from rimsim.scenarios import compare
from rimsim.scenarios.study.facts import HindsightPrices, cached_prices

N, M, K, COST = 14, 6, 3, 0.3
CAPACITY = np.array([3, 2, 1, 0, 3, 3, 2, 1, 3, 3, 3, 2, 3, 3])


def _round(seed, share=0.7):
    """A view and the arrivals of its round, of which some have few positions, and some few items to be shown."""
    draw = np.random.default_rng(seed)
    scores = (draw.random((N, M)) * np.exp(draw.standard_normal(M))).astype(np.float32)
    admissible = draw.random((N, M)) < 0.8
    admissible[4] = np.arange(M) < 2
    ground = torch.from_numpy(draw.uniform(0.5, 2.0, N).astype(np.float32))
    arrivals = arrivals_of(scores * admissible, admissible)
    arrivals = replace(arrivals, capacity=CAPACITY, ground_intensity=ground)
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
    gain, most = np.concatenate([-scores.ravel(), np.full(M, COST)]), np.concatenate([CAPACITY, -required])
    return -linprog(gain, A_ub=rows, b_ub=most.astype(float), bounds=bounds).fun


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


def problem(seed=0, n=60, m=12):
    """Scores, capacity, floors of a small round."""
    scores = np.random.default_rng(seed).random((n, m)).astype(np.float32)
    return partial(solve_prices, scores, 3, np.full(m, 9), cost=0.4, tol=1e-6)


def test_a_round_is_solved_from_the_prices_of_the_one_before():
    """What the solver is given to start from is what it found last, and the answer is the solver's own."""
    given = []

    def solve(*arguments, prices, **options):
        given.append(prices)
        return solve_prices(*arguments, prices=prices, **options)

    rounds, both = HindsightPrices(), (problem(0), problem(1))
    found = [rounds.of(partial(solve, *one.args, **one.keywords)) for one in both]
    assert given[0] is None
    assert given[1] is found[0].item_price
    assert found[0].dual == both[0]().dual
    assert found[1].dual == pytest.approx(both[1]().dual, rel=1e-5)


def test_arms_with_the_same_round_share_its_solution_to_the_bit(tmp_path):
    """The second arm reads what the first one found; another floor, mask, row or start is another problem."""
    calls = []

    def solve(*arguments, **options):
        calls.append(arguments)
        return solve_prices(*arguments, **options)

    def asked(one, last=None, **changes):
        return HindsightPrices(tmp_path, last).of(partial(solve, *one.args, **(one.keywords | changes)))

    one = problem()
    for left, right in zip(asked(one), asked(problem()), strict=True):
        assert np.array_equal(left, right)
    assert len(calls) == 1
    mask = np.arange(60 * 12).reshape(60, 12) > 0
    row = Rows(np.array([0, 2]), np.array([1, 2]), np.array([30.0]), np.array([np.inf]), np.array([0.4]))
    others = [{"admissible": mask}, {"admissible": mask | True}, {"cost": 0.5}, {"rows": row}]
    others.append({"last": np.zeros(12)})
    for number, changes in enumerate(others, 2):
        asked(one, **changes)
        assert len(calls) == number
    asked(problem(1))
    assert len(list(tmp_path.iterdir())) == len(calls) == 7


def test_a_replay_is_solved_once_for_all_its_arms(tmp_path, monkeypatch):
    """In round 0 of a replay states and model are those of all arms: one solution, and the same bound."""
    solved = []

    def counted(folder, solve):
        before = set(folder.glob("*.npz"))
        found = cached_prices(folder, solve)
        solved.append(len(set(folder.glob("*.npz")) - before))
        return found

    monkeypatch.setattr("rimsim.scenarios.study.facts.cached_prices", counted)
    agents = ("relevance", "rim-dual", "random")
    run = compare(small_replay(rounds=1), agents, seeds=1, out=tmp_path / "run", frozen=[], workers=1)
    assert solved == [1, 0, 0]
    bounds = run.rounds.query("metric == 'bound'").groupby("agent")["value"].first()
    assert set(bounds.index) == set(agents)
    assert bounds.nunique() == 1
    assert not (tmp_path / "run" / "state").exists()
