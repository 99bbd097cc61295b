"""Names of shipped models, known without PyTorch."""

from __future__ import annotations

from rimsim.entry_points import places
from rimsim.errors import ConfigError, nearest

MARKS = (
    "popularity",
    "returning",
    "fresh",
    "bag",
    "ease",
    "factors",
    "own",
    "recent",
    "bag-habits",
    "ease-habits",
    "factors-habits",
    "auto",
    "gru",
    "als",
    "bpr",
    "transformer",
)
"""Names of models of p(y|x)."""
GROUNDS = ("hawkes", "hp", "pop", "ema", "visits")
"""Names of ground intensities λ(x)."""
BUILT_IN = (*MARKS, *GROUNDS, *(f"{mark}-{ground}" for mark in MARKS for ground in GROUNDS))
"""Names of all built-in models, including products such as ``gru-hp``."""


def unknown_model(name: str, registered: tuple[str, ...] = (), field: str = "model") -> ConfigError:
    """Error for a name that no model has."""
    built_in_names = (
        {built_in_name for built_in_name in BUILT_IN if "-" in built_in_name}
        if "-" in name
        else {*MARKS, *GROUNDS}
    )
    known_names = {*built_in_names, *places("models"), *registered}
    return ConfigError(
        f"{field} {name!r} is unknown.{nearest(name, known_names)} To use a model of your own, give file.py:Name."
    )
