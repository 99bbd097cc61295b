"""Intensity models: λ(x), p(y|x) and their product."""

from rimsim.intensity.activity import EMA, EMAConfig, UserPopularity, UserPopularityConfig
from rimsim.intensity.blocks import BLOCK
from rimsim.intensity.cache import cache_folder, fitted
from rimsim.intensity.contract import IntensityModel, RecurrentModel
from rimsim.intensity.decayed import Scales
from rimsim.intensity.ground import Ground, GroundModel
from rimsim.intensity.gru import GRU, GRUConfig
from rimsim.intensity.hawkes import Hawkes, HawkesConfig
from rimsim.intensity.hawkes_poisson import HawkesPoisson, HawkesPoissonConfig
from rimsim.intensity.persistence import Stored, load
from rimsim.intensity.popularity import Popularity, PopularityConfig
from rimsim.intensity.product import RIM
from rimsim.intensity.registry import config_of, make, names, register
from rimsim.intensity.states import UserStates
from rimsim.intensity.transformer import Transformer, TransformerConfig

__all__ = [
    "BLOCK",
    "EMA",
    "GRU",
    "RIM",
    "EMAConfig",
    "GRUConfig",
    "Ground",
    "GroundModel",
    "Hawkes",
    "HawkesConfig",
    "HawkesPoisson",
    "HawkesPoissonConfig",
    "IntensityModel",
    "Popularity",
    "PopularityConfig",
    "RecurrentModel",
    "Scales",
    "Stored",
    "Transformer",
    "TransformerConfig",
    "UserPopularity",
    "UserPopularityConfig",
    "UserStates",
    "cache_folder",
    "config_of",
    "fitted",
    "load",
    "make",
    "names",
    "register",
]
