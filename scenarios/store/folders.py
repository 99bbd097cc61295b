"""The folder of a run while it is made: begun where nothing is, held by one process, written to by its workers."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rimsim import __version__
from rimsim.errors import ConfigError, RunFolderError, reason
from rimsim.scenarios.store.run_folder import CONFIG, load_run, resume_command
from rimsim.scenarios.store.write import disk_errors
from rimsim.system import remove_drafts

STATES = "state"
"""Folder of a run that is not finished: how far each arm has come."""
BEGUN = f"{STATES}/begun.yaml"
"""The config as it was when the run began, while the run is not finished."""
FAILURES = "failures"
"""Folder of a run that holds a traceback of each arm that failed."""
CATALOGUE = "catalogue.parquet"
USERS = "users.parquet"
_LOCK = ".lock"
_PATIENCE = 60.0
"""Seconds that a worker gets to see that the process which began it is gone."""
_FIRST = {_LOCK, STATES, CATALOGUE, USERS, "points"}
"""What a run that was killed before its config was written may have left."""
_RECORDED = ("torch", "numpy", "pandas", "pyarrow", "scipy", "simpy", "gymnasium", "numba")


def versions() -> dict[str, str]:
    """Versions that results may depend on."""
    ours = {"rimsim": __version__, "python": platform.python_version(), "machine": platform.machine()}
    return ours | {name: importlib.metadata.version(name) for name in _RECORDED}


def part_name(name: str, seed: int) -> str:
    """What the files of an arm begin with: its name in tables and its seed."""
    safe = "".join(letter if letter.isalnum() or letter in "-_.=," else "_" for letter in name)
    return f"{safe}-{seed}"


def folder_for(out: str | Path | None, usual: str) -> Path:
    """The folder of a new run.

    Args:
        out: What was asked for; None: the usual place.
        usual: Its name begins so; the time follows.

    Raises:
        ConfigError: If it is no path; an empty text would be the current folder.
    """
    if out is None:
        return Path("runs") / f"{usual}-{time.strftime('%Y%m%d-%H%M%S')}"
    if not isinstance(out, str | os.PathLike) or not os.fspath(out):
        raise ConfigError(f"out: {out!r} is no path; allowed: a path, as text or pathlib.Path")
    return Path(out)


def require_free(folder: Path) -> None:
    """Refuse a folder for a new run that holds one, or files that are no run's.

    Raises:
        RunFolderError: If it does; it says how a run that is there is gone on with.
    """
    if (folder / CONFIG).exists():
        held = load_run(folder)
        command = resume_command(held)
        onward = "" if command is None else f", or to go on with it: {command}"
        raise RunFolderError(f"{folder}: already holds a run; allowed: a new folder{onward}")
    if not folder.is_dir():
        return
    foreign = sorted(entry.name for entry in folder.iterdir() if entry.name not in _FIRST)
    foreign = [name for name in foreign if not name.startswith(".draft")]
    if foreign:
        raise RunFolderError(
            f"{folder}: holds {foreign[0]!r}, which is no run's; allowed: an empty or new folder"
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder, so that no other process writes to it.

    Waits for workers of a run that was killed, which end by themselves.

    Raises:
        RunFolderError: If it cannot be made or written to, or a process that is still alive holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"{folder}: cannot be made: {reason(error)}; allowed: a folder that can be written to"
        ) from None
    lock = FileLock(folder / _LOCK)  # the system lets go of it when its process ends, however it ends
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunFolderError(
            f"{folder}: in use by another process; allowed: another folder, or wait for it"
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
    """Hold the files of an arm, from a process that may outlive the one that holds the run folder.

    Args:
        folder: The run folder of the arm.
        part: Its files begin so.
    """
    states = folder / STATES
    with disk_errors(states):
        states.mkdir(parents=True, exist_ok=True)
        held = FileLock(states / f"{_LOCK}-{part}")
        held.acquire()
    try:
        yield
    finally:
        held.release()


def _await_workers(folder: Path) -> None:
    """Wait until no worker of an earlier process writes to the folder.

    Raises:
        RunFolderError: If one does not end.
    """
    for path in folder.rglob(f"{STATES}/{_LOCK}-*"):
        try:
            with FileLock(path).acquire(timeout=_PATIENCE):
                pass
        except Timeout:
            raise RunFolderError(
                f"{folder}: a worker of a run that was killed still writes to it ({path.name}); "
                "allowed: another folder, or wait for it"
            ) from None
