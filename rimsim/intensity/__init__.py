"""Intensity models: λ(x), p(y|x) and their product."""

from rimsim.intensity.activity import EMA, EMAConfig, UserPopularity, UserPopularityConfig
from rimsim.intensity.blocks import BLOCK
from rimsim.intensity.cache import cache_folder, fitted
from rimsim.intensity.calibration import (
    Calibration,
    GroundCalibration,
    MarkCalibration,
    calibration,
    count_calibration,
    mark_calibration,
)
from rimsim.intensity.contract import IntensityModel, RecurrentModel
from rimsim.intensity.decayed import Scales
from rimsim.intensity.examples import CountExamples, count_examples, session_examples, window_examples
from rimsim.intensity.graph_convolution import GraphConvolution, GraphConvolutionConfig
from rimsim.intensity.ground import Ground, GroundModel
from rimsim.intensity.gru import GRU, GRUConfig
from rimsim.intensity.hawkes import Hawkes, HawkesConfig
from rimsim.intensity.hawkes_poisson import HawkesPoisson, HawkesPoissonConfig
from rimsim.intensity.matrix_factorization import MatrixFactorization, MatrixFactorizationConfig
from rimsim.intensity.persistence import Stored, load
from rimsim.intensity.popularity import Popularity, PopularityConfig
from rimsim.intensity.product import RIM
from rimsim.intensity.recipes import thorough
from rimsim.intensity.registry import config_of, make, names, parts, register
from rimsim.intensity.states import UserStates
from rimsim.intensity.transformer import Transformer, TransformerConfig

__all__ = [
    "BLOCK",
    "EMA",
    "GRU",
    "RIM",
    "Calibration",
    "CountExamples",
    "EMAConfig",
    "GRUConfig",
    "GraphConvolution",
    "GraphConvolutionConfig",
    "Ground",
    "GroundCalibration",
    "GroundModel",
    "Hawkes",
    "HawkesConfig",
    "HawkesPoisson",
    "HawkesPoissonConfig",
    "IntensityModel",
    "MarkCalibration",
    "MatrixFactorization",
    "MatrixFactorizationConfig",
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
    "calibration",
    "config_of",
    "count_calibration",
    "count_examples",
    "fitted",
    "load",
    "make",
    "mark_calibration",
    "names",
    "parts",
    "register",
    "session_examples",
    "thorough",
    "window_examples",
]
