"""The market as Gymnasium environments, and wrappers of their actions."""

from __future__ import annotations

if __name__ != "rimsim.envs":
    raise ImportError("import rimsim.envs, not envs: the folder is installed as rimsim.envs")

from rimsim.envs.bonus import BonusAction
from rimsim.envs.market import GROUND_BOUND, MarketEnv

__all__ = ["GROUND_BOUND", "BonusAction", "MarketEnv"]
