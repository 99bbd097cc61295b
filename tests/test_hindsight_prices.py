"""Rounds in hindsight: each solved from the last, and once for arms whose rounds are the same."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from small_markets import small_replay

from rimsim.matching import Rows, solve_prices
from rimsim.scenarios import compare
from rimsim.scenarios.study.facts import HindsightPrices, cached_prices


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

    rounds = HindsightPrices()
    first, second = problem(0), problem(1)
    found = [rounds.of(partial(solve, *one.args, **one.keywords)) for one in (first, second)]
    assert given[0] is None
    assert given[1] is found[0].item_price
    assert found[0].dual == first().dual
    assert found[1].dual == pytest.approx(second().dual, rel=1e-5)


def test_arms_with_the_same_round_share_its_solution_to_the_bit(tmp_path):
    """The second arm reads what the first one found; another floor, mask, row or start is another problem."""
    calls = []

    def solve(*arguments, **options):
        calls.append(arguments)
        return solve_prices(*arguments, **options)

    def asked(one, last=None, **changes):
        return HindsightPrices(tmp_path, last).of(partial(solve, *one.args, **(one.keywords | changes)))

    one = problem()
    first, second = asked(one), asked(problem())
    assert len(calls) == 1
    for left, right in zip(first, second, strict=True):
        assert np.array_equal(left, right)
    mask = np.ones((60, 12), bool)
    mask[0, 0] = False
    row = Rows(np.array([0, 2]), np.array([1, 2]), np.array([30.0]), np.array([np.inf]), np.array([0.4]))
    others = [
        lambda: asked(one, admissible=mask),
        lambda: asked(one, admissible=~mask | True),
        lambda: asked(one, cost=0.5),
        lambda: asked(one, rows=row),
        lambda: asked(one, last=np.zeros(12)),
        lambda: asked(problem(1)),
    ]
    for number, other in enumerate(others, 2):
        other()
        assert len(calls) == number
    assert len(list(tmp_path.iterdir())) == len(calls)


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
