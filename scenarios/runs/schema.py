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
    """Name of the command that writes the table."""
    row: str
    """Meaning of a row, in words."""
    columns: Mapping[str, str]
    """Name of a column → its content, in order."""
    parts: bool = False
    """True for a folder of Parquet files, one per arm and round; False for one file."""
    condition: str = ""
    """Condition under which the table is written; empty: the table is always written."""
    further_columns: str = ""
    """Description of further columns, whose names depend on the run."""
    order: tuple[str, ...] = ()
    """Names of columns by which rows are sorted before a digest is taken; empty: rows are not sorted."""
    optional: bool = False
    """True if reading returns None where the table is missing; False: reading raises an error."""


def _described() -> dict[str, Table]:
    """Name of each table → its description, from ``tables.yaml``."""
    described = read_yaml(Path(__file__).with_name("tables.yaml").read_text(encoding="utf-8"))
    shared: Mapping[str, str] = described["shared"]
    tables = {}
    for name, entries in described["tables"].items():
        fields: dict[str, Any] = dict(entries)
        columns = {column: text or shared[column] for column, text in fields.pop("columns").items()}
        tables[name] = Table(**fields | {"columns": columns, "order": tuple(fields.get("order", ()))})
    return tables


TABLES = _described()
"""Name of a table → its description. The file or folder and the attribute of :class:`rimsim.scenarios.Run` have the
same name."""
