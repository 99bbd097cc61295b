"""Intensity models: λ(x), p(y|x) and their product.

Models by name are in the module ``registry``, kept fits in ``cache``, saved models in ``persistence``, and reports on a
fitted model in ``calibration``.
"""

from rimsim.intensity.activity import EMA, EMAConfig, UserPopularity, UserPopularityConfig
from rimsim.intensity.auto import Auto, AutoConfig
from rimsim.intensity.bag import Bag, BagConfig
from rimsim.intensity.calibrated import Calibrated
from rimsim.intensity.choosing import Judged, judged
from rimsim.intensity.contract import IntensityModel, RecurrentModel
from rimsim.intensity.decayed import Scales
from rimsim.intensity.ease import EASE, EASEConfig
from rimsim.intensity.factors import Factors, FactorsConfig
from rimsim.intensity.graph_convolution import GraphConvolution, GraphConvolutionConfig
from rimsim.intensity.ground import GroundModel
from rimsim.intensity.gru import GRU, GRUConfig
from rimsim.intensity.hawkes import Hawkes, HawkesConfig
from rimsim.intensity.hawkes_poisson import HawkesPoisson, HawkesPoissonConfig
from rimsim.intensity.impressions import ImpressionLayer
from rimsim.intensity.matrix_factorization import MatrixFactorization, MatrixFactorizationConfig
from rimsim.intensity.popularity import Popularity, PopularityConfig
from rimsim.intensity.product import RIM
from rimsim.intensity.returning import Returning, ReturningConfig
from rimsim.intensity.states import UserStates
from rimsim.intensity.transformer import Transformer, TransformerConfig
from rimsim.intensity.visits import Visits, VisitsConfig

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
