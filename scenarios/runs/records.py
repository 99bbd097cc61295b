"""Records that a run keeps of its log and versions."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from typing import Any

import numpy as np
import pandas as pd

from rimsim import __version__
from rimsim.arrays import Ints
from rimsim.data import EMBEDDED, EventLog
from rimsim.errors import many

_RECORDED = ("torch", "numpy", "pandas", "pyarrow", "scipy", "simpy", "gymnasium", "numba")


def versions() -> dict[str, str]:
    """Versions that results may depend on."""
    own_versions = {"rimsim": __version__, "python": platform.python_version(), "machine": platform.machine()}
    packages = {name: importlib.metadata.version(name) for name in _RECORDED}
    return own_versions | packages


def catalogue_table(items: pd.DataFrame, past: Ints) -> pd.DataFrame:
    """Item table of a run, from the log's item table.

    ``past`` (n,) are the items of the events before the market opened.
    """
    if "end" in items and not np.isfinite(items["end"].to_numpy(np.float64)).any():
        items = items.drop(columns="end")
    table = items.reset_index(drop=True).assign(id=items["id"].astype(str).to_numpy())
    table.insert(0, "item", np.arange(len(items)))
    table.insert(1, "events", np.bincount(past, minlength=len(items)))
    return table


def user_table(users: pd.DataFrame) -> pd.DataFrame:
    """User table of a run, from the log's user table."""
    table = users[["id"]].reset_index(drop=True).astype(str)
    table.insert(0, "log_user", np.arange(len(users)))
    return table


def load_text(log: EventLog) -> str | None:
    """Lines about a log; None for the embedded one."""
    if log.report is None or log.report.source == EMBEDDED:
        return None
    return (
        f"{log.report.text()}\n"
        f"the log is {many(len(log), 'event')} of {many(log.n_users, 'user')} with {many(log.n_items, 'item')}"
    )


def load_facts(log: EventLog) -> dict[str, Any]:
    """Facts about a log, as a config records them."""
    sizes = {"events": len(log), "users": log.n_users, "items": log.n_items}
    if log.report is None:
        return sizes
    facts = dataclasses.asdict(log.report)
    # YAML has no tuples and no records, so these become lists and texts.
    facts["columns"] = dict(log.report.columns)
    facts["values"] = dict(log.report.values)
    facts["bad_rows"] = [str(row) for row in log.report.bad_rows]
    facts["notes"] = list(log.report.notes)
    return facts | sizes
