"""A run on disk: its config, tables, pictures and event files, readable at any time."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pandas as pd
import yaml

from rimsim.config import ScenarioConfig, scenario_from
from rimsim.errors import MissingTableError, RunFolderError
from rimsim.measures import MEASURES, recorded

if TYPE_CHECKING:
    from rimsim.measures import Measure


CONFIG = "config.yaml"
_MADE = "allowed: a folder that rimsim compare, sweep, backtest, validate or experiment made"
Kind: TypeAlias = Literal["comparison", "sweep", "backtest", "validation", "experiment"]
_WORDS: dict[Kind, tuple[str, str]] = {
    "comparison": ("a comparison", "compare"),
    "sweep": ("a sweep", "sweep"),
    "backtest": ("a back-test", "backtest"),
    "validation": ("a validation", "validate"),
    "experiment": ("an experiment", "experiment"),
}
"""Kind of a run → what it is called, and the command that makes it."""
_MARKS: dict[str, Kind] = {
    "sweep": "sweep",
    "validate": "validation",
    "experiment": "experiment",
    "backtest": "backtest",
}
"""Entry of the config that runs of a kind alone have → the kind; a comparison has none of them."""


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
        return next((kind for mark, kind in _MARKS.items() if mark in self.config), "comparison")

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
            f"{path}: holds {held}; allowed: {wanted}, which rimsim {maker} made. What it holds is repeated by: "
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
