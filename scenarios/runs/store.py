"""Folders of runs: content, files, locks."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import shlex
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import yaml
from filelock import FileLock, Timeout

from rimsim import __version__
from rimsim.arrays import Array, Ints
from rimsim.config import ScenarioConfig, scenario_from
from rimsim.config.documents import read_yaml, written_yaml
from rimsim.config.reading import record_from
from rimsim.data import EMBEDDED, EventLog
from rimsim.errors import (
    DAMAGED,
    ConfigError,
    MeasureError,
    MissingTableError,
    RunFolderError,
    has_type,
    many,
    reason,
    refuse,
)
from rimsim.measures import MEASURES, Measure, recorded
from rimsim.scenarios.kinds.registry import KINDS, kind_of, loaded
from rimsim.scenarios.runs.schema import TABLES
from rimsim.system import draft_file, remove_drafts

CONFIG = "config.yaml"
STATES = "state"
"""Folder with the progress of each arm of an unfinished run."""
BEGUN = f"{STATES}/begun.yaml"
"""Config at the beginning of an unfinished run."""
FAILURES = "failures"
"""Folder with a traceback per failed arm."""
CATALOGUE = "catalogue.parquet"
USERS = "users.parquet"
_LOCK = ".lock"
_PATIENCE = 60.0
"""Seconds that a worker gets to notice that its parent process has ended."""
_FIRST = {_LOCK, STATES, CATALOGUE, USERS, "points"}
"""Content that a folder can have if its run was killed before its config was written."""
_RECORDED = ("torch", "numpy", "pandas", "pyarrow", "scipy", "simpy", "gymnasium", "numba")
_MADE = "Name a folder that rimsim compare, sweep, backtest, validate or experiment made"


class RunTables:
    """Tables of a run by name; :data:`rimsim.scenarios.runs.schema.TABLES` describes them."""

    folder: Path
    rounds: pd.DataFrame
    ledger: pd.DataFrame
    truth: pd.DataFrame
    arrivals: pd.DataFrame
    catalogue: pd.DataFrame
    users: pd.DataFrame
    required: pd.DataFrame
    prices: pd.DataFrame
    learnt: pd.DataFrame
    reliability: pd.DataFrame
    adoption: pd.DataFrame
    sweep: pd.DataFrame
    experiment: pd.DataFrame
    ope: pd.DataFrame
    backtest: pd.DataFrame
    calibration: pd.DataFrame
    fits: pd.DataFrame
    validate: pd.DataFrame
    agreement: pd.DataFrame
    intervals: pd.DataFrame
    pairs: pd.DataFrame
    opening: pd.DataFrame | None
    providers: pd.DataFrame | None
    promises: pd.DataFrame | None
    groups: pd.DataFrame | None
    undeliverable: pd.DataFrame | None
    matrix: pd.DataFrame | None
    observed: pd.DataFrame | None
    observed_pairs: pd.DataFrame | None

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *TABLES})

    def __getattr__(self, name: str) -> pd.DataFrame:
        """Table by its name; its files are read once.

        Raises:
            MissingTableError: If the folder lacks a table that is not optional.
        """
        if name not in TABLES:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        try:
            table = table_in(self.folder, name)
            if name == "required":
                table = table.drop_duplicates(ignore_index=True)  # arms that share rows write them once each
            self.__dict__[name] = table
        except MissingTableError:
            if not TABLES[name].optional:
                raise
            self.__dict__[name] = None
        cached: pd.DataFrame = self.__dict__[name]
        return cached


@dataclass(frozen=True, eq=False)
class RunFolder(RunTables):
    """Folder of a run; tables are read on use."""

    folder: Path
    """The run folder."""

    @classmethod
    def open(cls, path: str | Path, kind: str | None = None) -> Self:
        """Open a run folder.

        Args:
            path: The folder.
            kind: Required kind of the run; None: any kind.

        Raises:
            RunFolderError: If the folder is not a run folder, or holds a run of another kind.
        """
        run = cls(Path(path))
        if not run.folder.is_dir():
            raise RunFolderError(f"{path}: no such folder. {_MADE}")
        if kind is not None and run.kind != kind:
            held = KINDS[run.kind]
            wanted = KINDS[kind]
            raise RunFolderError(
                f"{path}: holds {held.label}. Expected {wanted.label}, which rimsim {wanted.command} made. To "
                f"repeat the run in this folder: {repeat_command(run)}"
            )
        _ = run.config
        return run

    @cached_property
    def config(self) -> dict[str, Any]:
        """Content of ``config.yaml``: scenario, agents, seeds, command, versions."""
        path = self.folder / CONFIG
        if not path.is_file():
            raise RunFolderError(f"{self.folder}: there is no {CONFIG}. {_MADE}")
        try:
            config = read_yaml(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            said = getattr(error, "problem", None) or error
            raise RunFolderError(
                f"{path}: the file cannot be read ({said}). Restore the file that the run wrote"
            ) from None
        if not isinstance(config, dict):
            refuse(RunFolderError, str(path), f"holds a {type(config).__name__}", "a mapping")
        if not kind_of(config).mark and "arms" not in config:
            raise RunFolderError(f"{path}: the file names no arms, so rimsim did not write it. {_MADE}")
        return config

    @property
    def kind(self) -> str:
        """Name of the run's kind, of :data:`rimsim.scenarios.kinds.registry.KINDS`."""
        return kind_of(self.config).name

    @property
    def table(self) -> pd.DataFrame:
        """Main table of the run."""
        table: pd.DataFrame = getattr(self, KINDS[self.kind].tables[0])
        return table

    @property
    def settings(self) -> Any:
        """Options of a back-test or validation as a record."""
        kind = KINDS[self.kind]
        return record_from(self.config[kind.mark], loaded(kind.config), origin=str(self.folder / CONFIG))

    @property
    def scenario(self) -> ScenarioConfig:
        """The resolved scenario."""
        return scenario_from(self.config.get("scenario"), origin=str(self.folder / CONFIG))

    @property
    def agents(self) -> list[str]:
        """Names of the arms in order, controls included."""
        return [str(name) for name in self.config["arms"]]

    @property
    def seeds(self) -> list[int]:
        """Seeds of the run."""
        return [int(seed) for seed in self.config["seeds"]]

    @cached_property
    def own_measures(self) -> dict[str, Measure]:
        """Recorded measures of your own, by ``file.py:Name``."""
        measures = self.config.get("measures", {})
        if not isinstance(measures, dict):
            refuse(RunFolderError, f"{self.folder / CONFIG}: measures", f"found {measures!r}", "a mapping")
        try:
            return {place: recorded(record) for place, record in measures.items()}
        except MeasureError as error:
            raise RunFolderError(
                f"{self.folder / CONFIG}: {error}. Restore the file that the run wrote"
            ) from None

    @property
    def measures(self) -> dict[str, Measure]:
        """Metric name → measure, built-in or the user's own."""
        return {**MEASURES, **{measure.name: measure for measure in self.own_measures.values()}}


def resume_command(run: RunFolder) -> str | None:
    """Command that resumes a run; None for other kinds."""
    kind = KINDS[run.kind]
    return f"rimsim {kind.command} --resume --out {shlex.quote(str(run.folder))}" if kind.resumable else None


def repeat_command(run: RunFolder) -> str:
    """Command line that repeats a run."""
    words = shlex.split(str(run.config.get("command", "")))
    command_words = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if word not in {"--out", "--resume"} and before != "--out" and not word.startswith("--out=")
    ]
    return shlex.join(command_words) or f"rimsim {KINDS[run.kind].command}"


def read_table(path: Path, columns: Sequence[str] | None = None, since: int = 0) -> pd.DataFrame:
    """Table of a Parquet file, from round ``since`` on.

    Raises:
        RunFolderError: If the file is damaged.
    """
    try:
        rows = [("round", ">=", since)] if since else None
        return pd.read_parquet(path, columns=None if columns is None else list(columns), filters=rows)
    except (OSError, ValueError) as error:  # pyarrow's own errors are either
        raise RunFolderError(
            f"{path}: the file cannot be read as a table ({' '.join(str(error).split())}). Restore the "
            "file that the run wrote"
        ) from None


def table_in(folder: Path, name: str, columns: Sequence[str] | None = None, since: int = 0) -> pd.DataFrame:
    """Table of a run folder, joined from its parts.

    Args:
        columns: None: all.
        since: First round that is read; 0: also for tables without rounds.

    Raises:
        MissingTableError: If there is no such table.
        RunFolderError: If a file is damaged.
    """
    joined_file = folder / f"{name}.parquet"
    parts = f"{name}/*.parquet"
    if joined_file.is_file():
        return read_table(joined_file, columns, since)
    written = sorted(path for path in folder.glob(parts) if not path.name.startswith("."))  # no drafts
    _require_every_part(folder, name, {path.name for path in written})
    if since:  # the name of a part ends with its round
        written = [path for path in written if int(path.stem.rpartition("-")[2]) >= since]
    tables = [read_table(path, columns) for path in written]
    if not tables:
        raise MissingTableError(
            f"{folder}: there is neither {joined_file.name} nor {parts}. The run is not finished, or does not "
            "write this table"
        )
    for table in tables:
        if "agent" in table:
            table["agent"] = table["agent"].astype(str)
    return pd.concat(tables, ignore_index=True)


EVERY_ROUND = ("arrivals", "learnt", "reliability", "ledger", "truth")
"""Tables of which an arm writes a part per round; ``ledger`` and ``truth`` only on request."""


def _require_every_part(folder: Path, name: str, parts: Collection[str]) -> None:
    """Refuse a finished table that lacks an arm's round."""
    if not parts or name not in EVERY_ROUND or not (folder / "rounds.parquet").is_file():
        return
    written = {path.name for table in EVERY_ROUND for path in folder.glob(f"{table}/[!.]*.parquet")}
    if missing := sorted(written - set(parts)):
        raise RunFolderError(
            f"{folder / name / missing[0]}: is missing. Restore it, or make the run again: "
            f"{repeat_command(RunFolder.open(folder))}"
        )


def again(folder: Path, part: str) -> str:
    """Last sentence of a message: remedy for a damaged arm."""
    return f"Remove {folder / STATES / part} and resume: this arm is then played again"


# -- files are written, each whole or not at all --------------------------------------------------------------------
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
        RunFolderError: Replaces the error of the system; finished rounds are kept.
    """
    try:
        yield
    except ConnectionError:  # whoever read our output went away
        raise
    except OSError as error:
        raise RunFolderError(
            f"{error.filename or place}: the run cannot write to this path ({reason(error)}). Finished rounds "
            "are saved. Make room or name another folder, then resume the run or begin again"
        ) from error


# -- a folder is begun and locked -----------------------------------------------------------------------------------
def versions() -> dict[str, str]:
    """Versions that results may depend on."""
    ours = {"rimsim": __version__, "python": platform.python_version(), "machine": platform.machine()}
    return ours | {name: importlib.metadata.version(name) for name in _RECORDED}


def folder_for(out: str | Path | None, usual: str) -> Path:
    """Folder of a new run: ``out``, or ``runs/<usual>-<time>``.

    The time has milliseconds, so that two runs begun at once have two folders.

    Raises:
        ConfigError: If ``out`` is not a path; an empty text would be the current folder.
    """
    if out is None:
        at = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() // 10**6 % 1000:03d}"
        return Path("runs") / f"{_plain_name(usual)}-{at}"
    if not has_type(out, str, os.PathLike) or not os.fspath(out):
        raise ConfigError(f"out: {out!r} is not a path. Expected a path, as text or pathlib.Path")
    return Path(out)


def _plain_name(name: str) -> str:
    """Name without letters that could lead out of a folder."""
    plain = "".join(letter if letter.isalnum() or letter in "-_. " else "_" for letter in name)
    return plain.lstrip(".") or "run"


def require_free(folder: Path) -> None:
    """Refuse a folder that holds a run or foreign files.

    Raises:
        RunFolderError: If the folder holds a run or foreign files; the message has the command to resume the run.
    """
    if (folder / CONFIG).exists():
        command = resume_command(RunFolder.open(folder))
        onward = "" if command is None else f", or continue the run: {command}"
        raise RunFolderError(f"{folder}: this folder already holds a run. Name a new folder{onward}")
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
        raise RunFolderError(
            f"{folder}: the folder cannot be made: {reason(error)}. Name a folder that you can write to"
        ) from None
    lock = FileLock(folder / _LOCK)  # the system lets go of it when its process ends, however it ends
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
        held = FileLock(states / f"{_LOCK}-{part}")
        held.acquire()
    try:
        yield
    finally:
        held.release()


def _await_workers(folder: Path) -> None:
    """Wait for workers of an earlier process."""
    for path in folder.rglob(f"{STATES}/{_LOCK}-*"):
        try:
            with FileLock(path).acquire(timeout=_PATIENCE):
                pass
        except Timeout:
            raise RunFolderError(
                f"{folder}: a worker process of a killed run still writes to this folder ({path.name}). "
                "Wait until it ends, or name another folder"
            ) from None


# -- facts of the log -----------------------------------------------------------------------------------------------
def catalogue_table(items: pd.DataFrame, past: Ints) -> pd.DataFrame:
    """Item table of a run, from the log's item table.

    ``past`` (n,) are the items of the events before the market opened.
    """
    table = items.reset_index(drop=True).assign(id=items["id"].astype(str).to_numpy())
    table.insert(0, "item", np.arange(len(items)))
    table.insert(1, "events", np.bincount(past, minlength=len(items)))
    return table


def user_table(users: pd.DataFrame) -> pd.DataFrame:
    """User table of a run, from the log's user table."""
    ids = users[["id"]].reset_index(drop=True).astype(str)
    ids.insert(0, "log_user", np.arange(len(users)))
    return ids


def load_text(log: EventLog) -> str | None:
    """Lines about a log; None for the embedded one."""
    if log.report is None or log.report.source == EMBEDDED:
        return None
    return (
        f"{log.report.text()}\n"
        f"the log is {many(len(log), 'event')} of {many(log.n_users, 'user')} with {many(log.n_items, 'item')}"
    )


def load_facts(log: EventLog) -> dict[str, Any]:
    """Facts about a log, as a config records them."""
    sizes = {"events": len(log), "users": log.n_users, "items": log.n_items}
    if log.report is None:
        return sizes
    facts = dataclasses.asdict(log.report)
    facts["columns"] = dict(log.report.columns)
    facts["bad_rows"] = [str(row) for row in log.report.bad_rows]
    facts["notes"] = list(log.report.notes)
    return facts | sizes
