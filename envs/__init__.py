"""The market as Gymnasium environments, and wrappers of their actions."""

from __future__ import annotations

if __name__ != "rimsim.envs":
    raise ImportError("import rimsim.envs, not envs: the folder is installed as rimsim.envs")

from rimsim.envs.bonus import BonusAction
from rimsim.envs.compact import COMPACT, CompactObservation
from rimsim.envs.market import GROUND_BOUND, MarketEnv
from rimsim.envs.measured import MeasuredEpisode
from rimsim.envs.snapshot import Snapshot

__all__ = [
    "COMPACT",
    "GROUND_BOUND",
    "BonusAction",
    "CompactObservation",
    "MarketEnv",
    "MeasuredEpisode",
    "Snapshot",
]
