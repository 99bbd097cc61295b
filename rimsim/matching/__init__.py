"""Matching: prices and slates under exposure floors and caps, and the certificate that bounds what they cost.

``best_items``, ``tie_rank`` and ``uniform_of`` are compiled: an agent's own compiled loop calls them row by row, where
``price_slates`` and ``top_k`` answer a batch. Prices are v everywhere outside; inside, solvers count in bonuses w = −v.
The names are imported on first use, so that importing the package does not load the compiler of the kernels.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from rimsim.matching._best import best_items
    from rimsim.matching._kernels import tie_base, tie_rank, uniform_of
    from rimsim.matching.certify import Certificate, certificate
    from rimsim.matching.dual import solve_dual
    from rimsim.matching.floors import required_exposure
    from rimsim.matching.marketing import offline_match, online_match, user_rec
    from rimsim.matching.ranking import top_k
    from rimsim.matching.scorer import ChunkedScores, FactorScores
    from rimsim.matching.serving import price_slates
    from rimsim.matching.solution import DualSolution

__all__ = [
    "Certificate",
    "ChunkedScores",
    "DualSolution",
    "FactorScores",
    "best_items",
    "certificate",
    "offline_match",
    "online_match",
    "price_slates",
    "required_exposure",
    "solve_dual",
    "tie_base",
    "tie_rank",
    "top_k",
    "uniform_of",
    "user_rec",
]

_HOMES = {
    "Certificate": "certify",
    "ChunkedScores": "scorer",
    "DualSolution": "solution",
    "FactorScores": "scorer",
    "best_items": "_best",
    "certificate": "certify",
    "offline_match": "marketing",
    "online_match": "marketing",
    "price_slates": "serving",
    "required_exposure": "floors",
    "solve_dual": "dual",
    "tie_base": "_kernels",
    "tie_rank": "_kernels",
    "top_k": "ranking",
    "uniform_of": "_kernels",
    "user_rec": "marketing",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"rimsim.matching.{_HOMES[name]}")
    globals()[name] = value = getattr(module, name)  # found at once from now on
    return cast("object", value)


def __dir__() -> list[str]:
    return sorted(__all__)
