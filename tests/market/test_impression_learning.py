"""Platforms that learn from impressions: layers fitted to the ledgers, and what they know when."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from kit import calls_of, cases
from kit import markets as small

from rimsim.agents import make_agent, play_round
from rimsim.arrays import ticks
from rimsim.config import ConsumerConfig, LogWindow, PlatformConfig
from rimsim.config.fields import duration_seconds
from rimsim.intensity import Calibrated
from rimsim.intensity.impressions import KNOTS, Impressions, layer_of, layer_of_fits
from rimsim.market import Market
from rimsim.market import platform as platform_module
from rimsim.market.platform import cross_fitted
from rimsim.market.scores.past import always
from rimsim.market.world import examination_of

LEARNER = PlatformConfig(model="als-hp", learning="impressions", calibrate_opening=False)


def _small(kind, **changes):
    """Two rounds of a small market whose platform learns from impressions; consumers take more than in others."""
    config = small.SMALL[kind](**({"platform": LEARNER, "rounds": 2} | changes))
    consumer = dataclasses.replace(config.consumer, attraction=3.0)
    return dataclasses.replace(config, consumer=consumer)


def _scores(market, models):
    """(n, k) what models say of what the last closed round showed."""
    ledger = market.closed[-1].ledger
    score = np.full(ledger.item.shape, np.nan)
    for chunk in market.closed[-1].states.scored_by(models):
        items = ledger.item[chunk.row]
        shown_scores = np.take_along_axis(chunk.intensity.numpy(), np.maximum(items, 0), 1)
        score[chunk.row] = np.where(items >= 0, shown_scores, np.nan)
    return score


@pytest.mark.parametrize("calibration", ["cross-fitted", "seen"])
def test_the_layer_is_fitted_to_the_ledgers(calibration):
    """Each round's layers equal fits on the saved tables, with scores of the models that score past states."""
    platform = dataclasses.replace(LEARNER, calibration=calibration)
    market = Market(_small("clones", platform=platform, rounds=4))
    agent = make_agent("relevance")
    fits = market.platform.fits
    for _ in range(3):
        play_round(market, agent)
        models = always(market.model.model)
        closed = market.closed[-1]
        if calibration == "cross-fitted":
            of_market = market.platform
            models = cross_fitted(platform, market.world.past, of_market.rounds, of_market.live, 0)
        table = closed.ledger.table("a", 0, closed.number)
        scored = _scores(market, models)
        lengths = np.zeros(len(closed.ledger.item), np.int64)
        for arrival in range(len(lengths)):
            slot = closed.ledger.schedule.slot[[arrival]]
            tick = closed.ledger.schedule.tick[[arrival]]
            histories = market.platform.rounds[-1].histories
            lengths[arrival] = histories.states(slot, histories.visible_at(slot, tick), tick).lengths[0]
        filled = closed.ledger.item >= 0
        seen = 3.0 * 0.85 ** (table["position"].to_numpy() - 1)
        lengths = np.repeat(lengths, filled.sum(1))
        item = table["item"].to_numpy(np.int64)
        taken = table["consumed"].to_numpy()
        shown = Impressions(item, scored[filled], seen, taken, lengths)
        fits = tuple(fit.after(shown, market.platform.prior) for fit in fits)
        expected = layer_of_fits(fits)
        fitted = layer_of_fits(market.platform.fits)
        assert market.model.layer.slope == pytest.approx(expected.slope, rel=1e-3)
        fitted_terms, expected_terms = (each.level[:, None] + each.item for each in (fitted, expected))
        assert fitted_terms == pytest.approx(expected_terms, abs=1e-3)


@pytest.mark.parametrize("kind", ["clones", "cold-start", "replay", "capped"])
def test_what_is_logged_is_the_layer_over_the_inner_models_scores(kind):
    """In a later round the ledger's λ'(x,y) is the formula, and λ'(x) is its sum over what is admissible."""
    config = _small(kind, rounds=2)
    market = Market(config)
    agent = make_agent("relevance")
    play_round(market, agent)
    model = market.model
    play_round(market, agent)
    closed = market.closed[1]
    layer = model.layer
    schedule = closed.ledger.schedule
    histories = market.platform.rounds[-1].histories
    counts = histories.visible_at(schedule.slot, schedule.tick)
    place = np.log1p(histories.states(schedule.slot, counts, schedule.tick).lengths)
    level, slope = (np.interp(place, KNOTS, part)[:, None] for part in (layer.level, layer.slope))
    for chunk in closed.states.scored_by(always(model.model)):
        inner = chunk.intensity.double().numpy()
        rows = chunk.row
        laid = np.exp(level[rows] + slope[rows] * np.log(np.maximum(inner, 1e-9)) + layer.item)
        laid[~chunk.admissible.numpy()] = 0.0
        items = closed.ledger.item[chunk.row]
        shown = np.where(items >= 0, np.take_along_axis(laid, np.maximum(items, 0), 1), np.nan)
        np.testing.assert_allclose(closed.ledger.intensity[chunk.row], shown, rtol=2e-4)
        np.testing.assert_allclose(closed.ledger.ground[chunk.row], laid.sum(1), rtol=2e-4)


def test_prices_and_serving_share_a_layer():
    """Both fold models that score past states lie under the layer of the model that serves."""
    market = Market(_small("clones"))
    play_round(market, make_agent("relevance"))
    folds = market.round_view().past.models()
    assert len(folds) == 2
    assert all(fold.layer is market.model.layer for fold in folds)
    assert folds[0].model is not folds[1].model


IPS = PlatformConfig(model="popularity-hp", learning="ips", log_window=LogWindow(warmup="none"))


@cases(
    "kind name changes",
    *((kind, "rim-feedback", {}) for kind in sorted(small.SMALL)),
    ("clones", "epsilon-greedy", {"platform": IPS}),
)
def test_batches_and_a_resume_change_nothing(kind, name, changes, tmp_path):
    """Batches of 1, and a market that goes on from its saved state, leave the same ledger to the last bit."""
    config = _small(kind, rounds=3, **changes)
    expected = small.played(config, name, 1000)
    small.same_ledgers(small.played(config, name, 1), expected)
    small.same_ledgers(small.resumed(config, name, tmp_path / "state", 2), expected)


def test_impressions_change_nothing_before_there_are_any():
    """Round 0 is that of a platform that learns from consumptions, and a frozen platform stays as it is."""
    changes = {}, {"learning": "consumed"}, {"retrain": False}
    platforms = (dataclasses.replace(LEARNER, **change) for change in changes)
    learns, usual, frozen = (
        dataclasses.replace(_small("clones"), platform=learning) for learning in platforms
    )
    learning = small.ledgers(small.played(learns))
    plain = small.ledgers(small.played(usual))
    first = learning["round"] == 0
    pd.testing.assert_frame_equal(learning[first], plain[first], check_exact=True)
    assert not learning[~first]["intensity"].equals(plain[~first]["intensity"])
    assert not isinstance(small.played(frozen).model, Calibrated)


def test_positions_count_as_consumers_look_at_them_and_hits_when_sessions_end():
    """a·γ^(r−1), or 1 where hits are counted; in a replay a hit is known at its session's end, or the horizon's."""
    drawn = small.small_scenario(consumer=ConsumerConfig(position_decay=0.5, attraction=2.0))
    assert examination_of(drawn, Market(drawn).consumer, 0.5).tolist() == [2.0, 1.0, 0.5, 0.25, 0.125]
    counted = small.small_replay()
    market = Market(counted)
    assert examination_of(counted, market.consumer, 0.5).tolist() == [1.0] * 5
    assert market.open.requirements.position_weights.tolist() == [1.0] * 5
    sessions = market.world.sessions
    visited = market.schedule.session
    assert np.array_equal(market.open.settled(), ticks(sessions.stop[visited]) + 1)
    long = Market(small.small_replay(consumer=ConsumerConfig(kind="replay", horizon="30d")))
    start = sessions.start[visited]
    assert np.array_equal(long.open.settled(), ticks(start + 30 * 86_400.0) + 1)
    log = long.world.log
    ledger = long.open.ledger
    users = long.schedule.log_user[long.schedule.slot]
    small.play_out(long, make_agent("relevance"))
    for row, user in enumerate(users):
        soon = (log.user == user) & (log.time >= start[row]) & (log.time < start[row] + 30 * 86_400.0)
        assert np.array_equal(ledger.consumed[row], np.isin(ledger.item[row], log.item[soon]))


@pytest.mark.parametrize("delay", ["365d", "3d"])
def test_the_layer_learns_only_what_the_platform_knows(delay, monkeypatch):
    """Each slate is learnt once, in the round by whose end its outcome is known: with a year's delay not at all."""
    calls = calls_of(monkeypatch, platform_module, "impressions_of")
    platform = PlatformConfig(model="popularity-hp", learning="impressions")
    config = small.small_scenario(consumer=ConsumerConfig(delay=delay), platform=platform, rounds=4)
    market = small.play_out(Market(config), make_agent("relevance"))
    settled = []
    stops = [closed.schedule.stop for closed in market.closed][:-1]
    for closed in market.closed[:-1]:
        late = closed.schedule.tick + ticks(duration_seconds(delay)) + 1
        settled.append(late)
    learnt = [call["shown"] for call in calls]
    for stop, before, shown in zip(stops, [0, *stops], learnt, strict=False):
        due = np.concatenate([late for late, end in zip(settled, stops, strict=True) if end <= stop])
        assert sorted(shown.settled) == sorted(due[(due >= before) & (due < stop)])
    layer = layer_of(market.model)[1]
    assert (layer.slope.tolist() == [1.0] * len(KNOTS)) == (delay == "365d")
    assert any(len(shown.settled) for shown in learnt) == (delay == "3d")
