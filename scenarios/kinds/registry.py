"""Kinds of runs: their names, commands and tables.

A record describes each kind of run. The functions that report on a run of a kind, and resume it, stand above in
``scenarios/run.py`` and ``scenarios/study/compare.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of run, such as a comparison."""

    name: str  # name of the kind
    label: str  # name of such a run in messages, with its article
    command: str  # command of `rimsim` that makes such a run
    mark: str  # entry of `config.yaml` that no other kind has; empty for the one kind without such an entry
    tables: tuple[str, ...]  # tables that its digest covers; the first is the main table
    is_resumable: bool = False  # True if an interrupted run can be resumed


_VALIDATION = ("validate", "agreement", "intervals", "pairs", "observed", "observed_pairs", "click_rates")
_COMPARISON = ("rounds", "arrivals", "required", "learnt", "ledger", "truth")
_PROMISES = ("prices", "reliability", "providers", "promises", "groups", "undeliverable")
_ALL = (
    Kind(
        name="sweep",
        label="a sweep",
        command="sweep",
        mark="sweep",
        tables=("sweep",),
        is_resumable=True,
    ),
    Kind(
        name="backtest",
        label="a back-test",
        command="backtest",
        mark="backtest",
        tables=("backtest", "calibration"),
    ),
    Kind(
        name="validation",
        label="a validation",
        command="validate",
        mark="validate",
        tables=_VALIDATION,
    ),
    Kind(
        name="experiment",
        label="an experiment",
        command="experiment",
        mark="experiment",
        tables=("experiment", "arrivals"),
    ),
    Kind(
        name="payback",
        label="a payback map",
        command="payback",
        mark="payback",
        tables=("payback", "gains"),
        is_resumable=True,
    ),
    Kind(
        name="comparison",
        label="a comparison",
        command="compare",
        mark="",
        tables=_COMPARISON + _PROMISES,
        is_resumable=True,
    ),
)
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _ALL}


def kind_of(config: Mapping[str, object]) -> Kind:
    """Kind of the run that a config describes."""
    return next(kind for kind in KINDS.values() if not kind.mark or kind.mark in config)
