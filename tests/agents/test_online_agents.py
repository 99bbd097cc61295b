"""Agents whose prices move within a round: re-solving, uncertain items, stated prices, caps of users."""

import dataclasses

import numpy as np
import pytest
from kit import cases, markets
from kit.logs import arrivals_of, skewed, view_of
from scipy import stats

from rimsim import matching, measures, rng
from rimsim.agents import make_agent
from rimsim.config import ArrivalsConfig
from rimsim.intensity import UserStates
from rimsim.market import Market

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


def test_prices_of_rim_ucb_are_those_of_raised_states():
    """Without a belief of the platform, an item is as certain as one event and those of the log make it."""
    m = 12
    past = arrivals_of(skewed(20, m))
    popularity = np.arange(m) ** 2
    view = dataclasses.replace(view_of(20, m, 3, past=past, cost=20.0), popularity=popularity)
    agent = make_agent("rim-ucb(quantile=0.95)")
    agent.begin_round(view)
    shape = 1.0 + popularity
    quantile = stats.gamma.ppf(0.95, shape, scale=1.0 / shape)
    raised = arrivals_of(past.relevance.numpy() * quantile.astype(np.float32))
    feedback = make_agent("rim-feedback")
    feedback.begin_round(dataclasses.replace(view, calibration=[raised]))
    plain = make_agent("rim-feedback")
    plain.begin_round(view)
    assert agent.item_price == pytest.approx(feedback.item_price, rel=1e-4, abs=1e-6)
    assert np.abs(agent.item_price - plain.item_price).max() > 0.01
