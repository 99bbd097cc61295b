"""Models and ground intensities of a split, fitted on demand."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from rimsim.arrays import Float32s, Ints
from rimsim.data import EventLog
from rimsim.errors import ModelError
from rimsim.intensity import RIM, Hawkes, IntensityModel, RecurrentModel
from rimsim.intensity.cache import fitted
from rimsim.intensity.calibration import count_calibration, mark_calibration
from rimsim.intensity.contract import Hidden, ModelCapabilities, fits_into_memory
from rimsim.intensity.ground.contract import Ground
from rimsim.intensity.registry import config_of, make, mark_and_ground, thorough
from rimsim.intensity.scores import JoinedScores, ModelScores
from rimsim.intensity.states import CountExamples
from rimsim.matching import ChunkedScores
from rimsim.rng import Purpose, derived_seed
from rimsim.scenarios.kinds.backtest.split import BacktestConfig, LogSplit

# Number that stands for the model fitted to all training events, which makes slates. Models of folds have numbers from
# 0.
_SERVING = -1


@dataclass(frozen=True)
class Fit:
    """Duration of a fit."""

    part: str  # name of a mark model or ground intensity
    fold: int  # number of the fold of past states that the fit left out; −1: no fold
    seconds: float  # CPU time of the fit, in seconds
    cached: bool  # True if the fit was read from the cache


@dataclass(frozen=True)
class FitCalibration:
    """Comparison of a fit with events after the test states."""

    part: str  # name of a mark model or ground intensity
    lines: tuple[str, ...]  # report for the console
    figures: dict[str, float]  # metric → value


@dataclass(eq=False)
class Models:
    """Mark models and ground intensities, fitted on demand."""

    split: LogSplit
    config: BacktestConfig
    seed: int
    show: Callable[[str], None]  # function that is called with a line about each fit
    fits: list[Fit] = field(default_factory=list)
    _marks: dict[tuple[str, int], IntensityModel] = field(default_factory=dict)
    _grounds: dict[str, Ground] = field(default_factory=dict)
    _encoded: dict[str, Hidden] = field(default_factory=dict)

    def test(self, name: str) -> ModelScores:
        """Scores of the test states."""
        mark, ground = mark_and_ground(name)
        hidden = self._hidden(mark)
        rate = None if ground is None else self.rate(ground)
        return ModelScores(
            self._mark(mark, _SERVING),
            self.split.test.states,
            self.split.is_known,
            rate,
            hidden,
            offer_times=self.split.offer_times,
            repeatable=self.split.log.repeatable,
        )

    def rate(self, ground: str) -> Float32s:
        """Ground intensities λ(x) of the test states, by name."""
        return self._ground(ground).intensity(self.split.test.states).cpu().numpy()

    def judging_rate(self, name: str) -> Float32s | None:
        """λ(x) that sorts test states into deciles, for a model."""
        _, ground = mark_and_ground(name)
        if ground is None:  # a model without λ(x) is judged by that of the first model that has one
            grounds = [ground for _, ground in map(mark_and_ground, self.config.models) if ground is not None]
            ground = next(iter(grounds), None)
        return None if ground is None else self.rate(ground)

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
        """Scores of past states, with the mark of a fold."""
        mark, ground = mark_and_ground(name)
        states = self.split.past.states.take(rows)
        rate = None if ground is None else self._ground(ground).intensity(states).cpu().numpy()
        model = self._mark(mark, _SERVING)
        if fold != _SERVING and ModelCapabilities.of(model).depends_on_state:
            model = self._mark(mark, fold)
        return ModelScores(
            model,
            states,
            self.split.is_known,
            rate,
            repeatable=self.split.log.repeatable,
            offer_times=self.split.offer_times,
        )

    def reports(self) -> list[FitCalibration]:
        """Calibration of mark models and ground intensities on test states."""
        parts_of_models = [mark_and_ground(name) for name in self.config.models]
        future = self.split.future()
        reports = []
        for mark in dict.fromkeys(mark for mark, _ in parts_of_models):
            calibration = mark_calibration(self._mark(mark, _SERVING), future, seed=self.seed)
            names = ("events", "nll", "nll_admissible", "perplexity")
            values = {name: float(getattr(calibration, name)) for name in names}
            reports.append(FitCalibration(mark, calibration.lines(), values))
        grounds = dict.fromkeys(ground for _, ground in parts_of_models if ground is not None)
        return reports + [self._ground_report(ground, future) for ground in grounds]

    def _ground_report(self, ground: str, future: EventLog) -> FitCalibration:
        """Comparison of λ(x) with events after the test states."""
        rate = np.maximum(self.rate(ground).astype(np.float64), 1e-9)  # the deviance needs log λ
        calibration = count_calibration(rate, self.split.test.counts)
        names = ("predicted", "realised", "ratio", "deviance", "deviance_constant", "dispersion")
        values = {name: float(getattr(calibration, name)) for name in (*names, "rank_correlation")}
        for number, decile in enumerate(calibration.deciles, 1):
            values[f"predicted_{number}"] = decile.predicted
            values[f"realised_{number}"] = decile.realised
        lines = calibration.lines()
        model = self._ground(ground)
        if isinstance(model, Hawkes):
            test = model.goodness(future)
            values |= {"ks": test.ks, "ks_p_value": test.p_value, "squares": test.squares}
            fit = f"KS {test.ks:.3f} (p {test.p_value:.2g}), 3S {test.squares:.2f} (2 if right)"
            branching = f"branching ratio {model.branching_ratio:.2f}"
            lines += (f"λ over time, what test users did: {fit}, {branching}",)
        return FitCalibration(ground, lines, values)

    def _mark(self, part: str, fold: int) -> IntensityModel:
        """Mark model of a fold, fitted at first use."""
        if (part, fold) not in self._marks:
            train = self.split.train
            seed = self.seed
            if fold != _SERVING:
                train = self.split.folds[fold].train
                # Each fold has its own random stream; the 8 in the key keeps it apart from all other streams.
                seed = derived_seed(self.seed, Purpose.MODEL, 8, fold)
            recipe = thorough(part) if self.config.recipe == "thorough" else None
            gap = self.config.data.session_gap
            model = make(part, mark=recipe, seed=seed, device=self.config.device, gap=gap)
            self._marks[part, fold] = self._fitted(part, fold, model, train)
        return self._marks[part, fold]

    def _ground(self, part: str) -> Ground:
        """Ground intensity of a name, fitted at first use."""
        if part not in self._grounds:
            horizon = self.split.horizon
            values = {"horizon": horizon} | ({"scale": horizon} if part == "ema" else {})
            device = self.config.device
            gap = self.config.data.session_gap
            product_model = make(part, ground=config_of(part, values), device=device, gap=gap)
            model = cast("RIM", product_model).ground
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
        """Fitted model, whose fit is recorded and reported."""
        start = time.process_time()
        result = fitted(model, train, examples=examples)
        seconds = time.process_time() - start
        is_cached = result is not model
        self.fits.append(Fit(part, fold, seconds, is_cached))
        fold_words = "" if fold == _SERVING else f", without fold {fold} of the past states"
        source_words = "from the cache" if is_cached else f"fit in {seconds:.1f} CPU s"
        self.show(f"seed {self.seed}: {part}{fold_words}: {source_words}")
        return result

    def _hidden(self, part: str) -> Hidden | None:
        """Hidden states of the test states, or None."""
        model = self._mark(part, _SERVING)
        if not isinstance(model, RecurrentModel) or not fits_into_memory(model, self.split.test.states):
            return None
        if part not in self._encoded:
            self._encoded[part] = model.encode(self.split.test.states)
        return self._encoded[part]
