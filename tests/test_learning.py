"""What the platform learns from impressions, in whole markets: against the ledger, and however they are played."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from small_markets import SMALL, play_out, small_replay, small_scenario

from rimsim.agents import make_agent, market_for, play_round
from rimsim.arrays import ticks
from rimsim.config import ConsumerConfig, PlatformConfig
from rimsim.config.fields import duration_seconds
from rimsim.intensity import Calibrated
from rimsim.intensity.impressions import KNOTS, Impressions, best_fit, layer_of
from rimsim.market import Market, MarketState
from rimsim.market import platform as platform_module
from rimsim.market.learning import positions_of
from rimsim.market.platform import cross_fitted
from rimsim.market.scores import always

LEARNER = PlatformConfig(model="als-hp", learning="impressions")


def _small(kind, **changes):
    """Two rounds of a small market whose platform learns from impressions; consumers take more than in others."""
    config = SMALL[kind](**({"platform": LEARNER, "rounds": 2} | changes))
    consumer = dataclasses.replace(config.consumer, attraction=3.0)
    return dataclasses.replace(config, consumer=consumer)


def _played(config, name="relevance", batch_size=None):
    agent = make_agent(name)
    market = market_for(agent, config)
    return play_out(market, agent, batch_size)


def _ledgers(market):
    tables = [closed.ledger.table("a", 0, closed.number) for closed in market.closed]
    return pd.concat(tables, ignore_index=True)


def _scores(market, models):
    """(n, k) what models say of what the last closed round showed."""
    ledger = market.closed[-1].ledger
    score = np.full(ledger.item.shape, np.nan)
    for chunk in market.closed[-1].states.scored_by(models):
        items = ledger.item[chunk.index]
        found = np.take_along_axis(chunk.intensity.numpy(), np.maximum(items, 0), 1)
        score[chunk.index] = np.where(items >= 0, found, np.nan)
    return score


@pytest.mark.parametrize("calibration", ["cross-fitted", "seen"])
def test_the_layer_is_fitted_to_the_ledgers(calibration):
    """Each round's layers equal fits on the saved tables, with scores of the models that score past states."""
    platform = dataclasses.replace(LEARNER, calibration=calibration)
    market, agent = Market(_small("clones", platform=platform, rounds=4)), make_agent("relevance")
    fits = market.platform.fits
    for _ in range(3):
        play_round(market, agent)
        models, closed = always(market.model.model), market.closed[-1]
        if calibration == "cross-fitted":
            models = cross_fitted(
                platform, market.world.past, market.platform.rounds, market.platform._before, 0
            )
        table, scored = closed.ledger.table("a", 0, closed.number), _scores(market, models)
        lengths = np.zeros(len(closed.ledger.item), np.int64)
        for arrival in range(len(lengths)):
            slot, tick = closed.ledger.schedule.slot[[arrival]], closed.ledger.schedule.tick[[arrival]]
            histories = market.platform.rounds[-1].histories
            lengths[arrival] = histories.states(slot, histories.visible_at(slot, tick), tick).lengths[0]
        shown = Impressions(
            table["item"].to_numpy(np.int64),
            scored[closed.ledger.item >= 0],
            3.0 * 0.85 ** (table["position"].to_numpy() - 1),
            table["consumed"].to_numpy(),
            np.repeat(lengths, (closed.ledger.item >= 0).sum(1)),
        )
        fits = tuple(fit.after(shown) for fit in fits)
        expected, found = best_fit(fits), best_fit(market.platform.fits)
        assert found.loss == pytest.approx(expected.loss, rel=1e-4)
        assert market.model.layer.slope == pytest.approx(expected.slope, rel=1e-3)
        assert found.level[:, None] + found.item == pytest.approx(
            expected.level[:, None] + expected.item, abs=1e-3
        )


@pytest.mark.parametrize("kind", ["clones", "cold-start", "replay"])
def test_what_is_logged_is_the_layer_over_the_inner_models_scores(kind):
    """In a later round the ledger's λ'(x,y) is the formula, and λ'(x) is its sum over what is admissible."""
    config = _small(kind, rounds=2)
    market, agent = Market(config), make_agent("relevance")
    play_round(market, agent)
    model = market.model
    play_round(market, agent)
    closed, layer = market.closed[1], model.layer
    schedule, histories = closed.ledger.schedule, market.platform.rounds[-1].histories
    counts = histories.visible_at(schedule.slot, schedule.tick)
    place = np.log1p(histories.states(schedule.slot, counts, schedule.tick).lengths)
    level, slope = (np.interp(place, KNOTS, part)[:, None] for part in (layer.level, layer.slope))
    for chunk in closed.states.scored_by(always(model.model)):
        inner = chunk.intensity.double().numpy()
        some = chunk.index
        laid = np.exp(level[some] + slope[some] * np.log(np.maximum(inner, 1e-9)) + layer.item)
        laid[~chunk.admissible.numpy()] = 0.0
        items = closed.ledger.item[chunk.index]
        shown = np.where(items >= 0, np.take_along_axis(laid, np.maximum(items, 0), 1), np.nan)
        np.testing.assert_allclose(closed.ledger.intensity[chunk.index], shown, rtol=2e-4)
        np.testing.assert_allclose(closed.ledger.ground[chunk.index], laid.sum(1), rtol=2e-4)


def test_prices_and_serving_share_a_layer():
    """Both fold models that score past states lie under the layer of the model that serves."""
    market = Market(_small("clones"))
    play_round(market, make_agent("relevance"))
    folds = market.round_view().past.models()
    assert len(folds) == 2
    assert all(fold.layer is market.model.layer for fold in folds)
    assert folds[0].model is not folds[1].model


@pytest.mark.parametrize("name", ["relevance", "rim-feedback"])
@pytest.mark.parametrize("kind", sorted(SMALL))
def test_results_do_not_depend_on_the_batch_size(kind, name):
    """Batches of 1 and 1,000 leave the same ledger to the last bit."""
    config = _small(kind)
    whole = _ledgers(_played(config, name, 1000))
    pd.testing.assert_frame_equal(_ledgers(_played(config, name, 1)), whole, check_exact=True)


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_a_market_goes_on_from_its_saved_state(kind, tmp_path):
    """Saved between rounds and loaded into a new market, it ends with the same ledger, bit for bit."""
    config = _small(kind, rounds=3)
    whole = _ledgers(_played(config, "rim-feedback"))
    first, agent = Market(config), make_agent("rim-feedback")
    for _ in range(2):
        play_round(first, agent)
    first.state.save(tmp_path / "state")
    again, other = Market(config), make_agent("rim-feedback")
    again.load_state(MarketState.load(tmp_path / "state"))
    play_out(again, other)
    again.closed[:0] = first.closed
    pd.testing.assert_frame_equal(_ledgers(again), whole, check_exact=True)


def test_impressions_change_nothing_before_there_are_any():
    """Round 0 is that of a platform that learns from consumptions, and a frozen platform stays as it is."""
    learns = _small("clones", rounds=2)
    usual = dataclasses.replace(learns, platform=dataclasses.replace(LEARNER, learning="consumed"))
    one, other = (_ledgers(_played(config)) for config in (learns, usual))
    first = one["round"] == 0
    pd.testing.assert_frame_equal(one[first], other[first], check_exact=True)
    assert not one[~first]["intensity"].equals(other[~first]["intensity"])
    frozen = dataclasses.replace(learns, platform=dataclasses.replace(LEARNER, retrain=False))
    market = _played(frozen)
    assert not isinstance(market.model, Calibrated)
    assert market.closed[0].number == 0


def test_positions_count_as_consumers_look_at_them():
    """a·γ^(r−1) for consumers who look from the top, 1 where hits are counted wherever they stand."""
    drawn = small_scenario(consumer=ConsumerConfig(position_decay=0.5, attraction=2.0))
    assert positions_of(drawn, Market(drawn).consumer, 0.5).tolist() == [2.0, 1.0, 0.5, 0.25, 0.125]
    counted = small_replay()
    assert positions_of(counted, Market(counted).consumer, 0.5).tolist() == [1.0] * 5


@pytest.mark.parametrize("delay", ["365d", "3d"])
def test_the_layer_learns_only_what_the_platform_knows(delay, monkeypatch):
    """Each slate is learnt once, in the round by whose end its outcome is known: with a year's delay not at all."""
    learnt, made = [], platform_module.impressions_of
    monkeypatch.setattr(
        platform_module, "impressions_of", lambda shown, *rest: learnt.append(shown) or made(shown, *rest)
    )
    platform = PlatformConfig(model="popularity-hp", learning="impressions")
    config = small_scenario(consumer=ConsumerConfig(delay=delay), platform=platform, rounds=4)
    market, settled = play_out(Market(config), make_agent("relevance")), []
    stops = [closed.schedule.stop for closed in market.closed][:-1]
    for closed in market.closed[:-1]:
        late = closed.schedule.tick + ticks(duration_seconds(delay)) + 1
        settled.append(late)
    for stop, before, shown in zip(stops, [0, *stops], learnt, strict=False):
        due = np.concatenate([late for late, end in zip(settled, stops, strict=True) if end <= stop])
        assert sorted(shown.settled) == sorted(due[(due >= before) & (due < stop)])
    layer = layer_of(market.model)[1]
    assert (layer.slope.tolist() == [1.0] * len(KNOTS)) == (delay == "365d")
    assert any(len(shown.settled) for shown in learnt) == (delay == "3d")


def test_what_comes_of_a_replayed_slate_is_settled_when_its_session_ends():
    """In a replay a hit is known at the session's end, and with a horizon at the end of that."""
    market = Market(small_replay())
    rows = np.arange(len(market.schedule))
    stop = ticks(market.world.sessions.stop[market.schedule.session[rows]])
    assert np.array_equal(market.open.settled(), stop + 1)
    long = Market(small_replay(consumer=ConsumerConfig(kind="replay", horizon="30d")))
    start = market.world.sessions.start[market.schedule.session[rows]]
    assert np.array_equal(long.open.settled(), ticks(start + 30 * 86_400.0) + 1)
