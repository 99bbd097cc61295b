"""Named experiments, the closed-loop comparison, its report and the command line."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if __name__ != "rimsim.scenarios":
    raise ImportError("import rimsim.scenarios, not scenarios: the folder is installed as rimsim.scenarios")

if TYPE_CHECKING:
    from rimsim.scenarios.comparison import compare
    from rimsim.scenarios.run_folder import Run, load_run

__all__ = ["Run", "compare", "load_run"]

_HOMES = {"Run": "run_folder", "compare": "comparison", "load_run": "run_folder"}


def __getattr__(name: str) -> object:
    """Import on first use: reading a scenario's YAML from this package must not load torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"rimsim.scenarios.{_HOMES[name]}"), name)
