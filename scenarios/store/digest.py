"""Digests of the content of tables: equal runs have equal ones, whatever batches, workers or machines."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pandas as pd

from rimsim.errors import MissingTableError
from rimsim.scenarios.store.points import runs_of

if TYPE_CHECKING:
    from rimsim.scenarios.store.run_folder import Run


_ORDER = {
    "rounds": ["agent", "seed", "round", "metric"],
    "arrivals": ["agent", "seed", "round", "time", "arrival"],
    "required": ["seed", "round", "item"],
    "learnt": ["agent", "seed", "round"],
    "ledger": ["agent", "seed", "round", "time", "arrival", "position"],
    "truth": ["agent", "seed", "round", "arrival", "position"],
    "prices": ["agent", "seed", "round", "item"],
    "reliability": ["agent", "seed", "round", "decile"],
    "providers": ["agent", "seed", "round", "provider"],
    "promises": ["agent", "seed", "round", "name"],
    "undeliverable": ["agent", "seed", "round", "why"],
}
"""Table of a comparison → the columns that its rows are ordered by."""
_OPTIONAL = ("learnt", "ledger", "prices", "reliability", "truth")
"""Tables that not every comparison has."""


def digest(run: Run) -> str:
    """A digest of the tables of a comparison, back-test or validation, or of all points of a sweep.

    Raises:
        MissingTableError: If a table is missing.
    """
    whole = hashlib.sha256()
    if run.kind == "sweep":
        digests = {point.folder.name: digest(point_run) for point, point_run in runs_of(run)}
        for name in sorted(digests):
            whole.update(f"{name} {digests[name]}\n".encode())
    elif run.kind in {"backtest", "experiment"}:
        kept = (run.backtest, run.calibration) if run.kind == "backtest" else (run.experiment, run.arrivals)
        for table in kept:
            whole.update(_hashes(table))
    elif run.kind == "validation":
        for table in (run.validate, run.agreement, run.intervals, run.pairs):
            whole.update(_hashes(table))
        for judged in (run.observed, run.observed_pairs):
            whole.update(b"" if judged is None else _hashes(judged))
    else:
        for name, content in _content(run).items():
            whole.update(name.encode() + content)
    return whole.hexdigest()


def different_tables(one: Run, other: Run) -> list[str]:
    """Names of tables whose content differs between two comparisons."""
    here, there = _content(one), _content(other)
    return [name for name in here | there if here.get(name) != there.get(name)]


def _content(run: Run) -> dict[str, bytes]:
    """Name of a table of a comparison → hashes of its ordered rows."""
    contents: dict[str, bytes] = {}
    for name, columns in _ORDER.items():
        try:
            table: pd.DataFrame | None = getattr(run, name)
        except MissingTableError:
            if name not in _OPTIONAL:
                raise
            continue
        if table is None:
            continue
        of_arms = ["agent"] if "agent" in table and "agent" not in columns else []
        contents[name] = _hashes(table.sort_values(of_arms + columns, kind="stable").reset_index(drop=True))
    return contents


def _hashes(table: pd.DataFrame) -> bytes:
    return pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes()
