"""Back-test of intensity models on one log, in three tasks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from rimsim.arrays import Float32s, Ints
from rimsim.config import DataConfig, to_plain
from rimsim.data import EventLog, Needs
from rimsim.data.session_logs import LogSource
from rimsim.errors import ConfigError, ModelError, refuse
from rimsim.intensity import RIM, Hawkes, IntensityModel, RecurrentModel
from rimsim.intensity.cache import fitted, log_digest
from rimsim.intensity.calibration import count_calibration, mark_calibration
from rimsim.intensity.contract import Hidden, ModelCapabilities
from rimsim.intensity.ground.contract import Ground
from rimsim.intensity.registry import config_of, make, mark_and_ground, thorough
from rimsim.intensity.scores import JoinedScores, ModelScores
from rimsim.intensity.states import CountExamples
from rimsim.matching import ChunkedScores
from rimsim.rng import Purpose, derived_seed
from rimsim.scenarios.kinds.backtest import tasks
from rimsim.scenarios.kinds.backtest.report import backtest_report, by_window
from rimsim.scenarios.kinds.backtest.split import BacktestConfig, LogSplit, make_split
from rimsim.scenarios.kinds.results import RunResult, own_log, table_of, usable_log
from rimsim.scenarios.report.charts import draw
from rimsim.scenarios.runs.arms import file_name
from rimsim.scenarios.runs.execution import Execution
from rimsim.scenarios.runs.job import Job, all_or_nothing, make_run
from rimsim.scenarios.runs.locks import folder_for
from rimsim.scenarios.runs.records import load_facts
from rimsim.scenarios.runs.store import RunFolder
from rimsim.tracking import event_folder
from rimsim.tracking.events import EventFile

COLUMNS = ("task", "model", "beta", "cap", "seed", "metric", "value")  # Columns of `backtest.parquet`


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

    Every seed splits the log again, and so does every window of a split by time. Each mark model and ground intensity
    is fitted once per split (or read from the cache), and each model solves the three tasks. Prices of online matching
    are solved on past states.

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
    windows = range(config.split.windows)
    splits = {
        (seed, window): make_split(log, config.split, seed, window)
        for seed in config.seeds
        for window in windows
    }
    about = {part: _about(split, config) for part, split in splits.items()}
    of_last = {seed: about[seed, windows[-1]] for seed in config.seeds}
    described = {"backtest": to_plain(config), "splits": of_last, "log": load_facts(log)}
    described["digests"] = {"log": log_digest(log)}

    def play(part: tuple[int, int], _: object) -> dict[str, pd.DataFrame]:
        seed, window = part
        facts = (f"{name.replace('_', ' ')} {value}" for name, value in about[part].items())
        show(f"seed {seed}: {f'window {window}: ' * by_time}{', '.join(facts)}")
        tables = _tables(Models(splits[part], config, seed, show))
        return {name: table.assign(window=window) if by_time else table for name, table in tables.items()}

    folder = folder_for(out, "backtest")
    job = Job(described, list(splits), play, _write_files)
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
        found = f"{config.item_share} of {split.n_known} items is all of them"
        refuse(ConfigError, "item_share", found, "a smaller share")
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
    none = float("nan")
    k = int(sizes["k"])
    c = int(sizes["c"])
    scores = models.test(name)
    yield "item-rec", none, none, tasks.item_recommendation(scores, split, k, seed)
    yield "user-rec", none, none, tasks.user_recommendation(scores, split, c, seed)
    if not (any(config.beta) or config.cap):
        return
    pricing = tasks.Pricing(seed, config.tol, config.dither)
    online = tasks.Matching(scores, models.past(name), split, k, pricing)
    for beta, values in online.with_floors(config.beta, models.judging_rate(name)).items():
        yield "online", beta, none, values
    for cap, values in online.with_caps(config.cap, config.user_share).items():
        yield "online", none, cap, values


def _write_files(run: RunFolder) -> None:
    """Write pictures, and events for TensorBoard."""
    draw(backtest_report(run).plots, run.folder / "pictures")
    table = by_window(run.backtest)
    step = table["cap"].fillna(100 * table["beta"]).fillna(0.0).round().astype(np.int64)
    task = table["task"].astype(str)
    tag = task.where(table["cap"].isna(), task + "-caps") + "/" + table["metric"]
    points = table.assign(tag=tag, step=step, value=table["value"].astype(float))
    for (model, seed), rows in points.groupby(["model", "seed"], sort=False):
        file = EventFile(event_folder(run.folder, file_name(str(model)), int(str(seed))))
        for point in rows[["tag", "value", "step"]].itertuples(index=False):
            file.scalar(*point)
        file.close()


# -- models, fitted once per split ------------------------------------------------------------------------------------
_SERVING = -1  # in place of a fold's number: the model that serves


@dataclass(frozen=True)
class Fit:
    """Duration of a fit."""

    part: str
    fold: int  # Fold of past states that it was fitted without; −1: the model that serves
    seconds: float  # CPU seconds
    cached: bool


@dataclass(frozen=True)
class FitCalibration:
    """Comparison of a fit with events after the test states."""

    part: str  # Mark model or ground intensity, by name
    lines: tuple[str, ...]
    figures: dict[str, float]


@dataclass(eq=False)
class Models:
    """Mark models and ground intensities, fitted on demand."""

    split: LogSplit
    config: BacktestConfig
    seed: int
    show: Callable[[str], None]  # Called with a line about every fit
    fits: list[Fit] = field(default_factory=list)
    _marks: dict[tuple[str, int], IntensityModel] = field(default_factory=dict)
    _grounds: dict[str, Ground] = field(default_factory=dict)
    _encoded: dict[str, Hidden] = field(default_factory=dict)

    def test(self, name: str) -> ModelScores:
        """Scores of the test states."""
        mark, ground = mark_and_ground(name)
        hidden = self._hidden(mark)
        rate = None if ground is None else self.rate(ground)
        return ModelScores(self._mark(mark, _SERVING), self.split.test.states, self.split.known, rate, hidden)

    def rate(self, ground: str) -> Float32s:
        """Ground intensities λ(x) of the test states, by name."""
        return self._ground(ground).intensity(self.split.test.states).cpu().numpy()

    def judging_rate(self, name: str) -> Float32s | None:
        """λ(x) that sorts test states into deciles, for a model."""
        of_model = mark_and_ground(name)[1]
        grounds = [ground for _, ground in map(mark_and_ground, self.config.models) if ground is not None]
        chosen = of_model or next(iter(grounds), None)
        return None if chosen is None else self.rate(chosen)

    def past(self, name: str) -> ChunkedScores:
        """Scores of past states for prices, fold by fold.

        A mark p(y|x) that depends on the state can memorise the events that followed the state, so the mark is
        cross-fitted. A ground intensity with few parameters and the mark ``popularity`` cannot memorise events.
        Cross-fitting a ground intensity or ``popularity`` would only make prices fit the serving model less well.
        """
        if self.config.prices == "seen":
            return self._past(name, _SERVING, np.arange(len(self.split.past.user)))
        folds = enumerate(self.split.folds)
        return JoinedScores([self._past(name, number, fold.rows) for number, fold in folds])

    def _past(self, name: str, fold: int, rows: Ints) -> ModelScores:
        mark, ground = mark_and_ground(name)
        states = self.split.past.states.take(rows)
        rate = None if ground is None else self._ground(ground).intensity(states).cpu().numpy()
        model = self._mark(mark, _SERVING)
        if fold != _SERVING and ModelCapabilities.of(model).depends_on_state:
            model = self._mark(mark, fold)
        return ModelScores(model, states, self.split.known, rate)

    def reports(self) -> list[FitCalibration]:
        """Calibration of mark models and ground intensities on test states."""
        joined = [mark_and_ground(name) for name in self.config.models]
        future = self.split.future()
        reports = []
        for mark in dict.fromkeys(mark for mark, _ in joined):
            found = mark_calibration(self._mark(mark, _SERVING), future, seed=self.seed)
            names = ("events", "nll", "nll_admissible", "perplexity")
            values = {name: float(getattr(found, name)) for name in names}
            reports.append(FitCalibration(mark, found.lines(), values))
        grounds = dict.fromkeys(ground for _, ground in joined if ground is not None)
        return reports + [self._ground_report(ground, future) for ground in grounds]

    def _ground_report(self, ground: str, future: EventLog) -> FitCalibration:
        rate = np.maximum(self.rate(ground).astype(np.float64), 1e-9)
        of_ground = count_calibration(rate, self.split.test.counts)
        names = ("predicted", "realised", "ratio", "deviance", "deviance_constant", "dispersion")
        values = {name: float(getattr(of_ground, name)) for name in (*names, "rank_correlation")}
        for number, decile in enumerate(of_ground.deciles, 1):
            values[f"predicted_{number}"] = decile.predicted
            values[f"realised_{number}"] = decile.realised
        lines = of_ground.lines()
        model = self._ground(ground)
        if isinstance(model, Hawkes):
            test = model.goodness(future)
            values |= {"ks": test.ks, "ks_p_value": test.p_value, "squares": test.squares}
            fit = f"KS {test.ks:.3f} (p {test.p_value:.2g}), 3S {test.squares:.2f} (2 if right)"
            branching = f"branching ratio {model.branching_ratio:.2f}"
            lines += (f"λ over time, what test users did: {fit}, {branching}",)
        return FitCalibration(ground, lines, values)

    def _mark(self, part: str, fold: int) -> IntensityModel:
        if (part, fold) not in self._marks:
            train = self.split.train
            seed = self.seed
            if fold != _SERVING:
                train = self.split.folds[fold].train
                seed = derived_seed(self.seed, Purpose.MODEL, 8, fold)
            recipe = thorough(part) if self.config.recipe == "thorough" else None
            plain = {"device": self.config.device, "gap": self.config.data.session_gap}
            model = make(part, mark=recipe, seed=seed, **plain)
            self._marks[part, fold] = self._fitted(part, fold, model, train)
        return self._marks[part, fold]

    def _ground(self, part: str) -> Ground:
        if part not in self._grounds:
            horizon = self.split.horizon
            values = {"horizon": horizon} | ({"scale": horizon} if part == "ema" else {})
            device = self.config.device
            gap = self.config.data.session_gap
            joined = make(part, ground=config_of(part, values), device=device, gap=gap)
            model = cast("RIM", joined).ground
            if not isinstance(model, Ground):
                raise ModelError(f"{part}: found a {type(model).__name__}. Expected a Ground model")
            ground = self._fitted(part, _SERVING, model, self.split.train, self.split.past)
            self._grounds[part] = cast("Ground", ground)
        return self._grounds[part]

    def _fitted(
        self,
        part: str,
        fold: int,
        model: IntensityModel | Ground,
        train: EventLog,
        examples: CountExamples | None = None,
    ) -> IntensityModel | Ground:
        start = time.process_time()
        result = fitted(model, train, examples=examples)
        took = time.process_time() - start
        cached = result is not model
        self.fits.append(Fit(part, fold, took, cached))
        which = "" if fold == _SERVING else f", without fold {fold} of the past states"
        how = "from the cache" if cached else f"fit in {took:.1f} CPU s"
        self.show(f"seed {self.seed}: {part}{which}: {how}")
        return result

    def _hidden(self, part: str) -> Hidden | None:
        """Hidden states of the test states, by mark model."""
        model = self._mark(part, _SERVING)
        if not isinstance(model, RecurrentModel):
            return None
        if part not in self._encoded:
            self._encoded[part] = model.encode(self.split.test.states)
        return self._encoded[part]
