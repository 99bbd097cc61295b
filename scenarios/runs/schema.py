"""Tables of run folders, as ``tables.yaml`` describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rimsim.config.documents import read_yaml


@dataclass(frozen=True)
class Table:
    """Description of a table that a run folder may hold."""

    made_by: str
    """Command that writes the table."""
    row: str
    """Meaning of a row of the table."""
    columns: Mapping[str, str]
    """Name → content, in order."""
    parts: bool = False
    """True for a folder of Parquet files, one per arm and round, instead of one file."""
    condition: str = ""
    """Condition under which the table is written; empty: always."""
    further_columns: str = ""
    """Description of further columns."""
    order: tuple[str, ...] = ()
    """Columns that rows are sorted by before a digest is taken; empty: rows are not sorted."""
    optional: bool = False
    """If the table is missing, reading gives None instead of an error."""


def _described() -> dict[str, Table]:
    described = read_yaml(Path(__file__).with_name("tables.yaml").read_text(encoding="utf-8"))
    shared: Mapping[str, str] = described["shared"]
    tables = {}
    for name, entries in described["tables"].items():
        fields: dict[str, Any] = dict(entries)
        columns = {column: text or shared[column] for column, text in fields.pop("columns").items()}
        tables[name] = Table(**fields | {"columns": columns, "order": tuple(fields.get("order", ()))})
    return tables


TABLES = _described()
"""Name of a table → its description.

The name is also that of a file or folder, and of an attribute of :class:`rimsim.scenarios.Run`.
"""
