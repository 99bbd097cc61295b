"""Files of a run: written whole or not at all, and errors of the disk in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from rimsim.arrays import Array
from rimsim.errors import RunFolderError, reason
from rimsim.system import draft_file

if TYPE_CHECKING:
    import pandas as pd


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with draft_file(path) as draft:
        draft.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    write_bytes(path, text.encode())


def write_yaml(path: Path, described: Mapping[str, object]) -> None:
    """Write a mapping as YAML, in its order, whole or not at all."""
    write_text(path, yaml.safe_dump(dict(described), sort_keys=False, allow_unicode=True))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a Parquet table whole or not at all."""
    with draft_file(path) as draft:
        table.to_parquet(draft, index=False, compression="zstd")


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write an archive of arrays by name (``.npz``) whole or not at all."""
    named: dict[str, Any] = dict(arrays)
    with draft_file(path) as draft, draft.open("wb") as file:
        np.savez(file, **named)


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Context manager within which an error of the system, such as a full disk, becomes one of ours.

    Args:
        place: What to name where the system names no file.

    Raises:
        RunFolderError: In place of an error of the system; finished rounds are kept then.
    """
    try:
        yield
    except ConnectionError:  # whoever read our output went away
        raise
    except OSError as error:
        raise RunFolderError(
            f"{error.filename or place}: cannot be written to ({reason(error)}); finished rounds are kept, and the run "
            "can be resumed or begun anew"
        ) from error
