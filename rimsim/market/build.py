"""How a scenario becomes a world: its log is read and cut, its truth fitted; made once and kept."""

from __future__ import annotations

import hashlib
import inspect
import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from rimsim import intensity
from rimsim.arrays import ALWAYS, Ints, ticks
from rimsim.config.fields import duration_seconds
from rimsim.data import Needs, later_sessions, load_log, require_usable
from rimsim.errors import ConfigError, MarketError
from rimsim.intensity.cache import cache_folder, kept, log_digest, source_digest
from rimsim.market.arrivals import RoundsSoFar, make_arrivals
from rimsim.market.arrivals.schedule import row_capacity
from rimsim.market.consumers import make_consumer, truths
from rimsim.market.consumers.truths import fit_truth, load_truth, save_truth
from rimsim.market.examining import Examined
from rimsim.market.histories import LoggedPast
from rimsim.market.learning import weights_of
from rimsim.market.models import initial_model, require_weights, unfitted
from rimsim.market.providers import make_providers
from rimsim.market.world import World
from rimsim.requirements.carry_over import RoundRequirements, ScenarioRequirements
from rimsim.system import report_progress, single_thread

if TYPE_CHECKING:
    from rimsim.config import ConsumerConfig, ScenarioConfig
    from rimsim.data.log import EventLog
    from rimsim.intensity.contract import IntensityModel
    from rimsim.market.arrivals import ArrivalProcess, Schedule
    from rimsim.market.consumers import Consumer
    from rimsim.market.consumers.truths import Truth
    from rimsim.market.providers import Provider


@lru_cache(maxsize=4)
def build_world(config: ScenarioConfig) -> World:
    """Read the log of a scenario, cut it and fit the truth (from the cache where it was fitted before).

    Raises:
        DataError: If the log cannot be read.
        ConfigError: If the scenario asks for more than the log has.
    """
    single_thread()
    log = shared_log(config)
    shared_log.cache_clear()  # a file may have changed when it is wanted again
    return world_of(log, config, *plugs_of(config))


@lru_cache(maxsize=1)
def shared_log(config: ScenarioConfig) -> EventLog:
    """What :func:`read_log` reads, kept until the world is built that it is read for: a run is foreseen before."""
    return read_log(config)


def read_log(config: ScenarioConfig) -> EventLog:
    """The log of a scenario.

    Raises:
        DataError: If it cannot be read.
        ConfigError: If the scenario asks for more than it has.
    """
    data = config.data
    log = load_log(data)
    if config.slate > log.n_items:
        raise ConfigError(
            f"slate: {config.slate} positions, but the catalogue of {data.source!r} has {log.n_items} items; "
            "allowed: at most as many"
        )
    require_usable(
        log, Needs(items=max(2, config.slate), gap=duration_seconds(data.session_gap)), use="run the market"
    )
    return log


def world_of(
    log: EventLog,
    config: ScenarioConfig,
    arrivals: ArrivalProcess,
    consumer: Consumer,
    providers: Provider | None = None,
) -> World:
    """Cut a log at the opening of the market, and fit the truth where the consumer needs one.

    Args:
        log: The log.
        config: The scenario.
        arrivals: Who arrives; says when the market opens.
        consumer: Who consumes.
        providers: Who offers the items; None: as the config says.
    """
    sessions = log.sessions(config.data.session_gap)
    opening = arrivals.opening(log)
    given = np.zeros(log.n_items) if opening.release is None else np.asarray(opening.release, np.float64)
    past = opening.past
    if given.shape != (log.n_items,) or not np.isfinite(given).all():
        raise MarketError(
            f"arrivals.kind {config.arrivals.kind!r}: releases have shape {given.shape}; allowed: ({log.n_items},) "
            "seconds, 0 for what is there from the start"
        )
    last = past.time.max(initial=-np.inf)
    if (past.n_users, past.n_items) != (log.n_users, log.n_items) or last > opening.time:
        raise MarketError(
            f"arrivals.kind {config.arrivals.kind!r}: the past has {past.n_users} users and {past.n_items} items, and "
            f"its last event at {last:.0f} s; allowed: the log's {log.n_users} and {log.n_items}, and no event after "
            f"the opening, at {opening.time:.0f} s"
        )
    roster = (make_providers(config) if providers is None else providers).opening(log).checked(log.n_items)
    if not roster.there.all():
        past = past.rows(roster.there[roster.of_item[past.item]])
    release = np.where(given == 0, ALWAYS, ticks(given))
    release[past.item] = ALWAYS  # what somebody has consumed is there, whatever a table says
    return World(
        log=log,
        sessions=sessions,
        past=past,
        past_sessions=past.sessions(config.data.session_gap),
        opening=opening.time,
        release=release,
        last_release=int(release.max()),
        truth=_truth(log, config) if getattr(consumer, "needs_truth", True) else None,
        roster=roster,
        most_arrivals=opening.most_arrivals,
    )


def plugs_of(
    config: ScenarioConfig, arrivals: ArrivalProcess | None = None, consumer: Consumer | None = None
) -> tuple[ArrivalProcess, Consumer]:
    """Who arrives and who consumes in a scenario.

    Args:
        config: The scenario.
        arrivals: In place of those that the scenario names.
        consumer: In place of the one that it names.

    Raises:
        ConfigError: If nothing has the name, a file of the user's own cannot be used, or the two do not go together.
    """
    arrivals = make_arrivals(config) if arrivals is None else arrivals
    consumer = make_consumer(config) if consumer is None else consumer
    if getattr(consumer, "needs_sessions", False) and not getattr(arrivals, "replays_sessions", False):
        raise ConfigError(
            f"{type(consumer).__name__} hits what users did in the log, with {type(arrivals).__name__}, which have no "
            "logged future; allowed: consumer.kind 'intensity', or arrivals.kind 'replay'"
        )
    return arrivals, consumer


def check_plugs(config: ScenarioConfig) -> None:
    """Refuse arrivals, consumers and a model that cannot be made, before anything is read or written.

    Raises:
        ConfigError: If nothing has the name, a file of the user's own cannot be used, or what it makes does not fit.
    """
    plugs_of(config)
    make_providers(config)
    require_weights(config.platform, unfitted(config.platform, 0, config.data.session_gap))


def check_promises(config: ScenarioConfig, seed: int) -> None:
    """Refuse groups and campaigns without items, users or positions, before a run is begun.

    Args:
        config: The scenario.
        seed: Seed of arrivals.

    Raises:
        ConfigError: If there are such; the message names the first.
    """
    if config.exposure.groups or config.exposure.campaigns:
        first_round(config, seed)


class FirstRound(NamedTuple):
    """What is known of the first round of a scenario before any model is fitted."""

    schedule: Schedule
    """Who comes."""
    capacity: Ints
    """(n,) positions that each arrival may fill."""
    promised: RoundRequirements
    """What the round is asked for."""


def first_round(config: ScenarioConfig, seed: int) -> FirstRound:
    """The first round of a scenario.

    Args:
        config: The scenario.
        seed: Seed of arrivals.

    Raises:
        ConfigError: If groups or campaigns are without items, users or positions.
    """
    world, (arrivals, consumer) = build_world(config), plugs_of(config)
    schedule = arrivals.round(0, RoundsSoFar(world, seed))
    capacity = row_capacity(schedule.slot, config.slate, config.user_cap)
    weights = weights_of(config, consumer, Examined.nothing(config.slate).decay(config))
    past = LoggedPast.of(world.past, empty=config.arrivals.history == "none")
    promised = ScenarioRequirements(config, world.campaign_tables, seed).round(
        0,
        schedule.visits(past.counts),
        None,
        forecast=schedule.expected_over_actual,
        capacity=capacity,
        weights=weights,
        release=world.release,
    )
    every = np.full(len(schedule), config.slate) if capacity is None else capacity
    return FirstRound(schedule, every, promised)


def own_places(config: ScenarioConfig) -> list[str]:
    """Where a scenario may name code of a user's own, such as ``mine.py:Bursts``."""
    return [config.arrivals.kind, config.consumer.kind, config.platform.model, config.providers.kind]


def expected_arrivals(config: ScenarioConfig) -> int:
    """Arrivals of all rounds of a scenario, as far as they can be known beforehand: for a progress bar."""
    so_far, arrivals = RoundsSoFar(build_world(config), seed=0), make_arrivals(config)
    if not arrivals.keeps_users:
        return config.rounds * len(arrivals.round(0, so_far))
    return sum(len(arrivals.round(number, so_far)) for number in range(config.rounds))


def _truth(log: EventLog, config: ScenarioConfig) -> Truth:
    consumer = config.consumer
    return kept_truth(
        log,
        gap=duration_seconds(config.data.session_gap),
        kind=consumer.truth,
        rank=consumer.rank,
        bootstrap=truth_bootstrap(consumer),
    )


def truth_bootstrap(consumer: ConsumerConfig) -> int | None:
    """Seed of the bootstrap of users that a truth is fitted to; None: the log itself.

    A truth that moves with the seed is that of the log itself where no seed is known; :func:`rimsim.config.at_seed`
    says one.
    """
    return None if consumer.truth_seed == "seed" else consumer.truth_seed


def kept_truth(
    log: EventLog, *, gap: float, kind: str = "auto", rank: int = 16, bootstrap: int | None = None
) -> Truth:
    """A truth of a log, from the cache where it was fitted before; a damaged entry is fitted again.

    Args:
        log: The log.
        gap: Seconds of silence that end a session.
        kind: Its class, or ``auto``, as for :func:`rimsim.market.consumers.truths.fit_truth`.
        rank: Its factors, where it has some.
        bootstrap: Seed of the bootstrap of users that it is fitted to; None: the log itself.
    """
    folder = cache_folder() / "truth" / truth_key(log, gap, kind, rank, bootstrap)

    def make() -> Truth:
        report_progress(f"truth {kind}: fitting to {len(log):,} events")
        return fit_truth(log, gap=gap, kind=kind, rank=rank, bootstrap=bootstrap)

    return kept(folder, load_truth, make, save_truth)


def truth_key(log: EventLog, gap: float, kind: str, rank: int, bootstrap: int | None) -> str:
    """A digest of all that a truth depends on, its source and the version of torch too; as for :func:`kept_truth`."""
    described = json.dumps([_code(), torch.__version__, kind, rank, bootstrap, gap, log_digest(log)])
    return hashlib.sha256(described.encode()).hexdigest()


@lru_cache
def _code() -> str:
    """A digest of the source of the truths, of the models that they are made of, and of the cut that judges them."""
    packages = (Path(inspect.getfile(package)).parent for package in (truths, intensity))
    return source_digest(*packages, Path(inspect.getfile(later_sessions)))


@lru_cache(maxsize=8)
def warm_model(config: ScenarioConfig, seed: int) -> IntensityModel:
    """The platform's model fitted to a scenario's warm-up log, kept for the next market; never changed in place."""
    return initial_model(config, build_world(config).past, seed)
