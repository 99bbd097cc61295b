"""Digests of the tables of runs."""

from __future__ import annotations

import hashlib

import pandas as pd

from rimsim.errors import MissingTableError
from rimsim.scenarios.kinds.registry import KINDS
from rimsim.scenarios.runs.points import runs_of
from rimsim.scenarios.runs.schema import TABLES
from rimsim.scenarios.runs.store import RunFolder

_ALWAYS = ("rounds", "arrivals", "required")
"""Names of the tables that every comparison has."""


def digest(run: RunFolder) -> str:
    """Digest of the tables of a run and its points.

    Equal runs have equal digests, for any batches, workers or machines.

    Raises:
        MissingTableError: If a table is missing.
    """
    hasher = hashlib.sha256()
    if run.kind == "sweep":
        digests = {point.folder.name: digest(point_run) for point, point_run in runs_of(run)}
        for name in sorted(digests):
            hasher.update(f"{name} {digests[name]}\n".encode())
        return hasher.hexdigest()
    for name, content in _content(run).items():
        if run.kind == "comparison":  # some tables of a comparison may be missing, so names count too
            hasher.update(name.encode())
        hasher.update(content)
    return hasher.hexdigest()


def different_tables(first: RunFolder, second: RunFolder) -> list[str]:
    """Names of tables whose content differs between two comparisons."""
    first_content = _content(first)
    second_content = _content(second)
    return [
        name for name in first_content | second_content if first_content.get(name) != second_content.get(name)
    ]


def _content(run: RunFolder) -> dict[str, bytes]:
    """Name of a table → hashes of its rows.

    Rows of a comparison are sorted, so that the order of arms does not count.
    """
    contents: dict[str, bytes] = {}
    for name in KINDS[run.kind].tables:
        try:
            table: pd.DataFrame | None = getattr(run, name)
        except MissingTableError:
            if run.kind != "comparison" or name in _ALWAYS:
                raise
            continue
        if table is None:
            continue
        if run.kind == "comparison":
            sort_columns = list(TABLES[name].order)
            if "agent" in table and "agent" not in sort_columns:
                sort_columns = ["agent", *sort_columns]
            table = table.sort_values(sort_columns, kind="stable").reset_index(drop=True)
        contents[name] = pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes()
    return contents
