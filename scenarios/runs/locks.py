"""Free and locked folders of runs."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rimsim.errors import ConfigError, RunFolderError, has_type, reason
from rimsim.scenarios.runs.files import disk_errors
from rimsim.scenarios.runs.store import CATALOGUE, CONFIG, STATES, USERS, RunFolder, resume_command
from rimsim.system import remove_drafts

_LOCK = ".lock"
_PATIENCE = 60.0
"""Number of seconds in which a worker must notice that its parent process has ended."""
_FIRST = {_LOCK, STATES, CATALOGUE, USERS, "points"}
"""Names of files and folders that can exist if a run was killed before its config was written."""


def folder_for(out: str | Path | None, usual: str) -> Path:
    """Folder of a new run: ``out``, or ``runs/<usual>-<time>``.

    The time has milliseconds, so that two runs begun at once have two folders.

    Raises:
        ConfigError: If ``out`` is not a path; an empty text would be the current folder.
        RunFolderError: If a part of the path is a file.
    """
    if out is None:
        time_text = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() // 10**6 % 1000:03d}"
        return Path("runs") / f"{_plain_name(usual)}-{time_text}"
    if not has_type(out, str, os.PathLike) or not os.fspath(out):
        raise ConfigError(f"out: {out!r} is not a path. Expected a path, as text or pathlib.Path")
    folder = Path(out)
    if any(part.is_file() for part in folder.parents):  # known now, not only after the fits
        raise _impossible(folder, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    return folder


def _impossible(folder: Path, error: OSError) -> RunFolderError:
    """Error of a folder that the system refuses to make."""
    return RunFolderError(
        f"{folder}: the folder cannot be made: {reason(error)}. Name a folder that you can write to"
    )


def _plain_name(name: str) -> str:
    """Name without letters that could lead out of a folder."""
    safe_name = "".join(letter if letter.isalnum() or letter in "-_. " else "_" for letter in name)
    return safe_name.lstrip(".") or "run"


def require_free(folder: Path) -> None:
    """Refuse a folder that holds a run or foreign files.

    Raises:
        RunFolderError: If the folder holds a run or foreign files; the message has the command to resume the run.
    """
    if (folder / CONFIG).exists():
        command = resume_command(RunFolder.open(folder))
        alternative = "" if command is None else f", or continue the run: {command}"
        raise RunFolderError(f"{folder}: this folder already holds a run. Name a new folder{alternative}")
    if not folder.is_dir():
        return
    names = sorted(entry.name for entry in folder.iterdir())
    if foreign := [name for name in names if name not in _FIRST and not name.startswith(".draft")]:
        raise RunFolderError(
            f"{folder}: holds {foreign[0]!r}, which is not part of a run. Name an empty or new folder"
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Context manager that locks a run folder against other processes.

    Raises:
        RunFolderError: If the folder cannot be made or written to, or another live process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _impossible(folder, error) from None
    lock = FileLock(folder / _LOCK)  # the system releases the lock when its process ends, even after a crash
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunFolderError(
            f"{folder}: another process uses this folder. Wait until it ends, or name another folder"
        ) from None
    try:
        with disk_errors(folder):
            _await_workers(folder)
            remove_drafts(folder)
            yield
    finally:
        lock.release()


@contextmanager
def writing(folder: Path, part: str) -> Iterator[None]:
    """Context manager that locks the files of an arm."""
    states = folder / STATES
    with disk_errors(states):
        states.mkdir(parents=True, exist_ok=True)
        lock = FileLock(states / f"{_LOCK}-{part}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _await_workers(folder: Path) -> None:
    """Wait until workers of a killed run release their locks."""
    for path in folder.rglob(f"{STATES}/{_LOCK}-*"):
        try:
            with FileLock(path).acquire(timeout=_PATIENCE):
                pass
        except Timeout:
            raise RunFolderError(
                f"{folder}: a worker process of a killed run still writes to this folder ({path.name}). "
                "Wait until it ends, or name another folder"
            ) from None
