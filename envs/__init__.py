"""Gymnasium environments of the market, and wrappers of their actions."""

from __future__ import annotations

if __name__ != "rimsim.envs":
    raise ImportError(
        "the folder envs is installed as rimsim.envs. Write import rimsim.envs instead of import envs"
    )

from rimsim.envs.market import MarketEnv
from rimsim.envs.observations import GROUND_BOUND, Snapshot
from rimsim.envs.rounds import (
    ClassFigures,
    ConsumptionsAndFees,
    RoundAction,
    RoundEnv,
    RoundObservation,
    RoundReward,
)
from rimsim.envs.wrappers import COMPACT, BonusAction, CompactObservation, MeasuredEpisode

__all__ = [
    "COMPACT",
    "GROUND_BOUND",
    "BonusAction",
    "ClassFigures",
    "CompactObservation",
    "ConsumptionsAndFees",
    "MarketEnv",
    "MeasuredEpisode",
    "RoundAction",
    "RoundEnv",
    "RoundObservation",
    "RoundReward",
    "Snapshot",
]
