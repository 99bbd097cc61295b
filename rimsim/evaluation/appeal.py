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
"""Weights of the Gauss–Hermite rule with which the likelihood is integrated over ε, at the values ``_NODES`` of ε."""
_LEAST_ITEMS = 10
"""Smallest number of items for an estimate."""
_STEPS = 200
"""Largest number of steps of a fit."""
_ENOUGH = 1e-4
"""Gain of a step in log-likelihood below which the fit ends."""
_SMALL = 1e-6
"""Smallest damping of a parameter, and smallest divisor of a step."""
_LARGE = 1e8
"""Largest damping; the fit ends if no smaller step gains."""
_SEED = 13
"""Seed of the bootstrap."""
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
    items, item_of_answer = np.unique(matched.item, return_inverse=True)
    x = np.log(np.bincount(log.item, minlength=log.n_items)[items] + 1.0)
    if len(items) < _LEAST_ITEMS or not np.ptp(x) or not np.ptp(taken):
        return None
    n_items = len(items)
    n_answers = len(item_of_answer)
    generator = rng.generator(_SEED, rng.Purpose.MEASURE)

    def resampled(size: int) -> Ints:
        """Number of copies of each unit in a bootstrap sample."""
        return np.bincount(generator.integers(0, size, size), minlength=size)

    def variance(n_units: int, unit_of_answer: Ints) -> Floats:
        """Variance of the figures in a bootstrap of units."""
        figures = []
        for _ in range(resamples):
            n_positive, n_total = _counts(resampled(n_units)[unit_of_answer], item_of_answer, taken, n_items)
            figures.append(_figures(_fitted(x, n_positive, n_total, equal_weights, fit), x, equal_weights))
        # Quantiles at ±1 standard deviation of a normal law are used, because τ is 0 in some resamples.
        low, high = np.quantile(figures, [0.1587, 0.8413], axis=0)
        return np.asarray((high - low) ** 2 / 4, np.float64)

    equal_weights = np.ones(n_items)
    n_yes, n_all = _counts(np.ones(n_answers, np.int64), item_of_answer, taken, n_items)
    fit = _fitted(x, n_yes, n_all, equal_weights, None)
    item_weights = [resampled(n_items).astype(np.float64) for _ in range(resamples)]
    item_figures = [_figures(_fitted(x, n_yes, n_all, weight, fit), x, weight) for weight in item_weights]
    item_variance = np.var(item_figures, axis=0)
    user_variance = variance(len(matched.users), matched.user) - variance(n_answers, np.arange(n_answers))
    degrees_of_freedom = n_items - 3  # three parameters are fitted: α, β and τ
    half = t.ppf(0.975, degrees_of_freedom) * np.sqrt(
        item_variance * n_items / degrees_of_freedom + np.maximum(user_variance, 0.0)
    )
    estimate = _figures(fit, x, equal_weights)
    fisher_z, log_sd = np.array([estimate, estimate - half, estimate + half]).T
    return HiddenQuality(
        rho=tuple(np.tanh(fisher_z).tolist()), sd=tuple(np.exp(log_sd).tolist()), items=n_items
    )


def _counts(copies: Ints, item: Ints, taken: Floats, n_items: int) -> tuple[Floats, Floats]:
    """Number of positive answers, and of all answers, per item."""
    # Copies of an answer in a resample are not independent answers. So counts are divided by the mean number of copies.
    total = np.bincount(item, copies, n_items)
    per_copy = total / np.maximum(np.bincount(item, copies * copies, n_items), 1)
    return np.bincount(item, copies * taken, n_items) * per_copy, total * per_copy


def _figures(fit: Floats, x: Floats, weight: Floats) -> Floats:
    """Figures of a fit: Fisher's z of ρ; log sd."""
    _, beta, log_tau = fit
    mean = (weight @ x) / weight.sum()
    popularity_sd = beta * np.sqrt(weight @ (x - mean) ** 2 / weight.sum())  # β·sd(x)
    tau = np.exp(log_tau)
    # Because ρ = β·sd(x) / √(β²·var(x) + τ²), its Fisher z, artanh(ρ), is arsinh(β·sd(x) / τ).
    fisher_z = np.clip(np.arcsinh(popularity_sd / tau), -_MOST_Z, _MOST_Z)
    return np.array([fisher_z, np.log(np.hypot(popularity_sd, tau))])


def _fitted(x: Floats, yes: Floats, answers: Floats, weight: Floats, start: Floats | None) -> Floats:
    """Parameters α, β and log τ of largest likelihood."""
    # Each damped Newton step uses outer products of scores, the derivatives of log-likelihoods, as second derivatives
    # (Berndt, Hall, Hall and Hausman, 1974).
    share_yes = (weight @ yes + 0.5) / (weight @ answers + 1)
    # At the start, 1 − exp(−exp(α)) is the share of positive answers.
    fit = np.array([np.log(-np.log1p(-share_yes)), 0.0, -0.7]) if start is None else start
    log_likelihoods, scores = _likelihood(fit, x, yes, answers)
    damping = 1e-3
    for _ in range(_STEPS):
        gradient = scores.T @ weight
        curvature = (scores * weight[:, None]).T @ scores
        step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature) + _SMALL), gradient)
        step *= min(1.0, 1.0 / max(float(np.abs(step).max()), _SMALL))  # no parameter changes by more than 1
        new_log_likelihoods, new_scores = _likelihood(fit + step, x, yes, answers)
        gain = float(weight @ (new_log_likelihoods - log_likelihoods))
        if gain < 0:
            damping *= 10
            if damping > _LARGE:
                break
            continue
        fit = fit + step
        log_likelihoods = new_log_likelihoods
        scores = new_scores
        damping = damping / 10
        if gain < _ENOUGH or fit[2] < -6:  # τ is 0 up to rounding here
            break
    return fit


def _likelihood(fit: Floats, x: Floats, yes: Floats, answers: Floats) -> tuple[Floats, Floats]:
    """Log-likelihoods of items, and their derivatives by the parameters."""
    alpha, beta, log_tau = fit
    noise = np.exp(log_tau) * _NODES  # values of τ·ε
    rate = np.exp(np.clip((alpha + beta * x)[:, None] + noise, -30.0, 3.0))  # exp(a), per item and value of ε
    n_yes = yes[:, None]
    n_no = (answers - yes)[:, None]
    chance = -np.expm1(-rate)
    log_p_at_nodes = n_yes * np.log(chance) - n_no * rate  # binomial log-likelihoods at the values of ε
    # log Σ w·exp(at_nodes) is computed as a log-sum-exp, so that the largest exponential is 1.
    top = log_p_at_nodes.max(1, keepdims=True)
    joint = np.exp(log_p_at_nodes - top) * _WEIGHTS
    total = joint.sum(1, keepdims=True)
    # Derivative by a, weighted by the posterior probability of each value of ε. By the chain rule, a changes by 1 with
    # α, by x with β, and by τ·ε with log τ.
    by_a = joint / total * (n_yes * rate * (1 - chance) / chance - n_no * rate)
    by_alpha = by_a.sum(1)
    return (np.log(total) + top)[:, 0], np.stack([by_alpha, by_alpha * x, by_a @ noise], 1)
