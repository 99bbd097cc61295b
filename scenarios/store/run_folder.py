"""A run on disk: its config, tables, pictures and event files, readable at any time."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
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
from rimsim.errors import ConfigError, MissingTableError, RunFolderError, reason
from rimsim.files import remove_drafts
from rimsim.measures import MEASURES, recorded
from rimsim.scenarios.store.write import disk_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rimsim.measures import Measure

__all__ = [
    "BEGUN",
    "CATALOGUE",
    "CONFIG",
    "FAILURES",
    "STATES",
    "USERS",
    "Run",
    "folder_for",
    "load_run",
    "locked",
    "parsed_yaml",
    "part_name",
    "read_table",
    "repeat_command",
    "require_free",
    "resume_command",
    "versions",
    "writing",
]

CONFIG = "config.yaml"
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
_MADE = "allowed: a folder that rimsim compare, sweep, backtest, validate or experiment made"
Kind: TypeAlias = Literal["comparison", "sweep", "backtest", "validation", "experiment"]
_WORDS: dict[Kind, tuple[str, str]] = {
    "comparison": ("comparison", "compare"),
    "sweep": ("sweep", "sweep"),
    "backtest": ("back-test", "backtest"),
    "validation": ("validation", "validate"),
    "experiment": ("experiment", "experiment"),
}
"""Kind of a run → what it is called, and the command that makes it."""
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


def _kept(name: str) -> cached_property[pd.DataFrame]:
    """A table of a run; missing, it is an error."""

    def read(run: Run) -> pd.DataFrame:
        return _table(run.folder, name)

    return cached_property(read)


def _kept_if_there(name: str) -> cached_property[pd.DataFrame | None]:
    """A table that not every run has; None where it is missing."""

    def read(run: Run) -> pd.DataFrame | None:
        try:
            return _table(run.folder, name)
        except MissingTableError:
            return None

    return cached_property(read)


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
            raise RunFolderError(f"{self.folder}: no {CONFIG}; {_MADE}")
        try:
            config = parsed_yaml(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            said = getattr(error, "problem", None) or error
            raise RunFolderError(
                f"{path}: cannot be read ({said}); allowed: the file as the run left it"
            ) from None
        if not isinstance(config, dict):
            raise RunFolderError(f"{path}: holds a {type(config).__name__}; allowed: a mapping")
        return config

    @property
    def kind(self) -> Kind:
        """What made the run."""
        if "sweep" in self.config:
            return "sweep"
        if "validate" in self.config:
            return "validation"
        if "experiment" in self.config:
            return "experiment"
        return "backtest" if "backtest" in self.config else "comparison"

    @property
    def scenario(self) -> ScenarioConfig:
        """The resolved scenario."""
        return scenario_from(self.config.get("scenario"), origin=str(self.folder / CONFIG))

    @property
    def agents(self) -> list[str]:
        """Names of the arms, controls included, in the order of the run."""
        return [str(name) for name in self.config["arms"]]

    @property
    def seeds(self) -> list[int]:
        """Seeds of the run."""
        return [int(seed) for seed in self.config["seeds"]]

    @cached_property
    def own_measures(self) -> dict[str, Measure]:
        """Place → measure of a user's own, as the folder keeps it: without its function."""
        return {place: recorded(record) for place, record in self.config.get("measures", {}).items()}

    @property
    def measures(self) -> dict[str, Measure]:
        """Metric name → measure, built-in ones and those of a user's own."""
        return {**MEASURES, **{measure.name: measure for measure in self.own_measures.values()}}

    rounds = _kept("rounds")
    """Columns agent, seed, round, metric, value."""
    ledger = _kept("ledger")
    """Every exposure of every arm; see :data:`rimsim.market.ledger.LEDGER_COLUMNS`."""

    def exposures(self, columns: Sequence[str]) -> pd.DataFrame:
        """Some columns of the ledger, read alone: of a large run, all of them take twice the memory.

        Args:
            columns: Of :data:`rimsim.market.ledger.LEDGER_COLUMNS`.
        """
        return _table(self.folder, "ledger", columns)

    truth = _kept("truth")
    """What each exposure of every arm was truly worth: arrival, position, item, probability, true_intensity."""
    arrivals = _kept("arrivals")
    """Columns agent, seed, round, arrival, time, user, log_user (row of :attr:`users`), ground_intensity."""
    learnt = _kept("learnt")
    """Columns agent, seed, round, events: how many events of each round the platform can learn from."""

    @cached_property
    def required(self) -> pd.DataFrame:
        """Columns seed, round, item, required; with agent too where arms are asked for different things."""
        return _table(self.folder, "required").drop_duplicates(ignore_index=True)

    providers = _kept_if_there("providers")
    """Columns agent, seed, round, provider, event (left or came), items, satisfaction: at whose round's end.

    None in a run in which nobody left or came.
    """
    promises = _kept_if_there("promises")
    """Columns agent, seed, round, name, begin, end, arrivals, due, least, most, delivered: groups, campaigns, caps.

    ``due`` is what the round adds to what is promised, ``least`` what it asks for, with what rounds before it left
    undelivered. None in a run that promises nothing of the kind.
    """
    undeliverable = _kept_if_there("undeliverable")
    """Columns agent, seed, round, why, items, required, reachable, text: what no agent could deliver, said before.

    None in a run without hard guarantees, and where all could be delivered.
    """
    opening = _kept_if_there("opening")
    """Columns agent, seed, utility: what ``relevance``, ``popularity`` and ``oracle`` are worth at the opening.

    None in a run that began before this was written down.
    """
    prices = _kept("prices")
    """Columns agent, seed, round, item, price (v at the end of the round), cost (c); of agents with prices."""
    reliability = _kept("reliability")
    """Columns agent, seed, round, decile (1 = least predicted), exposures, predicted, consumed: of shown items."""
    adoption = _kept("adoption")
    """Columns agent, seed, item, duration (arrivals from release to first consumption), observed."""
    catalogue = _kept("catalogue")
    """Columns item, events (in the warm-up log), id, title, genres and what else the log knows of an item.

    So that a run can be reported without its log.
    """
    users = _kept("users")
    """Columns log_user (of :attr:`arrivals`), id (as the log has it)."""
    sweep = _kept("sweep")
    """Columns agent, seed, the swept fields, metric, value."""
    matrix = _kept_if_there("matrix")
    """Columns of the swept fields, contrast, metric, agent, minus, mean, low, high, n, p, adjusted, sign.

    None of a sweep that has none: over one number, or of agents that tell no difference.
    """
    backtest = _kept("backtest")
    """Columns task, model, beta, cap, seed, metric, value; beta and cap are NaN where they do not apply."""
    calibration = _kept("calibration")
    """Columns seed, part, metric, value: how the fits of a back-test stand against what test states did."""
    fits = _kept("fits")
    """Columns seed, part, fold (−1: the serving model), seconds (CPU), cached: the fits of a back-test."""
    experiment = _kept("experiment")
    """Columns design, training, prices, seed, metric, naive, low, high, total_effect, of an experiment."""
    ope = _kept("ope")
    """Columns estimator, target, seed, estimate, low, high, truth, …: what ``rimsim ope`` found on this run."""
    validate = _kept("validate")
    """Columns model, truth, draw, metric, value; truth is empty for what is real."""
    agreement = _kept("agreement")
    """Columns truth, metric, value: how a validation's truths agree with reality."""
    intervals = _kept("intervals")
    """Columns model, truth, metric, mean, low, high, users, of a validation."""
    pairs = _kept("pairs")
    """Columns truth, model, other, difference, low, high, settled, simulated, of a validation."""
    observed = _kept_if_there("observed")
    """Columns truth, model, metric, value, low, high, of a validation on known answers; None of another."""
    observed_pairs = _kept_if_there("observed_pairs")
    """Columns truth, model, other_truth, other_model, metric, difference, low, high, settled, likewise."""


def parsed_yaml(text: str) -> Any:
    """What a file of a run folder says in YAML, at the speed of libyaml where PyYAML has it.

    Raises:
        yaml.YAMLError: If it is none.
    """
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  # both are safe


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A Parquet table of a run folder.

    Args:
        path: The file.
        columns: Those to read; None: all.

    Raises:
        RunFolderError: If the file is damaged.
    """
    try:
        return pd.read_parquet(path, columns=None if columns is None else list(columns))
    except (OSError, ValueError) as error:  # pyarrow's own errors are either
        raise RunFolderError(
            f"{path}: cannot be read as a table ({' '.join(str(error).split())}); allowed: the file as the run left it"
        ) from None


def _table(folder: Path, name: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A table, or its parts one below the other while it is not joined; some of its columns, or all."""
    whole, parts = folder / f"{name}.parquet", f"{name}/*.parquet"
    if whole.is_file():
        return read_table(whole, columns)
    written = sorted(path for path in folder.glob(parts) if not path.name.startswith("."))  # no drafts
    tables = [read_table(path, columns) for path in written]
    if not tables:
        raise MissingTableError(
            f"{folder}: holds neither {whole.name} nor {parts}; it is not finished, or makes no such table"
        )
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
        raise RunFolderError(f"{path}: no such folder; {_MADE}")
    if kind is not None and run.kind != kind:
        held, (wanted, maker) = _WORDS[run.kind][0], _WORDS[kind]
        raise RunFolderError(
            f"{path}: holds a {held}; allowed: a {wanted}, which rimsim {maker} made. The {held} is repeated by: "
            f"{repeat_command(run)}"
        )
    _ = run.config
    return run


def resume_command(run: Run) -> str | None:
    """The command that goes on with a comparison or a sweep; None for runs of other kinds, which are begun anew."""
    if run.kind not in {"comparison", "sweep"}:
        return None
    return f"rimsim {_WORDS[run.kind][1]} --resume --out {shlex.quote(str(run.folder))}"


def repeat_command(run: Run) -> str:
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
