"""Folders, zips and single files behind one face: names of members, and a stream for each.

Nothing is ever unpacked to disk. A zip is refused as a whole if a member would leave its folder, is a link,
is locked or swells absurdly; a folder's member is refused if it is a link that leads out of the folder.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Self, cast

from rimsim.errors import DataError, first_words, nearest

MOST_MEMBERS: Final = 10_000
"""Members of a folder or zip that are looked at; a log has a handful."""
FREE_BYTES: Final = 256 * 2**20
"""Below this size no expansion is called absurd."""
MOST_EXPANSION: Final = 200
"""Bytes out for a byte in; real logs shrink to a tenth at best, DEFLATE reaches 1,032 on zeros."""

_BROKEN: Final = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError),
    *(ValueError, KeyError, IndexError, OverflowError, MemoryError),
)
_PACKED: Final[dict[str, Callable[[BinaryIO], object]]] = {
    ".gz": lambda raw: gzip.GzipFile(fileobj=raw),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}


class Stream:
    """Bytes of a member, read once; failures of the container become errors of ours, swelling is bounded."""

    def __init__(self, name: str, raw: BinaryIO, packed_bytes: int) -> None:
        self.name = name
        self._raw = raw
        self._allowed = max(FREE_BYTES, packed_bytes * MOST_EXPANSION)
        self._read = 0

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end.

        Raises:
            DataError: If the container is damaged, or expands absurdly.
        """
        try:
            chunk = self._raw.read(size)
        except _BROKEN as broken:
            raise DataError(f"{self.name}: damaged or cut short ({first_words(broken)})") from broken
        self._read += len(chunk)
        if self._read > self._allowed:
            raise DataError(
                f"{self.name}: expands to more than {MOST_EXPANSION} times its packed size; refused as a "
                f"decompression bomb"
            )
        return chunk

    def read_all(self) -> bytes:
        """Everything that is left."""
        parts = iter(lambda: self.read(2**22), b"")
        return b"".join(parts)

    def close(self) -> None:
        """Let go of the file."""
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Container:
    """Files in one place: in a folder, a zip or the package, or a single file with those beside it."""

    name: str
    """How messages call it."""
    members: tuple[str, ...]
    """Names of its files, with ``/`` between folders."""
    open: Callable[[str], Stream]
    """Opens a member."""
    folder: Path | None = None
    """The folder on disk that holds the members; None: they are inside a file."""
    only: str | None = None
    """The one member that was asked for; None: the whole."""
    close: Callable[[], None] = lambda: None
    """Lets go of what is open."""

    def label(self, member: str) -> str:
        """How messages call a member."""
        return f"{self.name}/{member}" if self.folder is None else str(self.folder / member)

    def path(self, member: str) -> Path | None:
        """The plain file behind a member, where there is one."""
        return None if self.folder is None else self.folder / member


def _opened(path: Path) -> Stream:
    """A regular file, unpacked if its name ends in .gz, .bz2 or .xz."""
    try:
        # Looked at before it is opened: opening a pipe would wait for somebody to write into it.
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path}: is no regular file; allowed: a file, a folder or a zip")
        raw: BinaryIO = path.open("rb")
        unpack = _PACKED.get(path.suffix.lower())
        if unpack is None:
            return Stream(str(path), raw, max(status.st_size, FREE_BYTES))
        return Stream(str(path), cast("BinaryIO", unpack(raw)), status.st_size)
    except OSError as broken:
        raise DataError(f"{path}: cannot be read ({first_words(broken)})") from broken


def file_container(path: Path) -> Container:
    """A single file and, for files that belong together, its siblings."""
    try:
        with os.scandir(path.parent) as entries:
            beside = sorted(entry.name for entry, _ in zip(entries, range(MOST_MEMBERS), strict=False))
    except OSError:
        beside = []
    members = tuple(dict.fromkeys([path.name, *beside]))
    return Container(str(path), members, lambda member: _opened(path.parent / member), path.parent, path.name)


def folder_container(path: Path) -> Container:
    """A folder, two levels deep; a link in it may not lead out of it."""
    members: list[str] = []
    try:
        for entry in sorted(path.iterdir())[:MOST_MEMBERS]:
            if not entry.is_dir():
                members.append(entry.name)
            elif not entry.is_symlink():
                inside = sorted(inner.name for inner in entry.iterdir() if not inner.is_dir())
                members += [f"{entry.name}/{name}" for name in inside]
    except OSError as broken:
        raise DataError(f"{path}: cannot be listed ({first_words(broken)})") from broken

    def opened(member: str) -> Stream:
        place = path / member
        try:
            inside = place.resolve(strict=True).is_relative_to(path.resolve())
        except (OSError, RuntimeError) as broken:
            raise DataError(f"{place}: cannot be read ({first_words(broken)})") from broken
        if not inside:
            raise DataError(f"{place}: is a link that leads out of {path}; allowed: files inside the folder")
        return _opened(place)

    return Container(str(path), tuple(members[:MOST_MEMBERS]), opened, path)


def zip_container(path: Path, only: str | None = None) -> Container:
    """A zip, or one member of it, read in place."""
    try:
        archive = zipfile.ZipFile(path)
    except _BROKEN as broken:
        raise DataError(f"{path}: no readable zip, or cut short ({first_words(broken)})") from broken
    try:
        entries = _checked_entries(archive.infolist(), str(path))
    except DataError:
        archive.close()
        raise

    def opened(member: str) -> Stream:
        entry, label = entries[member], f"{path}/{member}"
        try:
            return Stream(label, cast("BinaryIO", archive.open(entry)), entry.compress_size)
        except _BROKEN as broken:
            raise DataError(f"{label}: damaged or cut short ({first_words(broken)})") from broken

    return Container(str(path), tuple(entries), opened, only=only, close=archive.close)


def embedded_container(name: str) -> Container:
    """The files of the log inside the package, which may itself be in a zip."""

    def opened(member: str) -> Stream:
        data = (resources.files("rimsim.data.embedded") / member).read_bytes()
        return Stream(f"{name}/{member}", io.BytesIO(data), len(data))

    return Container(name, ("ratings.parquet", "movies.parquet"), opened)


def _checked_entries(entries: list[zipfile.ZipInfo], name: str) -> dict[str, zipfile.ZipInfo]:
    if len(entries) > MOST_MEMBERS:
        raise DataError(f"{name}: holds {len(entries):,} members; allowed: at most {MOST_MEMBERS:,}")
    files: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        _check_entry(entry, name)
        if entry.filename.endswith("/") or entry.filename.startswith("__MACOSX/"):
            continue
        if entry.filename in files:
            raise DataError(f"{name}: member {entry.filename!r} is there twice; allowed: different names")
        files[entry.filename] = entry
    return files


def _check_entry(entry: zipfile.ZipInfo, name: str) -> None:
    if not entry.filename:
        raise DataError(f"{name}: has a member without a name; allowed: plain relative names")
    parts = PurePosixPath(entry.filename.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in entry.filename or "\0" in entry.filename:
        raise DataError(
            f"{name}: member {entry.filename!r} escapes its folder; allowed: plain relative names"
        )
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise DataError(f"{name}: member {entry.filename!r} is a symbolic link; allowed: files")
    if entry.flag_bits & 0x1:
        raise DataError(f"{name}: member {entry.filename!r} is encrypted; allowed: zips without a password")
    if entry.file_size > max(FREE_BYTES, entry.compress_size * MOST_EXPANSION):
        raise DataError(
            f"{name}: member {entry.filename!r} expands from {entry.compress_size:,} to {entry.file_size:,} "
            f"bytes; allowed: at most {MOST_EXPANSION} times; refused as a decompression bomb"
        )


def inside_zip(source: str) -> tuple[Path, str] | None:
    """The zip and the member of a path such as ``folder/logs.zip/events.csv``, if it is one."""
    path = Path(source)
    try:
        for parent in path.parents:
            if parent.suffix.lower() == ".zip" and parent.is_file():
                return parent, path.relative_to(parent).as_posix()
    except (OSError, ValueError):
        return None
    return None


def existing(source: str, known: Iterable[str] = ()) -> Path:
    """The path of something that is there.

    Args:
        source: The path.
        known: Names that are no paths and could have been given too.

    Raises:
        DataError: If nothing is there; the message offers the nearest name of those beside it and those known.
    """
    try:
        path = Path(source).expanduser()
        if path.exists():
            return path
        if path.is_symlink():
            raise DataError(f"{source}: is a link to {path.readlink()}, which is not there")
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    except (OSError, ValueError, RuntimeError) as broken:
        raise DataError(f"{source!r}: cannot be looked up ({first_words(broken)})") from broken
    visible = [*known, *(name for name in beside if not name.startswith("."))]
    hint = nearest(path.name, visible) if visible else ""
    where = "" if path.parent.is_dir() else f" (nor is the folder {path.parent})"
    shown = source if source.isprintable() else repr(source)
    raise DataError(f"{shown}: no such file or folder{where}.{hint}")


def open_container(path: Path) -> Container:
    """The container behind an existing path; a zip is known by its first bytes, whatever its name."""
    try:
        if path.is_dir():
            return folder_container(path)
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: is no regular file; allowed: a file, a folder or a zip")
        with path.open("rb") as raw:
            first = raw.read(4)
    except OSError as broken:
        raise DataError(f"{path}: cannot be read ({first_words(broken)})") from broken
    if first in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08") or path.suffix.lower() == ".zip":
        return zip_container(path)
    return file_container(path)


def in_memory(stream: Stream) -> io.BytesIO:
    """The rest of a stream as a seekable file."""
    return io.BytesIO(stream.read_all())
