"""Files of a run, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rimsim.arrays import Array
from rimsim.config.documents import written_yaml
from rimsim.errors import DAMAGED, DiskError, RunFolderError, reason
from rimsim.system import cache_folder, draft_file


def read_table(path: Path, columns: Sequence[str] | None = None, since: int = 0) -> pd.DataFrame:
    """Table of a Parquet file, from round ``since`` on.

    Raises:
        RunFolderError: If the file is damaged.
    """
    try:
        row_filter = [("round", ">=", since)] if since else None  # a table without rounds has no such column
        names = None if columns is None else list(columns)
        return pd.read_parquet(path, columns=names, filters=row_filter)
    # pyarrow's own errors are subclasses of the first two; pandas raises others if its metadata were edited.
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
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
        DiskError: Replaces the error of the system; finished rounds are kept.
    """
    try:
        yield
    except ConnectionError:
        # The program that reads our output has ended; the disk is not the cause.
        raise
    except OSError as error:
        path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else place
        problem = f"{path}: the run cannot write to this path ({reason(error)}). Finished rounds are saved"
        cache = cache_folder()
        # Another folder for the run does not help where the cache, or a folder above it, cannot be written.
        if path == cache or cache in path.parents or path in cache.parents:
            raise DiskError(
                f"{problem}. It is the cache: make room, or set RIMSIM_CACHE to a folder that you may write, then "
                "resume the run or begin again"
            ) from error
        raise DiskError(
            f"{problem}. Make room or name another folder, then resume the run or begin again"
        ) from error
