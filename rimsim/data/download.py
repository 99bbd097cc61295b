"""Fetching a log, only ever when asked to: checked, and there as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from rimsim.data.catalogue import Entry, entry
from rimsim.errors import DataError, first_words

if TYPE_CHECKING:
    Progress = Callable[[int, int], None]


PATIENCE_SECONDS: Final = 30.0
"""How long a silent server is waited for."""


def data_folder() -> Path:
    """Where downloaded logs are: the environment's ``RIMSIM_DATA``, or the user's cache folder."""
    if named := os.environ.get("RIMSIM_DATA"):
        return Path(named).expanduser()
    import pooch  # noqa: PLC0415 (slow to import, and only needed here)

    return Path(pooch.os_cache("rimsim"))


def downloaded(name: str) -> Path | None:
    """The file of a catalogue name, if it was downloaded before."""
    path = data_folder() / f"{name}.zip"
    return path if path.is_file() else None


def download(
    name: str | Entry,
    folder: str | os.PathLike[str] | None = None,
    *,
    progress: Progress | None = None,
    patience: float = PATIENCE_SECONDS,
) -> Path:
    """Fetch a log of the catalogue.

    Only a file with the right checksum gets its name; one that breaks off or is another is thrown away.

    Args:
        name: A name of :func:`rimsim.data.catalogue`.
        folder: Where to; by default where :func:`rimsim.data.load` looks for names.
        progress: Called with bytes so far and bytes in all.
        patience: Seconds that a silent server is waited for.

    Returns:
        The file, a zip that :func:`rimsim.data.load` reads.

    Raises:
        ConfigError: If the name is unknown.
        DataError: If the server refuses, breaks off, is silent or sends something else, or the disk is full.
    """
    wanted = entry(name) if isinstance(name, str) else name
    if wanted.url is None:
        raise DataError(f"{wanted.name} ships with rimsim; rimsim.data.load({wanted.name!r}) reads it")
    import pooch  # noqa: PLC0415 (slow to import, and only needed here)

    target = data_folder() if folder is None else Path(folder)
    pooch.get_logger().setLevel("WARNING")

    def fetch(url: str, output_file: str, _: object) -> None:
        downloader = pooch.HTTPDownloader(chunk_size=2**14, timeout=patience)
        with Path(output_file).open("wb") as file:
            downloader(url, _Counted(file, wanted.size, progress), None)

    try:
        path = pooch.retrieve(wanted.url, wanted.checksum, fname=wanted.file, path=target, downloader=fetch)
    except ValueError as wrong:
        raise DataError(
            f"{wanted.url}: sent something else than {wanted.title}: {first_words(wrong, 200)}"
        ) from wrong
    except OSError as broken:
        raise DataError(
            f"{wanted.url}: cannot be fetched to {target} ({first_words(broken, 200)})"
        ) from broken
    return Path(path)


class _Counted:
    """The file that pooch writes to; counts, and refuses more than the publisher states: an endless answer ends."""

    def __init__(self, file: BinaryIO, size: int, progress: Progress | None) -> None:
        self._file = file
        self._size = size
        self._progress = progress
        self._written = 0

    def write(self, chunk: bytes) -> None:
        """Take a chunk.

        Raises:
            OSError: If it is too much.
        """
        self._written += len(chunk)
        if self._written > self._size:
            raise OSError(f"sent more than the {self._size:,} bytes that it should have")
        self._file.write(chunk)
        if self._progress is not None:
            self._progress(self._written, self._size)

    def flush(self) -> None:
        """Nothing: the file is flushed when it is closed."""
