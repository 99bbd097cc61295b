"""Binary regression (complementary log-log) of Poisson events."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rimsim.arrays import Bools, Floats, Ints
from rimsim.compiled import compiled

_STEPS = 60
"""Largest number of Newton steps in a fit."""
_ENOUGH = 1e-10
"""Smallest predicted gain of a step, relative to the objective. If the gain is not larger, the fit ends."""
_LARGEST = 30.0
"""Bound of |log μ|. Beyond the bound, an outcome is certain in double precision."""


def hazard_rate(log_rate: Floats) -> Floats:
    """(m,) rates μ, bounded so that no loss is infinite."""
    return np.asarray(np.exp(np.clip(log_rate, -_LARGEST, _LARGEST)), np.float64)


def hazard_losses(rate: Floats, taken: Bools) -> Floats:
    """(m,) losses −log P(outcome), where P(taken) = 1 − exp(−μ)."""
    return np.where(taken, -np.log(-np.expm1(-rate)), rate)


@compiled
def _weigh(columns: Floats, weight: Floats, group: Ints, weighted: Floats, mixed: Floats) -> None:
    """Fill in the weighted columns, and their sums by group."""
    for column in range(columns.shape[1]):
        for row in range(len(columns)):
            value = columns[row, column] * weight[row]
            weighted[row, column] = value
            if value != 0.0:
                mixed[group[row], column] += value


@dataclass(frozen=True, eq=False)
class HazardRegression:
    """Regression of binary outcomes with P(taken) = 1 − exp(−μ).

    The model is log μ = columns·θ + δ_group + offset. The prior of θ is normal. The prior of exp(δ) is a
    gamma distribution, and weighs like ``count`` events where ``exposure`` events were expected at δ = 0. The
    objective Σ −log P(outcome) + ½ (θ − mean)ᵀ·precision·(θ − mean) + Σ exposure·exp(δ) − count·δ is convex.
    The Hessian of δ is diagonal, so a Newton step takes one pass over the m rows and a system with one
    unknown per column.
    """

    columns: Floats
    """(m, p) explanatory variables of each row, one column per entry of θ."""
    offset: Floats
    """(m,) part of log μ that is fixed."""
    taken: Bools
    """(m,) True if the outcome of the row is an event."""
    group: Ints
    """(m,) group of each row, from 0."""
    count: Floats
    """(groups,) number of events that the prior adds to each group, positive."""
    exposure: Floats
    """(groups,) expected number of the added events at δ = 0, positive."""
    mean: Floats
    """(p,) mean of the prior of θ."""
    precision: Floats
    """(p, p) inverse covariance of the prior of θ."""

    def rate(self, theta: Floats, effect: Floats) -> Floats:
        """(m,) rates μ at coefficients θ and group effects δ."""
        log_rate = self.columns @ theta + effect[self.group] + self.offset
        return hazard_rate(log_rate)

    def value(self, theta: Floats, effect: Floats, rate: Floats) -> float:
        """Objective at coefficients θ and group effects δ, given :meth:`rate`."""
        loss = hazard_losses(rate, self.taken).sum()
        deviation = theta - self.mean
        group_prior = (self.exposure * np.exp(effect) - self.count * effect).sum()
        return float(loss + 0.5 * deviation @ self.precision @ deviation + group_prior)

    def slopes(self, rate: Floats) -> tuple[Floats, Floats]:
        """(m,) first and second derivatives of each loss by log μ."""
        with np.errstate(over="ignore"):  # exp of a large rate is infinite, and the odds are then 0
            odds = rate / np.expm1(rate)
        return np.where(self.taken, -odds, rate), np.where(self.taken, odds * (rate + odds - 1.0), rate)

    def gradient(self, theta: Floats, effect: Floats, by_log: Floats) -> tuple[Floats, Floats]:
        """Gradient by θ and δ, from first derivatives in :meth:`slopes`."""
        theta_gradient = self.columns.T @ by_log + self.precision @ (theta - self.mean)
        effect_gradient = (
            np.bincount(self.group, by_log, len(self.count)) + self.exposure * np.exp(effect) - self.count
        )
        return np.asarray(theta_gradient, np.float64), np.asarray(effect_gradient, np.float64)

    @cached_property
    def _by_column(self) -> Floats:
        """``columns`` in column order, which a compiled loop reads faster."""
        return np.asfortranarray(self.columns)

    def _curvature(
        self, effect: Floats, second_derivatives: Floats, free: Bools
    ) -> tuple[Floats, Floats, Floats]:
        """Blocks of the Hessian: θ–θ, δ–θ, diagonal of δ–δ."""
        columns = self._by_column if free.all() else self.columns[:, free]
        n_groups = len(self.count)
        weighted = np.empty_like(columns)
        mixed = np.zeros((n_groups, columns.shape[1]))
        _weigh(columns, second_derivatives, self.group, weighted, mixed)
        theta_block = columns.T @ weighted + self.precision[np.ix_(free, free)]
        effect_diagonal = np.bincount(self.group, second_derivatives, n_groups) + self.exposure * np.exp(
            effect
        )
        return (
            np.asarray(theta_block, np.float64),
            np.asarray(mixed, np.float64),
            np.asarray(effect_diagonal, np.float64),
        )

    def minimised(
        self, theta: Floats, effect: Floats | None = None, *, free: Bools | None = None
    ) -> tuple[Floats, Floats]:
        """θ and δ at the minimum, by damped Newton steps.

        A step first solves for θ, with δ eliminated (the Schur complement of the diagonal block), and then for δ.

        Args:
            theta: (p,) start values of θ.
            effect: (groups,) start values of δ; None: 0.
            free: (p,) entries of θ that are fitted; None: all.
        """
        free = np.ones(len(theta), bool) if free is None else free
        effect = np.zeros(len(self.count)) if effect is None else effect
        rate = self.rate(theta, effect)
        best = self.value(theta, effect, rate)
        for _ in range(_STEPS):
            by_log, second_derivatives = self.slopes(rate)
            theta_gradient, effect_gradient = self.gradient(theta, effect, by_log)
            theta_block, mixed, effect_diagonal = self._curvature(effect, second_derivatives, free)
            step = np.zeros(len(theta))
            step_size = 1.0
            step[free] = np.linalg.solve(
                theta_block - mixed.T @ (mixed / effect_diagonal[:, None]),
                theta_gradient[free] - mixed.T @ (effect_gradient / effect_diagonal),
            )
            effect_step = (effect_gradient - mixed @ step[free]) / effect_diagonal
            # Twice the decrease that the quadratic model predicts for a full step.
            gain = float(theta_gradient @ step + effect_gradient @ effect_step)
            if gain <= _ENOUGH * (1.0 + abs(best)):
                break
            # Halve the step until the objective falls by a share of the predicted decrease (Armijo's rule).
            while True:
                next_theta = theta - step_size * step
                next_effect = effect - step_size * effect_step
                rate = self.rate(next_theta, next_effect)
                value = self.value(next_theta, next_effect, rate)
                if step_size <= 1e-6 or value <= best - 1e-4 * step_size * gain:
                    break
                step_size /= 2
            theta = next_theta
            effect = next_effect
            best = value
        return theta, effect

    def covariance(self, theta: Floats, effect: Floats) -> Floats:
        """(p, p) covariance of θ, the inverse of the observed information."""
        free = np.ones(len(theta), bool)
        theta_block, mixed, effect_diagonal = self._curvature(
            effect, self.slopes(self.rate(theta, effect))[1], free
        )
        return np.asarray(
            np.linalg.inv(theta_block - mixed.T @ (mixed / effect_diagonal[:, None])), np.float64
        )
