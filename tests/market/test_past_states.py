"""Samples of past states: evenly spread, scored as before, with prices and certificates that hold."""

import dataclasses

import numpy as np
import pytest
from kit import cases, refused
from kit.markets import market_of, small_replay, small_scenario

from rimsim import config as records
from rimsim.agents import make_agent, play_round
from rimsim.agents.past_states import joined_states
from rimsim.agents.prices import solved_prices
from rimsim.errors import AgentError
from rimsim.market import Market
from rimsim.matching import certificate
from rimsim.scenarios.study.certificates import HindsightPrices, certified, prepare_certificate


@pytest.mark.parametrize("size", [1, 7, 50])
def test_a_sample_of_past_states_is_spread_evenly(size):
    """Every column is cut to the same rows, the middles of so many equal stretches."""
    past = Market(small_scenario()).round_view().past.past
    n = len(past.id)
    past = dataclasses.replace(past, capacity=np.arange(n) % 5, audiences=np.arange(n)[:, None] % 3 > 0)
    assert n > size
    rows = ((np.arange(size) + 0.5) * n / size).astype(int)
    sample = past.sampled(size)
    for name in ("id", "tick", "user", "capacity", "audiences"):
        np.testing.assert_array_equal(getattr(sample, name), getattr(past, name)[rows])
    for sampled, column in zip(sample.visits[:3], past.visits[:3], strict=True):
        np.testing.assert_array_equal(sampled, column[rows])
    np.testing.assert_array_equal(sample.states(np.arange(size))[0].items, past.states(rows)[0].items)
    assert past.sampled(n) is past
    assert dataclasses.replace(past, capacity=None, audiences=None).sampled(size).capacity is None


def _held(monkeypatch, config, states):
    """Hold so many states of a scenario's catalogue at once."""
    monkeypatch.setattr("rimsim.market.scores.past.MOST_CELLS", states * Market(config).n_items)


@pytest.mark.parametrize("scenario", [small_scenario, small_replay])
def test_a_sample_of_past_states_is_even_and_scored_as_before(scenario, monkeypatch):
    """Agents see every so many-th state, with the scores that it has among all, and how many it stands for."""
    market = Market(scenario())

    def seen(past):
        return {key: row for chunk in past for key, row in zip(chunk.id, chunk.intensity, strict=True)}

    all_rows = seen(market.round_view().past)
    _held(monkeypatch, scenario(), 40)
    view = market.round_view()
    assert view.n_past_arrivals == len(all_rows)
    sampled = seen(view.past)
    assert len(sampled) == len(view.past) == 40
    assert all((row == all_rows[arrival]).all() for arrival, row in sampled.items())


@pytest.mark.parametrize("unit", ["shown", "examined"])
def test_a_round_that_is_certified_on_a_sample_has_a_bound_no_lower(unit, monkeypatch):
    """V is that of all states, and D(w) at prices of a sample is a bound: none lies below the least one."""
    config = small_scenario(rounds=1, exposure=records.ExposureConfig(unit=unit))
    market = Market(config)
    agent = make_agent("rim-dual")
    play_round(market, agent, 32)
    on_all = certified(market.closed[0], HindsightPrices())
    _held(monkeypatch, config, 50)
    on_sample = certified(market.closed[0], HindsightPrices())
    assert on_sample.value == pytest.approx(on_all.value, rel=1e-9)
    assert on_sample.bound >= on_all.bound * (1 - 2e-3)
    assert on_sample.bound <= on_all.bound * 1.1


@cases("n_states cap", (30, None), (10_000, None), (30, 15))
def test_a_replay_has_the_same_certificate_if_it_is_noted_while_served(n_states, cap, monkeypatch):
    """Value, bound and prices of a replay are equal to the bit, and its states are not scored again."""
    config = small_replay(user_cap=cap)
    proofs = []
    _held(monkeypatch, config, n_states)
    for noted in (False, True):
        market = Market(config)
        agent = make_agent("rim-dual")
        hindsight = HindsightPrices()
        if noted:
            prepare_certificate(market, hindsight)
        play_round(market, agent)
        closed = market.closed[0]
        if noted:
            closed = dataclasses.replace(closed, states=dataclasses.replace(closed.states, models=None))
        proofs.append(dataclasses.asdict(certified(closed, hindsight)))
    np.testing.assert_equal(*proofs)


@pytest.mark.parametrize("states", [20, 30])
def test_a_sample_with_less_than_an_exposure_for_an_item_has_prices_too(states, monkeypatch):
    """Prices of a few states bound all states' value nearly as well as their own, and far better than no prices."""
    config = small_scenario(exposure=records.ExposureConfig(unit="shown", beta=0.3))
    view = Market(config).round_view()
    all_states = joined_states(view.past, view.k)
    floor = view.required * (len(all_states.scores) / view.arrivals)
    assert floor.mean() * states / len(all_states.scores) < 1.5
    slates = np.full((len(all_states.scores), view.k), -1)

    def bound(price):
        return certificate(
            all_states.scores,
            slates,
            all_states.capacity,
            floor,
            price,
            view.cost,
            position_weights=view.position_weights,
        ).bound

    best = bound(solved_prices(view, 1e-3)[0])
    none = bound(0.0)
    _held(monkeypatch, config, states)
    sampled = bound(solved_prices(Market(config).round_view(), 1e-3)[0])
    assert best * 0.999 <= sampled <= best + 0.2 * (none - best)


def test_hindsight_of_too_large_a_round_is_refused_with_the_figure(monkeypatch):
    """A plan of a whole round holds all of its scores; the refusal says how many arrivals there may be."""
    config = small_replay()
    agent, market = market_of("hindsight", config)
    _held(monkeypatch, config, 30)
    message = "Expected at most 30 arrivals per round with this number of items"
    refused(AgentError, message, agent.begin_round, market.round_view())
