"""A run on disk: its config, tables, pictures and event files; written atomically, readable at any time."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from rimsim import __version__
from rimsim.config import ScenarioConfig, scenario_from
from rimsim.errors import RunFolderError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CONFIG", "Run", "load_run", "locked", "versions", "write_table", "write_text"]

CONFIG = "config.yaml"
_LOCK = ".lock"
_RECORDED = ("torch", "numpy", "pandas", "pyarrow", "scipy", "simpy", "gymnasium", "numba")


def versions() -> dict[str, str]:
    """Versions that results may hang on."""
    found = {"rimsim": __version__, "python": platform.python_version(), "machine": platform.machine()}
    return found | {name: importlib.metadata.version(name) for name in _RECORDED}


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft-{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a Parquet table whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft-{os.getpid()}")
    table.to_parquet(draft, index=False, compression="zstd")
    draft.replace(path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder, so that no other process writes to it.

    Raises:
        RunFolderError: If a process that is still alive holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / _LOCK
    try:
        holder = int(lock.read_text())
        os.kill(holder, 0)
    except (OSError, ValueError):
        pass  # nobody, or one that died
    else:
        if holder != os.getpid():
            raise RunFolderError(
                f"{folder}: in use by process {holder}; allowed: another folder, or wait for it"
            )
    lock.write_text(str(os.getpid()))
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


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
            raise RunFolderError(f"{self.folder}: no {CONFIG}; allowed: a folder that rimsim compare made")
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise RunFolderError(f"{path}: holds a {type(found).__name__}; allowed: a mapping")
        return found

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
    def adoption(self) -> pd.DataFrame:
        """Columns agent, seed, item, duration (arrivals from release to first consumption), observed."""
        return self._table("adoption.parquet", "adoption/*.parquet")

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


def load_run(path: str | Path) -> Run:
    """Open a run folder.

    Raises:
        RunFolderError: If it is no run folder.
    """
    run = Run(Path(path))
    if not run.folder.is_dir():
        raise RunFolderError(f"{path}: no such folder; allowed: a folder that rimsim compare made")
    _ = run.config
    return run
