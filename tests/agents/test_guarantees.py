"""Guarantees and the guard that keeps them: prices, deliveries and what cannot wait, against searches by hand."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import cases, same_arrays
from kit.logs import Chunks, arrivals_of, skewed, view_of
from kit.markets import SMALL, market_of, played_by, priced, same_ledgers, small_replay, small_scenario
from kit.problems import relaxed

from rimsim import measures
from rimsim.agents import Delivery, States, make_agent, market_for, play_round
from rimsim.agents import guard as guarding
from rimsim.agents.arrival_arrays import ExposureUnit
from rimsim.agents.entropic_dual import entropic_prices
from rimsim.agents.gibbs import inclusion_sums
from rimsim.config import ExposureConfig
from rimsim.market import RoundView
from rimsim.matching import Rows, solve_prices, tie_rank
from rimsim.requirements.rows import Requirements, Row
from rimsim.scenarios import compare
from rimsim.scenarios.study.certificates import HindsightPrices, cached_prices

PRICED = ("rim-dual", "rim-feedback", "rim-resolve(every=20)", "entropic-dual")


@pytest.mark.parametrize("name", [*PRICED, "entropic-dual(gain=9)"])
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
    shown = market_of(name, positions)[1]
    exposures = []
    for batch in (1, 7, None):
        agent, market = market_of(name, config)
        assert (market.open.required == shown.open.required * measures.mean_weight(weights)).all()
        opened = market.open
        play_round(market, agent, batch)
        exposures.append(opened.exposure)
        counted = measures.weighted_exposure(market.closed[0].ledger.item, weights, market.n_items)
        assert (opened.exposure == counted).all()
    assert (exposures[0] == exposures[1]).all()
    assert (exposures[0] == exposures[2]).all()


def test_weights_of_positions_lie_on_a_grid_on_which_requirements_are_exact():
    """γ^(r−1) to 2^−21; b times their mean, over their mean, is b."""
    weights = measures.position_weights(0.85, 10)
    assert np.abs(weights - 0.85 ** np.arange(10)).max() <= 2.0**-21
    assert ((weights * 2**20) % 1 == 0).all()
    counts = np.arange(100_000.0)
    mean = measures.mean_weight(weights)
    assert (counts * mean / mean == counts).all()


def test_a_forecast_is_what_is_promised_and_what_agents_are_told():
    """At one and a half times the arrivals that come, the view says so, and the guarantees are so many times larger."""
    views = []
    for forecast in (1.0, 1.5):
        exposure = ExposureConfig(beta=0.4, forecast=forecast, pace="clock", hard=True)
        market = market_for(make_agent("relevance"), small_scenario(exposure=exposure))
        views.append(market.round_view())
    plain, larger = views
    assert larger.arrivals == round(1.5 * plain.arrivals)
    assert larger.required.sum() == pytest.approx(1.5 * plain.required.sum(), abs=1.0)
    assert larger.hard
    assert larger.pace == "clock"
    assert larger.opens < larger.closes


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


@pytest.mark.parametrize("name", ["rim-resolve(every=100)", "fair-rec"])
def test_examined_guarantees_are_kept(name):
    """Soft, with a cost that pays for it: the examined shortfall stays low, where counting positions leaves more."""
    n = 400
    m = 60
    k = 6
    past = arrivals_of(mild(n, m, 1))
    now = arrivals_of(mild(n, m, 2), first=900)
    view = view_of(n, m, k, past=past, cost=20.0, unit="examined", decay=0.8)
    assert missing(view, begun(name, view).act(now).items) <= 0.03


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


@pytest.mark.parametrize("unit", ["shown", "examined"])
@pytest.mark.parametrize("name", ["rim-feedback", "rim-resolve(every=100)"])
def test_hard_requirements_are_met_whatever_they_cost(name, unit):
    """Where a missing exposure costs next to nothing, soft ones fail and hard ones are met to the last."""
    n = 300
    m = 60
    k = 6
    options = {"cost": 1e-9, "unit": unit, "decay": 1.0 if unit == "shown" else 0.8}
    for seed in range(4):
        draw = np.random.default_rng(seed)
        now = arrivals_of(skewed(n, m, seed), draw.random((n, m)) < 0.7, first=900)
        past = arrivals_of(skewed(n, m, seed + 10), draw.random((n, m)) < 0.7)
        views = [view_of(n, m, k, past=past, **options, hard=hard) for hard in (False, True)]
        soft, hard = (missing(view, begun(name, view).act(now).items) for view in views)
        assert soft > 0.1
        assert hard == 0.0


def test_the_guard_does_nothing_while_floors_can_wait():
    """Until few arrivals are left, slates are those that the unguarded prices give."""
    past = arrivals_of(skewed(200, 40))
    now = arrivals_of(skewed(200, 40, 1), first=900)
    view = view_of(200, 40, 4, past=past, cost=30.0, hard=True, unit="examined", decay=0.8)
    free = begun("rim-feedback", view)
    guarded = begun("rim-feedback", view)
    free._delivery._guarded = None
    assert (free.act(now).items[:160] == guarded.act(now).items[:160]).all()


def test_an_item_that_few_may_be_shown_is_shown_to_them_in_time():
    """What a fortieth of the arrivals, or the last tenth alone, may be shown is met though its price says nothing."""
    n = 400
    m = 30
    k = 4
    item = np.arange(30)
    rarely_admissible = np.ones((n, m), bool)
    late_admissible = np.ones((n, m), bool)
    rarely_admissible[:, 3] = np.arange(n) % 40 == 7
    late_admissible[:360, 0] = False
    scores = skewed(n, m, 3) * (item != 3)
    view = view_of(n, m, k, share=0.3, past=arrivals_of(scores, rarely_admissible), cost=1e-9, hard=True)
    view = replace(view, required=np.where(item == 3, 6.0, view.required))
    agent = begun("rim-feedback(gain=1e-9)", view)
    assert missing(view, agent.act(arrivals_of(scores, rarely_admissible, first=900)).items) == 0.0
    past = arrivals_of(skewed(n, m))
    view = view_of(n, m, k, past=past, cost=1.0, hard=True, unit="examined", decay=0.8)
    assert (
        missing(view, begun("rim-feedback", view).act(arrivals_of(skewed(n, m), late_admissible)).items)
        == 0.0
    )


@pytest.mark.parametrize("unit", ["examined", "shown"])
def test_items_that_most_have_consumed_do_not_miss_their_last_visitors(unit):
    """Where a tenth to all may be shown an item, by chance, nothing is missing in any of some rounds."""
    n = 300
    m = 60
    k = 6
    options = {
        "share": 0.4,
        "cost": 1.0,
        "unit": unit,
        "decay": 1.0 if unit == "shown" else 0.85,
        "hard": True,
    }
    for seed in (3, 4, 9, 12, 16):  # in each of them one standard deviation of doubt was too little
        draw = np.random.default_rng(seed)
        chance = np.linspace(0.1, 1.0, m)[draw.permutation(m)]
        past = arrivals_of(skewed(n, m, seed + 1000), draw.random((n, m)) < chance)
        now = arrivals_of(skewed(n, m, seed), draw.random((n, m)) < chance, first=900)
        view = view_of(n, m, k, past=past, **options)
        assert missing(view, begun("rim-feedback", view).act(now).items) == 0.0


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("forecast", [0.5, 1.0, 1.5])
def test_the_clock_delivers_what_was_promised_for_the_arrivals_expected(forecast, hard):
    """By the clock, at most 3% is missing where half as many, or one and a half times as many, were expected."""
    n = 600
    m = 60
    k = 6
    span = 1000.0
    options = {"share": 0.4, "cost": 20.0, "unit": "examined", "decay": 0.85, "hard": hard}
    view = view_of(round(forecast * n), m, k, past=arrivals_of(mild(n, m, 1)), **options)
    view = replace(view, pace="clock", opens=0.0, closes=span)
    time = np.sort(np.random.default_rng(2).random(n)) * span
    now = replace(arrivals_of(mild(n, m, 2), first=900), time=time)
    assert missing(view, begun("rim-feedback", view).act(now).items) <= 0.03


def test_a_round_goes_on_after_the_arrivals_expected():
    """By arrivals, with half as many expected as come: all is met by then, and prices stay finite afterwards."""
    n = 600
    m = 60
    k = 6
    view = view_of(n // 2, m, k, share=0.5, past=arrivals_of(mild(n, m, 1)), cost=20.0)
    for name in MOVING:
        slates = begun(name, view).act(arrivals_of(mild(n, m, 2), first=900))
        assert slates.price is None or np.isfinite(slates.price).all()
        if name != "p-mmf":
            assert missing(view, slates.items[: n // 2]) <= 0.05
            assert missing(view, slates.items) <= 0.001


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


WEIGHT = (1.0, 0.75, 0.5, 0.25)
ROW = np.uint64(12345)
MANY = 9
LATE = [
    {"name": "last days", "items": {"genres": "Horror"}, "share": 0.5, "start": 5, "stop": 7},
    {"name": "returning", "items": {"genres": "Thriller"}, "share": 0.3, "start": 1, "stop": 7}
    | {"audience": {"visits": "returning"}},
]


def unit_of(weight=WEIGHT):
    """Unit with some position weights."""
    return ExposureUnit(np.array(weight), float(np.mean(weight)), by_intensity=False)


def guard_of(required, items=(), floors=(), column=(), *, weight=WEIGHT, chance=None, spare=0.0, sure=0.0):
    """Guard of floors and of rows with some items, least exposures and audiences."""
    rows = Requirements.of(
        [Row("row", np.array(members), min_exposure=b) for members, b in zip(items, floors, strict=True)]
    )
    chance = np.ones(len(required)) if chance is None else chance
    required_of_all = np.concatenate([required, rows.min_exposure])
    return guarding.Guard.of(
        required_of_all, rows, np.array(column, np.int64), chance, unit_of(weight), spare, sure
    )


def suffice(missing, weight=WEIGHT):
    """How many of the positions, from the first on, cover a deficit; −1 without one."""
    return -1 if missing <= 1e-9 else sum(w >= missing - 1e-9 for w in weight)


quarters = st.lists(st.integers(0, 12), min_size=2, max_size=12)


@settings(max_examples=100)
@given(quarters, st.integers(0, 3))
def test_deficits_are_counted_again_after_exposures(numbers, shown):
    """Positions needed and classes are those of a fresh count, after any item was shown at any position."""
    required = np.array(numbers) / 4.0
    unit = unit_of()
    exposure = np.zeros(len(required))
    deficits = guarding.Deficits.of(required, exposure, unit)
    items = np.array([0, len(required) - 1])
    exposure[items] += np.array(WEIGHT)[[shown, 0]]
    guarding.count_deficits(deficits, items, required, exposure, unit.position_weights, unit.mean)
    missing = required - exposure
    need = [max(lack / unit.mean, 1.0) if lack > 0 else 0.0 for lack in missing]
    assert deficits.need * guarding.GRAIN == pytest.approx(need, abs=1e-8)
    assert deficits.total[0] == deficits.need.sum()
    assert deficits.enough.tolist() == [suffice(lack) for lack in missing]
    counts = [sum(suffice(lack) == place for lack in missing) for place in range(len(WEIGHT) + 1)]
    assert deficits.of_class.tolist() == counts


@settings(max_examples=100)
@given(quarters, st.integers(0, 6))
def test_positions_that_are_too_few_are_counted(numbers, later):
    """Items need their positions, and additional ones where more want the first e than such positions remain."""
    required = np.array(numbers) / 4.0
    unit = unit_of()
    deficits = guarding.Deficits.of(required, np.zeros(len(required)), unit)
    need = sum(max(b / unit.mean, 1.0) for b in required if b > 0)
    sufficient = [suffice(b) for b in required]
    additional = max([0.0] + [sum(0 < e <= place for e in sufficient) - later * place for place in (1, 2, 3)])
    n_positions = later * len(WEIGHT)
    short = guarding.positions_needed(deficits, later, n_positions)
    if need + additional > n_positions:
        assert short == pytest.approx(need + additional - n_positions, abs=1e-6)
    else:
        assert short <= 1e-6


def placed_by_hand(required, value, count):
    """Each position, from the last on, to the best item that it covers, or else to the best in deficit."""
    covers = {item: suffice(b) for item, b in enumerate(required) if b > 0 and value[item] > -np.inf}
    slate = [-1] * len(WEIGHT)
    for place in range(len(WEIGHT) - 1, -1, -1):
        pool = [item for item in covers if covers[item] > place] or list(covers)
        if count == 0 or not pool:
            break
        item = max(pool, key=lambda candidate: (value[candidate], int(tie_rank(ROW, candidate))))
        slate[place] = item
        del covers[item]
        count -= 1
    return slate


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(-1, 3)), min_size=1, max_size=14), st.integers(1, 4))
def test_items_are_placed_where_positions_cover_their_deficits(items, count):
    """Positions are those of a search by hand, ties by the seeded rank, and inadmissible items have none."""
    required = np.array([number for number, _ in items]) / 4.0
    value = np.array([-np.inf if level < 0 else float(level) for _, level in items])
    deficits = guarding.Deficits.of(required, np.zeros(len(items)), unit_of())
    slate = np.full(len(WEIGHT), -1)
    hidden = value.copy()
    guarding.place_deficits(deficits, hidden, ROW, count, np.array(WEIGHT), slate)
    assert slate.tolist() == placed_by_hand(required, value, count)
    shown = slate[slate >= 0]
    assert (hidden[shown] == -np.inf).all()
    assert (np.delete(hidden, shown) == np.delete(value, shown)).all()


def due(guard, remaining, *, is_admissible=None, weight=WEIGHT, counts=(True,), exposure=None):
    """Result of :func:`due_at`, with the deficits of items."""
    m = len(guard.chance)
    exposure = np.zeros(len(guard.required)) if exposure is None else exposure
    deficits = guarding.Deficits.of(guard.required[:m], exposure[:m], unit_of(weight))
    is_admissible = np.ones(m, bool) if is_admissible is None else is_admissible
    remaining_of_columns = np.atleast_1d(np.asarray(remaining, float))
    return guarding.due_at(
        is_admissible, remaining_of_columns, np.array(counts), guard, exposure, unit_of(weight), deficits
    )


@pytest.mark.parametrize("spare", [0.0, 0.2])
def test_an_item_is_urgent_when_it_needs_as_many_arrivals_as_are_left(spare):
    """An item that a quarter may be shown needs n·chance less standard deviations of the arrivals to come."""
    required = np.array([5.0, 0.0])
    chance = np.array([0.25, 1.0])
    sure = 2.0
    latest = max(n for n in range(200) if n * 0.25 - sure * np.sqrt(n * 0.25 * 0.75) <= 5.0)
    for later, urgent in ((latest + 1, 0), (latest, 1)):
        guard = guard_of(required, weight=(1.0, 1.0), chance=chance, sure=sure, spare=spare)
        remaining = (later + 4.0) / (
            1.0 - spare
        ) + 1.0  # a share, the last four and this one are not relied on
        assert due(guard, remaining, weight=(1.0, 1.0))[0] == urgent
        assert guard.wait[0] == pytest.approx(latest, abs=1.0)
        assert due(guard, remaining, is_admissible=np.zeros(2, bool), weight=(1.0, 1.0))[0] == 0


def slate_of(value, required, remaining, weight, *, urgent=True, excess=0.0, guard=None):
    """Slate with due items, by default in a round without groups and campaigns."""
    guard = guard_of(required, weight=weight) if guard is None else guard
    exposure = np.zeros(len(guard.required))
    deficits = guarding.Deficits.of(required, exposure, unit_of(weight))
    items = np.full(len(weight), -1)
    best = np.empty(len(weight))
    state = guard, exposure, unit_of(weight), deficits
    size = guarding.place_due(
        value.copy(), ROW, remaining, guarding.Due(int(urgent), excess, is_now=True), *state, items, best
    )
    return items[:size].tolist()


@cases("weight slate", (WEIGHT, [1, 2, 3, 0]), ((1.0, 1.0, 1.0, 1.0), [0, 1, 2, 3]))
def test_a_due_item_keeps_its_position_where_positions_count_differently(weight, slate):
    """An item of which little is missing stands last; alike, all stand by value; an urgent one has the only place."""
    required = np.array([0.25, 0.0, 0.0, 0.0, 0.0])
    assert slate_of(np.array([9.0, 3.0, 2.0, 1.0, 0.5]), required, 1.0, weight) == slate
    assert slate_of(np.array([1.0, 9.0]), np.array([2.0, 0.0]), 2.0, (1.0,)) == [0]


def hard_round(n, slate, floors, cost):
    """A view of a round with hard floors, no states and no popularity."""
    m = len(floors)
    options = {"popularity": np.zeros(m, np.int64), "calibration": [], "key": 3, "hard": True}
    return RoundView(0, n, slate, floors, np.zeros(m), cost, **options)


@cases("slate capacity", (1, None), (3, 1), (2, None))
def test_the_guard_is_asked_about_slates_of_any_length(slate, capacity):
    """Prices that hardly move would show the best item alone; what is hard is delivered all the same."""
    n = 40
    floors = np.array([0.0, 3.0, 6.0, 0.0])
    scores = np.tile(np.array([0.9, 0.2, 0.1, 0.5], np.float32), (n, 1))
    agent = make_agent("rim-feedback")
    agent.begin_round(hard_round(n, slate, floors, 1e-9))
    items = agent.act(arrivals_of(scores, capacity=capacity)).items
    shown = np.bincount(items[items >= 0], minlength=4)
    assert shown[1:3].tolist() == floors[1:3].tolist()
    assert shown.sum() == n * min(slate, capacity or slate)


@pytest.mark.parametrize("urgent", [1, 2, 3, 6])
def test_the_most_valuable_urgent_items_are_placed(urgent):
    """Of more urgent items than a slate has positions, those of largest value are shown."""
    value = np.array([1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0])
    required = np.where(np.arange(len(value)) < urgent, 5.0, 0.0)
    items = slate_of(value, required, 3.0, (1.0, 1.0, 1.0))
    first = sorted(range(urgent), key=lambda item: -value[item])[:3]
    rest = [item for item in np.argsort(-value) if item not in first][: 3 - len(first)]
    assert sorted(items) == sorted([*first, *rest])


@cases("excess slate", (0.0, [3, 4, 0]), (0.3, [3, 4, 0]), (1.5, [3, 2, 0]), (9.0, [1, 2, 0]))
def test_an_item_placed_for_its_row_is_not_placed_twice(excess, slate):
    """Positions too few are given to items in deficit: one that was placed for its row is one of them already."""
    weight = (1.0, 0.5, 0.25)
    required = np.array([0.25, 0.5, 0.5, 0.0, 0.0])
    guard = guard_of(required, [[0, 3]], [9.0], [0], weight=weight)
    guard.due[0] = 0.25
    value = np.array([9.0, 1.0, 2.0, 8.0, 7.0])
    assert slate_of(value, required, 50.0, weight, urgent=False, excess=excess, guard=guard) == slate


table = st.lists(st.integers(0, MANY - 1), min_size=1, max_size=5, unique=True)
tables = st.lists(table, min_size=1, max_size=4)


@settings(max_examples=100)
@given(tables, st.data())
def test_due_rows_and_shares_of_the_excess_are_those_by_hand(items, data):
    """With rows of several audiences, of which some do not count the arrival, floors and something in reserve."""
    items = [np.array(members) for members in items]

    def drawn(low, high, size):
        return np.array(data.draw(st.lists(st.integers(low, high), min_size=size, max_size=size)))

    n = len(items)
    floors = drawn(0, 160, n) / 4.0
    delivered = drawn(0, 160, n) / 16.0
    column = drawn(0, 2, n)
    remaining = 1.0 * drawn(1, 60, 3)
    counts = np.array([True, False, True])
    chance = np.linspace(0.2, 1.0, MANY)
    weight = np.array([1.0, 0.5, 0.25])
    required = np.arange(MANY) / 2.0 * data.draw(st.booleans())
    mean = weight.mean()
    options = {"weight": weight, "chance": chance, "spare": 0.1, "sure": 1.0}
    guard = guard_of(required, items, floors, column, **options)
    exposure = np.concatenate([np.zeros(MANY), delivered])
    urgent, excess, now = due(guard, remaining, weight=weight, counts=counts, exposure=exposure)
    deficits = guarding.Deficits.of(required, np.zeros(MANY), unit_of(weight))
    lacks = np.where(guard.required[MANY:] - delivered > 1e-9, guard.required[MANY:] - delivered, 0.0)
    with_floors = [members for members, b in zip(items, floors, strict=True) if b > 0]
    times = np.bincount(np.concatenate(with_floors or [[0]]), minlength=MANY)
    later = np.array([guarding.counted_on(remaining[column[row]], 0.1) for row in range(n)])
    covered = np.array([deficits.need[members].sum() * guarding.GRAIN for members in items])
    shared = np.array(
        [times[members].mean() if b > 0 else 1.0 for members, b in zip(items, floors, strict=True)]
    )
    need = np.where(lacks > 0, np.maximum(lacks / mean - covered, 0.0) / shared, 0.0)
    slots = np.concatenate([[0.0], np.cumsum(weight)])
    holds = np.array([np.interp(chance[members].sum(), range(4), slots) for members in items])
    need_of_audience = np.array([need[column == column[row]].sum() for row in range(n)])
    beyond = (need_of_audience - later * 3) * need / np.maximum(need_of_audience, 1e-12) * mean
    expected = lacks - later * holds
    expected = np.where(need > 0, np.maximum(expected, beyond), expected)
    expected = np.where(counts[column] & (lacks > 0), expected, 0.0)
    coming = guarding.counted_on(remaining[2], 0.1)
    n_urgent, alone, _ = due(guard_of(required, **options), remaining[2], weight=weight)
    short = guarding.positions_needed(deficits, coming, coming * 3 - need.sum())
    without = guarding.positions_needed(deficits, coming, coming * 3)
    if n_urgent or alone != without:  # items that need more than one position per arrival
        short -= without - alone
    total = deficits.total[0] * guarding.GRAIN + need.sum()
    wanted = short
    if short > 0:
        part = np.where(counts[column], short * need / total * mean, -np.inf)
        expected = np.maximum(expected, part)
        wanted = short * deficits.total[0] * guarding.GRAIN / total
    assert guard.need == pytest.approx(need, abs=1e-9)
    assert guard.due == pytest.approx(expected, abs=1e-6)
    assert urgent == n_urgent
    assert excess == pytest.approx(wanted, abs=1e-6)
    assert now == (urgent > 0 or excess > 0 or (guard.due > 1e-9).any())


@settings(max_examples=100)
@given(tables, st.data())
def test_items_of_due_rows_are_placed_as_a_search_by_hand_does(items, data):
    """The best items of each due row, the row with most first, each at the last position that suffices."""
    items = [np.array(members) for members in items]
    weight = np.array([1.0, 0.5, 0.25, 0.25])
    eighths = st.lists(st.integers(-4, 20), min_size=len(items), max_size=len(items), unique=True)
    guard = guard_of(np.zeros(MANY), items, [9.0] * len(items), [0] * len(items), weight=weight)
    guard.due[:] = np.array(data.draw(eighths)) / 8.0
    levels = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=MANY, max_size=MANY)), float)
    value = np.where(levels < 0, -np.inf, levels)
    slate_found = slate_of(value, np.zeros(MANY), 50.0, weight, urgent=False, guard=guard)
    slate = [-1] * 4
    free_values = value.copy()
    for row in np.argsort(-guard.due):
        lack = guard.due[row] - sum(w for w, item in zip(weight, slate, strict=True) if item in items[row])
        while guard.due[row] > 1e-9 and lack > 1e-9:
            free = [place for place, item in enumerate(slate) if item < 0]
            pool = [item for item in items[row] if free_values[item] > -np.inf]
            if not free or not pool:
                break
            place = max([place for place in free if weight[place] >= lack - 1e-9] or free[:1])
            item = max(pool, key=lambda candidate: (free_values[candidate], int(tie_rank(ROW, candidate))))
            slate[place] = int(item)
            free_values[item] = -np.inf
            lack -= weight[place]
    rest = sorted(
        np.flatnonzero(free_values > -np.inf),
        key=lambda candidate: (-free_values[candidate], -int(tie_rank(ROW, candidate))),
    )
    filled = [item if item >= 0 else int(rest.pop(0)) if rest else -1 for item in slate]
    assert slate_found == [item for item in filled if item >= 0]


def test_an_exposure_that_is_taken_back_is_delivered_again():
    """A guard that is informed of exposures that did not count, as in experiments on items, shows them in time."""
    n = 60
    m = 12
    liked = np.random.default_rng(0).random((n, m)).astype(np.float32)
    liked[:, :4] = 0.0  # nobody wants the guaranteed items
    agent = make_agent("rim-feedback")
    agent.begin_round(hard_round(n, 2, np.where(np.arange(m) < 4, 1.0, 0.0), 0.01))
    delivered = np.zeros(m)
    taken = set()
    for row in range(n):
        arrival = arrivals_of(liked[row : row + 1], first=row)
        back = np.zeros(m)
        for item in agent.act(arrival).items[0]:
            if item < 4 and item not in taken:
                taken.add(int(item))
                back[item] = -1.0
            else:
                delivered[item] += 1
        agent.note_delivery(back, None)
    assert taken == {0, 1, 2, 3}
    assert (delivered[:4] >= 1).all()


def hard_market(**changes):
    """Two rounds of a week with floors, groups, and campaigns that end when the first round does."""
    return priced(**({"hard": True, "most": None, "campaigns": LATE, "unit": "examined"} | changes))


def undelivered(closed):
    """Share of the exposures of groups and campaigns that a round did not deliver."""
    floors = closed.promises.min_exposure
    return np.maximum(floors - closed.delivered, 0).sum() / floors.sum()


@pytest.mark.parametrize("name", ["rim-feedback", "rim-resolve(every=30)"])
def test_hard_groups_and_campaigns_are_delivered_in_full(name):
    """Nothing is missing of a campaign over half of the last positions besides others, in any batch, to the bit."""
    agent, at_once = played_by(name, hard_market())
    assert [undelivered(closed) for closed in at_once.closed] == [0.0, 0.0]
    second_agent, in_batches = played_by(name, hard_market(), 7)
    same_ledgers(at_once, in_batches)
    same_arrays(agent, second_agent, "row_price")


def test_the_guard_delivers_where_prices_cannot(monkeypatch):
    """With prices that barely move the guard delivers all, by arrivals and by time; without it much is missing."""
    weak = "rim-feedback(gain=1e-9)"
    for pace in ("arrivals", "clock"):
        config = hard_market(pace=pace, cost=1e-9, beta=0.1)
        assert undelivered(played_by(weak, config)[1].closed[0]) <= (0.0 if pace == "arrivals" else 0.01)
    monkeypatch.setattr(Delivery, "_reset_guard", lambda *_: None)
    assert undelivered(played_by(weak, hard_market(cost=1e-9, beta=0.1))[1].closed[0]) > 0.04
