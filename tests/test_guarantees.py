"""What is guaranteed, in which unit, hard and soft, with arrivals known or not, and plans for a whole round."""

from dataclasses import replace
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from kit import cases
from scipy.optimize import linprog
from small_markets import SMALL, settings_of, small_replay, small_scenario, weighted_exposures
from test_online_agents import Chunks, arrivals_of, skewed, view_of

from rimsim import measures
from rimsim.agents import States, make_agent, market_for, play_round, rollout
from rimsim.agents.entropic_dual import entropic_prices
from rimsim.agents.gibbs import inclusion_sums
from rimsim.config import ExposureConfig
from rimsim.matching import Rows, solve_prices
from rimsim.scenarios import compare
from rimsim.scenarios.study.certificates import HindsightPrices, cached_prices

PRICED = ("rim-dual", "rim-feedback", "rim-resolve(every=20)", "entropic-dual")


@pytest.mark.parametrize("name", PRICED)
def test_an_item_without_a_guarantee_has_the_price_zero(name):
    """Before, within and after each round v is 0 where nothing is required, and below 0 for some item that is due."""
    agent, market = market_of(name, small_scenario(rounds=2, exposure=ExposureConfig(items=10, each=25)))
    lower = 0
    while not market.done:
        required = market.round_view().required
        play_round(market, agent)
        ledger = market.closed[-1].ledger.table("a", 0, 0)
        free = ledger[required[ledger["item"]] == 0]
        assert len(free) > 100
        assert (free["price"] == 0).all()
        assert ledger["price"].between(-market.closed[-1].cost * (1 + 1e-6), 0).all()
        assert (agent.item_price[required == 0] == 0).all()
        lower += np.count_nonzero(agent.item_price[required > 0] < 0)
    assert lower > 0


@pytest.mark.parametrize("name", ["relevance", "rim-feedback"])
def test_an_examined_exposure_counts_as_much_as_its_position_is_looked_at(name):
    """Exposures add up to Σγ^(r−1) to the last bit, whatever the batches, and b is so many average positions."""
    units = (ExposureConfig(unit=unit) for unit in ("examined", "shown"))
    config, positions = (small_scenario(rounds=2, exposure=unit) for unit in units)
    weights = measures.position_weights(config.consumer.position_decay, config.slate)
    shown, found = market_of(name, positions)[1], []
    for batch in (1, 7, None):
        agent, market = market_of(name, config)
        assert (market.open.required == shown.open.required * measures.mean_weight(weights)).all()
        opened = market.open
        play_round(market, agent, batch)
        found.append(opened.exposure)
        counted = measures.weighted_exposure(market.closed[0].ledger.item, weights, market.n_items)
        assert (opened.exposure == counted).all()
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


def test_weights_of_positions_lie_on_a_grid_on_which_requirements_are_exact():
    """γ^(r−1) to 2^−21; b times their mean, over their mean, is b."""
    weights = measures.position_weights(0.85, 10)
    assert np.abs(weights - 0.85 ** np.arange(10)).max() <= 2.0**-21
    assert ((weights * 2**20) % 1 == 0).all()
    whole, mean = np.arange(100_000.0), measures.mean_weight(weights)
    assert (whole * mean / mean == whole).all()


def test_a_forecast_is_what_is_promised_and_what_agents_are_told():
    """At one and a half times the arrivals that come, the view says so, and the guarantees are so many times larger."""
    views = []
    for forecast in (1.0, 1.5):
        exposure = ExposureConfig(beta=0.4, forecast=forecast, pace="clock", hard=True)
        market = market_for(make_agent("relevance"), small_scenario(exposure=exposure))
        views.append(market.round_view())
    usual, more = views
    assert more.arrivals == round(1.5 * usual.arrivals)
    assert more.required.sum() == pytest.approx(1.5 * usual.required.sum(), abs=1.0)
    assert more.hard
    assert more.pace == "clock"
    assert more.opens < more.closes


@pytest.mark.parametrize("unit", ["examined", "shown"])
def test_rewards_add_up_to_the_return_in_the_unit_of_the_guarantee(unit):
    """Σ reward = Σ consumed − c·Σ(b − E)₊ + c·Σb over the rounds, and the observed shortfall is what is missing."""
    config = small_scenario(rounds=2, exposure=ExposureConfig(unit=unit))
    env = gymnasium.make("RIMMarket-v0", scenario="closed-loop", settings=settings_of(config))
    reward, total = rollout(env, make_agent("rim-dual"), seed=3).reward, 0.0
    for closed in env.unwrapped.market.closed:
        lacking = measures.shortfall_units(weighted_exposures(closed), closed.required)
        total += closed.ledger.consumed.sum() + closed.cost * (closed.required.sum() - lacking)
    assert reward == pytest.approx(total)


MOVING = ("rim-feedback", "rim-resolve(every=30)", "entropic-dual", "p-mmf", "fair-rec")
PLANNED = ("rim-dual", "hindsight")


def mild(n, m, seed=0):
    """(n, m) scores of which a few items have more than the others."""
    return np.sqrt(skewed(n, m, seed))


def missing(view, items):
    """Share of the requirements that slates leave undelivered, in the unit of the guarantee."""
    delivered = measures.weighted_exposure(items, view.position_weights, len(view.required))
    return measures.shortfall(delivered, view.required)


def begun(name, view):
    """An agent in a round."""
    agent = make_agent(name)
    agent.begin_round(view)
    return agent


def market_of(name, config):
    """An agent and its market."""
    agent = make_agent(name)
    return agent, market_for(agent, config)


@pytest.mark.parametrize("name", [*MOVING, *PLANNED])
@pytest.mark.parametrize("kind", ["clones", "capped"])
def test_slates_stand_in_order_of_what_counts(name, kind):
    """Shown: every slate is in descending order of λ. Examined: in that of λ − v, for agents with prices."""
    for unit in ("shown", "examined") if name != "rim-dual" else ("shown",):  # near-ties are ordered by seed
        agent, market = market_of(name, SMALL[kind](rounds=1, exposure=ExposureConfig(unit=unit)))
        play_round(market, agent)
        ledger = market.closed[0].ledger
        worth = ledger.intensity.astype(np.float64)
        if unit == "examined" and name != "fair-rec":
            worth = worth - ledger.price
        steps = np.diff(np.where(ledger.item >= 0, worth, np.nan), axis=1)
        assert not (steps > 1e-6 * np.nanmax(np.abs(worth))).any()


@pytest.mark.parametrize("name", ["rim-feedback", "rim-resolve(every=100)", "fair-rec"])
def test_examined_guarantees_are_kept(name):
    """Soft, with a cost that pays for it: the examined shortfall stays low, where counting positions leaves more."""
    n, m, k = 400, 60, 6
    past, now = arrivals_of(mild(n, m, 1)), arrivals_of(mild(n, m, 2), first=900)
    view = view_of(n, m, k, past=past, cost=20.0, unit="examined", decay=0.8)
    assert missing(view, begun(name, view).act(now).items) <= 0.03


@pytest.mark.parametrize("k", [4, 1])
@pytest.mark.parametrize("name", ["hindsight", "offline-match"])
def test_plans_are_optimal_in_weights(name, k):
    """Σ w·λ − c·shortfall of a plan comes within 1 % of the bound that its prices certify."""
    n, m = 60, 20
    now = arrivals_of(mild(n, m, 2))
    view = replace(view_of(n, m, k, cost=1.0, unit="examined", decay=0.8), audience=Chunks([now]))
    agent = begun(name, view)
    items = agent.act(now).items
    scores, weights = now.intensity.numpy().astype(np.float64), view.position_weights
    lacking = np.maximum(view.required - measures.weighted_exposure(items, weights, m), 0.0).sum()
    value = (np.take_along_axis(scores, items, 1) * weights).sum() - view.cost * lacking
    best = -np.sort(-np.maximum(scores - agent.item_price, 0.0), 1)[:, :k]
    bound = (best * weights).sum() + agent.item_price @ view.required
    assert 0.99 * bound <= value <= bound * (1 + 1e-9)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_entropic_prices_meet_floors_of_any_unit_and_buy_nothing_beyond(k):
    """On their states little is missing in expectation, or bought in excess, whether positions count alike or not."""
    admissible = np.random.default_rng(0).random((60, 8)) < 0.9
    states = States(skewed(60, 8), admissible, np.full(60, k))
    for weights in (measures.position_weights(0.6, k), np.full(k, 0.5)):
        required = np.full(8, 0.4 * 60 * k / 8 * measures.mean_weight(weights))
        price = entropic_prices(states, required, 50.0, 0.2, 1e-3, weights)
        mean, spread, found = np.zeros((3, 8))
        inclusion_sums(*states, price, 0.2, mean, spread, weights, found)
        assert found.sum() == pytest.approx(60 * weights.sum())
        assert np.maximum(required - found, 0).sum() <= 0.01 * required.sum()
        assert np.maximum(found - required, 0)[price < 0].sum() <= 0.02 * required.sum()


@pytest.mark.parametrize("unit", ["shown", "examined"])
@pytest.mark.parametrize("name", ["rim-feedback", "rim-resolve(every=100)"])
def test_hard_requirements_are_met_whatever_they_cost(name, unit):
    """Where a missing exposure costs next to nothing, soft ones fail and hard ones are met to the last."""
    n, m, k = 300, 60, 6
    asked = {"cost": 1e-9, "unit": unit, "decay": 1.0 if unit == "shown" else 0.8}
    for seed in range(4):
        draw = np.random.default_rng(seed)
        now = arrivals_of(skewed(n, m, seed), draw.random((n, m)) < 0.7, first=900)
        past = arrivals_of(skewed(n, m, seed + 10), draw.random((n, m)) < 0.7)
        views = [view_of(n, m, k, past=past, **asked, hard=hard) for hard in (False, True)]
        soft, hard = (missing(view, begun(name, view).act(now).items) for view in views)
        assert soft > 0.1
        assert hard == 0.0


def test_the_guard_does_nothing_while_floors_can_wait():
    """Until few arrivals are left, slates are those that the unguarded prices give."""
    past, now = arrivals_of(skewed(200, 40)), arrivals_of(skewed(200, 40, 1), first=900)
    view = view_of(200, 40, 4, past=past, cost=30.0, hard=True, unit="examined", decay=0.8)
    free, guarded = begun("rim-feedback", view), begun("rim-feedback", view)
    free._delivery._guarded = None
    assert (free.act(now).items[:160] == guarded.act(now).items[:160]).all()


def test_an_item_that_few_may_be_shown_is_shown_to_them_in_time():
    """What a fortieth of the arrivals, or the last tenth alone, may be shown is met though its price says nothing."""
    n, m, k, item = 400, 30, 4, np.arange(30)
    few, late = np.ones((n, m), bool), np.ones((n, m), bool)
    few[:, 3] = np.arange(n) % 40 == 7
    late[:360, 0] = False
    scores = skewed(n, m, 3) * (item != 3)
    view = view_of(n, m, k, share=0.3, past=arrivals_of(scores, few), cost=1e-9, hard=True)
    view = replace(view, required=np.where(item == 3, 6.0, view.required))
    agent = begun("rim-feedback(gain=1e-9)", view)
    assert missing(view, agent.act(arrivals_of(scores, few, first=900)).items) == 0.0
    past = arrivals_of(skewed(n, m))
    view = view_of(n, m, k, past=past, cost=1.0, hard=True, unit="examined", decay=0.8)
    assert missing(view, begun("rim-feedback", view).act(arrivals_of(skewed(n, m), late)).items) == 0.0


@pytest.mark.parametrize("unit", ["examined", "shown"])
def test_items_that_most_have_consumed_do_not_miss_their_last_visitors(unit):
    """Where a tenth to all may be shown an item, by chance, nothing is missing in any of some rounds."""
    n, m, k = 300, 60, 6
    asked = {"share": 0.4, "cost": 1.0, "unit": unit, "decay": 1.0 if unit == "shown" else 0.85, "hard": True}
    for seed in (3, 4, 9, 12, 16):  # in each of them one standard deviation of doubt was too little
        draw = np.random.default_rng(seed)
        chance = np.linspace(0.1, 1.0, m)[draw.permutation(m)]
        past = arrivals_of(skewed(n, m, seed + 1000), draw.random((n, m)) < chance)
        now = arrivals_of(skewed(n, m, seed), draw.random((n, m)) < chance, first=900)
        view = view_of(n, m, k, past=past, **asked)
        assert missing(view, begun("rim-feedback", view).act(now).items) == 0.0


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("forecast", [0.5, 1.0, 1.5])
def test_the_clock_delivers_what_was_promised_for_the_arrivals_expected(forecast, hard):
    """By the clock, at most 3 % is missing where half as many, or one and a half times as many, were expected."""
    n, m, k, span = 600, 60, 6, 1000.0
    asked = {"share": 0.4, "cost": 20.0, "unit": "examined", "decay": 0.85, "hard": hard}
    view = view_of(round(forecast * n), m, k, past=arrivals_of(mild(n, m, 1)), **asked)
    view = replace(view, pace="clock", opens=0.0, closes=span)
    time = np.sort(np.random.default_rng(2).random(n)) * span
    now = replace(arrivals_of(mild(n, m, 2), first=900), time=time)
    assert missing(view, begun("rim-feedback", view).act(now).items) <= 0.03


def test_a_round_goes_on_after_the_arrivals_expected():
    """By arrivals, with half as many expected as come: all is met by then, and prices stay finite afterwards."""
    n, m, k = 600, 60, 6
    view = view_of(n // 2, m, k, share=0.5, past=arrivals_of(mild(n, m, 1)), cost=20.0)
    for name in MOVING:
        slates = begun(name, view).act(arrivals_of(mild(n, m, 2), first=900))
        assert slates.price is None or np.isfinite(slates.price).all()
        if name != "p-mmf":
            assert missing(view, slates.items[: n // 2]) <= 0.05
            assert missing(view, slates.items) <= 0.001


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


@cases("share scale", (0.7, 1.0), (0.3, 1.0), (0.7, 0.2))
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

    monkeypatch.setattr("rimsim.scenarios.study.certificates.cached_prices", counted)
    agents = ("relevance", "rim-dual", "random")
    run = compare(small_replay(rounds=1), agents, seeds=1, out=tmp_path / "run", frozen=[], workers=1)
    assert solved == [1, 0, 0]
    bounds = run.rounds.query("metric == 'bound'").groupby("agent")["value"].first()
    assert set(bounds.index) == set(agents)
    assert bounds.nunique() == 1
    assert not (tmp_path / "run" / "state").exists()
