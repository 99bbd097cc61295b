"""Back-test of intensity models on one log, in three tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from rimsim.config import DataConfig, to_plain
from rimsim.data import Needs
from rimsim.data.session_logs import LogSource
from rimsim.errors import ConfigError, refuse
from rimsim.intensity.cache import log_digest
from rimsim.scenarios.kinds.backtest import tasks
from rimsim.scenarios.kinds.backtest.models import Models
from rimsim.scenarios.kinds.backtest.report import backtest_report, by_window
from rimsim.scenarios.kinds.backtest.split import BacktestConfig, LogSplit, make_split
from rimsim.scenarios.kinds.results import RunResult, own_log, table_of, usable_log
from rimsim.scenarios.report.charts import draw
from rimsim.scenarios.run import load_run
from rimsim.scenarios.runs.arms import file_name
from rimsim.scenarios.runs.execution import Execution
from rimsim.scenarios.runs.job import Job, all_or_nothing, make_run
from rimsim.scenarios.runs.locks import folder_for
from rimsim.scenarios.runs.records import load_facts
from rimsim.scenarios.runs.store import RunFolder
from rimsim.tracking import event_folder
from rimsim.tracking.events import EventFile

# Names of the columns of `backtest.parquet`.
COLUMNS = ("task", "model", "beta", "cap", "seed", "metric", "value")


class Backtest(RunResult):
    """Back-test on disk, with tables ``backtest`` (attribute ``table``), ``calibration`` and ``fits``."""


def load_backtest(path: str | Path) -> Backtest:
    """Open the folder of a back-test."""
    return Backtest(RunFolder.open(path, "backtest").folder)


@all_or_nothing()
def backtest(
    config: BacktestConfig | None = None,
    *,
    data: LogSource | None = None,
    columns: str | None = None,
    skip_bad_rows: bool | None = None,
    out: str | Path | None = None,
    command: str | None = None,
    report: Callable[[str], None] | None = None,
) -> Backtest:
    """Compare intensity models by their predictions of later events.

    Every seed and window splits the log again. Each mark model and ground intensity is fitted once per split (or read
    from the cache), and each model solves the three tasks. Prices of online matching are solved on past states.

    Args:
        config: Options; None: the defaults, on the embedded log.
        data: Name or path of a log, a data frame (pandas, Polars, Arrow), or an ``EventLog``, in place of the config's.
        columns: Columns of the log, such as ``user=uid,item=sku,time=at``, in place of the config's.
        skip_bad_rows: Leave bad rows of the log out, and count them, in place of the config's.
        out: The run folder; None: ``runs/backtest-<time>``.
        command: The command line, to be recorded.
        report: Function that gets each line of progress; None: no progress is shown.

    Raises:
        DataError: If the log cannot be read, or is too small for the split; then nothing is written.
        ConfigError: If slates would contain every item.
        RunFolderError: If the folder is in use or holds a run.
    """
    config = config or (BacktestConfig() if data is None else BacktestConfig(data=DataConfig()))
    config = replace(config, data=own_log(config.data, data, columns, skip_bad_rows=skip_bad_rows))
    show = report or (lambda _: None)
    log = usable_log(config.data, Needs(), "back-test", show)
    by_time = config.split.kind == "time"
    parts = list(product(config.seeds, range(config.split.windows)))
    splits = {(seed, window): make_split(log, config.split, seed, window) for seed, window in parts}
    sizes = {part: _about(split, config) for part, split in splits.items()}
    last = config.split.windows - 1
    described = {
        "backtest": to_plain(config),
        "splits": {seed: sizes[seed, last] for seed in config.seeds},
        "log": load_facts(log),
        "digests": {"log": log_digest(log)},
    }

    def play(part: tuple[int, int], _: object) -> dict[str, pd.DataFrame]:
        """Tables of one seed and window."""
        seed, window = part
        facts = (f"{name.replace('_', ' ')} {value}" for name, value in sizes[part].items())
        show(f"seed {seed}: {f'window {window}: ' * by_time}{', '.join(facts)}")
        tables = _tables(Models(splits[part], config, seed, show))
        return {name: table.assign(window=window) if by_time else table for name, table in tables.items()}

    folder = folder_for(out, "backtest")
    job = Job(described, parts, play, _write_files)
    make_run(job, folder, command or "rimsim.scenarios.backtest", Execution(workers=1))
    return Backtest(folder)


def _tables(models: Models) -> dict[str, pd.DataFrame]:
    """Calibration, fits and metrics of all models at one seed."""
    seed = models.seed
    show = models.show
    figures = []
    for fit in models.reports():
        figures += [(seed, fit.part, name, value) for name, value in fit.figures.items()]
        for line in fit.lines:
            show(f"seed {seed}: {fit.part}: {line}")
    rows = []
    for name in models.config.models:
        show(f"seed {seed}: {name}")
        for task, beta, cap, values in _answers(models, name):
            rows += [(task, name, beta, cap, seed, metric, value) for metric, value in values.items()]
    fits = [(seed, fit.part, fit.fold, fit.seconds, fit.cached) for fit in models.fits]
    return {
        "calibration": pd.DataFrame(figures, columns=["seed", "part", "metric", "value"]),
        "fits": pd.DataFrame(fits, columns=["seed", "part", "fold", "seconds", "cached"]),
        "backtest": table_of(rows, COLUMNS, ("beta", "cap", "value")),
    }


def _about(split: LogSplit, config: BacktestConfig) -> dict[str, float]:
    """Sizes of a split, of slates (k) and audiences (c)."""
    k = math.ceil(config.item_share * split.n_known)
    if k >= split.n_known:
        problem = f"{config.item_share} of {split.n_known} items is all of them"
        refuse(ConfigError, "item_share", problem, "a smaller share")
    return {
        "test_users": len(split.test.user),
        "items": split.n_known,
        "training_events": len(split.train),
        "targets": len(split.targets.key),
        "users_without_target": round(float((split.targets.by_user == 0).mean()), 4),
        "horizon_seconds": split.horizon,
        "k": k,
        "c": math.ceil(config.user_share * len(split.test.user)),
    }


def _answers(models: Models, name: str) -> Iterator[tuple[str, float, float, Mapping[str, float]]]:
    """Tuples (task, beta, cap, metrics) of one model."""
    split = models.split
    config = models.config
    seed = models.seed
    sizes = _about(split, config)
    unset = float("nan")  # β or cap of a task that has none
    k = int(sizes["k"])
    c = int(sizes["c"])
    scores = models.test(name)
    yield "item-rec", unset, unset, tasks.item_recommendation(scores, split, k, seed)
    yield "user-rec", unset, unset, tasks.user_recommendation(scores, split, c, seed)
    if not (any(config.beta) or config.cap):
        return
    pricing = tasks.Pricing(seed, config.tol, config.dither)
    online = tasks.Matching(scores, models.past(name), split, k, pricing)
    for beta, values in online.with_floors(config.beta, models.judging_rate(name)).items():
        yield "online", beta, unset, values
    for cap, values in online.with_caps(config.cap, config.user_share).items():
        yield "online", unset, cap, values


def _write_files(run: RunFolder) -> None:
    """Write pictures, and events for TensorBoard."""
    draw(backtest_report(load_run(run.folder)).plots, run.folder / "pictures")
    table = by_window(run.backtest)
    # TensorBoard's horizontal axis, the step, has the cap, or else β in percent, or else 0.
    steps = table["cap"].fillna(100 * table["beta"]).fillna(0.0).round().astype(np.int64)
    tasks_of_rows = table["task"].astype(str)
    tags = tasks_of_rows.where(table["cap"].isna(), tasks_of_rows + "-caps") + "/" + table["metric"]
    points = table.assign(tag=tags, step=steps, value=table["value"].astype(float))
    for (model, seed), rows in points.groupby(["model", "seed"], sort=False):
        file = EventFile(event_folder(run.folder, file_name(str(model)), int(str(seed))))
        for tag, value, step in rows[["tag", "value", "step"]].itertuples(index=False):
            file.scalar(tag, value, step)
        file.close()
