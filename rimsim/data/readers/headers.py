"""Columns of a log's file, read from its header."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from rimsim.config import LogOptions
from rimsim.errors import ConfigError, nearest

_SEPARATORS: Final = ("::", "\t", ",", ";", "|")
_READ_AS: Final = ("title", "genres", "year", "id", "release", "end")
"""Columns of the item table. Users may name these columns even if the file uses other names."""


def require_header(options: LogOptions, columns: Iterable[str]) -> None:
    """Refuse columns that no file of the log has.

    Only plain text and Parquet files are looked at; other logs are checked when they have been read.

    Raises:
        ConfigError: If a column is in no header; the message has the names of the columns.
    """
    sources = [options.source] if options.items is None else [options.source, options.items]
    headers = [_header(Path(source), options) for source in sources]
    if not all(headers):  # a header is unknown, or has no names
        return
    names = [name for header in headers if header is not None for name in header]
    for column in columns:
        if column not in names and column not in _READ_AS:
            raise ConfigError(
                f"groups of {column!r}: {' and '.join(sources)} has no such column.{nearest(column, names)}"
            )


def _header(path: Path, options: LogOptions) -> list[str] | None:
    """Names of a file's columns; None if unknown."""
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in (".csv", ".tsv", ".txt", ".parquet", ".pq"):
        return None
    if suffix in (".parquet", ".pq"):
        import pyarrow.parquet as pq  # noqa: PLC0415  # slow to import, and not needed for text

        try:
            return [str(name).strip() for name in pq.read_schema(path).names]
        except (OSError, ValueError):  # the reader of the whole file reports this problem
            return None
    try:
        with path.open(encoding=options.encoding or "utf-8-sig", newline="") as file:
            line = file.readline(2**20).rstrip("\r\n")
    except (OSError, ValueError, LookupError):
        return None
    separator = options.separator or max(_SEPARATORS, key=line.count)
    if separator not in line:
        return None
    fields = line.split(separator) if len(separator) > 1 else next(csv.reader([line], delimiter=separator))
    return [name.strip() for name in fields]
