"""The layer that a platform learns from logged impressions: that of a round with the same impressions."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from kit.markets import market_of, small_replay, small_scenario

from rimsim.agents import make_agent, play_round
from rimsim.arrays import seconds
from rimsim.config import ArrivalsConfig, DataConfig, PlatformConfig
from rimsim.data import LoggedImpressions
from rimsim.intensity.impression_factors import fit_by_turns
from rimsim.intensity.impressions import Calibrated, layer_of_fits
from rimsim.market import Market, build_world
from rimsim.market.logged_impressions import (
    ScoreTerms,
    known_impressions,
    logged_scores,
    logged_shown,
    logged_states,
)
from rimsim.market.opening import warm_model
from rimsim.market.platform import cross_fitted, first_fits, impressions_of, prior_of
from rimsim.market.world import examination_of

PLATFORM = PlatformConfig(model="bag")


def _logged(market, rows):
    """Slates of the closed round as logged impressions."""
    ledger = market.closed[-1].ledger
    filled = ledger.item[rows] >= 0
    arrival, place = np.nonzero(filled)
    schedule = ledger.schedule
    return LoggedImpressions(
        visitor=schedule.user[schedule.slot[rows]][arrival],
        visitors=np.arange(market.world.log.n_users),
        user=schedule.user[schedule.slot[rows]][arrival],
        item=ledger.item[rows][filled].astype(np.int64),
        time=seconds(schedule.tick[rows])[arrival],
        taken=ledger.consumed[rows][filled],
        position=place + 1,
    )


def test_the_layer_of_a_log_is_that_of_a_round_with_the_same_impressions():
    """A round of a replay, written as a log of impressions: the same evidence, and so the same layer."""
    config = small_replay(platform=PLATFORM, rounds=2)
    agent, market = market_of("random", config)
    play_round(market, agent)
    platform = market.platform
    last = platform.rounds[-1]
    models = cross_fitted(config.platform, market.world.past, platform.rounds, platform._before, 0)
    rows = np.flatnonzero(last.shown.settled < last.schedule.stop)
    assert len(rows) > 50
    examination = examination_of(config, market.consumer, platform.decay)
    of_round = impressions_of(
        last.shown.scored(market.closed[-1].states.scored_by(models)).rows(rows), examination
    )
    logged = _logged(market, rows)
    log = market.world.log
    terms = ScoreTerms(market.world.times, market.device, 0, market.world.rule)
    states = logged_scores(logged, log, models, terms)
    shown = logged_shown(logged, logged_states(logged, log).lengths).scored(states)
    of_log = impressions_of(
        shown, examination_of(config, market.consumer, platform.decay, shown.item.shape[1])
    )
    for name in ("item", "taken", "examination", "history"):
        np.testing.assert_array_equal(getattr(of_log, name), getattr(of_round, name))
    np.testing.assert_allclose(of_log.score, of_round.score, rtol=1e-5)
    prior = prior_of(config.platform.learning)
    first = first_fits(prior, np.bincount(market.world.past.item, minlength=market.n_items))
    fit = fit_by_turns(first[0], of_log, {}, prior).layer_fit
    for name in ("level", "slope", "item", "count", "expected"):
        np.testing.assert_allclose(getattr(fit, name), getattr(platform.fits[0], name), rtol=1e-3, atol=1e-4)
    assert np.abs(fit.item).max() > 0.01


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    """A log of 300 users and 200 items, whose second half has impressions; policy b shows where half as many take."""
    draw = np.random.default_rng(0)
    n = 6000
    rows = pd.DataFrame(
        {
            "user": draw.integers(300, size=n),
            "item": (200 * draw.random(n) ** 2).astype(int),
            "time": np.sort(draw.integers(0, 200 * 86_400, n)) + 1_450_000_000,
            "policy": draw.choice(["a", "b"], n),
            "position": draw.integers(1, 4, n),
        }
    )
    rate = 0.8 * 0.85 ** (rows["position"] - 1) * np.where(rows["policy"] == "a", 1.0, 0.5)
    rows["taken"] = (draw.random(n) < -np.expm1(-rate)).astype(int)
    rows["shown"] = 1
    rows.loc[: n // 2, ["taken", "shown"]] = 1, 0
    path = tmp_path_factory.mktemp("feed") / "feed.parquet"
    rows.to_parquet(path)
    return path


def _config(feed, **changes):
    fields = {"data": DataConfig(source=str(feed)), "slate": 3, "rounds": 2}
    fields["arrivals"] = ArrivalsConfig(kind="replay", per_round=80, warmup_share=0.9)
    fields["platform"] = PlatformConfig(model="popularity-hp")
    return small_replay(**(fields | changes))


def test_a_platform_opens_with_the_layer_of_its_log(feed):
    """Round 0 is served by the layer, the next round's evidence is added to it, and later impressions are unknown."""
    config = _config(feed)
    world = build_world(config)
    known = known_impressions(world)
    assert 0 < len(known) < len(world.log.impressions)
    assert known.time[-1] < world.opening
    market = Market(config)
    model = market.model
    assert isinstance(model, Calibrated)
    assert market.platform.fits == model.fits
    assert len({fit.memory for fit in model.fits} | {fit.item_memory for fit in model.fits}) > 1
    np.testing.assert_array_equal(model.layer.item, layer_of_fits(model.fits).item)
    assert model.fits[0].count.sum() > 0.5 * known.taken.sum()
    before = model.fits
    play_round(market, make_agent("random"))
    memories = [fit.item_memory for fit in market.platform.fits]
    full = memories.index(1.0)
    assert (market.platform.fits[full].count >= before[full].count - 1e-9).all()
    assert market.platform.fits[full].count.sum() > before[full].count.sum()


def test_only_a_platform_that_learns_from_impressions_uses_them(feed):
    """With consumed, and without a column of answers, the model stays as it would be."""
    learns = dataclasses.replace(PLATFORM, model="popularity-hp", learning="consumed")
    assert not isinstance(warm_model(_config(feed, platform=learns), 0), Calibrated)
    plain = DataConfig(source=str(feed), columns="user=user,item=item,time=time")
    model = warm_model(_config(feed, data=plain), 0)
    assert getattr(model, "fits", ()) == ()


def test_items_that_come_later_are_unknown(feed):
    """Impressions of withheld items are no evidence before these items come."""
    config = small_scenario(
        data=DataConfig(source=str(feed)), slate=3, releases={"share": 0.3, "first_round": 0, "last_round": 1}
    )
    world = build_world(config)
    known = known_impressions(world)
    assert set(world.log.impressions.item) > set(known.item)
    assert set(known.item) <= set(world.past.item)
