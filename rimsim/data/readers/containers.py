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
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, Self, cast

from rimsim.errors import DataError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "Container",
    "EmbeddedContainer",
    "FileContainer",
    "FolderContainer",
    "Stream",
    "ZipContainer",
    "existing",
    "in_memory",
    "inside_zip",
    "open_container",
]

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
            raise DataError(f"{self.name}: damaged or cut short ({_reason(broken)})") from broken
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


class Container(Protocol):
    """A place that holds files."""

    @property
    def name(self) -> str:
        """How messages call it."""
        ...

    def members(self) -> tuple[str, ...]:
        """Names of its files, with ``/`` between folders."""
        ...

    def open(self, member: str) -> Stream:
        """Bytes of one of them."""
        ...

    def label(self, member: str) -> str:
        """How messages call one of them."""
        ...

    def path(self, member: str) -> Path | None:
        """The plain file behind a member, where there is one."""
        ...


def _reason(broken: BaseException) -> str:
    text = broken.strerror if isinstance(broken, OSError) and broken.strerror else str(broken)
    return " ".join((text or type(broken).__name__).split())[:120]


def _opened(path: Path, label: str) -> Stream:
    """A regular file, unpacked if its name ends in .gz, .bz2 or .xz."""
    try:
        # Looked at before it is opened: opening a pipe would wait for somebody to write into it.
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{label}: is no regular file; allowed: a file, a folder or a zip")
        raw: BinaryIO = path.open("rb")
        unpack = _PACKED.get(path.suffix.lower())
        if unpack is None:
            return Stream(label, raw, max(found.st_size, FREE_BYTES))
        return Stream(label, cast("BinaryIO", unpack(raw)), found.st_size)
    except OSError as broken:
        raise DataError(f"{label}: cannot be read ({_reason(broken)})") from broken


class FileContainer:
    """A single file and, for files that belong together, its siblings."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)
        self.member = path.name

    def members(self) -> tuple[str, ...]:
        """The file itself and the files beside it."""
        try:
            with os.scandir(self._path.parent) as entries:
                beside = sorted(entry.name for entry, _ in zip(entries, range(MOST_MEMBERS), strict=False))
        except OSError:
            beside = []
        return tuple(dict.fromkeys([self.member, *beside]))

    def open(self, member: str) -> Stream:
        """Bytes of the file or of one beside it."""
        return _opened(self._path.parent / member, self.label(member))

    def label(self, member: str) -> str:
        """The path."""
        return str(self._path.parent / member)

    def path(self, member: str) -> Path | None:
        """The path."""
        return self._path.parent / member


class FolderContainer:
    """A folder, two levels deep."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)

    def members(self) -> tuple[str, ...]:
        """Files of the folder and of its folders."""
        found: list[str] = []
        try:
            for entry in sorted(self._path.iterdir())[:MOST_MEMBERS]:
                if entry.is_dir() and not entry.is_symlink():
                    found += [
                        f"{entry.name}/{inner.name}"
                        for inner in sorted(entry.iterdir())
                        if not inner.is_dir()
                    ]
                elif not entry.is_dir():
                    found.append(entry.name)
        except OSError as broken:
            raise DataError(f"{self.name}: cannot be listed ({_reason(broken)})") from broken
        return tuple(found[:MOST_MEMBERS])

    def open(self, member: str) -> Stream:
        """Bytes of a file inside; a link may not lead out of the folder."""
        path = self._path / member
        try:
            inside = path.resolve(strict=True).is_relative_to(self._path.resolve())
        except (OSError, RuntimeError) as broken:
            raise DataError(f"{path}: cannot be read ({_reason(broken)})") from broken
        if not inside:
            raise DataError(
                f"{path}: is a link that leads out of {self.name}; allowed: files inside the folder"
            )
        return _opened(path, self.label(member))

    def label(self, member: str) -> str:
        """The path."""
        return str(self._path / member)

    def path(self, member: str) -> Path | None:
        """The path."""
        return self._path / member


class ZipContainer:
    """A zip, read in place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except _BROKEN as broken:
            raise DataError(f"{path}: no readable zip, or cut short ({_reason(broken)})") from broken
        try:
            self._entries = _checked_entries(self._zip.infolist(), str(path))
        except DataError:
            self._zip.close()
            raise

    def members(self) -> tuple[str, ...]:
        """Names of its files."""
        return tuple(self._entries)

    def open(self, member: str) -> Stream:
        """Bytes of a member."""
        entry = self._entries[member]
        try:
            return Stream(self.label(member), cast("BinaryIO", self._zip.open(entry)), entry.compress_size)
        except _BROKEN as broken:
            raise DataError(f"{self.label(member)}: damaged or cut short ({_reason(broken)})") from broken

    def label(self, member: str) -> str:
        """Zip and member."""
        return f"{self.name}/{member}"

    def path(self, member: str) -> Path | None:  # noqa: ARG002 (the protocol's signature)
        """None: members are not unpacked."""
        return None

    def close(self) -> None:
        """Let go of the file."""
        self._zip.close()


class EmbeddedContainer:
    """The files of the log inside the package, which may itself be in a zip.

    Args:
        name: How messages call it.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def members(self) -> tuple[str, ...]:
        """Names of its files."""
        return ("ratings.parquet", "movies.parquet")

    def open(self, member: str) -> Stream:
        """Bytes of a member."""
        data = (resources.files("rimsim.data.embedded") / member).read_bytes()
        return Stream(self.label(member), io.BytesIO(data), len(data))

    def label(self, member: str) -> str:
        """Log and member."""
        return f"{self.name}/{member}"

    def path(self, member: str) -> Path | None:  # noqa: ARG002 (the protocol's signature)
        """None: members may be inside a zip."""
        return None


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
        raise DataError(f"{source!r}: cannot be looked up ({_reason(broken)})") from broken
    visible = [*known, *(name for name in beside if not name.startswith("."))]
    hint = nearest(path.name, visible) if visible else ""
    where = "" if path.parent.is_dir() else f" (nor is the folder {path.parent})"
    shown = source if source.isprintable() else repr(source)
    raise DataError(f"{shown}: no such file or folder{where}.{hint}")


def open_container(path: Path) -> FileContainer | FolderContainer | ZipContainer:
    """The container behind an existing path; a zip is known by its first bytes, whatever its name."""
    try:
        if path.is_dir():
            return FolderContainer(path)
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: is no regular file; allowed: a file, a folder or a zip")
        with path.open("rb") as raw:
            first = raw.read(4)
    except OSError as broken:
        raise DataError(f"{path}: cannot be read ({_reason(broken)})") from broken
    if first in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08") or path.suffix.lower() == ".zip":
        return ZipContainer(path)
    return FileContainer(path)


def in_memory(stream: Stream) -> io.BytesIO:
    """The rest of a stream as a seekable file."""
    return io.BytesIO(stream.read_all())
