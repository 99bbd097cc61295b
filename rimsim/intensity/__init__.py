"""Intensity models: λ(x), p(y|x) and their product.

``ground`` holds the models of λ(x); ``sequence`` and ``sets`` those of p(y|x), by what they read of a user;
``selection`` chooses between models, and the weight of a personal score. Models by name are in the module ``registry``,
cached fits in ``cache``, saved models in ``persistence``, and reports on a fitted model in ``calibration``.
"""

from rimsim.intensity.contract import IntensityModel, RecurrentModel
from rimsim.intensity.ground.contract import GroundModel
from rimsim.intensity.ground.decayed import EMA, EMAConfig, Scales, UserPopularity, UserPopularityConfig
from rimsim.intensity.ground.hawkes import Hawkes, HawkesConfig, HawkesPoisson, HawkesPoissonConfig
from rimsim.intensity.ground.visits import Visits, VisitsConfig
from rimsim.intensity.impressions import Calibrated, ImpressionLayer
from rimsim.intensity.popularity import Popularity, PopularityConfig, Returning, ReturningConfig
from rimsim.intensity.product import RIM
from rimsim.intensity.registry import Auto, judged
from rimsim.intensity.selection.auto import AutoConfig, RankedModel
from rimsim.intensity.sequence.graph_convolution import GraphConvolution, GraphConvolutionConfig
from rimsim.intensity.sequence.gru import GRU, GRUConfig
from rimsim.intensity.sequence.transformer import Transformer, TransformerConfig
from rimsim.intensity.sets.bag import Bag, BagConfig
from rimsim.intensity.sets.ease import EASE, EASEConfig
from rimsim.intensity.sets.factors import Factors, FactorsConfig
from rimsim.intensity.sets.matrix_factorization import MatrixFactorization, MatrixFactorizationConfig
from rimsim.intensity.states import UserStates

Judged = RankedModel

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
    "RankedModel",
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
