"""The shadow of an arm: its market under uniformly random slates, played once for all controls of a seed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rimsim.agents import closed_rounds, make_agent, market_for
from rimsim.config import ExposureConfig, PlatformConfig, Seeds, to_plain
from rimsim.market import build_world
from rimsim.market.controls import replica_seeds
from rimsim.market.histories import LoggedPast
from rimsim.market.state import KeptRounds
from rimsim.market.world import initial_model
from rimsim.scenarios.store.folders import STATES
from rimsim.scenarios.store.write import write_arrays

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.market import World
    from rimsim.market.ledger import PastRound


_AGENT = "random"
"""Whose slates hang on no model, so that no platform and no guarantee moves what comes of them."""
_MODEL = "popularity"
"""Scores states that nobody looks at."""


def shadow_of(
    config: ScenarioConfig, seed: int, folder: Path, report: Callable[[int], None]
) -> Callable[[int], list[PastRound]]:
    """Number of a replica → all rounds of a market in which uniformly random slates are shown.

    Replica 0 has the very seeds of the arms. A replica is played when it is first asked for, and kept in the folder
    until the run is over, for all whose markets differ in their platform or guarantees alone.

    Args:
        config: The scenario of the arms.
        seed: Their seed.
        folder: Their run folder, or that of the sweep that they are part of.
        report: Called after each round that is played, with 0.
    """
    world = build_world(config)
    logged = LoggedPast.of(world.past, empty=config.arrivals.history == "none")
    plain = dataclasses.replace(
        config, platform=PlatformConfig(model=_MODEL, retrain=False), exposure=ExposureConfig()
    )
    name = hashlib.sha256(json.dumps(to_plain(plain)).encode()).hexdigest()[:12]

    @cache
    def replica(number: int) -> list[PastRound]:
        place = folder / STATES / "shadow" / f"{name}-{seed}-{number}.npz"
        if not place.is_file():
            kept = KeptRounds.of(_played(plain, world, seed, number, report), keeps_users=False)
            write_arrays(place, kept.arrays(""))
        with np.load(place, allow_pickle=False) as arrays:
            return KeptRounds.from_arrays(arrays, "").rounds(logged, keeps_users=False)

    return replica


def _played(
    plain: ScenarioConfig, world: World, seed: int, replica: int, report: Callable[[int], None]
) -> list[PastRound]:
    seeds = dataclasses.replace(replica_seeds(Seeds.all(seed), replica), model=0)  # one fit for all of them
    agent = make_agent(_AGENT)
    market = market_for(
        agent, plain, seeds=seeds, world=world, model=initial_model(plain, world.past, seeds.model)
    )
    rounds = []
    for closed in closed_rounds(market, agent):
        rounds.append(closed.learnt)
        report(0)
    return rounds
