"""Containers of files: folders, zips, tars and single files.

Nothing is ever unpacked to disk. An archive is refused as a whole if one of its files has a path outside the archive,
is a link, is encrypted or expands too much. A file of a folder is refused if it is a link that leads out of the folder.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Self, cast

from rimsim.errors import DataError, nearest, raised_as, refuse

MOST_MEMBERS: Final = 10_000
"""Maximum number of members of a folder or zip; a log has a handful."""
FREE_BYTES: Final = 256 * 2**20
"""Number of bytes to which any file may expand, because so little memory does no harm."""
MOST_EXPANSION: Final = 200
"""Largest expansion of a file, in bytes per packed byte. Logs shrink to a tenth at best; zeros can shrink to
1/1,032."""

_BROKEN: Final = (
    *(OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
    *(NotImplementedError, RuntimeError),
    *(ValueError, KeyError, IndexError, OverflowError, MemoryError),
)
_DAMAGED = "the file is damaged or incomplete"
_UNREADABLE = "the file cannot be read"
PACKED: Final[dict[str, Callable[[BinaryIO], object]]] = {
    ".gz": lambda raw: gzip.GzipFile(fileobj=raw),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
"""Ending of a compressed file → function that unpacks its stream."""
TARS: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
"""Endings of tar archives."""


class Stream:
    """Bytes of a container's file, up to a size limit."""

    def __init__(self, name: str, raw: BinaryIO, packed_bytes: int, file: BinaryIO | None = None) -> None:
        self.name = name
        self._raw = raw
        self._file = raw if file is None else file  # a stream that unpacks does not close its file
        self._max_bytes = max(FREE_BYTES, packed_bytes * MOST_EXPANSION)
        self._n_read = 0

    def read(self, size: int) -> bytes:
        """Next bytes, at most ``size``; none at the end.

        Raises:
            DataError: If the container is damaged, or expands too much.
        """
        with raised_as(DataError, self.name, _DAMAGED, _BROKEN):
            chunk = self._raw.read(size)
        self._n_read += len(chunk)
        if self._n_read > self._max_bytes:
            problem = f"the file expands to more than {MOST_EXPANSION} times its packed size"
            raise DataError(f"{self.name}: {problem}. It may be a decompression bomb, so it is not read")
        return chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()
        self._file.close()


@dataclass(frozen=True)
class Container:
    """Files of a folder, zip or package."""

    name: str
    """Name in messages."""
    members: tuple[str, ...]
    """Names of the files inside, with ``/`` between folders."""
    open: Callable[[str], Stream]
    """Function that opens a member."""
    folder: Path | None = None
    """The folder on disk that holds the members; None: they are inside a file."""
    only: str | None = None
    """The only member that the user asked for; None: all members."""
    close: Callable[[], None] = lambda: None
    """Function that closes open files."""
    title: str | None = None
    """Name of all its files in messages; None: their paths."""

    def label(self, member: str) -> str:
        """Name of a container's file in messages."""
        if self.title is not None:
            return self.title
        return f"{self.name}/{member}" if self.folder is None else str(self.folder / member)

    def path(self, member: str) -> Path | None:
        """Path of a file on disk; None in a zip."""
        return None if self.folder is None else self.folder / member

    def content(self, member: str) -> io.BytesIO:
        """Content of a container's file, as a file in memory."""
        with self.open(member) as stream:
            chunks = iter(lambda: stream.read(2**22), b"")  # 4 MiB at a time, until none is left
            return io.BytesIO(b"".join(chunks))


def _opened(path: Path) -> Stream:
    """Stream of a regular file, unpacked if it is compressed."""
    with raised_as(DataError, path, _UNREADABLE):
        # The kind of file is checked before the file is opened, because opening a pipe waits for a writer.
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            refuse(DataError, str(path), "this is not a regular file", "a file, a folder or a zip")
        raw: BinaryIO = path.open("rb")
        unpack = PACKED.get(path.suffix.lower())
        if unpack is None:
            return Stream(str(path), raw, max(status.st_size, FREE_BYTES))
        return Stream(str(path), cast("BinaryIO", unpack(raw)), status.st_size, raw)


def file_container(path: Path, *, title: str | None = None) -> Container:
    """Container of a file, without neighbours if titled."""
    if title is not None:
        return Container(
            name=title,
            members=(path.name,),
            open=lambda _: _opened(path),
            folder=path.parent,
            only=path.name,
            title=title,
        )
    # Neighbours are members too, because a known layout of a log has further files, such as a table of items.
    try:
        with os.scandir(path.parent) as entries:
            neighbours = sorted(entry.name for entry, _ in zip(entries, range(MOST_MEMBERS), strict=False))
    except OSError:
        neighbours = []
    return Container(
        name=str(path),
        members=tuple(dict.fromkeys([path.name, *neighbours])),
        open=lambda member: _opened(path.parent / member),
        folder=path.parent,
        only=path.name,
    )


def folder_container(path: Path, *, title: str | None = None) -> Container:
    """Container of the files of a folder, two levels deep."""
    members: list[str] = []
    with raised_as(DataError, path, "cannot be listed"):
        for entry in sorted(path.iterdir())[:MOST_MEMBERS]:
            if not entry.is_dir():
                members.append(entry.name)
            elif not entry.is_symlink():
                inner_names = sorted(inner.name for inner in entry.iterdir() if not inner.is_dir())
                members += [f"{entry.name}/{name}" for name in inner_names]

    def opened(member: str) -> Stream:
        """Stream of a file; links that lead outside are refused."""
        file = path / member
        with raised_as(DataError, file, _UNREADABLE, (OSError, RuntimeError)):
            is_inside = file.resolve(strict=True).is_relative_to(path.resolve())
        if not is_inside:
            refuse(DataError, str(file), f"is a link that leads out of {path}", "files inside this folder")
        return _opened(file)

    return Container(
        name=title or str(path),
        members=tuple(members[:MOST_MEMBERS]),
        open=opened,
        folder=path,
        title=title,
    )


def zip_container(path: Path, only: str | None = None) -> Container:
    """Container of a zip's files, or of one of them."""
    with raised_as(DataError, path, "this is not a readable zip, or it is incomplete", _BROKEN):
        archive = zipfile.ZipFile(path)
    try:
        entries = _checked_entries(archive.infolist(), str(path))
    except DataError:
        archive.close()
        raise

    def opened(member: str) -> Stream:
        """Stream of a file of the zip."""
        entry = entries[member]
        label = f"{path}/{member}"
        with raised_as(DataError, label, _DAMAGED, _BROKEN):
            return Stream(label, cast("BinaryIO", archive.open(entry)), entry.compress_size)

    return Container(name=str(path), members=tuple(entries), open=opened, only=only, close=archive.close)


EMBEDDED_FILES: Final = {
    "ml-latest-small": ("ratings.parquet", "movies.parquet"),
    "shop": ("events.parquet", "items.parquet", "users.parquet"),
}
"""Name of a log that rimsim contains → its files."""


def is_embedded(name: str) -> bool:
    """True if this installation contains the log."""
    folder = resources.files("rimsim.data") / "embedded" / name
    return name in EMBEDDED_FILES and (folder / EMBEDDED_FILES[name][0]).is_file()


def embedded_container(name: str) -> Container:
    """Container of a log that rimsim itself contains.

    Raises:
        DataError: If this installation was built without the log.
    """
    if not is_embedded(name):
        embedded_names = [log for log in EMBEDDED_FILES if is_embedded(log)]
        hint = (
            f"Use the log {embedded_names[0]!r} (--data {embedded_names[0]}), or install"
            if embedded_names
            else "Install"
        )
        raise DataError(
            f"{name}: this build of rimsim does not contain this log. {hint} a wheel that contains it"
        )

    def opened(member: str) -> Stream:
        data = (resources.files("rimsim.data") / "embedded" / name / member).read_bytes()
        return Stream(f"{name}/{member}", io.BytesIO(data), len(data))

    return Container(name=name, members=EMBEDDED_FILES[name], open=opened)


def _checked_entries(entries: list[zipfile.ZipInfo], name: str) -> dict[str, zipfile.ZipInfo]:
    """Name of a file in a zip → its entry."""
    if len(entries) > MOST_MEMBERS:
        refuse(DataError, name, f"holds {len(entries):,} members", f"at most {MOST_MEMBERS:,}")
    files: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        _check_entry(entry, name)
        if entry.filename.endswith("/") or entry.filename.startswith("__MACOSX/"):
            continue
        if entry.filename in files:
            refuse(DataError, name, f"member {entry.filename!r} occurs twice", "different names")
        files[entry.filename] = entry
    return files


def tar_container(path: Path) -> Container:
    """Container of the files of a tar archive."""
    label = "this is not a readable tar, or it is incomplete"
    with raised_as(DataError, path, label, _BROKEN):
        packed_bytes = path.stat().st_size
        archive = tarfile.open(path)  # noqa: SIM115  # the container closes it
    files: dict[str, tarfile.TarInfo] = {}
    try:
        with raised_as(DataError, path, label, _BROKEN):
            for (
                entry
            ) in archive:  # the size of an entry is known, and checked, before its content is unpacked
                if len(files) >= MOST_MEMBERS:
                    refuse(DataError, str(path), "holds too many members", f"at most {MOST_MEMBERS:,}")
                _check_tar_entry(entry, str(path), packed_bytes)
                if entry.isfile():
                    files[entry.name.removeprefix("./")] = entry
    except DataError:
        archive.close()
        raise

    def opened(member: str) -> Stream:
        """Stream of a file of the tar."""
        file_label = f"{path}/{member}"
        with raised_as(DataError, file_label, _DAMAGED, _BROKEN):
            return Stream(file_label, cast("BinaryIO", archive.extractfile(files[member])), packed_bytes)

    return Container(name=str(path), members=tuple(files), open=opened, close=archive.close)


def _check_tar_entry(entry: tarfile.TarInfo, name: str, packed_bytes: int) -> None:
    """Refuse a tar entry that is unsafe to read."""
    _check_name(entry.name, name)
    label = f"member {entry.name!r}"
    if not (entry.isfile() or entry.isdir()):
        refuse(DataError, name, f"{label} is a link or a device", "files")
    if entry.size > max(FREE_BYTES, packed_bytes * MOST_EXPANSION):
        _refuse_expansion(name, label, packed_bytes, entry.size)


def _check_name(member: str, name: str) -> None:
    """Refuse a member's name that leads out of its archive."""
    if not member:
        refuse(DataError, name, "has a member without a name", "plain relative names")
    parts = PurePosixPath(member.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in member or "\0" in member:
        refuse(DataError, name, f"member {member!r} escapes its folder", "plain relative names")


def _refuse_expansion(name: str, label: str, packed_bytes: int, n_bytes: int) -> None:
    """Refuse a member that expands too much."""
    expansion = f"{label} expands from {packed_bytes:,} to {n_bytes:,} bytes"
    allowed = f"at most {MOST_EXPANSION} times as many, since more may be a decompression bomb"
    refuse(DataError, name, expansion, allowed)


def _check_entry(entry: zipfile.ZipInfo, name: str) -> None:
    """Refuse a zip entry that is unsafe to read."""
    _check_name(entry.filename, name)
    label = f"member {entry.filename!r}"
    if stat.S_ISLNK(entry.external_attr >> 16):  # the upper 16 bits are the mode of a Unix file
        refuse(DataError, name, f"{label} is a symbolic link", "files")
    if entry.flag_bits & 0x1:
        refuse(DataError, name, f"{label} is encrypted", "zips without a password")
    if entry.file_size > max(FREE_BYTES, entry.compress_size * MOST_EXPANSION):
        _refuse_expansion(name, label, entry.compress_size, entry.file_size)


def inside_zip(source: str) -> tuple[Path, str] | None:
    """Zip and inner file of a path such as ``logs.zip/events.csv``."""
    path = Path(source)
    try:
        for parent in path.parents:
            if parent.suffix.lower() == ".zip" and parent.is_file():
                return parent, path.relative_to(parent).as_posix()
    except (OSError, ValueError):  # a text that cannot be a path, such as one that is too long
        return None
    return None


_LOG_ENDINGS: Final = (
    *(".csv", ".tsv", ".txt", ".dat", ".data", ".inter", ".parquet", ".pq", ".ascii", ".zip"),
    *(".tar", ".tgz"),
    *PACKED,
)


def _may_be_log(entry: Path) -> bool:
    """True for folders and files that may be logs."""
    return not entry.name.startswith(".") and (entry.is_dir() or entry.suffix.lower() in _LOG_ENDINGS)


def existing(source: str, names: Iterable[str] = ()) -> Path:
    """Existing path; an error offers the nearest of ``names``.

    Raises:
        DataError: If there is no file; the message offers the nearest name.
    """
    with raised_as(DataError, repr(source), "cannot be looked up", (OSError, ValueError, RuntimeError)):
        path = Path(source).expanduser()
        if path.exists():
            return path
        if path.is_symlink():
            raise DataError(f"{source}: this is a link to {path.readlink()}, which does not exist")
        neighbours = list(path.parent.iterdir()) if path.parent.is_dir() else []
        candidates = [*names, *(entry.name for entry in neighbours if _may_be_log(entry))]
    hint = nearest(path.name, candidates) if candidates else ""
    folder_note = "" if path.parent.is_dir() else f" (the folder {path.parent} does not exist either)"
    shown = source if source.isprintable() else repr(source)
    raise DataError(f"{shown}: no such file or folder{folder_note}.{hint}")


def open_container(path: Path) -> Container:
    """Container of an existing path."""
    with raised_as(DataError, path, _UNREADABLE):
        if path.is_dir():
            return folder_container(path)
        if not stat.S_ISREG(path.stat().st_mode):
            refuse(DataError, str(path), "this is not a regular file", "a file, a folder or a zip")
        with path.open("rb") as raw:
            first = raw.read(4)
    if first in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08") or path.suffix.lower() == ".zip":
        return zip_container(path)
    if path.name.lower().endswith(TARS):
        return tar_container(path)
    return file_container(path)
