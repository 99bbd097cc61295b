"""The engine against the market in plain SimPy, row by row, and the order of happenings at one instant."""

import dataclasses
import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kit.markets import small_replay, small_scenario

from rimsim import rng
from rimsim.agents import make_agent, play_round
from rimsim.arrays import TICKS
from rimsim.config import ArrivalsConfig, ConsumerConfig, PlatformConfig, ReleasesConfig, Seeds
from rimsim.market import Market
from rimsim.market.arrivals.clones import Clones, clones_at

EXAMPLE = Path(__file__).parents[2] / "examples" / "market_in_simpy.py"
HOUR = 3600.0
PLATFORM = PlatformConfig(model="popularity-hp", learning="consumed")


@lru_cache(maxsize=1)
def example():
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("market_in_simpy", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Hourly(Clones):
    """Clones who arrive at whole hours, or a tick before or after, and items that come and end at whole hours."""

    def opening(self, log):
        """Opening with releases at whole hours, and the end of every third item at the same hours."""
        opening = super().opening(log)
        hours = np.ceil((opening.release - opening.time) / HOUR)
        release = np.where(opening.release > 0, opening.time + hours * HOUR, 0.0)
        end = np.full(log.n_items, np.inf)
        end[::3] = opening.time + HOUR * (1 + np.arange(len(end[::3])) % 10)
        end[release >= end] = np.inf
        return dataclasses.replace(opening, release=release, end=end)

    def round(self, number, so_far):
        """A day-old market's visits: 90 in five hours."""
        visit = np.arange(90)
        draw = rng.uniform(so_far.seed, rng.Purpose.ARRIVALS, 77, number, visit)
        user = rng.uniform(so_far.seed, rng.Purpose.ARRIVALS, 78, number, visit)
        start = so_far.world.opening + number * 5 * HOUR
        time = start + np.floor(draw * 5) * HOUR + (visit % 3 - 1) / TICKS
        time = np.clip(time, start, start + 5 * HOUR - 1 / TICKS)
        last = np.full(
            3, start + 4 * HOUR - 1 / TICKS
        )  # their consumptions become known as the platform retrains
        time = np.concatenate([time, last])
        log_user = (np.concatenate([user, [0.1, 0.5, 0.9]]) * 40).astype(np.int64)
        return clones_at(so_far, number, time=time, log_user=log_user, start=start, stop=start + 5 * HOUR)


def scenarios():
    """Small markets by name, with the arrivals that they have instead of their own."""
    late = ConsumerConfig(delay="6h")
    hour = ConsumerConfig(delay="1h")
    releases = ReleasesConfig(share=0.2, first_round=0, last_round=1)
    users = ArrivalsConfig(per_round=200, max_visits=3, draw="users", round_length="1d")
    newcomers = ArrivalsConfig(per_round=120, history="none")
    replay_late = ConsumerConfig(kind="replay", delay="1d")
    return {
        "clones": (small_scenario(platform=PLATFORM, rounds=2), None),
        "clones, late": (small_scenario(platform=PLATFORM, consumer=late, rounds=2), None),
        "releases": (small_scenario(platform=PLATFORM, releases=releases, rounds=2), None),
        "several visits": (small_scenario(platform=PLATFORM, arrivals=users, consumer=late, rounds=2), None),
        "without a past": (small_scenario(platform=PLATFORM, arrivals=newcomers, rounds=2), None),
        "ties": (small_scenario(platform=PLATFORM, consumer=hour, releases=releases), Hourly),
        "replay": (small_replay(platform=PLATFORM), None),
        "replay, late": (small_replay(platform=PLATFORM, consumer=replay_late), None),
    }


@lru_cache(maxsize=1)
def opened(name):
    """Scenario, and parts of its market that the engine and the example share."""
    scenario, arrivals = scenarios()[name]
    market = Market(scenario, arrivals=None if arrivals is None else arrivals(scenario))
    return scenario, market.world, market.model, market.arrivals


@lru_cache(maxsize=4)
def slow_ledger(name, order=None):
    """Ledger of the example."""
    order = order or example().ORDER
    return example().SlowMarket(*opened(name), Seeds(), order).run()


def engine_ledger(name, batch):
    """Ledger of the engine."""
    scenario, world, model, arrivals = opened(name)
    market = Market(scenario, world=world, model=model, arrivals=arrivals)
    agent = make_agent("relevance")
    while not market.done:
        play_round(market, agent, batch)
    tables = [closed.ledger.table("relevance", 0, number) for number, closed in enumerate(market.closed)]
    return pd.concat(tables, ignore_index=True)[slow_ledger(name).columns]


def assert_same(slow, engine):
    """Intensities agree up to rounding, all other columns exactly."""
    pd.testing.assert_frame_equal(
        slow.drop(columns="intensity"), engine.drop(columns="intensity"), check_dtype=False, check_exact=True
    )
    np.testing.assert_allclose(slow.intensity, engine.intensity, rtol=1e-5)


@pytest.mark.parametrize("name", list(scenarios()))
def test_the_engine_equals_plain_simpy(name):
    """In batches of 1, 7 and all visitors, the engine writes the ledger of the market in plain SimPy."""
    slow = slow_ledger(name)
    assert slow.consumed.any()
    for batch in (1, 7, None):
        assert_same(slow, engine_ledger(name, batch))


@pytest.mark.parametrize(
    "order",
    [
        ("retrain", "feedback", "arrival", "offer"),
        ("offer", "feedback", "retrain", "arrival"),
        ("offer", "retrain", "arrival", "feedback"),
    ],
)
def test_another_order_at_one_instant_gives_another_ledger(order):
    """If one kind of happening changes its place at an instant, the ledger in plain SimPy is not the engine's."""
    with pytest.raises(AssertionError):
        assert_same(slow_ledger("ties", order), slow_ledger("ties"))


@pytest.mark.parametrize("name", ["several visits", "ties", "replay"])
def test_visitors_come_again_within_a_round(name):
    """Some visitors come twice within a round, so that second visits wait in the engine's batches."""
    visits = slow_ledger(name).groupby(["round", "user"]).arrival.nunique()
    assert visits.max() > 1


def test_the_example_is_short():
    """The whole market takes at most 200 lines."""
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 200
