"""World of a scenario: log, truth and first model."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np

from rimsim import data, rng
from rimsim.arrays import ALWAYS, NEVER, Floats, Ints, ticks
from rimsim.config import PlatformConfig, ScenarioConfig
from rimsim.config.fields import ALWAYS_AGAIN, duration_seconds
from rimsim.data import load_log, require_usable
from rimsim.data.log import EventLog
from rimsim.errors import ConfigError, MarketError
from rimsim.intensity.contract import IntensityModel, ModelCapabilities
from rimsim.intensity.product import settled
from rimsim.intensity.registry import make, shipped
from rimsim.market.arrivals import make_arrivals
from rimsim.market.arrivals.contract import ArrivalCapabilities, ArrivalProcess, Opening, RoundsSoFar
from rimsim.market.consumers import make_consumer
from rimsim.market.consumers.contract import Consumer, ConsumerCapabilities, World, examination
from rimsim.market.consumers.hidden_quality import hidden_bias
from rimsim.market.consumers.truths import (
    Truth,
    base_of,
    check_truth,
    drawn_users,
    resampled,
)
from rimsim.market.examination import Examined
from rimsim.market.fitness import chosen_truth
from rimsim.market.fitted import fitted_to, truth_bootstrap
from rimsim.market.histories import LoggedPast, RepeatRule
from rimsim.market.platform_model import model_for, platform_model, require_known_model
from rimsim.market.providers import Provider, make_providers
from rimsim.market.records import delay_ticks
from rimsim.market.round import RoundTerms
from rimsim.measures import position_weights
from rimsim.requirements.rows import ScenarioRequirements
from rimsim.system import single_thread


@lru_cache(maxsize=4)
def build_world(config: ScenarioConfig) -> World:
    """World of a scenario, built once and then cached.

    Raises:
        DataError: If the log cannot be read.
        ConfigError: If the scenario needs something that the log does not have.
    """
    single_thread()
    log = shared_log(config)
    # The log is read again next time, because its file may have changed.
    shared_log.cache_clear()
    return world_of(log, config, *plugs_of(config))


@lru_cache(maxsize=1)
def shared_log(config: ScenarioConfig) -> EventLog:
    """Log of a scenario, cached until its world is built."""
    return read_log(config)


def read_log(config: ScenarioConfig) -> EventLog:
    """Log of a scenario.

    Raises:
        DataError: If the log cannot be read.
        ConfigError: If the scenario needs something that the log does not have.
    """
    log = load_log(config.data)
    if config.slate > log.n_items:
        raise ConfigError(
            f"slate is {config.slate} positions, but the catalogue of {config.data.source!r} has only "
            f"{log.n_items} items. Expected at most {log.n_items} positions"
        )
    if config.consumer.repeats != ALWAYS_AGAIN and not log.repeatable:
        raise ConfigError(
            f"consumer.repeats is {config.consumer.repeats!r}, but in this log no user may take an item again "
            "(data.repeats). Set data.repeats to 'consume', or leave consumer.repeats out"
        )
    needs = data.Needs(items=max(2, config.slate), gap=duration_seconds(config.data.session_gap))
    require_usable(log, needs, use="run the market")
    return log


def world_of(
    log: EventLog,
    config: ScenarioConfig,
    arrivals: ArrivalProcess,
    consumer: Consumer,
    providers: Provider | None = None,
) -> World:
    """World of a log, cut at the opening."""
    sessions = log.sessions(config.data.session_gap)
    opening = arrivals.opening(log)
    release_time = np.zeros(log.n_items)
    if opening.release is not None:
        release_time = np.asarray(opening.release, np.float64)
    past = opening.past
    if release_time.shape != (log.n_items,) or not np.isfinite(release_time).all():
        raise MarketError(
            f"arrivals.kind {config.arrivals.kind!r}: releases have shape {release_time.shape}. Expected "
            f"shape ({log.n_items},): times in seconds, 0 for items that are in the market from the start"
        )
    end = _end_ticks(opening, log, config)
    last = past.time.max(initial=-np.inf)
    if (past.n_users, past.n_items) != (log.n_users, log.n_items) or last > opening.time:
        raise MarketError(
            f"arrivals.kind {config.arrivals.kind!r}: the past has {past.n_users} users, {past.n_items} "
            f"items and its last event at {last:.0f} s. Expected the log's {log.n_users} users and "
            f"{log.n_items} items, and no event after the opening at {opening.time:.0f} s"
        )
    providers = make_providers(config) if providers is None else providers
    roster = providers.opening(log).checked(log.n_items)
    if not roster.there.all():
        past = past.rows(roster.there[roster.of_item[past.item]])
    release = np.where(release_time == 0, ALWAYS, ticks(release_time))
    release[past.item] = ALWAYS  # an item that a user has consumed must be released, whatever its table says
    return World(
        log=log,
        sessions=sessions,
        past=past,
        past_sessions=past.sessions(config.data.session_gap),
        opening=opening.time,
        release=release,
        end=end,
        truth=_truth(log, past, config) if ConsumerCapabilities.of(consumer).needs_truth else None,
        roster=roster,
        most_arrivals=opening.most_arrivals,
        rule=_repeat_rule(log, config),
    )


def _repeat_rule(log: EventLog, config: ScenarioConfig) -> RepeatRule:
    """Rule by which visitors may take an item again."""
    wait = 1 + delay_ticks(config.consumer.delay)
    repeats = config.consumer.repeats
    if not log.repeatable:
        return RepeatRule(wait=wait)
    return RepeatRule(gap=0 if repeats == ALWAYS_AGAIN else delay_ticks(repeats), wait=wait)


def _end_ticks(opening: Opening, log: EventLog, config: ScenarioConfig) -> Ints:
    """Tick of each item's end, after checks."""
    if opening.end is None:
        return np.full(log.n_items, NEVER)
    end_time = np.asarray(opening.end, np.float64)
    if end_time.shape != (log.n_items,) or np.isnan(end_time).any():
        raise MarketError(
            f"arrivals.kind {config.arrivals.kind!r}: ends have shape {end_time.shape}. Expected shape "
            f"({log.n_items},): times in seconds, ∞ for items that do not end"
        )
    is_open = end_time > opening.time
    if not is_open.any():
        raise ConfigError(
            f"data.end {config.data.end!r}: all items end before the market opens. Set arrivals.kind to 'replay', "
            "which opens the market within the log, or data.end to 'given'"
        )
    return np.where(np.isfinite(end_time), ticks(np.where(np.isfinite(end_time), end_time, 0.0)), NEVER)


def plugs_of(
    config: ScenarioConfig, arrivals: ArrivalProcess | None = None, consumer: Consumer | None = None
) -> tuple[ArrivalProcess, Consumer]:
    """Given arrivals and consumer, or by default the scenario's.

    Raises:
        ConfigError: If a name is unknown, your file cannot be used, or the consumer cannot answer the
            arrivals.
    """
    arrivals = make_arrivals(config) if arrivals is None else arrivals
    consumer = make_consumer(config) if consumer is None else consumer
    replays = ArrivalCapabilities.of(arrivals).replays_sessions
    if ConsumerCapabilities.of(consumer).needs_sessions and not replays:
        raise ConfigError(
            f"{type(consumer).__name__} compares slates with later events of the log, but the "
            f"arrivals of {type(arrivals).__name__} are not sessions of the log. Set consumer.kind to "
            "'intensity', or arrivals.kind to 'replay'"
        )
    return arrivals, consumer


def check_plugs(config: ScenarioConfig) -> None:
    """Refuse plugs that cannot be created, before reading a log.

    Raises:
        ConfigError: If a name is unknown, your file cannot be used, or its plug does not fit.
    """
    _, consumer = plugs_of(config)
    make_providers(config)
    if ConsumerCapabilities.of(consumer).needs_truth:
        check_truth(config.consumer.truth)
    platform = config.platform
    require_known_model(platform)
    # Both defaults take weights and the same options, so either can stand for the other before the log is known.
    name = model_for(platform.model, repeatable=False)
    require_weights(platform, make(name, seed=0, device=platform.device, gap=config.data.session_gap))


def check_promises(config: ScenarioConfig, seed: int) -> None:
    """Refuse infeasible groups and campaigns before a run.

    Raises:
        ConfigError: If a group or campaign has no items, users or positions; the message names the first.
    """
    if config.exposure.groups or config.exposure.campaigns:
        first_round(config, seed)


def first_round(config: ScenarioConfig, seed: int) -> RoundTerms:
    """Plan of the first round, before any model is fitted.

    Raises:
        ConfigError: If a group or campaign has no items, users or positions.
    """
    world = build_world(config)
    arrivals, consumer = plugs_of(config)
    return RoundTerms.of(
        0,
        config,
        arrivals.round(0, RoundsSoFar(world, seed)),
        table=ScenarioRequirements(config, world.campaign_tables, seed),
        past=LoggedPast.of(world.past, empty=config.arrivals.history == "none", rule=world.rule),
        before=None,
        position_weights=weights_of(config, consumer, Examined.nothing(config.slate).decay(config)),
        times=world.times,
    )


def weights_of(config: ScenarioConfig, consumer: Consumer, decay: float) -> Floats:
    """Weight of an exposure at each position, for γ = ``decay``."""
    # Weights are in the unit of the guarantee. If a consumption is a hit, positions make no difference.
    if config.exposure.unit == "shown" or ConsumerCapabilities.of(consumer).hits_only:
        return np.ones(config.slate)
    return position_weights(decay, config.slate)


def examination_of(
    config: ScenarioConfig, consumer: Consumer, decay: float, n_positions: int | None = None
) -> Floats:
    """Examination at each position, for γ = ``decay``.

    Without ``n_positions``, there are as many as in a slate.
    """
    # Slates get the share 1 − own_choice of an intensity, and consumers examine position r with a·γ^(r−1). If a
    # consumption is a hit, every position counts 1.
    k = config.slate if n_positions is None else n_positions
    if ConsumerCapabilities.of(consumer).hits_only:
        return np.ones(k)
    return np.asarray(config.consumer.slate_attraction * examination(decay, k), np.float64)


def own_places(config: ScenarioConfig) -> list[str]:
    """Names of your own plugs, such as ``mine.py:Bursts``."""
    return [base_of(plug) for plug in config.plugs]


def expected_arrivals(config: ScenarioConfig) -> int:
    """Expected arrivals of all rounds, for a progress bar."""
    so_far = RoundsSoFar(build_world(config), seed=0)
    arrivals = make_arrivals(config)
    if not arrivals.keeps_users:
        return config.rounds * len(arrivals.round(0, so_far))
    return sum(len(arrivals.round(number, so_far)) for number in range(config.rounds))


def _truth(log: EventLog, past: EventLog, config: ScenarioConfig) -> Truth:
    """Fitted truth of a scenario, with hidden quality of items."""
    consumer = config.consumer
    truth = chosen_truth(
        log,
        gap=duration_seconds(config.data.session_gap),
        kind=consumer.truth,
        rank=consumer.rank,
        bootstrap=truth_bootstrap(consumer),
    )
    events = np.bincount(log.item, minlength=log.n_items)
    is_in_past = np.bincount(past.item, minlength=log.n_items) > 0
    bias = hidden_bias(consumer.hidden, events, is_in_past)
    return dataclasses.replace(truth, item_bias=truth.item_bias + bias)


def initial_model(
    config: ScenarioConfig, log: EventLog, seed: int, like: IntensityModel | None = None
) -> IntensityModel:
    """Platform's model, fitted to a log or a bootstrap sample.

    Args:
        like: Model from which the fit copies hyperparameters; None: the fit chooses hyperparameters.

    Raises:
        ConfigError: If no model has the name, or your file cannot be used.
    """
    single_thread()
    platform = config.platform
    name = platform_model(platform, log)
    model = make(
        name,
        seed=rng.derived_seed(seed, rng.Purpose.MODEL) % 2**31,
        device=platform.device,
        gap=config.data.session_gap,
    )
    bootstrap = truth_bootstrap(config.consumer)
    # The bootstrap stands for another log that could have come, for the platform as well as for the truth.
    if bootstrap is not None:
        log = resampled(log, drawn_users(log.n_users, bootstrap))
    return fitted_to(log, model if like is None else settled(model, like), name)


def require_weights(platform: PlatformConfig, model: IntensityModel) -> None:
    """Refuse a model without event weights if consumptions are weighted.

    Raises:
        ConfigError: If the platform learns with inverse propensities, but the model does not use event weights.
    """
    if platform.learning.data == "ips" and not ModelCapabilities.of(model).takes_weights:
        models = shipped().items()
        weighted_models = ", ".join(
            sorted(name for name, kind in models if ModelCapabilities.of(kind).takes_weights)
        )
        raise ConfigError(
            f"platform.learning.data is 'ips', but platform.model {platform.model!r} ({type(model).__name__}) "
            f"takes no weights. Use one of the mark models {weighted_models}, or set learning.data to 'consumed' or "
            "'impressions'"
        )
