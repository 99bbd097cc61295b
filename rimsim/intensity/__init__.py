"""Intensity models: λ(x), p(y|x) and their product.

``ground`` holds the models of λ(x); ``sequence`` and ``sets`` those of p(y|x), by what they read of a user;
``selection`` chooses between models, and how much of one is believed. Models by name are in the module ``registry``,
kept fits in ``cache``, saved models in ``persistence``, and reports on a fitted model in ``calibration``.
"""

from rimsim.intensity.calibrated import Calibrated
from rimsim.intensity.contract import IntensityModel, RecurrentModel
from rimsim.intensity.ground.activity import EMA, EMAConfig, UserPopularity, UserPopularityConfig
from rimsim.intensity.ground.contract import GroundModel
from rimsim.intensity.ground.decayed import Scales
from rimsim.intensity.ground.hawkes import Hawkes, HawkesConfig
from rimsim.intensity.ground.hawkes_poisson import HawkesPoisson, HawkesPoissonConfig
from rimsim.intensity.ground.visits import Visits, VisitsConfig
from rimsim.intensity.impressions import ImpressionLayer
from rimsim.intensity.popularity import Popularity, PopularityConfig
from rimsim.intensity.product import RIM
from rimsim.intensity.selection.auto import Auto, AutoConfig
from rimsim.intensity.selection.choosing import Judged, judged
from rimsim.intensity.sequence.graph_convolution import GraphConvolution, GraphConvolutionConfig
from rimsim.intensity.sequence.gru import GRU, GRUConfig
from rimsim.intensity.sequence.transformer import Transformer, TransformerConfig
from rimsim.intensity.sets.bag import Bag, BagConfig
from rimsim.intensity.sets.ease import EASE, EASEConfig
from rimsim.intensity.sets.factors import Factors, FactorsConfig
from rimsim.intensity.sets.matrix_factorization import MatrixFactorization, MatrixFactorizationConfig
from rimsim.intensity.sets.returning import Returning, ReturningConfig
from rimsim.intensity.states import UserStates

__all__ = [
    "EASE",
    "EMA",
    "GRU",
    "RIM",
    "Auto",
    "AutoConfig",
    "Bag",
    "BagConfig",
    "Calibrated",
    "EASEConfig",
    "EMAConfig",
    "Factors",
    "FactorsConfig",
    "GRUConfig",
    "GraphConvolution",
    "GraphConvolutionConfig",
    "GroundModel",
    "Hawkes",
    "HawkesConfig",
    "HawkesPoisson",
    "HawkesPoissonConfig",
    "ImpressionLayer",
    "IntensityModel",
    "Judged",
    "MatrixFactorization",
    "MatrixFactorizationConfig",
    "Popularity",
    "PopularityConfig",
    "RecurrentModel",
    "Returning",
    "ReturningConfig",
    "Scales",
    "Transformer",
    "TransformerConfig",
    "UserPopularity",
    "UserPopularityConfig",
    "UserStates",
    "Visits",
    "VisitsConfig",
    "judged",
]
