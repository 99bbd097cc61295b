"""Fetching a log, only ever when asked to: checked, resumed, and there as a whole or not at all."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from rimsim.data.catalogue import Entry, entry
from rimsim.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[[int, int], None]

__all__ = ["data_folder", "download", "downloaded"]

ATTEMPTS: Final = 4
"""Times a broken transfer is taken up again before giving up."""
PATIENCE_SECONDS: Final = 30.0
"""How long a silent server is waited for, each time."""


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

    What was fetched stays in ``<name>.zip.part`` if the transfer breaks off, and the next call goes on from
    there. Only a file with the right checksum gets its name; a wrong one is thrown away.

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
    part = target / f"{wanted.file}.part"
    fetch = _Fetch(wanted, part, progress, patience)
    pooch.get_logger().setLevel("WARNING")
    try:
        target.mkdir(parents=True, exist_ok=True)
        found = pooch.retrieve(wanted.url, wanted.checksum, fname=wanted.file, path=target, downloader=fetch)
    except ValueError as wrong:
        raise DataError(f"{wanted.url}: sent something else than {wanted.title}: {_first(wrong)}") from wrong
    except OSError as broken:
        raise DataError(f"{wanted.url}: cannot be fetched to {target} ({_first(broken)})") from broken
    return Path(found)


def _first(broken: BaseException) -> str:
    text = broken.strerror if isinstance(broken, OSError) and broken.strerror else str(broken)
    return " ".join((text or type(broken).__name__).split())[:200]


class _Fetch:
    """What pooch calls to download: resumes, counts and limits."""

    def __init__(self, wanted: Entry, part: Path, progress: Progress | None, patience: float) -> None:
        self._wanted = wanted
        self._part = part
        self._progress = progress
        self._patience = patience

    def __call__(self, url: str, output_file: str, pooch: object) -> None:  # noqa: ARG002 (pooch's signature)
        problem: OSError | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(min(self._patience / 15, 2.0**attempt / 2))
            try:
                if self._once(url):
                    self._part.replace(output_file)
                    return
            except _RefusedError:
                raise
            except OSError as broken:
                problem = broken
        size = self._part.stat().st_size if self._part.is_file() else 0
        reason = f": {_first(problem)}" if problem is not None else ""
        raise _RefusedError(
            f"broke off {ATTEMPTS} times after {size:,} of {self._wanted.size:,} bytes{reason}; call again "
            f"to go on"
        )

    def _once(self, url: str) -> bool:
        """Go on with the transfer; true if all of it is there."""
        import pooch  # noqa: PLC0415 (slow to import, and only needed here)

        with self._part.open("ab") as file:
            have = file.tell()
            if have >= self._wanted.size:  # more than there is: the file of an earlier edition, or nonsense
                file.truncate(0)
                have = 0
            sink = _Sink(file, have, self._wanted.size, self._progress)
            headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
            pooch.HTTPDownloader(
                chunk_size=2**14, timeout=self._patience, headers=headers, hooks={"response": sink.answered}
            )(url, sink, None)
            return sink.complete()


class _RefusedError(OSError):
    """Trying again is of no use."""


class _Sink:
    """The file that pooch writes to; learns from the answer whether the server goes on or begins again."""

    def __init__(self, file: BinaryIO, have: int, size: int, progress: Progress | None) -> None:
        self._file = file
        self._have = have
        self._size = size
        self._progress = progress
        self._total: int | None = None

    def answered(self, response: Any, *_: object, **__: object) -> None:
        """Look at status and headers before the body comes."""
        status = int(response.status_code)
        if status in (301, 302, 303, 307, 308):
            return
        if status == 416 or (status == 206 and not self._goes_on(response)):
            self._begin()
            raise OSError(f"answered {status} to a request to go on")
        if status >= 500 or status in (408, 429):
            raise OSError(f"answered {status} {response.reason}")
        if status not in (200, 206):
            raise _RefusedError(f"answered {status} {response.reason}")
        if status == 200:
            self._begin()
        length = response.headers.get("Content-Length", "")
        self._total = self._have + int(length) if length.isdecimal() else None

    def _goes_on(self, response: Any) -> bool:
        return str(response.headers.get("Content-Range", "")).startswith(f"bytes {self._have}-")

    def _begin(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._have = 0

    def write(self, chunk: bytes) -> None:
        """Take a chunk; more than the publisher states is refused, so that an endless answer ends."""
        if self._have + len(chunk) > self._size:
            self._begin()
            raise _RefusedError(f"sent more than the {self._size:,} bytes that it should have")
        self._file.write(chunk)
        self._have += len(chunk)
        if self._progress is not None:
            self._progress(self._have, self._size)

    def flush(self) -> None:
        """Nothing: the file is closed after each attempt."""

    def complete(self) -> bool:
        """Whether the answer was as long as it said."""
        return self._total is None or self._have >= self._total
