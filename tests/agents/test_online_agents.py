"""Online agents: laws, prices, guarantees and learning against brute force, solvers and slow transcriptions."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from kit import cases, markets, refused
from kit.logs import arrivals_of, skewed, view_of
from scipy import optimize, stats

from rimsim import matching, measures, rng
from rimsim.agents import LinUCB, Relevance, States, diagnostics_of, make_agent
from rimsim.agents.entropic_dual import entropic_prices
from rimsim.agents.gibbs import gibbs_law
from rimsim.agents.p_mmf import projected
from rimsim.config import ArrivalsConfig
from rimsim.errors import AgentError, ArmsError
from rimsim.intensity import UserStates
from rimsim.market import Feedback, Market, Needs
from rimsim.scenarios.runs.digests import digest
from rimsim.scenarios.study.compare import resume
from rimsim.tracking import event_folder, read_scalars

MOVING = ("rim-feedback", "rim-feedback(gain=0.1,closing=0.05)", "rim-resolve(every=30)", "p-mmf", "fair-rec")
MOVING += ("entropic-dual", "entropic-dual(gain=0)")
PRICED = tuple(name for name in MOVING if name != "fair-rec")


def test_bonus_of_uncertain_items_is_the_quantile_of_their_law():
    """Without floors `rim-ucb` shows the best of λ raised by quantiles; sure of all items it is `rim-feedback`."""
    n = 40
    m = 30
    k = 5
    scores = skewed(n, m)
    past, arrivals = (arrivals_of(scores[rows]) for rows in (slice(0, 20), slice(20, 40)))
    shape = np.random.default_rng(1).uniform(0.5, 20.0, m)
    agent = make_agent("rim-ucb(quantile=0.8)")
    agent.begin_round(view_of(20, m, k, share=0.0, past=past, confidence=shape))
    raised = arrivals.intensity.numpy() * stats.gamma.ppf(0.8, shape, scale=1.0 / shape)
    assert np.array_equal(agent.act(arrivals).items, np.argsort(-raised, axis=1)[:, :k])
    slates = []
    for name in ("rim-ucb", "rim-feedback"):
        agent = make_agent(name)
        agent.begin_round(view_of(20, m, k, past=past, confidence=np.full(m, 1e18)))
        slates.append(agent.act(arrivals).items)
    assert np.array_equal(*slates)


def test_the_state_oracle_knows_first_visits_by_their_mean_alone():
    """Row by row: returning visitors get their own best items, first ones those of the mean of first ones so far."""
    true = skewed(30, 25)
    lengths = np.arange(30) % 3
    events = int(lengths.sum())
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    history = UserStates(offsets, np.zeros(events, np.int64), np.zeros(events), np.ones(30))
    arrivals = arrivals_of(true)
    visits = dataclasses.replace(arrivals, true_intensity=arrivals.relevance, history=history)
    agent = make_agent("state-oracle")
    agent.begin_round(view_of(30, 25, 4))
    slates = np.concatenate([agent.act(visits.rows(slice(*ends))) for ends in ((0, 1), (1, 14), (14, 30))])
    for row in range(30):
        earlier = [true[first_visit] for first_visit in range(row + 1) if lengths[first_visit] == 0]
        value = np.mean(earlier, 0) if lengths[row] == 0 else true[row]
        assert slates[row].tolist() == np.argsort(-value)[:4].tolist()


@pytest.mark.parametrize("m", [1, 5, 37, 200, 1031])
@pytest.mark.parametrize("levels", [2, 40, 10**9])
@pytest.mark.parametrize("width", [0.0, 0.01, 0.4, 3.0])
def test_best_items_are_a_sort_by_value_and_seeded_rank(m, levels, width):
    """With many ties and few items, and values raised by seeded numbers, the list is the head of a full sort."""
    draw = np.random.default_rng(m + levels)
    for k in {1, min(3, m), min(m, 20)}:
        value = draw.integers(0, levels, m) / (1.0 if width == 0 else levels)
        value[draw.random(m) < 0.3] = -np.inf
        row = np.uint64(draw.integers(0, 2**63))
        items = np.empty(k, np.int64)
        best = np.empty(k)
        size = matching.best_items(value, row, items, best, *([width] if width else []))
        rank = np.array([int(matching.tie_rank(row, item)) for item in range(m)], object)
        raised = value + width * np.array([matching.uniform_of(np.uint64(number)) for number in rank])
        order = sorted(np.flatnonzero(value > -np.inf), key=lambda item: (-raised[item], -rank[item]))
        assert items[:size].tolist() == [int(item) for item in order[:k]]
        assert best[:size].tolist() == raised[items[:size]].tolist()


@pytest.mark.parametrize("m", [1, 5, 200, 1031])
def test_items_between_are_a_mask(m):
    """All items from one value up to another are found, those that may not be shown never; k reach the lowest."""
    draw = np.random.default_rng(m)
    for dtype in (np.float64, np.float32):
        value = draw.random(m).astype(dtype)
        value[draw.random(m) < 0.3] = -np.inf
        items = np.empty(m, np.int64)
        for k in {1, min(3, m), min(m, 20)}:
            highest = matching.part_maxima(value, k)
            lowest = matching.kth_of_parts(highest, k)
            assert lowest == -np.inf or np.count_nonzero(value >= lowest) >= k
            for below in (np.inf, 0.7):
                size = matching.items_between(value, highest, lowest, below, items)
                mask = (value >= lowest) & (value < below) & (value > -np.inf)
                assert sorted(items[:size].tolist()) == np.flatnonzero(mask).tolist()


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


@cases(
    "memory sample n_present n_past",
    (0.0, 1.0, 0, 120),
    (0.25, 0.5, 30, 30),
    (0.0, 0.5, 0, 60),
    (1e-9, 0.5, 1, 59),
    (1.0, 0.25, 30, 0),
    (1.0, 1.0, 40, 80),
)
def test_resolving_solves_what_remains_on_the_latest_states(memory, sample, n_present, n_past):
    """At a multiple of f prices are of the dual of the remaining floors, at the rate of what is left.

    The sample is the latest states of the round, filled up with states of the last round, evenly spaced.
    """
    n = 120
    m = 30
    k = 3
    past = arrivals_of(skewed(n, m, 1))
    arrivals = arrivals_of(skewed(n, m, 2), first=500)
    agent = make_agent(f"rim-resolve(every=40,gain=0,memory={memory},sample={sample})")
    view = view_of(n, m, k, past=past, cost=1.0)
    agent.begin_round(view)
    start_price = agent.item_price
    slates = agent.act(arrivals_of(arrivals.relevance.numpy()[:40], first=500))
    exposure = np.bincount(slates.items.ravel(), minlength=m)
    slates = agent.act(arrivals_of(arrivals.relevance.numpy()[40:80], first=540))
    spaced = [int((place + 0.5) * n / n_past) for place in range(n_past)]
    states = np.concatenate([past.intensity.numpy()[spaced], arrivals.intensity.numpy()[40 - n_present : 40]])
    share = np.maximum(view.required - exposure, 0) * (len(states) / (n - 40))
    draw = rng.uniform(view.key, rng.Purpose.FLOORS, 40, np.arange(m))
    floors = np.minimum(np.floor(share) + (draw < share - np.floor(share)), len(states)).astype(np.int64)
    solution = matching.solve_dual(
        states, k, floors, cost=1.0, prices=start_price, tol=1e-3, tie_seed=view.key
    )
    np.testing.assert_allclose(agent.item_price, np.clip(solution.item_price, -1.0, 0.0) + 0.0)
    stated = np.where(view.required > 0, np.clip(solution.item_price, -1.0, 0.0), 0.0)
    np.testing.assert_allclose(slates.price, stated[slates.items], rtol=1e-6)


@pytest.mark.parametrize("name", [*PRICED, "rim-dual"])
def test_without_past_states_prices_begin_at_zero(name):
    """Where nobody came before, there is nothing to solve prices on, and slates are served all the same."""
    agent = make_agent(name)
    agent.begin_round(view_of(20, 12, 2))
    assert (agent.item_price == 0).all()
    assert agent.act(arrivals_of(skewed(20, 12))).items.shape == (20, 2)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
def test_copies_are_handed_out_as_the_adaptation_says(share):
    """Slates of fair-rec equal a transcription with Python sets, copies left and even turns, on short slates too."""
    n = 60
    m = 25
    k = 4
    scores = skewed(n, m, 3)
    admissible = np.random.default_rng(1).random((n, m)) < 0.8
    agent = make_agent("fair-rec")
    view = view_of(n, m, k, share=share)
    agent.begin_round(view)
    capacity = np.random.default_rng(2).integers(0, k + 1, n)
    slates = agent.act(dataclasses.replace(arrivals_of(scores, admissible), capacity=capacity)).items
    copies = view.required.copy()
    for t, n_positions in enumerate(capacity):
        turns = min(n_positions, -(-int(copies.sum()) // (n - t)))
        ranked = [int(i) for i in np.argsort(-scores[t]) if admissible[t, i]]
        chosen = [i for i in ranked if copies[i] > 0][:turns]
        chosen += [i for i in ranked if i not in chosen][: n_positions - len(chosen)]
        assert slates[t][slates[t] >= 0].tolist() == sorted(chosen, key=ranked.index)
        for item in chosen:
            copies[item] = max(copies[item] - 1, 0)


@pytest.mark.parametrize("name", PRICED)
def test_stated_prices_are_the_agents_prices_before_the_arrival(name):
    """One arrival at a time, the prices of a slate are ``item_price`` at that moment, in the box [−c, 0]."""
    market = Market(markets.small_scenario(rounds=1))
    agent = make_agent(name)
    market.barrier_every = agent.barrier_every
    agent.begin_round(market.round_view())
    while not market.done:
        arrivals = market.next_arrivals(1)
        is_barrier = agent.barrier_every is not None and market.served % agent.barrier_every == 0
        price_before = agent.item_price
        cost = market.cost
        slates = agent.act(arrivals)
        if not is_barrier:  # there, prices are solved anew first
            shown = slates.items[0][slates.items[0] >= 0]
            np.testing.assert_allclose(
                slates.price[0, : len(shown)], price_before[shown], rtol=1e-5, atol=1e-12
            )
        assert price_before.max() <= 0
        if name != "p-mmf":
            assert price_before.min() >= -cost * (1 + 1e-9)
        market.serve(arrivals, slates)


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


@pytest.mark.parametrize("name", MOVING)
def test_capped_users_get_no_more_than_their_positions(name):
    """Where a user's exposures are capped, slates end at the arrival's capacity; at none left, nothing may be shown."""
    market = Market(markets.small_capped(rounds=2, user_cap=6))
    agent = make_agent(name)
    n_capped = 0
    while not market.done:
        agent.begin_round(market.round_view())
        number = market.round
        market.barrier_every = agent.barrier_every
        while not market.done and market.round == number:
            arrivals = market.next_arrivals(7)
            slates = agent.act(arrivals)
            capacity = np.full(len(arrivals), 5) if arrivals.capacity is None else arrivals.capacity
            assert ((slates.items >= 0).sum(1) <= capacity).all()
            assert (arrivals.admissible.any(1).numpy() == (capacity > 0)).all()
            n_capped += int((capacity < 5).sum())
            market.serve(arrivals, slates)
    assert n_capped > 0


@cases(
    "name largest_shortfall",
    *[(name, 0.02) for name in ("rim-feedback(gain=0.1,closing=0.05)", "rim-resolve(every=100)", "fair-rec")],
    ("entropic-dual", 0.03),
    ("p-mmf", 0.3),
)
def test_guarantees_are_kept(name, largest_shortfall):
    """Shortfall over two rounds of the small market stays below a bound; relevance leaves more than half."""
    config = markets.small_scenario(rounds=2, arrivals=ArrivalsConfig(per_round=400, max_visits=3))
    market = markets.played(config, name)
    short = [measures.shortfall(r.ledger.exposure(market.n_items), r.required) for r in market.closed]
    assert np.mean(short) <= largest_shortfall


GENRES = ["a", "b", "a|b", "c"]  # of four items


def genre_view(decay=0.5):
    """A round over four items with two positions, and nothing required."""
    return view_of(10, 4, 2, share=0.0, decay=decay, items=pd.DataFrame({"genres": GENRES}))


def visitors(intensity, histories):
    """Arrivals with given intensities (n, 4) and histories, a list of items each."""
    n = len(intensity)
    offsets = np.append(0, np.cumsum([len(items) for items in histories]))
    items = np.concatenate([*map(np.asarray, histories), []]).astype(np.int64)
    history = UserStates(offsets, items, np.zeros(len(items)), np.ones(n))
    return dataclasses.replace(arrivals_of(np.asarray(intensity)), history=history)


def features(intensity, history):
    """(4, 7) the chance times 1, the shares of three genres in each item, and those times their shares in a history."""
    shares = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0, 0, 1]])
    taste = shares[history].mean(0) if len(history) else np.zeros(3)
    return (1 - np.exp(-intensity))[:, None] * np.column_stack([np.ones(4), shares, shares * taste])


def test_the_slate_holds_the_highest_bounds_of_a_ridge_regression():
    """Weights are those of least squares with a penalty for leaving (1, 0, …); the bonus is α standard errors."""
    rng = np.random.default_rng(0)
    agent = LinUCB(width=0.7, ridge=3.0)
    agent.begin_round(genre_view())
    rows = []
    targets = []
    for _ in range(30):
        intensity = rng.random(4).astype(np.float32)
        history = rng.choice(4, rng.integers(0, 4), replace=False)
        slate = rng.permutation(4)[:2]
        consumed = rng.random(2) < 0.4
        agent.learn(Feedback(visitors(intensity[None], [history]), slate[None], consumed[None]))
        rows += list(features(intensity.astype(float), history)[slate] * np.array([[1.0], [0.5]]))
        targets += list(consumed.astype(float))
    start = np.eye(7)[0]
    X = np.vstack([rows, np.sqrt(3.0) * np.eye(7)])
    weights = np.linalg.lstsq(X, np.append(targets, np.sqrt(3.0) * start), rcond=None)[0]
    spread = np.linalg.pinv(X.T @ X)
    for history in ([], [0], [1, 3], [0, 1, 2]):
        intensity = rng.random((1, 4)).astype(np.float32)
        phi = features(intensity[0].astype(float), history)
        bound = phi @ weights + 0.7 * np.sqrt(np.einsum("md,de,me->m", phi, spread, phi))
        slate = agent.act(visitors(intensity, [history]))[0]
        assert slate.tolist() == np.argsort(-bound)[:2].tolist()
    assert agent.diagnostics["weight_of_chance"] == pytest.approx(weights[0])
    assert agent.diagnostics["weight_of_genres"] == pytest.approx(np.linalg.norm(weights[1:]))
    assert agent.diagnostics["slates_learnt"] == 30


@pytest.mark.parametrize("scenario", [markets.small_scenario, markets.small_replay])
def test_an_agent_that_asks_is_told_what_visitors_consumed(scenario):
    """The history of an arrival holds what the platform knows: exactly what may not be shown any more."""
    market = Market(scenario(rounds=1), needs=Needs(history=True, items=True))
    assert market.round_view().items["id"].tolist() == market.world.log.items["id"].tolist()
    n_consumed = 0
    for arrivals in markets.batches(market, 7):
        states = arrivals.history
        assert states.now.tolist() == arrivals.time.tolist()
        for row in range(len(arrivals)):
            consumed = states.items[states.offsets[row] : states.offsets[row + 1]]
            assert (np.diff(states.times[states.offsets[row] : states.offsets[row + 1]]) >= 0).all()
            assert set(consumed.tolist()) == set(np.flatnonzero(~arrivals.admissible[row].numpy()).tolist())
            n_consumed += len(consumed)
        turned = arrivals.rows(np.arange(len(arrivals))[::-1].copy()).history
        assert turned.lengths.tolist() == states.lengths[::-1].tolist()
    assert n_consumed > 100


def test_an_agent_that_does_not_ask_is_told_nothing():
    """Without a declared need all stay None; needs of several agents add up, and a given catalogue is its own."""
    market = Market(markets.small_scenario(rounds=1))
    arrivals = market.next_arrivals(3)
    assert (arrivals.history, arrivals.true_intensity, market.round_view().items) == (None, None, None)
    assert Needs.of(LinUCB(), Relevance()) == Needs(items=True, history=True)
    assert Needs.of(make_agent("oracle"), make_agent("hindsight")) == Needs(truth=True, future=True)
    assert Needs.of(Relevance()) == Needs()
    market = Market(markets.small_scenario(rounds=1), needs=Needs(items=True))
    items = market.round_view().items
    items["genres"] = "spoilt"
    assert "spoilt" not in set(market.world.log.items["genres"]) | set(market.round_view().items["genres"])


def test_what_it_has_learnt_outlives_an_interruption_and_is_told(tmp_path, monkeypatch):
    """A resumed run has the same content; each round's ``diagnostics`` are metrics ``agent/<name>`` and scalars."""
    uninterrupted = markets.small_run(tmp_path / "whole", ["lin-ucb"])
    stopped = tmp_path / "stopped"
    with markets.stopped_after_a_round(monkeypatch):
        refused(ArmsError, "enough", markets.small_run, stopped, ["lin-ucb"])
    assert digest(resume(stopped, workers=1)) == digest(uninterrupted)
    learnt = uninterrupted.rounds[uninterrupted.rounds["metric"] == "agent/slates_learnt"]
    assert learnt["value"].tolist() == [120, 240, 360]
    scalars = read_scalars(event_folder(uninterrupted.folder, "lin-ucb", 0))
    assert [point.value for point in scalars["agent/slates_learnt"]] == [120, 240, 360]


def test_diagnostics_that_are_no_numbers_are_refused():
    """An agent whose diagnostics are not names with numbers is named."""
    agent = Relevance()
    agent.name = "wordy"
    agent.diagnostics = {"mood": "good"}
    refused(AgentError, "'wordy'.*Expected a mapping of names to numbers", diagnostics_of, agent)
