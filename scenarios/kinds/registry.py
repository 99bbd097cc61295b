"""Kinds of runs: their names, tables and functions.

A record describes each kind of run. Functions and records are named by text, ``module:name``, and imported on first
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

    name: str  # name of the kind
    label: str  # name of such a run in messages, with its article
    command: str  # command of `rimsim` that makes such a run
    mark: str  # entry of `config.yaml` that no other kind has; empty for the one kind without such an entry
    tables: tuple[str, ...]  # tables that its digest covers; the first is the main table
    # Class of the config record for the entry `mark`, as `module:name`; empty: the entry has no record.
    config: str = ""
    report: str = ""  # function that makes the report of a run, as `module:name`
    resume: str = (
        ""  # function that resumes an interrupted run, as `module:name`; empty: there is no such function
    )


_KINDS = "rimsim.scenarios.kinds"
_REPORT = "rimsim.scenarios.report"
_RESUME_STUDY = "rimsim.scenarios.study.compare:resume_study"
_VALIDATION = ("validate", "agreement", "intervals", "pairs", "observed", "observed_pairs")
_COMPARISON = ("rounds", "arrivals", "required", "learnt", "ledger", "truth")
_PROMISES = ("prices", "reliability", "providers", "promises", "groups", "undeliverable")
_ALL = (
    Kind(
        name="sweep",
        label="a sweep",
        command="sweep",
        mark="sweep",
        tables=("sweep",),
        report=f"{_REPORT}.sweep:sweep_report",
        resume=_RESUME_STUDY,
    ),
    Kind(
        name="backtest",
        label="a back-test",
        command="backtest",
        mark="backtest",
        tables=("backtest", "calibration"),
        config=f"{_KINDS}.backtest.split:BacktestConfig",
        report=f"{_KINDS}.backtest.report:backtest_report",
    ),
    Kind(
        name="validation",
        label="a validation",
        command="validate",
        mark="validate",
        tables=_VALIDATION,
        config=f"{_KINDS}.validate:ValidateConfig",
        report=f"{_KINDS}.validate.report:validation_report",
    ),
    Kind(
        name="experiment",
        label="an experiment",
        command="experiment",
        mark="experiment",
        tables=("experiment", "arrivals"),
        report=f"{_KINDS}.experiment.report:experiment_report",
    ),
    Kind(
        name="payback",
        label="a payback map",
        command="payback",
        mark="payback",
        tables=("payback", "gains"),
        report=f"{_KINDS}.payback.report:payback_report",
        resume=f"{_KINDS}.payback:resume_payback",
    ),
    Kind(
        name="comparison",
        label="a comparison",
        command="compare",
        mark="",
        tables=_COMPARISON + _PROMISES,
        report=f"{_REPORT}.comparison:comparison_report",
        resume=_RESUME_STUDY,
    ),
)
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _ALL}


def loaded(place: str) -> Any:
    """Object named by ``module:name``."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def kind_of(config: Mapping[str, object]) -> Kind:
    """Kind of the run that a config describes."""
    return next(kind for kind in KINDS.values() if not kind.mark or kind.mark in config)
