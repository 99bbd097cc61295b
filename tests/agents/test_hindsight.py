"""Agents that plan a round they know, and the solutions of rounds that arms share."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from kit import cases
from kit.logs import Chunks, arrivals_of, view_of
from kit.markets import small_replay
from kit.problems import relaxed

from rimsim.agents import make_agent
from rimsim.matching import Rows, solve_prices
from rimsim.scenarios import compare
from rimsim.scenarios.study.certificates import HindsightPrices, cached_prices

N = 14
M = 6
K = 3
COST = 0.3
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
    best = relaxed(scores, CAPACITY, None, view.required, None, admissible, COST)
    assert value == pytest.approx(best, rel=2e-4)
    for number, row in enumerate(shown):
        assert slates.items[number, len(row) :].tolist() == [-1] * (K - len(row))
        worth = scores[number, row] - agent.item_price[row]
        assert (np.diff(worth) <= 1e-12).all()
        assert slates.price[number, : len(row)] == pytest.approx(agent.item_price[row], rel=1e-6)
        assert np.isnan(slates.price[number, len(row) :]).all()
    assert (agent.item_price <= 0).all()
    assert (agent.item_price >= -COST).all()


@cases("share scale", (0.7, 1.0), (0.3, 1.0), (0.7, 0.2))
@pytest.mark.parametrize("seed", range(6))
def test_what_can_no_longer_be_shown_is_owed_and_paid_back(seed, share, scale):
    """Slates equal a transcription: what is owed first, then by λ − v; owed is what has a price."""
    view, arrivals = _round(seed, share)
    arrivals = replace(arrivals, ground_intensity=np.float32(scale) * arrivals.ground_intensity)
    view = replace(view, audience=Chunks([arrivals]))
    planner = make_agent("hindsight")
    agent = make_agent("hindsight")
    for player in (planner, agent):
        player.begin_round(view)
    plan = planner.act(arrivals).items
    price = planner.item_price
    barred = np.random.default_rng(seed + 50).random((N, M)) < 0.35
    admissible = arrivals.admissible.numpy() & ~barred
    slates = agent.act(replace(arrivals, admissible=torch.from_numpy(admissible))).items
    scores = arrivals.intensity.numpy().astype(np.float64)
    owed = [0] * M
    paid = 0
    for row in range(N):
        planned = [int(item) for item in plan[row] if item >= 0 and admissible[row, item]]
        lost = [int(item) for item in plan[row] if item >= 0 and not admissible[row, item]]
        for item in lost:
            owed[item] += price[item] < 0
        rank = {
            item: scores[row, item] + COST if owed[item] else scores[row, item] - price[item]
            for item in range(M)
            if admissible[row, item] and item not in planned
        }
        replacements = sorted(rank, key=lambda item: (-rank[item], item))[: len(lost)]
        for item in replacements:
            paid += owed[item] > 0
            owed[item] = max(owed[item] - 1, 0)
        slate = sorted(planned + replacements, key=lambda item: -(scores[row, item] - price[item]))
        assert slates[row].tolist() == slate + [-1] * (K - len(slate))
    assert paid > 0 or share < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_guaranteed_items_choose_their_users(seed):
    """``user-rec``: each item its best users, as many as it is guaranteed; then what else a user likes, all by λ."""
    view, arrivals = _round(seed)
    view = replace(view, required=np.arange(M) % 4 * (np.arange(M) != 5))
    agent = make_agent("user-rec")
    agent.begin_round(view)
    slates = agent.act(arrivals)
    scores = arrivals.intensity.numpy().astype(np.float64)
    admissible = arrivals.admissible.numpy()
    chosen = np.zeros((N, M), bool)
    for item in range(M):
        users = sorted(np.flatnonzero(admissible[:, item]), key=lambda user: -scores[user, item])
        chosen[users[: int(view.required[item])], item] = True
    assert chosen.any()
    for row in range(N):
        items = np.flatnonzero(admissible[row]).tolist()
        slate = sorted(items, key=lambda item: (not chosen[row, item], -scores[row, item]))[:K]
        assert slates[row].tolist() == slate + [-1] * (K - len(slate))


def problem(seed=0, n=60, m=12):
    """Scores, capacity, floors of a small round."""
    scores = np.random.default_rng(seed).random((n, m)).astype(np.float32)
    return partial(solve_prices, scores, 3, np.full(m, 9), cost=0.4, tol=1e-6)


def test_a_round_is_solved_from_the_prices_of_the_one_before():
    """What the solver is given to start from is what it found last, and the answer is the solver's own."""
    starts = []

    def solve(*arguments, prices, **options):
        starts.append(prices)
        return solve_prices(*arguments, prices=prices, **options)

    rounds = HindsightPrices()
    problems = (problem(0), problem(1))
    solutions = [rounds.of(partial(solve, *task.args, **task.keywords)) for task in problems]
    assert starts[0] is None
    assert starts[1] is solutions[0].item_price
    assert solutions[0].dual == problems[0]().dual
    assert solutions[1].dual == pytest.approx(problems[1]().dual, rel=1e-5)


def test_arms_with_the_same_round_share_its_solution_to_the_bit(tmp_path):
    """The second arm reads what the first one found; another floor, mask, row or start is another problem."""
    calls = []

    def solve(*arguments, **options):
        calls.append(arguments)
        return solve_prices(*arguments, **options)

    def solution(task, last=None, **changes):
        keywords = task.keywords | changes
        return HindsightPrices(tmp_path, last).of(partial(solve, *task.args, **keywords))

    first_problem = problem()
    for first, second in zip(solution(first_problem), solution(problem()), strict=True):
        assert np.array_equal(first, second)
    assert len(calls) == 1
    mask = np.arange(60 * 12).reshape(60, 12) > 0
    row = Rows(np.array([0, 2]), np.array([1, 2]), np.array([30.0]), np.array([np.inf]), np.array([0.4]))
    changed = [{"admissible": mask}, {"admissible": mask | True}, {"cost": 0.5}, {"rows": row}]
    changed.append({"last": np.zeros(12)})
    for number, changes in enumerate(changed, 2):
        solution(first_problem, **changes)
        assert len(calls) == number
    solution(problem(1))
    assert len(list(tmp_path.iterdir())) == len(calls) == 7


def test_a_replay_is_solved_once_for_all_its_arms(tmp_path, monkeypatch):
    """In round 0 of a replay states and model are those of all arms: one solution, and the same bound."""
    solved = []

    def counted(folder, solve):
        before = set(folder.glob("*.npz"))
        prices = cached_prices(folder, solve)
        solved.append(len(set(folder.glob("*.npz")) - before))
        return prices

    monkeypatch.setattr("rimsim.scenarios.study.certificates.cached_prices", counted)
    agents = ("relevance", "rim-dual", "random")
    run = compare(small_replay(rounds=1), agents, seeds=1, out=tmp_path / "run", frozen=[], workers=1)
    assert solved == [1, 0, 0]
    bounds = run.rounds.query("metric == 'bound'").groupby("agent")["value"].first()
    assert set(bounds.index) == set(agents)
    assert bounds.nunique() == 1
    assert not (tmp_path / "run" / "state").exists()
