"""Matching: prices and slates under exposure floors and caps, and the certificate that bounds what they cost.

The names are imported on first use, so that importing the package does not load the compiler of the kernels.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rimsim.matching.certify import Certificate, certificate
    from rimsim.matching.dual import solve_dual
    from rimsim.matching.floors import required_exposure
    from rimsim.matching.marketing import offline_match, online_match, user_rec
    from rimsim.matching.scorer import ChunkedScores, FactorScores
    from rimsim.matching.serving import price_slates
    from rimsim.matching.solution import DualSolution

__all__ = [
    "Certificate",
    "ChunkedScores",
    "DualSolution",
    "FactorScores",
    "certificate",
    "offline_match",
    "online_match",
    "price_slates",
    "required_exposure",
    "solve_dual",
    "user_rec",
]

_HOMES = {
    "Certificate": "certify",
    "ChunkedScores": "scorer",
    "DualSolution": "solution",
    "FactorScores": "scorer",
    "certificate": "certify",
    "offline_match": "marketing",
    "online_match": "marketing",
    "price_slates": "serving",
    "required_exposure": "floors",
    "solve_dual": "dual",
    "user_rec": "marketing",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"rimsim.matching.{_HOMES[name]}")
    value: object = getattr(module, name)
    globals()[name] = (
        value  # also replaces the submodule `certificate`, which its import binds to the same name
    )
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
