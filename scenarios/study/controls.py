"""Controls of an arm and the data they retrain on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from rimsim.agents import closed_rounds, make_agent, market_for
from rimsim.config import ExposureConfig, PlatformConfig, ScenarioConfig, Seeds, to_plain
from rimsim.errors import ConfigError, RunFolderError, require_known
from rimsim.market import World, build_world
from rimsim.market.arrivals import make_arrivals
from rimsim.market.controls import AsLogged, Control, Shadowed, replica_seeds, require_controllable
from rimsim.market.histories import LoggedPast
from rimsim.market.opening import calibrated
from rimsim.market.past_round import PastRound
from rimsim.market.providers import make_providers
from rimsim.market.state import KeptRounds
from rimsim.market.world import initial_model, plugs_of
from rimsim.scenarios.runs.arms import CONTROLS, Arm, is_done
from rimsim.scenarios.runs.files import read_arrays, read_table, write_arrays
from rimsim.scenarios.runs.progress import Report
from rimsim.scenarios.runs.store import STATES

_AGENT = "random"
"""Name of the agent of a replica. Its slates depend on no model, so neither platform nor guarantee affects the
outcome."""
_MODEL = "popularity"
"""Name of the model of a replica, whose scores are not used."""
_RETRAINED = ("organic", "random", "static", "yoked")
"""Kinds of controls that retrain on as many events as the arm of the same agent and seed."""


def checked_controls(config: ScenarioConfig | None, kinds: Sequence[str]) -> tuple[str, ...]:
    """Kinds of controls, checked for a scenario.

    Raises:
        ConfigError: If there is no such kind, or the scenario does not allow it.
    """
    require_known("control: {}", kinds, CONTROLS)
    for kind in kinds:
        if list(kinds).count(kind) > 1:
            raise ConfigError(f"control: {kind!r} is given twice. Give each kind once")
        if config is None or kind not in _RETRAINED:
            continue
        if not config.platform.retrain:
            raise ConfigError(f"control {kind!r} needs retraining. Set platform.retrain to true")
        require_controllable(config, make_arrivals(config), make_providers(config), f"control {kind!r}")
    return tuple(kinds)


def waits(arm: Arm) -> bool:
    """True if the agent's own arm must be complete first."""
    return arm.control in _RETRAINED


def control_of(arm: Arm, report: Report) -> Control | None:
    """Source of a control's training data; None: the control's rounds.

    While a replica (copy of the market) runs, ``report`` is called now and then with 0.

    Raises:
        RunFolderError: If the arm of the agent itself is not complete.
    """
    if arm.control not in _RETRAINED:
        return None
    subject_arm = dataclasses.replace(arm, name=arm.subject, control=None)
    if not is_done(subject_arm.folder, subject_arm.part):
        raise RunFolderError(
            f"{arm.folder}: {arm.name} retrains on as many events as {arm.subject} had, but the arm of "
            f"{arm.subject} at seed {arm.seed} is not complete. Resume that arm first"
        )
    rounds = range(arm.config.rounds)
    sizes = [int(read_table(subject_arm.round_file("learnt", number))["events"].item()) for number in rounds]
    folder = arm.shared or arm.folder
    if arm.control == "organic":
        report(0)
        return AsLogged(arm.config, build_world(arm.config), Seeds.all(arm.seed), sizes)
    if arm.control == "random":
        return Shadowed(shadow_of(arm.config, arm.seed, folder, report), sizes)
    config = arm.config
    first_replica = 1  # for a yoked control, replica 0 would be the market of the arm itself
    if arm.control == "static":
        config = dataclasses.replace(config, platform=dataclasses.replace(config.platform, retrain=False))
        first_replica = 0
    replica = replicas(config, arm.agent, arm.seed, folder, report)
    return Shadowed(lambda number: replica(number + first_replica), sizes)


def shadow_of(
    config: ScenarioConfig, seed: int, folder: Path, report: Report
) -> Callable[[int], list[PastRound]]:
    """Rounds of market copies under uniformly random slates, by number.

    Arms whose markets differ only in platform or guarantees get the same rounds.
    """
    unguaranteed_config = dataclasses.replace(
        config, platform=PlatformConfig(model=_MODEL, retrain=False), exposure=ExposureConfig()
    )
    return replicas(unguaranteed_config, _AGENT, seed, folder, report)


def replicas(
    config: ScenarioConfig, agent: str, seed: int, folder: Path, report: Report
) -> Callable[[int], list[PastRound]]:
    """Rounds of a market's copies (replicas), by number.

    Replica 0 has the seeds of the arms, and all replicas have the same warm-up model. A replica runs on first use, and
    is cached in the folder until the run is over.
    """
    world = build_world(config)
    logged = LoggedPast.of(world.past, empty=config.arrivals.history == "none", rule=world.rule)
    digest = hashlib.sha256(json.dumps([agent, to_plain(config)]).encode()).hexdigest()[:12]

    @cache
    def replica(number: int) -> list[PastRound]:
        """Rounds of a replica, from the cache or simulated."""
        file = folder / STATES / "shadow" / f"{digest}-{seed}-{number}.npz"
        arrays = read_arrays(file)
        if arrays is None:
            replica_rounds = KeptRounds.of(
                play_replica(config, agent, world, seed, number, report), keeps_users=False
            )
            arrays = replica_rounds.arrays("")
            write_arrays(file, arrays)
        return KeptRounds.from_arrays(arrays, "").rounds(logged, keeps_users=False)

    return replica


def play_replica(
    config: ScenarioConfig, agent: str, world: World, seed: int, replica: int, report: Report
) -> list[PastRound]:
    """Simulate a copy of a market; return its training rounds."""
    # All replicas have the seed of the arm for models, and so its warm-up model.
    seeds = dataclasses.replace(replica_seeds(Seeds.all(seed), replica), model=seed)
    actor = make_agent(agent)
    _, consumer = plugs_of(config)
    model = calibrated(config, world, consumer, initial_model(config, world.past, seed), seed)
    market = market_for(actor, config, seeds=seeds, world=world, model=model)
    rounds = []
    for closed in closed_rounds(market, actor):
        rounds.append(closed.learnt)
        report(0)
    return rounds
