"""What all arms of an experiment share: the log, its past, the truth, release times; made once and kept."""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
import tempfile
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
from rimsim.intensity.cache import cache_folder, fitted, log_digest
from rimsim.intensity.registry import make
from rimsim.loading import imported, without_name
from rimsim.market.clock import ALWAYS, ticks
from rimsim.market.truth import Truth, fit_truth

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.config import PlatformConfig, ScenarioConfig
    from rimsim.data.log import EventLog, Sessions
    from rimsim.intensity.contract import IntensityModel

__all__ = ["World", "build_world", "check_model", "initial_model", "warm_model"]

_RELEASE_SEED = 0


@dataclass(frozen=True, eq=False)
class World:
    """A scenario's log, cut at the opening of the market."""

    log: EventLog
    """The whole log, its future included; only the truth and the replay look at it."""
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
    truth: Truth | None
    """The fitted truth; None for a replay."""


@lru_cache(maxsize=4)
def build_world(config: ScenarioConfig) -> World:
    """Read the log of a scenario, cut it and fit the truth (from the cache where it was fitted before).

    Raises:
        DataError: If the log cannot be read.
        ConfigError: If the scenario asks for more than the log has.
    """
    torch.set_num_threads(1)  # the bits of a fit depend on the number of threads, and workers share the cores
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
    sessions = log.sessions(data.session_gap)
    replay = config.arrivals.kind == "replay"
    if replay:
        first, last = float(log.time[0]), float(log.time[-1])
        opening = first + config.arrivals.warmup_share * (last - first)
        # A session that straddles the opening ends there: its later events never happen.
        started_before = sessions.start[sessions.of_event] < opening
        whole, past = log, log.rows(started_before & (log.time < opening))
        given = log.items["release"].to_numpy(np.float64)
        release = np.where(given == 0, ALWAYS, ticks(given))
    else:
        opening = float(log.time[-1]) + 1.0
        release = _release_ticks(config, log.n_items, opening)
        whole, past = log, log.rows(release[log.item] == ALWAYS)
    truth = _truth(whole, sessions, config.consumer.rank) if config.consumer.kind == "intensity" else None
    return World(log, sessions, past, past.sessions(data.session_gap), opening, release, truth)


def _release_ticks(config: ScenarioConfig, n_items: int, opening: float) -> NDArray[np.int64]:
    """(M,) release ticks of clones' markets: a seeded share of the catalogue comes between two rounds."""
    plan = config.releases
    late = round(plan.share * n_items)
    release = np.full(n_items, ALWAYS)
    if late:
        order = np.argsort(rng.bits(_RELEASE_SEED, rng.Purpose.ARRIVALS, 9, np.arange(n_items)))
        length = duration_seconds(config.arrivals.round_length)
        span = (plan.last_round + 1 - plan.first_round) * length
        share = rng.uniform(_RELEASE_SEED, rng.Purpose.ARRIVALS, 10, order[:late])
        release[order[:late]] = ticks(opening + plan.first_round * length + span * share)
    return release


def _truth(log: EventLog, sessions: Sessions, rank: int) -> Truth:
    """Fit the truth, or read it from the cache."""
    code = hashlib.sha256(Path(inspect.getfile(Truth)).read_bytes()).hexdigest()
    described = json.dumps([code, torch.__version__, rank, log_digest(log), len(sessions)])
    folder = cache_folder() / "truth" / hashlib.sha256(described.encode()).hexdigest()
    if (folder / "truth.json").is_file():
        return Truth.load(folder)
    truth = fit_truth(log, sessions, rank)
    _move_into_place(truth, folder)
    return truth


def _move_into_place(truth: Truth, folder: Path) -> None:
    """Write the truth beside its place and rename it, so that no other process reads half of it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
    truth.save(draft)
    try:
        draft.replace(folder)
    except OSError:  # another process was first
        shutil.rmtree(draft)


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


def check_model(platform: PlatformConfig) -> None:
    """Refuse a model that cannot be made, before anything is written.

    Raises:
        ConfigError: If no model has the name, a file of the user's own cannot be used, or what it makes is no model.
    """
    _unfitted(platform, 0)


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
