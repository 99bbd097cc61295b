"""Opening model: fitted to the warm-up log, then calibrated."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from rimsim.market.consumers.contract import Consumer, ConsumerCapabilities, Hits, World, mark_hits
from rimsim.market.examination import Examined
from rimsim.market.logged_impressions import known_impressions, logged_fits
from rimsim.market.platform import answered_layer, session_scores
from rimsim.market.scores.past import StateScores
from rimsim.market.slates import at_items
from rimsim.market.world import build_world, examination_of, initial_model, plugs_of
from rimsim.matching import top_k
from rimsim.user_code import files_of

_MOST_SESSIONS = 8192
"""Largest number of sessions to which the levels are fitted, and on which a layer is tried: the latest of the warm-up
log."""
_Z = 1.96
"""Number of standard errors from which a difference is significant."""


@dataclass(frozen=True)
class LayerTrial:
    """Hits in held-out sessions, with and without a layer.

    The layer is learnt from the log's impressions. A hit at a position counts as much as the position is examined.
    """

    with_layer: float
    """Mean hits per session, in slates that the layer ranks."""
    without_layer: float
    """Mean hits per session, in slates of the same model without the layer."""
    error: float
    """Standard error of the difference, over users."""
    taken: float
    """Share of the impressions that were taken."""

    @property
    def is_worse(self) -> bool:
        """True if slates with the layer have significantly fewer hits."""
        return self.with_layer - self.without_layer < -_Z * self.error


@dataclass(frozen=True, eq=False)
class OpeningModel:
    """Model of round 0, and the trial of its layer."""

    model: IntensityModel
    """Model, with the layer that serves round 0."""
    trial: LayerTrial | None
    """Trial of the layer from logged impressions; None: the log decided nothing."""


def warm_model(config: ScenarioConfig, seed: int) -> IntensityModel:
    """Model with which the platform of a scenario opens."""
    return opening_model(config, seed).model


@lru_cache(maxsize=8)
def opening_model(config: ScenarioConfig, seed: int) -> OpeningModel:
    """Model that opens a market, and its layer's trial."""
    world = build_world(config)
    name = config.platform.model
    model = initial_model(config, world.past, seed)
    if files_of([name]):  # shipped models are tested
        states = UserStates.of(world.past, np.arange(min(8, world.past.n_users)), world.opening)
        require_steady(model, states, len(world.past), name)
    _, consumer = plugs_of(config)
    return _opened(config, world, consumer, model, seed)


def calibrated(
    config: ScenarioConfig, world: World, consumer: Consumer, model: IntensityModel, seed: int
) -> IntensityModel:
    """Warm-up model with the layer that serves round 0."""
    return _opened(config, world, consumer, model, seed).model


def _opened(
    config: ScenarioConfig, world: World, consumer: Consumer, model: IntensityModel, seed: int
) -> OpeningModel:
    """Warm-up model with a layer from logged impressions, or levels.

    Logged impressions are answers to the slates of the log's recommender. A layer that is learnt from them predicts
    such answers. It may still rank other items wrongly, because the recommender showed items to visitors who were
    likely to take them. So the layer is tried on held-out sessions. The config can decide instead, and visitors with
    known answers need no trial.
    """
    learning = config.platform.learning
    fits = () if learning.logged == "never" else logged_fits(config, world, consumer, model, seed)
    if not fits:
        return OpeningModel(_levelled(config, world, consumer, model, seed), None)
    learnt = Calibrated(model, answered_layer(learning, fits, seed, 0), fits)
    capabilities = ConsumerCapabilities.of(consumer)
    acts_by_sessions = capabilities.needs_truth or capabilities.hits_only
    if learning.logged == "always" or not (acts_by_sessions and len(world.past_sessions)):
        return OpeningModel(learnt, None)
    trial = layer_trial(config, world, consumer, learnt, seed)
    return OpeningModel(_levelled(config, world, consumer, model, seed) if trial.is_worse else learnt, trial)


def layer_trial(
    config: ScenarioConfig, world: World, consumer: Consumer, learnt: Calibrated, seed: int
) -> LayerTrial:
    """Trial of a learnt layer on held-out warm-up sessions."""
    items = session_items(world.past, world.past_sessions)
    weights = _session_weights(config, consumer)
    hits = []
    for model in (learnt, learnt.model):
        states = session_scores(config, world, model, _MOST_SESSIONS, seed, world.times, crossed=True)
        hits.append(best_item_events(states, items, weights)[1])
    n_sessions = len(hits[0])
    _, user = np.unique(world.past_sessions.user[-n_sessions:], return_inverse=True)
    # Sessions of one user are alike, so users are the independent units.
    difference = np.bincount(user, hits[0] - hits[1])
    impressions = known_impressions(world)
    return LayerTrial(
        with_layer=float(hits[0].mean()),
        without_layer=float(hits[1].mean()),
        error=float(np.sqrt(((difference - difference.mean()) ** 2).sum()) / n_sessions),
        taken=float("nan") if impressions is None else float(impressions.taken.mean()),
    )


def _session_weights(config: ScenarioConfig, consumer: Consumer) -> Floats:
    """(k,) weight of a hit at each position."""
    # The events of the log are all events of its sessions, so no share of them is free choice.
    config_without_choice = replace(config, consumer=replace(config.consumer, own_choice=0.0))
    return examination_of(config_without_choice, consumer, Examined.nothing(config.slate).decay(config))


def _levelled(
    config: ScenarioConfig, world: World, consumer: Consumer, model: IntensityModel, seed: int
) -> IntensityModel:
    """Warm-up model, calibrated by history length if the config asks.

    The sum of λ(x) over sessions is right after a fit, but its share in the best items is not. The model expects too
    little of the best items for visitors whose taste it does not know, and too much for others. So λ(x,y) is multiplied
    by exp(a(h)), where h is the length of the visitor's history. The levels a(h) are fitted to the events among the k
    best items of warm-up sessions, weighted by examination. The model that chooses and predicts these items has not
    seen the session. The order of a visitor's items stays the same.
    """
    platform = config.platform
    if (
        not platform.calibrate_opening
        or platform.learning.data != "impressions"
        or not len(world.past_sessions)
    ):
        return model
    states = session_scores(config, world, model, _MOST_SESSIONS, seed, world.times, crossed=True)
    weights = _session_weights(config, consumer)
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
