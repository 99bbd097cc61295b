"""Files of a run, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rimsim.arrays import Array
from rimsim.config.documents import written_yaml
from rimsim.errors import DAMAGED, RunFolderError, reason
from rimsim.system import draft_file


def read_table(path: Path, columns: Sequence[str] | None = None, since: int = 0) -> pd.DataFrame:
    """Table of a Parquet file, from round ``since`` on.

    Raises:
        RunFolderError: If the file is damaged.
    """
    try:
        row_filter = [("round", ">=", since)] if since else None  # a table without rounds has no such column
        names = None if columns is None else list(columns)
        return pd.read_parquet(path, columns=names, filters=row_filter)
    except (OSError, ValueError) as error:  # pyarrow's own errors are subclasses of these
        raise RunFolderError(
            f"{path}: the file cannot be read as a table ({' '.join(str(error).split())}). Restore the "
            "file that the run wrote"
        ) from None


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with draft_file(path) as draft:
        draft.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text whole or not at all."""
    write_bytes(path, text.encode())


def write_yaml(path: Path, described: Mapping[str, object]) -> None:
    """Write a mapping as YAML, in its order."""
    write_text(path, written_yaml(dict(described)))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a Parquet table whole or not at all."""
    with draft_file(path) as draft:
        table.to_parquet(draft, index=False, compression="zstd")


def read_arrays(path: Path) -> dict[str, Array] | None:
    """Arrays of an archive; None if missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays}
    except DAMAGED:
        return None


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write an archive of arrays by name (``.npz``)."""
    named: dict[str, Any] = dict(arrays)
    with draft_file(path) as draft, draft.open("wb") as file:
        np.savez(file, **named)


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Context manager that turns errors of the disk into RunFolderErrors.

    Args:
        place: Name that the message shows if the system names no file.

    Raises:
        RunFolderError: Replaces the error of the system; finished rounds are kept.
    """
    try:
        yield
    except ConnectionError:
        # The program that reads our output has ended; the disk is not the cause.
        raise
    except OSError as error:
        raise RunFolderError(
            f"{error.filename or place}: the run cannot write to this path ({reason(error)}). Finished rounds "
            "are saved. Make room or name another folder, then resume the run or begin again"
        ) from error
