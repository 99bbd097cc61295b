"""The paper's experiment on any log: item recommendation, user recommendation and online matching, with seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from rimsim.config import to_plain
from rimsim.config.reading import record_from
from rimsim.data import load_log, require_usable
from rimsim.errors import ConfigError
from rimsim.intensity.cache import log_digest
from rimsim.scenarios.backtesting.config import BacktestConfig
from rimsim.scenarios.backtesting.events import write_events
from rimsim.scenarios.backtesting.models import Models
from rimsim.scenarios.backtesting.pictures import draw_backtest
from rimsim.scenarios.backtesting.split import make_split
from rimsim.scenarios.backtesting.tasks import (
    Pricing,
    item_recommendation,
    matching_with_caps,
    matching_with_floors,
    user_recommendation,
)
from rimsim.scenarios.runs.job import MAIN, log_bytes, require_memory
from rimsim.scenarios.runs.store import (
    CONFIG,
    folder_for,
    load_facts,
    load_run,
    load_text,
    locked,
    require_free,
    versions,
    write_table,
    write_yaml,
)
from rimsim.system import single_thread

if TYPE_CHECKING:
    from rimsim.data import EventLog
    from rimsim.scenarios.backtesting.split import Split
    from rimsim.scenarios.runs.store import Run


COLUMNS = ("task", "model", "beta", "cap", "seed", "metric", "value")
"""Columns of ``backtest.parquet``."""
_TABLE, _CALIBRATION, _FITS = "backtest.parquet", "calibration.parquet", "fits.parquet"


@dataclass(frozen=True, eq=False)
class Backtest:
    """A back-test on disk; tables are read when first asked for."""

    folder: Path
    """The run folder."""

    @property
    def described(self) -> dict[str, Any]:
        """``config.yaml``: config, command, versions, digest of the log, sizes of each seed's split."""
        return self._run.config

    @property
    def config(self) -> BacktestConfig:
        """The resolved config."""
        return record_from(self.described["backtest"], BacktestConfig, origin=str(self.folder / CONFIG))

    @property
    def table(self) -> pd.DataFrame:
        """Columns task, model, beta, cap, seed, metric, value; beta and cap are NaN where they do not apply."""
        return self._run.backtest

    @property
    def calibration(self) -> pd.DataFrame:
        """Columns seed, part, metric, value: each fit against what the test states did."""
        return self._run.calibration

    @property
    def fits(self) -> pd.DataFrame:
        """Columns seed, part, fold (−1: the serving model), seconds (CPU), cached."""
        return self._run.fits

    @cached_property
    def _run(self) -> Run:
        return load_run(self.folder)


def load_backtest(path: str | Path) -> Backtest:
    """Open the folder of a back-test.

    Raises:
        RunFolderError: If it is none.
    """
    return Backtest(load_run(path, "backtest").folder)


def backtest(
    config: BacktestConfig | None = None,
    *,
    out: str | Path | None = None,
    command: str | None = None,
    report: Callable[[str], None] | None = None,
) -> Backtest:
    """Compare intensity models on what users did next.

    For every seed the log is cut anew, every mark model and ground intensity is fitted once (or read from the fit
    cache), and every model answers the three tasks. Prices of online matching are fitted on past states.

    Args:
        config: What to do; None: the defaults, on the embedded data.
        out: The run folder; None: ``runs/backtest-<time>``.
        command: The command line, to be recorded.
        report: Called with each line of progress; None: no progress is shown.

    Returns:
        The back-test, with its tables.

    Raises:
        DataError: If the log cannot be read, or is too little for the split; nothing has been written then.
        ConfigError: If slates would hold every item.
        RunFolderError: If the folder is in use or holds a run.
    """
    config = config or BacktestConfig()
    show = report or (lambda _: None)
    single_thread()
    log = _load(config)
    if (read := load_text(log)) is not None:
        show(read)
    require_memory(log_bytes(log) + MAIN, 0.0, 1, "number of events (data)")
    splits = [make_split(log, config.split, seed) for seed in config.seeds]
    for split in splits:
        _sizes(split, config)
    folder = folder_for(out, "backtest")
    require_free(folder)
    about = {seed: _about(split, config) for seed, split in zip(config.seeds, splits, strict=True)}
    described = {
        "command": command or "rimsim.scenarios.backtest",
        "backtest": to_plain(config),
        "splits": about,
        "log": load_facts(log),
        "digests": {"log": log_digest(log)},
        "versions": versions(),
    }
    with locked(folder):
        write_yaml(folder / CONFIG, described)
        rows: list[tuple[object, ...]] = []
        reports: list[tuple[object, ...]] = []
        fits: list[tuple[object, ...]] = []
        for seed, split in zip(config.seeds, splits, strict=True):
            show(
                f"seed {seed}: "
                + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in about[seed].items())
            )
            models = Models(split, config, seed, show)
            for fit in models.reports():
                reports += [(seed, fit.part, name, value) for name, value in fit.figures.items()]
                for line in fit.lines:
                    show(f"seed {seed}: {fit.part}: {line}")
            for name in config.models:
                show(f"seed {seed}: {name}")
                for task, beta, cap, values in _answers(models, name):
                    rows += [(task, name, beta, cap, seed, metric, value) for metric, value in values.items()]
            fits += [(seed, fit.part, fit.fold, fit.seconds, fit.cached) for fit in models.fits]
        table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(
            {"beta": float, "cap": float, "value": float}
        )
        calibrated = pd.DataFrame(reports, columns=["seed", "part", "metric", "value"])
        write_table(folder / _CALIBRATION, calibrated)
        write_table(folder / _FITS, pd.DataFrame(fits, columns=["seed", "part", "fold", "seconds", "cached"]))
        write_table(folder / _TABLE, table)
        write_events(folder, table)
        draw_backtest(table, folder / "pictures", config.split.overlap)
    return Backtest(folder)


def _load(config: BacktestConfig) -> EventLog:
    log = load_log(config.data)
    require_usable(log, use="back-test")
    return log


def _sizes(split: Split, config: BacktestConfig) -> tuple[int, int]:
    """k, items a state, and c, users an item."""
    k = math.ceil(config.item_share * split.n_known)
    if k >= split.n_known:
        raise ConfigError(
            f"item_share: {config.item_share} of {split.n_known} items is all of them; allowed: less"
        )
    return k, math.ceil(config.user_share * len(split.test.user))


def _about(split: Split, config: BacktestConfig) -> dict[str, float]:
    k, c = _sizes(split, config)
    return {
        "test_users": len(split.test.user),
        "items": split.n_known,
        "training_events": len(split.train),
        "targets": len(split.targets.key),
        "users_without_target": round(float((split.targets.by_user == 0).mean()), 4),
        "horizon_seconds": split.horizon,
        "k": k,
        "c": c,
    }


def _answers(models: Models, name: str) -> Iterator[tuple[str, float, float, Mapping[str, float]]]:
    """(task, beta, cap, metrics) of one model."""
    split, config, seed = models.split, models.config, models.seed
    none = float("nan")
    k, c = _sizes(split, config)
    scores = models.test(name)
    yield "item-rec", none, none, item_recommendation(scores, split, k, seed)
    yield "user-rec", none, none, user_recommendation(scores, split, c, seed)
    if not (any(config.beta) or config.cap):
        return
    past = models.past(name)
    rate = models.judging_rate(name)
    pricing = Pricing(seed, config.tol, config.dither)
    floors = matching_with_floors(scores, past, split, k, config.beta, rate, pricing)
    for beta, values in floors.items():
        yield "online", beta, none, values
    caps = matching_with_caps(scores, past, split, k, config.cap, config.user_share, pricing)
    for cap, values in caps.items():
        yield "online", none, cap, values
