"""Small markets that the market in plain SimPy plays, too."""

import dataclasses
import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from kit.markets import small_replay, small_scenario
from rimsim import rng
from rimsim.arrays import TICKS
from rimsim.config import (
    ArrivalsConfig,
    CampaignConfig,
    ConsumerConfig,
    ExposureConfig,
    PlatformConfig,
    ReleasesConfig,
    Seeds,
)
from rimsim.market import Market
from rimsim.market.arrivals.clones import Clones, clones_at

EXAMPLE = Path(__file__).parents[2] / "examples" / "market_in_simpy.py"
HOUR = 3600.0
CAMPAIGNS = (
    CampaignConfig("first days", items=("260", "296", "318", "356"), share=0.05, start=0.0, stop=3.5),
    CampaignConfig("from then on", items=("296", "527", "593"), share=0.05, start=3.5, stop=10.0),
)
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
    """Small markets by name."""
    late = ConsumerConfig(delay="6h")
    hour = ConsumerConfig(delay="1h")
    releases = ReleasesConfig(share=0.2, first_round=0, last_round=1)
    hourly = ArrivalsConfig(kind="kit.plain_simpy:Hourly")
    users = ArrivalsConfig(per_round=200, max_visits=3, draw="users", round_length="1d")
    newcomers = ArrivalsConfig(per_round=120, history="none")
    replay_late = ConsumerConfig(kind="replay", delay="1d")
    campaigns = ExposureConfig(unit="shown", campaigns=CAMPAIGNS)
    return {
        "clones": small_scenario(platform=PLATFORM, rounds=2),
        "clones, late": small_scenario(platform=PLATFORM, consumer=late, rounds=2),
        "releases": small_scenario(platform=PLATFORM, releases=releases, rounds=2),
        "several visits": small_scenario(platform=PLATFORM, arrivals=users, consumer=late, rounds=2),
        "without a past": small_scenario(platform=PLATFORM, arrivals=newcomers, rounds=2),
        "campaigns": small_scenario(platform=PLATFORM, exposure=campaigns, rounds=2),
        "ties": small_scenario(platform=PLATFORM, consumer=hour, releases=releases, arrivals=hourly),
        "replay": small_replay(platform=PLATFORM),
        "replay, late": small_replay(platform=PLATFORM, consumer=replay_late),
    }


@lru_cache(maxsize=2)
def opened(name):
    """Scenario, and parts of its market that the engine and the example share."""
    scenario = scenarios()[name]
    market = Market(scenario)
    return scenario, market.world, market.model, market.arrivals


@lru_cache(maxsize=4)
def played(name, order=None):
    """Example after all rounds, and its ledger."""
    slow = example().SlowMarket(*opened(name), Seeds(), order or example().ORDER)
    return slow, slow.run()


def slow_ledger(name, order=None):
    """Ledger of the example."""
    return played(name, order)[1]


def ledger_of(closed_rounds, columns):
    """Ledger of the engine, with the columns of the example."""
    tables = [closed.ledger.table("relevance", 0, closed.number) for closed in closed_rounds]
    return pd.concat(tables, ignore_index=True)[columns]


def assert_same(slow, engine):
    """Intensities agree up to rounding, all other columns exactly."""
    pd.testing.assert_frame_equal(
        slow.drop(columns="intensity"), engine.drop(columns="intensity"), check_dtype=False, check_exact=True
    )
    np.testing.assert_allclose(slow.intensity, engine.intensity, rtol=1e-5)
