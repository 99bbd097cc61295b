"""Hidden quality of items, estimated from answers under random exposure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from rimsim import rng
from rimsim.arrays import Floats, Ints
from rimsim.data import EventLog, ObservedTable

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_LEAST_ITEMS = 10
# Largest number of steps of a fit. The fit also ends if a step gains less than ``_ENOUGH``, or if the damping exceeds
# ``_LARGE``.
_STEPS = 200
_ENOUGH = 1e-4
_SMALL = 1e-6
_LARGE = 1e8
_SEED = 13
_MOST_Z = 3.0  # largest Fisher z, for ρ = 0.995; data cannot distinguish larger values of ρ


@dataclass(frozen=True)
class HiddenQuality:
    """Correlation and spread of hidden quality, with 95% intervals."""

    rho: tuple[float, ...]
    """ρ, and both ends of its interval."""
    sd: tuple[float, ...]
    """Standard deviation of log worth, and both ends of its interval."""
    items: int
    """Number of items of the log with an answer."""


def hidden_quality(
    table: ObservedTable, log: EventLog, *, taken_at: float, resamples: int = 200
) -> HiddenQuality | None:
    """Hidden quality of items, from answers under random exposure.

    As in the market, a user says yes to an item with probability 1 − exp(−exp(a)), where a is the logarithm of its
    worth. Here a = α + β·x + τ·ε, x is the logarithm of 1 plus the item's number of events in the log, and ε is
    standard normal. The likelihood is integrated over ε, which removes binomial noise from the estimates. Then sd² =
    β²·var(x) + τ² and ρ = β·sd(x)/sd. The noise of x is not removed, because a platform sees the same noisy x.

    Intervals are computed for Fisher's z of ρ and for log sd, with the variance of a bootstrap of items. The answers of
    a user are not independent. So the variance of a bootstrap of users, minus the variance of a bootstrap of answers,
    is added.

    Returns:
        The estimate; None if items may not have been shown at random, or if popularity or answers do not vary over ten
        items.
    """
    if not table.shown_at_random:
        return None
    matched = table.matched(log)
    taken = (matched.value >= taken_at).astype(np.float64)
    items, item = np.unique(matched.item, return_inverse=True)
    x = np.log(np.bincount(log.item, minlength=log.n_items)[items] + 1.0)
    if len(items) < _LEAST_ITEMS or not np.ptp(x) or not np.ptp(taken):
        return None
    m = len(items)
    generator = rng.generator(_SEED, rng.Purpose.MEASURE)

    def counted(times: Ints) -> tuple[Floats, Floats]:
        """Number of positive answers, and of all answers, per item."""
        # Copies of an answer in a resample are not independent answers. So counts are divided by the mean number of
        # copies.
        total = np.bincount(item, times, m)
        known_as = total / np.maximum(np.bincount(item, times * times, m), 1)
        return np.bincount(item, times * taken, m) * known_as, total * known_as

    def drawn(size: int) -> Ints:
        return np.bincount(generator.integers(0, size, size), minlength=size)

    def variance(size: int, of_answer: Ints) -> Floats:
        counts = (counted(drawn(size)[of_answer]) for _ in range(resamples))
        figures = [_figures(_fitted(x, *each, alike, best), x, alike) for each in counts]
        # Quantiles at ±1 standard deviation of a normal law are used, because τ is 0 in some resamples.
        low, high = np.quantile(figures, [0.1587, 0.8413], axis=0)
        return np.asarray((high - low) ** 2 / 4, np.float64)

    alike = np.ones(m)
    counts = counted(np.ones(len(item), np.int64))
    best = _fitted(x, *counts, alike, None)
    weights = [drawn(m).astype(np.float64) for _ in range(resamples)]
    of_items = np.var([_figures(_fitted(x, *counts, each, best), x, each) for each in weights], axis=0)
    of_users = variance(len(matched.users), matched.user) - variance(len(item), np.arange(len(item)))
    free = m - 3  # three parameters are fitted: α, β and τ
    half = t.ppf(0.975, free) * np.sqrt(of_items * m / free + np.maximum(of_users, 0.0))
    point = _figures(best, x, alike)
    ends = np.array([point, point - half, point + half])
    return HiddenQuality(tuple(np.tanh(ends[:, 0]).tolist()), tuple(np.exp(ends[:, 1]).tolist()), m)


def _figures(fit: Floats, x: Floats, weight: Floats) -> Floats:
    """Values of a fit: Fisher's z of ρ; log sd."""
    middle = (weight @ x) / weight.sum()
    slope = fit[1] * np.sqrt(weight @ (x - middle) ** 2 / weight.sum())
    rest = np.exp(fit[2])
    return np.array([np.clip(np.arcsinh(slope / rest), -_MOST_Z, _MOST_Z), np.log(np.hypot(slope, rest))])


def _fitted(x: Floats, yes: Floats, answers: Floats, weight: Floats, start: Floats | None) -> Floats:
    """Parameters α, β and log τ of largest likelihood."""
    # Each damped Newton step uses outer products of scores as second derivatives (Berndt, Hall, Hall and Hausman,
    # 1974).
    share = (weight @ yes + 0.5) / (weight @ answers + 1)
    fit = np.array([np.log(-np.log1p(-share)), 0.0, -0.7]) if start is None else start
    value, scores = _likelihood(fit, x, yes, answers)
    damping = 1e-3
    for _ in range(_STEPS):
        gradient = scores.T @ weight
        curvature = (scores * weight[:, None]).T @ scores
        step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature) + _SMALL), gradient)
        step *= min(1.0, 1.0 / max(float(np.abs(step).max()), _SMALL))
        new, new_scores = _likelihood(fit + step, x, yes, answers)
        gain = float(weight @ (new - value))
        if gain < 0:
            damping *= 10
            if damping > _LARGE:
                break
            continue
        fit = fit + step
        value = new
        scores = new_scores
        damping = damping / 10
        if gain < _ENOUGH or fit[2] < -6:  # τ is 0 up to rounding here
            break
    return fit


def _likelihood(fit: Floats, x: Floats, yes: Floats, answers: Floats) -> tuple[Floats, Floats]:
    """Log-likelihoods of items, and their derivatives by the parameters."""
    effect = np.exp(fit[2]) * _NODES
    rate = np.exp(np.clip((fit[0] + fit[1] * x)[:, None] + effect, -30.0, 3.0))
    no = (answers - yes)[:, None]
    share = -np.expm1(-rate)
    log = yes[:, None] * np.log(share) - no * rate
    top = log.max(1, keepdims=True)
    joint = np.exp(log - top) * _WEIGHTS
    total = joint.sum(1, keepdims=True)
    slope = joint / total * (yes[:, None] * rate * (1 - share) / share - no * rate)
    total_slope = slope.sum(1)
    return (np.log(total) + top)[:, 0], np.stack([total_slope, total_slope * x, slope @ effect], 1)
