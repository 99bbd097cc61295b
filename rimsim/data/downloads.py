"""Logs with names that rimsim knows, and their download."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from rimsim.errors import DataError, first_words, raised_as, require_known

Progress: TypeAlias = Callable[[int, int], None]
"""Function of the number of bytes received so far and their total number."""

PATIENCE_SECONDS: Final = 30.0
"""Seconds to wait for a server that does not answer."""
_BASE: Final = "https://files.grouplens.org/datasets/movielens"
_TERMS: Final = (
    "GroupLens Research: research use, no redistribution without permission, no commercial use; cite Harper "
    "and Konstan 2015"
)


@dataclass(frozen=True)
class Entry:
    """Log that rimsim contains or can download."""

    name: str
    """Name for :func:`rimsim.data.load` and :func:`rimsim.data.download`."""
    title: str
    """Full name of the log."""
    users: int
    """Number of users with events."""
    items: int
    """Number of items with events."""
    events: int
    """Number of events."""
    url: str | None
    """Address of the file; None: the log ships with rimsim."""
    size: int
    """Size of the file in bytes; 0 if the log ships with rimsim."""
    checksum: str
    """``md5:`` or ``sha256:`` and the digest of the file, as its publisher states it."""
    terms: str
    """Terms of use in short."""

    @property
    def file(self) -> str:
        """Name of the downloaded file."""
        return f"{self.name}.zip"

    def text(self) -> str:
        """Line that describes the log."""
        availability = "embedded" if self.url is None else f"{self.size / 1e6:,.0f} MB to fetch"
        counts = f"{self.users:,} users, {self.items:,} items, {self.events:,} events"
        return f"{self.name:<16} {self.title}: {counts} ({availability})"


_MOVIELENS: Final = (
    ("100k", "100K, 1998", (943, 1_682, 100_000), 4_924_029, "0e33842e24a9c977be4e0107933c0723"),
    ("1m", "1M, 2003", (6_040, 3_706, 1_000_209), 5_917_549, "c4d9eecfca2ab87c1945afe126590906"),
    ("10m", "10M, 2009", (69_878, 10_677, 10_000_054), 65_566_137, "ce571fd55effeba0271552578f2648bd"),
    ("20m", "20M, 2015", (138_493, 26_744, 20_000_263), 198_702_078, "cd245b17a1ae2cc31bb14903e1204af3"),
    ("25m", "25M, 2019", (162_541, 59_047, 25_000_095), 261_978_986, "6b51fb2759a8657d3bfcbfc42b592ada"),
    ("32m", "32M, 2023", (200_948, 84_432, 32_000_204), 238_950_008, "d472be332d4daa821edc399621853b57"),
)
"""Edition, title, counts (users, items, events), bytes and the MD5 checksum that GroupLens publishes. The edition
"latest" is absent, because it changes and has no published MD5."""

_KNOWN: Final = (
    Entry(
        name="ml-latest-small",
        title="MovieLens latest-small, October 2016",
        users=671,
        items=9_066,
        events=100_004,
        url=None,
        size=0,
        checksum="",
        terms="GroupLens Research: redistribution under the same terms, no commercial use; cite Harper and Konstan "
        "2015",
    ),
    *(
        Entry(
            name=f"ml-{edition}",
            title=f"MovieLens {title}",
            users=users,
            items=items,
            events=events,
            url=f"{_BASE}/ml-{edition}.zip",
            size=size,
            checksum=f"md5:{md5}",
            terms=_TERMS,
        )
        for edition, title, (users, items, events), size, md5 in _MOVIELENS
    ),
)


def catalogue() -> tuple[Entry, ...]:
    """Logs that rimsim knows; the first is part of rimsim."""
    return _KNOWN


def entry(name: str) -> Entry:
    """Log of the catalogue that has the given name.

    Raises:
        ConfigError: If there is no such log; the message offers the nearest name.
    """
    entries = {log.name: log for log in _KNOWN}
    require_known("no log is known as {}", [name], entries)
    return entries[name]


def data_folder() -> Path:
    """Folder of downloaded logs: ``RIMSIM_DATA``, or the user's cache."""
    if named := os.environ.get("RIMSIM_DATA"):
        return Path(named).expanduser()
    import pooch  # noqa: PLC0415 (slow to import, and only needed here)

    return Path(pooch.os_cache("rimsim"))


def downloaded(name: str) -> Path | None:
    """File of a downloaded log; None before its download."""
    path = data_folder() / f"{name}.zip"
    return path if path.is_file() else None


def download(
    name: str | Entry,
    folder: str | os.PathLike[str] | None = None,
    *,
    progress: Progress | None = None,
    patience: float = PATIENCE_SECONDS,
) -> Path:
    """Download a log that :func:`rimsim.data.catalogue` lists, as a zip.

    A file that is incomplete or has a wrong checksum is removed.

    Args:
        name: Name of a log that :func:`rimsim.data.catalogue` lists.
        folder: Target folder; by default the folder in which :func:`rimsim.data.load` looks for logs by name.
        progress: Function that is called with the number of bytes received so far and their total number.
        patience: Seconds to wait for a server that sends nothing.

    Raises:
        ConfigError: If the name is unknown.
        DataError: If the server refuses, breaks off, is silent or sends something else, or the disk is full.
    """
    wanted = entry(name) if isinstance(name, str) else name
    if wanted.url is None:
        raise DataError(
            f"{wanted.name} is part of rimsim, so it needs no download. Read it with "
            f"rimsim.data.load({wanted.name!r})"
        )
    import pooch  # noqa: PLC0415 (slow to import, and only needed here)

    target = data_folder() if folder is None else Path(folder)
    pooch.get_logger().setLevel("WARNING")

    def fetch(url: str, output_file: str, _: object) -> None:
        """Download a file for pooch, with progress and size limit."""
        downloader = pooch.HTTPDownloader(chunk_size=2**14, timeout=patience)
        with Path(output_file).open("wb") as file:
            downloader(url, _Counted(file, wanted.size, progress), None)

    try:
        with raised_as(DataError, wanted.url, f"cannot be fetched to {target}", OSError, 200):
            path = pooch.retrieve(
                wanted.url, wanted.checksum, fname=wanted.file, path=target, downloader=fetch
            )
    except ValueError as wrong:
        raise DataError(
            f"{wanted.url}: the server did not send {wanted.title}. It sent: {first_words(wrong, 200)}"
        ) from wrong
    return Path(path)


class _Counted:
    """File that pooch writes to, up to the published size."""

    def __init__(self, file: BinaryIO, size: int, progress: Progress | None) -> None:
        self._file = file
        self._size = size
        self._progress = progress
        self._written = 0

    def write(self, chunk: bytes) -> None:
        """Write a chunk of bytes, up to the published size."""
        self._written += len(chunk)
        if self._written > self._size:
            raise OSError(f"the server sent more than the expected {self._size:,} bytes")
        self._file.write(chunk)
        if self._progress is not None:
            self._progress(self._written, self._size)

    def flush(self) -> None:
        """Do nothing: closing the file flushes it."""
