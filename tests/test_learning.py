"""What the platform learns from impressions, in whole markets: against the ledger, and however they are played."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from small_markets import SMALL, ledgers, played, resumed, same_ledgers, small_replay, small_scenario

from rimsim.agents import make_agent, play_round
from rimsim.arrays import ticks
from rimsim.config import ConsumerConfig, LogWindow, PlatformConfig
from rimsim.config.fields import duration_seconds
from rimsim.intensity import Calibrated
from rimsim.intensity.impressions import Impressions, fit_layer, layer_of
from rimsim.market import Market
from rimsim.market.learning import layer_from, positions_of
from rimsim.market.ledger import Shown
from rimsim.market.platform import cross_fitted
from rimsim.market.scores import always

LEARNER = PlatformConfig(model="als-hp", learning="impressions")


def _small(kind, **changes):
    """Two rounds of a small market whose platform learns from impressions; consumers take more than in others."""
    config = SMALL[kind](**({"platform": LEARNER, "rounds": 2} | changes))
    consumer = dataclasses.replace(config.consumer, attraction=3.0)
    return dataclasses.replace(config, consumer=consumer)


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
@pytest.mark.parametrize("rounds", [1, 2, None])
def test_the_layer_is_fitted_to_the_windows_ledgers(rounds, calibration):
    """Each round's layer equals a fit on the saved tables, with scores of the models that score past states."""
    window = LogWindow(rounds=rounds, warmup="none")
    platform = dataclasses.replace(LEARNER, log_window=window, calibration=calibration)
    market, agent = Market(_small("clones", platform=platform, rounds=4)), make_agent("relevance")
    parts = []
    for _ in range(3):
        before = market.model
        play_round(market, agent)
        models = always(market.model.model)
        if calibration == "cross-fitted":
            models = cross_fitted(platform, market.world.past, market.platform.rounds, before, 0)
        table = market.closed[-1].ledger.table("a", 0, market.closed[-1].number)
        score = _scores(market, models)[market.closed[-1].ledger.item >= 0]
        position = table["position"].to_numpy() - 1
        item, consumed = table["item"].to_numpy(np.int64), table["consumed"].to_numpy()
        parts.append(Impressions(item, score, 3.0 * 0.85**position, consumed, table["round"].to_numpy()))
        kept = parts[-rounds:] if rounds else parts
        names = [field.name for field in dataclasses.fields(Impressions)]
        whole = Impressions(*(np.concatenate([getattr(part, name) for part in kept]) for name in names))
        expected, found = fit_layer(whole, market.n_items), market.model.layer
        assert found.slope == pytest.approx(expected.slope, rel=1e-4)
        assert found.level + found.item == pytest.approx(expected.level + expected.item, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("kind", ["clones", "cold-start", "replay"])
def test_what_is_logged_is_the_layer_over_the_inner_models_scores(kind):
    """In a later round the ledger's λ'(x,y) is the formula, and λ'(x) is its sum over what is admissible."""
    config = _small(kind, rounds=2)
    market, agent = Market(config), make_agent("relevance")
    play_round(market, agent)
    model = market.model
    play_round(market, agent)
    closed, layer = market.closed[1], model.layer
    for chunk in closed.states.scored_by(always(model.model)):
        inner = chunk.intensity.double().numpy()
        laid = np.exp(layer.level + layer.slope * np.log(np.maximum(inner, 1e-9)) + layer.item)
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


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_batches_and_a_resume_change_nothing(kind, tmp_path):
    """Batches of 1, and a market that goes on from its saved state, leave the same ledger to the last bit."""
    config = _small(kind, rounds=3)
    for name in ("relevance", "rim-feedback"):
        whole = played(config, name, 1000)
        same_ledgers(played(config, name, 1), whole)
    same_ledgers(resumed(config, name, tmp_path / "state", 2), whole)


def test_impressions_change_nothing_before_there_are_any():
    """Round 0 is that of a platform that learns from consumptions, and a frozen platform stays as it is."""
    learns, usual, frozen = (
        dataclasses.replace(_small("clones"), platform=dataclasses.replace(LEARNER, **change))
        for change in ({}, {"learning": "consumed"}, {"retrain": False})
    )
    one, other = ledgers(played(learns)), ledgers(played(usual))
    first = one["round"] == 0
    pd.testing.assert_frame_equal(one[first], other[first], check_exact=True)
    assert not one[~first]["intensity"].equals(other[~first]["intensity"])
    assert not isinstance(played(frozen).model, Calibrated)


def test_positions_count_as_consumers_look_at_them():
    """a·γ^(r−1) for consumers who look from the top, 1 where hits are counted wherever they stand."""
    drawn = small_scenario(consumer=ConsumerConfig(position_decay=0.5, attraction=2.0))
    assert positions_of(drawn, Market(drawn).consumer, 0.5).tolist() == [2.0, 1.0, 0.5, 0.25, 0.125]
    counted = small_replay()
    assert positions_of(counted, Market(counted).consumer, 0.5).tolist() == [1.0] * 5


@pytest.mark.parametrize("delay", ["365d", "3d"])
def test_the_layer_learns_only_what_the_platform_knows(delay):
    """Impressions enter the layer once what came of them is known: with a year's delay not at all."""
    platform = PlatformConfig(model="popularity-hp", learning="impressions")
    market = Market(small_scenario(consumer=ConsumerConfig(delay=delay), platform=platform))
    play_round(market, make_agent("relevance"))
    past = market.platform.rounds[-1]
    shown, stop = past.shown, past.schedule.stop
    known = shown.settled < stop
    assert np.array_equal(shown.settled, past.schedule.tick + ticks(duration_seconds(delay)) + 1)
    layer = layer_of(market.model)[1]
    if delay == "365d":
        assert not known.any()
        assert (layer.level, layer.slope) == (0.0, 1.0)
        return
    assert 0 < known.sum() < len(known)
    rows = np.flatnonzero(known)
    kept = Shown(*(getattr(shown, field.name)[rows] for field in dataclasses.fields(Shown)))
    expected = layer_from([kept], stop, positions_of(market.config, market.consumer, 0.85), market.n_items)
    assert (layer.level, layer.slope) == (expected.level, expected.slope)


def test_what_comes_of_a_replayed_slate_is_settled_when_its_session_ends():
    """In a replay a hit is known at the session's end, and with a horizon at the end of that."""
    market = Market(small_replay())
    sessions, own = market.world.sessions, market.schedule.session
    assert np.array_equal(market.open.settled(), ticks(sessions.stop[own]) + 1)
    long = Market(small_replay(consumer=ConsumerConfig(kind="replay", horizon="30d")))
    start = sessions.start[own]
    assert np.array_equal(long.open.settled(), ticks(start + 30 * 86_400.0) + 1)
