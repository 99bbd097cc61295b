"""Folder of a run: its config and tables."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pandas as pd
import yaml

from rimsim.config import ScenarioConfig, scenario_from
from rimsim.config.documents import read_yaml
from rimsim.errors import MeasureError, MissingTableError, RunFolderError, refuse
from rimsim.measures import MEASURES, Measure, recorded
from rimsim.scenarios.kinds.registry import KINDS, kind_of
from rimsim.scenarios.runs.files import read_table
from rimsim.scenarios.runs.schema import TABLES

CONFIG = "config.yaml"
STATES = "state"
"""Name of the folder with the progress of each arm, in an unfinished run."""
BEGUN = f"{STATES}/begun.yaml"
"""Path of the config at the beginning of an unfinished run."""
FAILURES = "failures"
"""Name of the folder with the tracebacks of failed arms."""
CATALOGUE = "catalogue.parquet"
USERS = "users.parquet"
_MADE = "Name a folder that rimsim compare, sweep, backtest, validate, experiment or payback made"


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
    payback: pd.DataFrame
    gains: pd.DataFrame
    ope: pd.DataFrame
    backtest: pd.DataFrame
    calibration: pd.DataFrame
    fits: pd.DataFrame
    validate: pd.DataFrame
    agreement: pd.DataFrame
    intervals: pd.DataFrame
    pairs: pd.DataFrame
    opening: pd.DataFrame | None
    layer_trial: pd.DataFrame | None
    providers: pd.DataFrame | None
    happenings: pd.DataFrame | None
    promises: pd.DataFrame | None
    groups: pd.DataFrame | None
    undeliverable: pd.DataFrame | None
    matrix: pd.DataFrame | None
    observed: pd.DataFrame | None
    observed_pairs: pd.DataFrame | None
    click_rates: pd.DataFrame | None

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
                # Arms with equal guarantees may each have written the same rows.
                table = table.drop_duplicates(ignore_index=True)
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
            actual_kind = KINDS[run.kind]
            required_kind = KINDS[kind]
            raise RunFolderError(
                f"{path}: holds {actual_kind.label}. Expected {required_kind.label}, which rimsim "
                f"{required_kind.command} made. To repeat the run in this folder: {repeat_command(run)}"
            )
        _ = run.config  # this refuses a folder whose config is missing or damaged
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
            problem = getattr(error, "problem", None) or error
            raise RunFolderError(
                f"{path}: the file cannot be read ({problem}). Restore the file that the run wrote"
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
    return (
        f"rimsim {kind.command} --resume --out {shlex.quote(str(run.folder))}" if kind.is_resumable else None
    )


def repeat_command(run: RunFolder) -> str:
    """Command line that repeats a run."""
    words = shlex.split(str(run.config.get("command", "")))
    # Without --resume and --out FOLDER, the command begins a new run in a new folder.
    command_words = [
        word
        for word_before, word in zip(["", *words], words, strict=False)
        if word not in {"--out", "--resume"} and word_before != "--out" and not word.startswith("--out=")
    ]
    return shlex.join(command_words) or f"rimsim {KINDS[run.kind].command}"


def table_in(folder: Path, name: str, columns: Sequence[str] | None = None, since: int = 0) -> pd.DataFrame:
    """Table of a run folder, joined from its parts.

    Args:
        folder: The run folder.
        name: Name of the table.
        columns: Names of the columns that are read; None: all columns.
        since: First round that is read; 0: also for tables without rounds.

    Raises:
        MissingTableError: If there is no such table.
        RunFolderError: If a file is damaged.
    """
    joined_file = folder / f"{name}.parquet"
    parts = f"{name}/*.parquet"
    if joined_file.is_file():
        return read_table(joined_file, columns, since)
    # Drafts of files, whose names begin with a dot, are left out.
    part_files = sorted(path for path in folder.glob(parts) if not path.name.startswith("."))
    _require_every_part(folder, name, {path.name for path in part_files})
    if since:  # the name of a part ends with the number of its round
        part_files = [path for path in part_files if int(path.stem.rpartition("-")[2]) >= since]
    tables = [read_table(path, columns) for path in part_files]
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
"""Names of the tables of which an arm writes a part per round. ``ledger`` and ``truth`` are only written on request."""


def _require_every_part(folder: Path, name: str, parts: Collection[str]) -> None:
    """Refuse a finished table that lacks an arm's round.

    Each table of ``EVERY_ROUND`` has a part for each round of an arm, with the same file name in all tables. So a name
    that another table has, and this table lacks, is a missing part.
    """
    if not parts or name not in EVERY_ROUND or not (folder / "rounds.parquet").is_file():
        return
    parts_of_tables = {path.name for table in EVERY_ROUND for path in folder.glob(f"{table}/[!.]*.parquet")}
    if missing := sorted(parts_of_tables - set(parts)):
        raise RunFolderError(
            f"{folder / name / missing[0]}: is missing. Restore it, or make the run again: "
            f"{repeat_command(RunFolder.open(folder))}"
        )


def again(folder: Path, part: str) -> str:
    """Last sentence of a message: remedy for a damaged arm."""
    return f"Remove {folder / STATES / part} and resume: this arm is then played again"
