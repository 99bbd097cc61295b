"""A run on disk: its config, tables, pictures and event files; written atomically, readable at any time."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pandas as pd
import yaml
from filelock import FileLock, Timeout

from rimsim import __version__
from rimsim.config import ScenarioConfig, scenario_from
from rimsim.errors import ConfigError, RunFolderError, reason

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BEGUN",
    "CATALOGUE",
    "CONFIG",
    "FAILURES",
    "Run",
    "disk_told",
    "draft_folder",
    "folder_for",
    "load_run",
    "locked",
    "repeating",
    "versions",
    "write_bytes",
    "write_table",
    "write_text",
]

CONFIG = "config.yaml"
BEGUN = "state/begun.yaml"
"""The config as it was when the run began, while the run is not finished."""
FAILURES = "failures"
"""Folder of a run that holds a traceback of each arm that failed."""
CATALOGUE = "catalogue.parquet"
_LOCK = ".lock"
_DRAFT = ".draft"
_MADE = "allowed: a folder that rimsim compare, sweep or backtest made"
Kind: TypeAlias = Literal["comparison", "sweep", "backtest"]
_WORDS: dict[Kind, tuple[str, str]] = {
    "comparison": ("comparison", "compare"),
    "sweep": ("sweep", "sweep"),
    "backtest": ("back-test", "backtest"),
}
"""Kind of a run → what it is called, and the command that makes it."""
_RECORDED = ("torch", "numpy", "pandas", "pyarrow", "scipy", "simpy", "gymnasium", "numba")


def versions() -> dict[str, str]:
    """Versions that results may hang on."""
    found = {"rimsim": __version__, "python": platform.python_version(), "machine": platform.machine()}
    return found | {name: importlib.metadata.version(name) for name in _RECORDED}


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with _draft_of(path) as draft:
        draft.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with _draft_of(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a Parquet table whole or not at all."""
    with _draft_of(path) as draft:
        table.to_parquet(draft, index=False, compression="zstd")


@contextmanager
def _draft_of(path: Path) -> Iterator[Path]:
    """A file to write to, which becomes ``path`` if all goes well and goes away if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{_DRAFT}-{os.getpid()}-{path.name}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``path`` if all goes well and goes away if not."""
    draft = path.with_name(f"{_DRAFT}-{os.getpid()}-{path.name}")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        yield draft
        shutil.rmtree(path, ignore_errors=True)
        draft.replace(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _remove_drafts(folder: Path) -> None:
    """Clear away what a process that was killed was writing."""
    for draft in folder.glob(f"**/{_DRAFT}-*"):
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def folder_for(out: str | Path | None, usual: str) -> Path:
    """The folder of a new run.

    Args:
        out: What was asked for; None: the usual place.
        usual: Its name begins so; the time follows.

    Raises:
        ConfigError: If it is no path.
    """
    if out is None:
        return Path("runs") / f"{usual}-{time.strftime('%Y%m%d-%H%M%S')}"
    if not isinstance(out, str | os.PathLike):
        raise ConfigError(f"out: {out!r} is no path; allowed: a path, as text or pathlib.Path")
    return Path(out)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder, so that no other process writes to it.

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
        with disk_told(folder):
            _remove_drafts(folder)
            yield
    finally:
        lock.release()


@contextmanager
def disk_told(place: Path) -> Iterator[None]:
    """Tell in one sentence that something cannot be written, such as on a full disk.

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


@dataclass(frozen=True, eq=False)
class Run:
    """A finished or interrupted run; tables are read when first asked for."""

    folder: Path
    """The run folder."""

    @cached_property
    def config(self) -> dict[str, Any]:
        """``config.yaml``: scenario, agents, seeds, command, versions."""
        path = self.folder / CONFIG
        if not path.is_file():
            raise RunFolderError(
                f"{self.folder}: no {CONFIG}; allowed: a folder that rimsim compare, sweep or backtest made"
            )
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise RunFolderError(f"{path}: holds a {type(found).__name__}; allowed: a mapping")
        return found

    @property
    def kind(self) -> Kind:
        """What made the run."""
        if "sweep" in self.config:
            return "sweep"
        return "backtest" if "backtest" in self.config else "comparison"

    @property
    def scenario(self) -> ScenarioConfig:
        """The resolved scenario."""
        return scenario_from(self.config.get("scenario"), origin=str(self.folder / CONFIG))

    @property
    def agents(self) -> list[str]:
        """Names of the arms, frozen ones included, in the order of the run."""
        return [str(name) for name in self.config["arms"]]

    @property
    def seeds(self) -> list[int]:
        """Seeds of the run."""
        return [int(seed) for seed in self.config["seeds"]]

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """Columns agent, seed, round, metric, value."""
        return self._table("rounds.parquet", "rounds/*.parquet")

    @cached_property
    def ledger(self) -> pd.DataFrame:
        """Every exposure of every arm; see :data:`rimsim.market.ledger.LEDGER_COLUMNS`."""
        return self._table("ledger.parquet", "ledger/*.parquet")

    @cached_property
    def arrivals(self) -> pd.DataFrame:
        """Columns agent, seed, round, arrival, time, user, ground_intensity."""
        return self._table("arrivals.parquet", "arrivals/*.parquet")

    @cached_property
    def required(self) -> pd.DataFrame:
        """Columns seed, round, item, required."""
        return self._table("required.parquet", "required/*.parquet").drop_duplicates(ignore_index=True)

    @cached_property
    def prices(self) -> pd.DataFrame:
        """Columns agent, seed, round, item, price (v at the end of the round), cost (c); of agents with prices."""
        return self._table("prices.parquet", "prices/*.parquet")

    @cached_property
    def adoption(self) -> pd.DataFrame:
        """Columns agent, seed, item, duration (arrivals from release to first consumption), observed."""
        return self._table("adoption.parquet", "adoption/*.parquet")

    @cached_property
    def catalogue(self) -> pd.DataFrame:
        """Columns item, events (in the warm-up log); so that a run can be reported without its log."""
        return self._table(CATALOGUE, CATALOGUE)

    @cached_property
    def sweep(self) -> pd.DataFrame:
        """Columns agent, seed, the swept fields, metric, value."""
        return self._table("sweep.parquet", "sweep/*.parquet")

    @cached_property
    def backtest(self) -> pd.DataFrame:
        """Columns task, model, beta, cap, seed, metric, value."""
        return self._table("backtest.parquet", "backtest/*.parquet")

    def _table(self, whole: str, parts: str) -> pd.DataFrame:
        if (self.folder / whole).is_file():
            return pd.read_parquet(self.folder / whole)
        found = sorted(self.folder.glob(parts))
        if not found:
            raise RunFolderError(
                f"{self.folder}: holds neither {whole} nor {parts}; this run made no such table"
            )
        tables = [pd.read_parquet(part) for part in found]
        for table in tables:
            if "agent" in table:
                table["agent"] = table["agent"].astype(str)
        return pd.concat(tables, ignore_index=True)


def load_run(path: str | Path, kind: Kind | None = None) -> Run:
    """Open a run folder.

    Args:
        path: The folder.
        kind: What it has to hold; None: any run.

    Raises:
        RunFolderError: If it is no run folder, or holds a run of another kind.
    """
    run = Run(Path(path))
    if not run.folder.is_dir():
        raise RunFolderError(
            f"{path}: no such folder; allowed: a folder that rimsim compare, sweep or backtest made"
        )
    if kind is not None and run.kind != kind:
        found, (wanted, maker) = _WORDS[run.kind][0], _WORDS[kind]
        raise RunFolderError(
            f"{path}: holds a {found}; allowed: a {wanted}, which rimsim {maker} made. The {found} is repeated by: "
            f"{repeating(run)}"
        )
    _ = run.config
    return run


def repeating(run: Run) -> str:
    """The command that makes a run again, in a folder of its own.

    Args:
        run: The run.
    """
    words = shlex.split(str(run.config.get("command", "")))
    kept = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if word not in {"--out", "--resume"} and before != "--out" and not word.startswith("--out=")
    ]
    return shlex.join(kept) or f"rimsim {_WORDS[run.kind][1]}"
