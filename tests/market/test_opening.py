"""Calibration of the opening model by length of history: against a count by hand, and its effect on a market."""

import dataclasses

import numpy as np
import pytest
import torch
from kit import cases
from kit.markets import market_of, play_out, small_replay, small_scenario

from rimsim.config import PlatformConfig, Seeds, find_scenario, override
from rimsim.intensity.impressions import KNOTS, ImpressionLayer, layer_of
from rimsim.intensity.states import UserStates
from rimsim.market import Market, build_world, initial_model
from rimsim.market.opening import history_levels, warm_model
from rimsim.market.past_round import fold_of
from rimsim.measures.relevance import calibration_ratio

PLATFORM = PlatformConfig(model="bag-visits")
AS_FITTED = dataclasses.replace(PLATFORM, calibrate_opening=False)


def _events_by_hand(config):
    """Predicted and actual events among the best items, and history, of each session."""
    world = build_world(config)
    past = world.past
    sessions = world.past_sessions
    fitted, _ = layer_of(warm_model(config, 0))
    fold = fold_of(0, np.arange(past.n_users))
    models = [initial_model(config, past.rows(fold[past.user] != number), 0, fitted) for number in (0, 1)]
    weights = config.consumer.position_decay ** np.arange(config.slate)
    events = []
    for session, (user, start) in enumerate(zip(sessions.user, sessions.start, strict=True)):
        states = UserStates.of(past, np.array([user]), np.array([start]))
        score = models[fold[user]].score(states)[0].double().numpy()
        total = score.sum()
        score[states.items] = 0.0
        score *= total / score.sum()
        best = np.argsort(-score, kind="stable")[: config.slate]
        is_taken = np.isin(best, past.item[sessions.of_event == session])
        events.append((weights @ score[best], weights @ is_taken, states.lengths[0]))
    return np.array(events).T


def test_levels_solve_a_regression_on_held_out_sessions():
    """Actual minus predicted events, by hand, are in balance at each knot; models have not seen the users' events."""
    config = small_scenario(platform=PLATFORM)
    _, layer = layer_of(warm_model(config, 0))
    predicted, actual, history = _events_by_hand(config)
    basis = np.stack([np.interp(np.log1p(history), KNOTS, hat) for hat in np.eye(len(KNOTS))])
    error = basis @ (actual - predicted * np.exp(layer.level @ basis))
    np.testing.assert_allclose(error, layer.level, atol=1e-3 * predicted.sum() / len(KNOTS))
    assert np.abs(basis @ (actual - predicted)).max() > 20 * np.abs(error).max()
    assert layer.only_scales


def test_levels_are_found_again():
    """Poisson counts under known levels; where there is no such history, a level stays at its prior mean."""
    draw = np.random.default_rng(0)
    history = draw.integers(0, 12, 40_000)
    level = np.array([0.5, -0.7, 0.3, 0.0, 0.0, 0.0])
    predicted = draw.uniform(0.2, 2.0, len(history))
    actual = draw.poisson(predicted * np.exp(np.interp(np.log1p(history), KNOTS, level))).astype(float)
    levels = history_levels(predicted, actual, history)
    np.testing.assert_allclose(levels[:3], level[:3], atol=0.05)
    np.testing.assert_array_equal(levels[4:], 0.0)


def test_a_layer_that_only_scales_is_the_formula_of_all_layers():
    """Intensities equal exp(a + log λ), and an item effect or another slope ends the short cut."""
    draw = np.random.default_rng(0)
    intensity = torch.from_numpy(draw.uniform(0.01, 2.0, (6, 9)).astype(np.float32))
    history = np.array([0, 1, 2, 10, 50, 1000])
    level = draw.normal(0, 1, len(KNOTS))
    layer = ImpressionLayer(level, np.ones(len(KNOTS)), np.zeros(9))
    expected = intensity.numpy() * np.exp(np.interp(np.log1p(history), KNOTS, level))[:, None]
    np.testing.assert_allclose(layer.apply_(intensity.clone(), history), expected, rtol=1e-6)
    moved = dataclasses.replace(layer, item=np.eye(9)[0] * 1e-9)
    assert not moved.only_scales
    np.testing.assert_allclose(moved.apply_(intensity.clone(), history), expected, rtol=1e-5)
    assert not dataclasses.replace(layer, slope=np.full(len(KNOTS), 1.1)).only_scales


@cases("small", (small_scenario,), (small_replay,))
def test_slates_stay_and_predictions_change(small):
    """Of `relevance`: shown items of all rounds, the cost c, and predictions after the first retraining stay."""
    markets = []
    for platform in (PLATFORM, AS_FITTED):
        agent, market = market_of("relevance", small(platform=platform, rounds=2))
        past = market.round_view().past
        ground = np.concatenate([chunk.ground_intensity.numpy() for chunk in past])
        markets.append((play_out(market, agent), ground))
    (ours, past_ours), (theirs, past_theirs) = markets
    assert ours.cost == theirs.cost
    for number in range(2):
        first, second = (market.closed[number].ledger for market in (ours, theirs))
        np.testing.assert_array_equal(first.item, second.item)
        np.testing.assert_array_equal(first.probability, second.probability)
        assert np.array_equal(first.intensity, second.intensity, equal_nan=True) == (number == 1)
    level = layer_of(warm_model(ours.config, 0))[1].level
    ratio = np.log(past_ours / past_theirs)  # prices are solved on states that are scored alike
    assert level.min() - 1e-5 < ratio.min() < ratio.max() < level.max() + 1e-5
    assert ratio.std() > 0.01


@cases(
    "platform",
    (AS_FITTED,),
    (dataclasses.replace(PLATFORM, learning="consumed"),),
)
def test_without_the_switch_or_impressions_the_model_stays_as_fitted(platform):
    """No layer is laid over the model, nor over one that is given."""
    config = small_scenario(platform=platform)
    model = warm_model(config, 0)
    assert layer_of(model)[1] is None
    market = Market(small_scenario(platform=PLATFORM), model=model)
    assert market.model is model


@pytest.mark.parametrize("frozen", [False, True])
def test_predictions_of_the_opening_model_are_right_for_both_types_of_visit(frozen):
    """On the embedded log: predicted over actual consumptions within 2/3 to 3/2, and closer than as fitted."""
    ratios = {}
    for is_calibrated in (True, False):
        changes = {"rounds": 2 if frozen else 1, "platform.calibrate_opening": is_calibrated}
        config = override(find_scenario("closed-loop"), changes)
        options = {"retrain": False} if frozen else {}
        agent, market = market_of("relevance", config, seeds=Seeds.all(0), **options)
        closed = play_out(market, agent).closed[-1]
        schedule = closed.schedule
        is_first = closed.histories.lengths_at(schedule.slot, schedule.tick) == 0
        examination = 0.85 ** np.arange(config.slate)
        ledger = closed.ledger
        ratios[is_calibrated] = [
            calibration_ratio(ledger.intensity[rows], ledger.consumed[rows], examination)
            for rows in (is_first, ~is_first)
        ]
    assert all(2 / 3 < ratio < 3 / 2 for ratio in ratios[True])
    spread = {key: abs(np.log(first / returning)) for key, (first, returning) in ratios.items()}
    assert spread[True] < 0.75 * spread[False]
