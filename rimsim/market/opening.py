"""Opening model: fitted to the warm-up log, then calibrated."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy.optimize import minimize

from rimsim.arrays import Floats, Ints, offsets_of
from rimsim.config import ScenarioConfig
from rimsim.data.log import EventLog, Sessions
from rimsim.intensity.contract import IntensityModel
from rimsim.intensity.impressions import KNOTS, LEVEL_SD, Calibrated, ImpressionLayer, knot_basis
from rimsim.intensity.scores import require_steady
from rimsim.intensity.states import UserStates
from rimsim.market.arrivals.clones import events_before
from rimsim.market.consumers.contract import Consumer, Hits, World, mark_hits
from rimsim.market.examination import Examined
from rimsim.market.logged_impressions import logged_fits
from rimsim.market.platform import answered_layer, session_scores
from rimsim.market.scores.past import StateScores
from rimsim.market.slates import at_items
from rimsim.market.world import build_world, examination_of, initial_model, plugs_of
from rimsim.matching import top_k
from rimsim.user_code import files_of

_MOST_SESSIONS = 8192
"""Largest number of sessions to which the levels are fitted, the latest ones of the warm-up log."""


@lru_cache(maxsize=8)
def warm_model(config: ScenarioConfig, seed: int) -> IntensityModel:
    """Model with which the platform of a scenario opens."""
    world = build_world(config)
    name = config.platform.model
    model = initial_model(config, world.past, seed)
    if files_of([name]):  # shipped models are tested
        states = UserStates.of(world.past, np.arange(min(8, world.past.n_users)), world.opening)
        require_steady(model, states, len(world.past), name)
    _, consumer = plugs_of(config)
    return calibrated(config, world, consumer, model, seed)


def calibrated(
    config: ScenarioConfig, world: World, consumer: Consumer, model: IntensityModel, seed: int
) -> IntensityModel:
    """Warm-up model, calibrated by history length if the config asks.

    The sum of λ(x) over sessions is right after a fit, but its share in the best items is not. The model expects too
    little of the best items for visitors whose taste it does not know, and too much for others. So λ(x,y) is multiplied
    by exp(a(h)), where h is the length of the visitor's history. The levels a(h) are fitted to the events among the k
    best items of warm-up sessions, weighted by examination. The model that chooses and predicts these items has not
    seen the session. The order of a visitor's items stays the same.

    If the warm-up log has impressions, the platform instead learns its layer from them, as it does from a round.
    """
    if fits := logged_fits(config, world, consumer, model, seed):
        return Calibrated(model, answered_layer(config.platform.learning, fits, seed, 0), fits)
    platform = config.platform
    if (
        not platform.calibrate_opening
        or platform.learning.data != "impressions"
        or not len(world.past_sessions)
    ):
        return model
    states = session_scores(config, world, model, _MOST_SESSIONS, seed, world.times, crossed=True)
    # The events of the log are all events of its sessions, so no share of them is free choice.
    config_without_choice = replace(config, consumer=replace(config.consumer, own_choice=0.0))
    weights = examination_of(config_without_choice, consumer, Examined.nothing(config.slate).decay(config))
    history = events_before(world.past_sessions)[-len(states) :]
    predicted, actual = best_item_events(states, session_items(world.past, world.past_sessions), weights)
    level = history_levels(predicted, actual, history)
    return Calibrated(model, ImpressionLayer(level, np.ones(len(KNOTS)), np.zeros(world.past.n_items)))


def session_items(log: EventLog, sessions: Sessions) -> Hits:
    """Items of each session of a log."""
    counts = np.bincount(sessions.of_event, minlength=len(sessions))
    return Hits(offsets_of(counts), log.item[np.argsort(sessions.of_event, kind="stable")])


def best_item_events(states: StateScores, items: Hits, weights: Floats) -> tuple[Floats, Floats]:
    """Predicted and actual events among each session's best items.

    Args:
        states: Scores of the last sessions of the log, in order.
        items: Items of all sessions of the log.
        weights: (k,) weight of the item at each rank.
    """
    skipped = len(items.offsets) - 1 - len(states)
    predicted = np.zeros(len(states))
    actual = np.zeros(len(states))
    for chunk in states:
        slates = top_k(chunk.relevance, chunk.admissible, len(weights))
        intensity = np.where(slates >= 0, at_items(chunk.intensity, slates), 0.0)
        is_hit = np.zeros(slates.shape, bool)
        mark_hits(slates, skipped + chunk.row, items, is_hit)
        predicted[chunk.row] = intensity @ weights
        actual[chunk.row] = is_hit @ weights
    return predicted, actual


def history_levels(predicted: Floats, actual: Floats, history: Ints) -> Floats:
    """Levels at the knots of the layer, by Poisson regression.

    The mean of the actual events is the predicted number times exp(a(h)). The level a(h) is linear between the knots of
    log(1 + h). Each level has a normal prior around 0, as in the layer that is learnt later. The prior decides where
    the log has no such histories.
    """
    basis = knot_basis(history)

    def loss(level: Floats) -> tuple[float, Floats]:
        log_factor = basis @ level
        mean = predicted * np.exp(log_factor)
        value = float((mean - actual * log_factor).sum() + 0.5 * (level**2).sum() / LEVEL_SD**2)
        return value, basis.T @ (mean - actual) + level / LEVEL_SD**2

    start = np.zeros(len(KNOTS))
    return np.asarray(minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-6}).x, np.float64)
