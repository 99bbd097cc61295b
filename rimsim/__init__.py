"""rimsim: a simulator of a recommendation market with guaranteed exposure.

Importing rimsim registers the Gymnasium environments ``RIMMarket-v0``, ``RIMSellers-v0`` and ``RIMSellersHidden-v0``.
The names in ``__init__.pyi``, torch, pandas and other packages are imported when they are first used.
"""

from __future__ import annotations

import lazy_loader
from gymnasium import vector
from gymnasium.envs.registration import register, registry

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

if "RIMMarket-v0" not in registry:  # importing rimsim twice must not warn
    # Gymnasium 1.0 has no modes of autoreset, so its make_vec returns a SyncVectorEnv instead of a MarketVectorEnv.
    vector_entry_point = "rimsim.envs.vector:MarketVectorEnv" if hasattr(vector, "AutoresetMode") else None
    register(
        id="RIMMarket-v0",
        entry_point="rimsim.envs.market:MarketEnv",
        vector_entry_point=vector_entry_point,
    )
    register(id="RIMSellers-v0", entry_point="rimsim.agents.round_policy:sellers_env")
    register(id="RIMSellersHidden-v0", entry_point="rimsim.agents.round_policy:sellers_hidden_env")
