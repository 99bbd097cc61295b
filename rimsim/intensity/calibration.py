"""Calibration of λ(x) against counts and p(y|x) against consumed items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from rimsim.arrays import Floats, Ints
from rimsim.data.log import EventLog
from rimsim.errors import ModelError
from rimsim.intensity.contract import IntensityModel, require_targets, spans
from rimsim.intensity.states import CountExamples, UserStates, session_examples
from rimsim.rng import Purpose, generator

_LEAST = 1e-300
"""Smallest probability or count that is used, so that its logarithm is finite."""


@dataclass(frozen=True)
class Decile:
    """Tenth of the examples after sorting by predicted λ."""

    examples: int
    """Number of examples."""
    predicted: float
    """Mean λ(x) of the examples."""
    realised: float
    """Mean number of events that followed the states."""


@dataclass(frozen=True)
class GroundCalibration:
    """Comparison of λ(x) with realised event counts n."""

    examples: int
    """Number of states that are compared."""
    predicted: float
    """Sum of λ over the states."""
    realised: int
    """Sum of the numbers n of events that followed the states."""
    deciles: tuple[Decile, ...]
    """Tenths of the states, in ascending order of λ."""
    deviance: float
    """Mean Poisson deviance 2·mean(n log(n/λ) − (n − λ)); 0 is perfect."""
    deviance_constant: float
    """Mean Poisson deviance if every λ were the mean of n; a useful model is below it."""
    dispersion: float
    """Σ (n − λ)² / Σ λ; 1 if n has a Poisson distribution."""
    rank_correlation: float
    """Spearman correlation of λ and n, which measures how well λ chooses users."""

    @property
    def ratio(self) -> float:
        """Ratio of realised to predicted events, Σ n / Σ λ."""
        return self.realised / self.predicted

    def lines(self) -> tuple[str, ...]:
        """Report for the console."""
        tenths = " ".join(f"{d.predicted:.2f}/{d.realised:.2f}" for d in self.deciles)
        fit = f"deviance {self.deviance:.3f} against {self.deviance_constant:.3f} of a constant"
        return (
            f"λ: {self.realised} events, {self.predicted:.1f} predicted (ratio {self.ratio:.3f})",
            f"λ: {fit}, dispersion {self.dispersion:.2f}, rank correlation {self.rank_correlation:.3f}",
            f"λ by decile, predicted/realised: {tenths}",
        )


@dataclass(frozen=True)
class MarkCalibration:
    """Comparison of p(y|x) with consumed items."""

    events: int
    """Number of target events that are scored."""
    nll: float
    """Mean −log p(y|x) over the whole catalogue, nats."""
    nll_admissible: float
    """Mean −log p(y|x), nats. Here p is renormalised over the items that the user may take, as in the
    market."""

    @property
    def perplexity(self) -> float:
        """Perplexity: number of equally likely items with this loss."""
        return float(np.exp(self.nll))

    def lines(self) -> tuple[str, ...]:
        """Report for the console."""
        loss = f"{self.nll:.3f} nats (perplexity {self.perplexity:.0f})"
        return (f"p: {loss}, {self.nll_admissible:.3f} over unconsumed items, on {self.events} events",)


@dataclass(frozen=True)
class Calibration:
    """Calibration of both factors of an intensity model."""

    ground: GroundCalibration
    mark: MarkCalibration

    def lines(self) -> tuple[str, ...]:
        """Report for the console."""
        return (*self.ground.lines(), *self.mark.lines())


def _deviance(count: Floats, rate: Floats) -> float:
    """Mean Poisson deviance 2·mean(n log(n/λ) − (n − λ))."""
    positive = np.maximum(count, _LEAST)
    return float(2 * np.mean(count * np.log(positive / rate) - (count - rate)))


def count_calibration(predicted: Floats, counts: Ints) -> GroundCalibration:
    """Compare predicted λ with the event counts that followed."""
    rate = np.asarray(predicted, np.float64)
    count = np.asarray(counts, np.float64)
    if not len(rate) or rate.min() <= 0:
        raise ModelError(
            "calibration: there is no example, or an example has an intensity λ(x) that is not positive. "
            "Expected at least one example, and λ(x) > 0 for each"
        )
    order = np.argsort(rate, kind="stable")
    tenths = [rows for rows in np.array_split(order, 10) if len(rows)]
    # The rank correlation is not defined if λ or the count is the same for all examples.
    both_vary = len(rate) > 1 and rate.std() > 0 and count.std() > 0
    return GroundCalibration(
        examples=len(rate),
        predicted=float(rate.sum()),
        realised=int(count.sum()),
        deciles=tuple(
            Decile(len(rows), predicted=float(rate[rows].mean()), realised=float(count[rows].mean()))
            for rows in tenths
        ),
        deviance=_deviance(count, rate),
        deviance_constant=_deviance(count, np.full(len(count), max(count.mean(), 1e-12))),
        dispersion=float(((count - rate) ** 2).sum() / rate.sum()),
        rank_correlation=float(scipy.stats.spearmanr(rate, count).statistic) if both_vary else 0.0,
    )


def calibration(
    model: IntensityModel,
    log: EventLog,
    examples: CountExamples | None = None,
    *,
    events: int = 5000,
    seed: int = 0,
) -> Calibration:
    """Compare a fitted model with a log's target events.

    A comparison on the log of the fit shows the quality of the fit. To measure the quality of predictions, pass a log
    whose targets are events of held-out users, or later events. The log also needs the earlier events of these users.
    p(y|x) is scored on at most ``events`` target events, sampled by ``seed``. λ(x) is scored on ``examples``, by
    default the log's sessions.
    """
    require_targets(log, "calibration")
    pairs = examples or session_examples(log)
    blocks = [pairs.states[first:stop] for first, stop in spans(len(pairs.counts))]
    # Scores are float32. λ(x) is rounded, so that states whose λ(x) differs by rounding errors alone have equal ranks.
    rates = [model.score(states).double().cpu().numpy().sum(1) for states in blocks]
    rate = np.concatenate(rates).round(5)
    mark = mark_calibration(model, log, events=events, seed=seed)
    return Calibration(count_calibration(rate, pairs.counts), mark)


def mark_calibration(
    model: IntensityModel, log: EventLog, *, events: int = 5000, seed: int = 0
) -> MarkCalibration:
    """Compare p(y|x) with target events; see :func:`calibration`."""
    require_targets(log, "calibration")
    target_events = np.flatnonzero(log.targets)
    if len(target_events) > events:
        target_events = np.sort(
            generator(seed, Purpose.MEASURE, 7).choice(target_events, events, replace=False)
        )
    loss_blocks = []
    admissible_blocks = []
    for first, stop in spans(len(target_events)):
        rows = target_events[first:stop]
        states = UserStates.of(log, log.user[rows], log.time[rows])
        p = model.score(states).double().cpu().numpy()
        p /= p.sum(1, keepdims=True)
        taken_p = p[np.arange(len(rows)), log.item[rows]]
        owner = states.owner
        is_repeat = log.item[rows][owner] == states.items
        is_admissible = np.ones(len(rows), bool)
        # An event with a consumed item counts only in the loss over the catalogue if the item is not admissible.
        if not log.repeatable:
            p[owner, states.items] = 0.0
            is_admissible[owner[is_repeat]] = False
        loss_blocks.append(-np.log(np.maximum(taken_p, _LEAST)))
        admissible_blocks.append(
            -np.log(np.maximum(taken_p / np.maximum(p.sum(1), _LEAST), _LEAST))[is_admissible]
        )
    admissible_losses = np.concatenate(admissible_blocks)
    return MarkCalibration(
        events=len(target_events),
        nll=float(np.concatenate(loss_blocks).mean()),
        nll_admissible=float(admissible_losses.mean()) if len(admissible_losses) else float("nan"),
    )
