"""What all arms of an experiment share: the log, its past, the truth, release times; made once and kept."""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from rimsim import rng
from rimsim.data import Needs, load_log, require_usable
from rimsim.durations import duration_seconds
from rimsim.errors import ConfigError, ModelError, RimsimError
from rimsim.files import draft_folder
from rimsim.intensity.cache import cache_folder, fitted, log_digest
from rimsim.intensity.registry import make
from rimsim.loading import imported, without_name
from rimsim.market.arrivals import RoundsSoFar, make_arrivals
from rimsim.market.clock import ALWAYS, ticks
from rimsim.market.consumers import make_consumer
from rimsim.market.consumers.truth import Truth, fit_truth

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.config import PlatformConfig, ScenarioConfig
    from rimsim.data.log import EventLog, Sessions
    from rimsim.intensity.contract import IntensityModel
    from rimsim.market.arrivals import ArrivalProcess
    from rimsim.market.consumers import Consumer

__all__ = [
    "World",
    "build_world",
    "check_plugs",
    "expected_arrivals",
    "initial_model",
    "own_places",
    "warm_model",
    "world_of",
]


@dataclass(frozen=True, eq=False)
class World:
    """A scenario's log, cut at the opening of the market; who arrives and who consumes."""

    log: EventLog
    """The whole log, its future included; only the truth, the arrivals and the consumers look at it."""
    sessions: Sessions
    """Sessions of the whole log."""
    past: EventLog
    """The warm-up log: what the platform knows when the market opens."""
    past_sessions: Sessions
    """Sessions of the warm-up log."""
    opening: float
    """Seconds at which the market opens."""
    release: NDArray[np.int64]
    """(M,) tick of each item's release; ALWAYS for those that are there from the start."""
    last_release: int
    """Tick of the last release; ALWAYS where all items are there from the start."""
    truth: Truth | None
    """The fitted truth; None where the consumer needs none."""
    arrivals: ArrivalProcess
    """Who arrives when."""
    consumer: Consumer
    """Who decides what is consumed."""
    most_arrivals: int | None
    """No round has more arrivals; None: unknown."""


@lru_cache(maxsize=4)
def build_world(config: ScenarioConfig) -> World:
    """Read the log of a scenario, cut it and fit the truth (from the cache where it was fitted before).

    Raises:
        DataError: If the log cannot be read.
        ConfigError: If the scenario asks for more than the log has.
    """
    torch.set_num_threads(1)  # the bits of a fit depend on the number of threads, and workers share the cores
    arrivals, consumer = _plugs(config)
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
    return world_of(log, config, arrivals, consumer)


def world_of(log: EventLog, config: ScenarioConfig, arrivals: ArrivalProcess, consumer: Consumer) -> World:
    """Cut a log at the opening of the market, and fit the truth where the consumer needs one.

    Args:
        log: The log.
        config: The scenario.
        arrivals: Who arrives; says when the market opens.
        consumer: Who consumes.
    """
    sessions = log.sessions(config.data.session_gap)
    opening = arrivals.opening(log)
    given = np.zeros(log.n_items) if opening.release is None else np.asarray(opening.release, np.float64)
    release = np.where(given == 0, ALWAYS, ticks(given))
    return World(
        log=log,
        sessions=sessions,
        past=opening.past,
        past_sessions=opening.past.sessions(config.data.session_gap),
        opening=opening.time,
        release=release,
        last_release=int(release.max()),
        truth=_truth(log, sessions, config.consumer.rank) if getattr(consumer, "needs_truth", True) else None,
        arrivals=arrivals,
        consumer=consumer,
        most_arrivals=opening.most_arrivals,
    )


def _plugs(config: ScenarioConfig) -> tuple[ArrivalProcess, Consumer]:
    arrivals, consumer = make_arrivals(config), make_consumer(config)
    if getattr(consumer, "needs_sessions", False) and not getattr(arrivals, "replays_sessions", False):
        raise ConfigError(
            f"consumer.kind is {config.consumer.kind!r} with {config.arrivals.kind}, which have no logged future to "
            "hit; allowed: consumer.kind 'intensity', or arrivals.kind 'replay'"
        )
    return arrivals, consumer


def check_plugs(config: ScenarioConfig) -> None:
    """Refuse arrivals, consumers and a model that cannot be made, before anything is read or written.

    Raises:
        ConfigError: If nothing has the name, a file of the user's own cannot be used, or what it makes does not fit.
    """
    _plugs(config)
    _unfitted(config.platform, 0)


def own_places(config: ScenarioConfig) -> list[str]:
    """Where a scenario may name code of a user's own, such as ``mine.py:Bursts``."""
    return [config.arrivals.kind, config.consumer.kind, config.platform.model]


def expected_arrivals(config: ScenarioConfig) -> int:
    """Arrivals of all rounds of a scenario, as far as they can be known beforehand: for a progress bar."""
    so_far = RoundsSoFar(build_world(config), seed=0)
    return sum(len(so_far.world.arrivals.round(number, so_far)) for number in range(config.rounds))


def _truth(log: EventLog, sessions: Sessions, rank: int) -> Truth:
    """Fit the truth, or read it from the cache."""
    code = hashlib.sha256(Path(inspect.getfile(Truth)).read_bytes()).hexdigest()
    described = json.dumps([code, torch.__version__, rank, log_digest(log), len(sessions)])
    folder = cache_folder() / "truth" / hashlib.sha256(described.encode()).hexdigest()
    if (folder / "truth.json").is_file():
        return Truth.load(folder)
    truth = fit_truth(log, sessions, rank)
    with draft_folder(folder, existing="keep") as draft:
        truth.save(draft)
    return truth


@lru_cache(maxsize=8)
def warm_model(config: ScenarioConfig, seed: int) -> IntensityModel:
    """The platform's model fitted to a scenario's warm-up log, kept for the next market; never changed in place."""
    return initial_model(config, build_world(config).past, seed)


def initial_model(config: ScenarioConfig, log: EventLog, seed: int) -> IntensityModel:
    """The platform's model fitted to a log, from the cache where it was fitted before.

    Args:
        config: The scenario.
        log: What to fit it to, such as ``world.past``.
        seed: Model seed.

    Raises:
        ConfigError: If no model has the name, or a file of the user's own cannot be used.
    """
    torch.set_num_threads(1)  # as in build_world
    platform = config.platform
    model = _unfitted(platform, rng.derived_seed(seed, rng.Purpose.MODEL) % 2**31)
    known = fitted(model, log)
    if not hasattr(known, "score"):
        raise ModelError(f"{platform.model}: fit returned {known!r}; allowed: the fitted model, such as self")
    return known


def _unfitted(platform: PlatformConfig, seed: int) -> IntensityModel:
    if platform.model.endswith(".py"):
        raise without_name(platform.model, "model")
    if ":" not in platform.model:
        return make(platform.model, seed=seed, device=platform.device)
    factory = imported(platform.model, "model")
    try:
        model = factory(seed, platform.device)
    except RimsimError:
        raise
    except Exception as error:  # whatever a user's factory does
        raise ConfigError(
            f"model {platform.model!r} cannot be made: {type(error).__name__}: {error}; allowed: what can be called "
            "with seed and device"
        ) from error
    lacks = [part for part in ("fit", "update", "score") if not callable(getattr(model, part, None))]
    if lacks:
        raise ConfigError(
            f"model {platform.model!r} has no {', '.join(lacks)}; allowed: a model with fit, update and score, see "
            "rimsim.intensity.IntensityModel"
        )
    return cast("IntensityModel", model)
