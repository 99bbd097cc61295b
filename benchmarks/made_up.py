"""Markets of a chosen size for benchmarks: clones of the users of a made-up log, a GRU that was fitted briefly."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from rimsim.config import ArrivalsConfig, DataConfig, PlatformConfig, ScenarioConfig
from rimsim.data import EventLog, write
from rimsim.intensity import GRU, RIM, GRUConfig, HawkesPoisson
from rimsim.intensity.registry import register
from rimsim.system import cache_folder
from rimsim.testing import random_log

SIZES = ((1_000, 1_700), (6_000, 3_700))
"""(users, items) of the tables: the size of MovieLens 100K, and that of MovieLens 1M."""
MODEL = "briefly-fitted-gru-hp"
"""As ``gru-hp``, fitted for two epochs: what it costs to score does not depend on how well it was fitted."""

register(
    MODEL,
    lambda seed, device: RIM(
        mark=GRU(GRUConfig(epochs=2, patience=0, seed=seed, device=device)), ground=HawkesPoisson()
    ),
)


def made_up_log(users: int, items: int) -> Path:
    """A random log of some 30 events a user in which every item occurs, written once beside the cache."""
    path = cache_folder() / "benchmarks" / f"random-{users}-{items}.parquet"
    if not path.exists():
        log = random_log(users, items, mean_events=30.0)
        unseen = np.flatnonzero(np.bincount(log.item, minlength=items) == 0)
        user = np.concatenate([log.user, unseen % users])
        item = np.concatenate([log.item, unseen])
        time = np.concatenate([log.time, np.full(len(unseen), log.time[-1])])
        order = np.lexsort((item, user, time))
        repeated: EventLog = dataclasses.replace(
            log,
            user=user[order],
            item=item[order],
            time=time[order],
            value=np.ones(len(user), np.float32),
        )
        write(repeated, path)
    return path


def scenario(
    users: int, items: int, *, rounds: int = 6, slate: int = 10, per_round: int = 6_000
) -> ScenarioConfig:
    """Clones of a made-up log's users, five visits each at most, over the whole catalogue, without retraining."""
    return ScenarioConfig(
        name=f"made-up-{users}x{items}",
        rounds=rounds,
        slate=slate,
        data=DataConfig(source=str(made_up_log(users, items))),
        arrivals=ArrivalsConfig(per_round=per_round, max_visits=5),
        platform=PlatformConfig(model=MODEL, retrain=False),
    )


def settings(config: ScenarioConfig) -> dict[str, object]:
    """What turns the environment's scenario ``closed-loop`` into such a market."""
    return {
        "slate": config.slate,
        "data.source": config.data.source,
        "data.min_item_events": 1,
        "arrivals.per_round": config.arrivals.per_round,
        "platform.model": MODEL,
        "platform.retrain": False,
    }
