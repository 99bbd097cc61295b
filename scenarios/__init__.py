"""Named experiments, the closed-loop comparison, the back-test, their reports and the command line."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if __name__ != "rimsim.scenarios":
    raise ImportError("import rimsim.scenarios, not scenarios: the folder is installed as rimsim.scenarios")

if TYPE_CHECKING:
    from rimsim.scenarios.backtesting.config import BacktestConfig, SplitConfig
    from rimsim.scenarios.backtesting.run import Backtest, backtest, load_backtest
    from rimsim.scenarios.store.run_folder import Run, load_run
    from rimsim.scenarios.study.compare import compare
    from rimsim.scenarios.study.run import resume
    from rimsim.scenarios.study.sweep import sweep

__all__ = [
    "Backtest",
    "BacktestConfig",
    "Run",
    "SplitConfig",
    "backtest",
    "compare",
    "load_backtest",
    "load_run",
    "resume",
    "sweep",
]

_HOMES = {
    "Backtest": "backtesting.run",
    "BacktestConfig": "backtesting.config",
    "Run": "store.run_folder",
    "SplitConfig": "backtesting.config",
    "backtest": "backtesting.run",
    "compare": "study.compare",
    "load_backtest": "backtesting.run",
    "load_run": "store.run_folder",
    "resume": "study.run",
    "sweep": "study.sweep",
}


def __getattr__(name: str) -> object:
    """Import on first use: reading a scenario's YAML from this package must not load torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"rimsim.scenarios.{_HOMES[name]}"), name)
