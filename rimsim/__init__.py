"""rimsim: a simulator of a recommendation market with guaranteed exposure.

Importing it registers the Gymnasium environment ``RIMMarket-v0`` and nothing heavier: torch, pandas and the rest
are imported by the rooms that need them.
"""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

__all__ = ["__version__"]

__version__ = "0.1.0"

if "RIMMarket-v0" not in registry:  # a second import must not warn
    register(id="RIMMarket-v0", entry_point="rimsim.envs.market:MarketEnv")
