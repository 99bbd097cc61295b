"""Kinds of runs: words, tables, functions.

A kind is known by its record alone. Functions and records are named by text, ``module:name``, and imported on first
use, so that opening a run loads no other kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Kind:
    """A kind of run, such as a comparison."""

    name: str  # Value of kind
    label: str  # Name in messages, with its article
    command: str  # Command of `rimsim` that makes it
    mark: str  # Entry of `config.yaml` that no other kind has; empty: the kind without any
    tables: tuple[str, ...]  # Tables whose content its digest covers; the first is its main table
    config: str = ""  # Record of its entry `mark`, as `module:name`; empty: none
    report: str = ""  # Function that makes the report of a run, as `module:name`
    resumable: bool = False  # An interrupted run can be resumed

    def load(self, place: str) -> Any:
        """Object named by ``module:name``."""
        module, _, name = place.partition(":")
        return getattr(import_module(module), name)


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "sweep",
            "a sweep",
            "sweep",
            mark="sweep",
            report="rimsim.scenarios.report.sweep:sweep_report",
            tables=("sweep",),
            resumable=True,
        ),
        Kind(
            "backtest",
            "a back-test",
            "backtest",
            mark="backtest",
            tables=("backtest", "calibration"),
            config="rimsim.scenarios.kinds.backtest.split:BacktestConfig",
            report="rimsim.scenarios.kinds.backtest.report:backtest_report",
        ),
        Kind(
            "validation",
            "a validation",
            "validate",
            mark="validate",
            tables=("validate", "agreement", "intervals", "pairs", "observed", "observed_pairs"),
            config="rimsim.scenarios.kinds.validate:ValidateConfig",
            report="rimsim.scenarios.kinds.validate.report:validation_report",
        ),
        Kind(
            "experiment",
            "an experiment",
            "experiment",
            mark="experiment",
            report="rimsim.scenarios.kinds.experiment:experiment_report",
            tables=("experiment", "arrivals"),
        ),
        Kind(
            "comparison",
            "a comparison",
            "compare",
            mark="",
            report="rimsim.scenarios.report.comparison:comparison_report",
            tables=(
                "rounds",
                "arrivals",
                "required",
                "learnt",
                "ledger",
                "truth",
                "prices",
                "reliability",
                "providers",
                "promises",
                "undeliverable",
            ),
            resumable=True,
        ),
    )
}


def kind_of(config: Mapping[str, object]) -> Kind:
    """Kind of the run that a config describes."""
    return next(kind for kind in KINDS.values() if not kind.mark or kind.mark in config)
