"""Binary regression with complementary log-log link: likelihood of Poisson events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rimsim.arrays import Bools, Floats, Ints

_STEPS, _ENOUGH = 60, 1e-10
_LARGEST = 30.0
"""Bound of |log μ|; beyond it an outcome is certain in double precision."""


@dataclass(frozen=True, eq=False)
class HazardRegression:
    """P(taken) = 1 − exp(−μ), log μ = columns·θ + δ_group + offset.

    The objective Σ −log P(outcome) + ½ Σ ((parameter − mean) / sd)² is convex. The prior of each parameter is normal,
    that of each δ around 0. The Hessian of δ is diagonal, so a step of Newton's method costs one pass over the m rows
    and a system of as many unknowns as there are columns.
    """

    columns: Floats
    """(m, p) factors of θ."""
    offset: Floats
    """(m,) known part of log μ."""
    taken: Bools
    """(m,) outcomes."""
    group: Ints
    """(m,) group of each row, from 0."""
    n_groups: int
    """Number of groups; one without rows keeps δ = 0."""
    mean: Floats
    """(p,) means of the priors of θ."""
    weight: Floats
    """(p,) 1 / variance of the priors of θ."""
    group_sd: float
    """Standard deviation of the prior of δ."""

    def _log_rate(self, theta: Floats, effect: Floats) -> Floats:
        found = self.columns @ theta + effect[self.group] + self.offset
        return np.asarray(np.clip(found, -_LARGEST, _LARGEST), np.float64)

    def value(self, theta: Floats, effect: Floats) -> float:
        """Objective at θ (p,) and δ (groups,)."""
        rate = np.exp(self._log_rate(theta, effect))
        loss = np.where(self.taken, -np.log(-np.expm1(-rate)), rate).sum()
        prior = (self.weight * (theta - self.mean) ** 2).sum() + (effect**2).sum() / self.group_sd**2
        return float(loss + 0.5 * prior)

    def slopes(self, theta: Floats, effect: Floats) -> tuple[Floats, Floats]:
        """(m,) first and second derivatives of each loss by log μ."""
        rate = np.exp(self._log_rate(theta, effect))
        with np.errstate(over="ignore"):
            odds = rate / np.expm1(rate)
        return np.where(self.taken, -odds, rate), np.where(self.taken, odds * (rate + odds - 1.0), rate)

    def gradient(self, theta: Floats, effect: Floats, by_log: Floats) -> tuple[Floats, Floats]:
        """Gradient by θ (p,) and δ (groups,) from the first of :meth:`slopes`."""
        of_theta = self.columns.T @ by_log + self.weight * (theta - self.mean)
        return of_theta, np.bincount(self.group, by_log, self.n_groups) + effect / self.group_sd**2

    def _curvature(self, curved: Floats, free: int) -> tuple[Floats, Floats, Floats]:
        """Blocks of the Hessian: (free, free), (groups, free), diagonal (groups,)."""
        columns = self.columns[:, :free]
        weighted = columns * curved[:, None]
        square = columns.T @ weighted + np.diag(self.weight[:free])
        mixed = np.stack([np.bincount(self.group, weighted[:, j], self.n_groups) for j in range(free)], 1)
        alone = np.bincount(self.group, curved, self.n_groups) + self.group_sd**-2
        return np.asarray(square, np.float64), np.asarray(mixed, np.float64), np.asarray(alone, np.float64)

    def minimised(self, theta: Floats, *, free: int | None = None) -> tuple[Floats, Floats]:
        """θ (p,) and δ (groups,) at the minimum, by damped Newton steps.

        Args:
            theta: (p,) start of the search.
            free: Number of leading entries of θ that move; None: all.
        """
        free = len(theta) if free is None else free
        effect = np.zeros(self.n_groups)
        for _ in range(_STEPS):
            best = self.value(theta, effect)
            by_log, curved = self.slopes(theta, effect)
            of_theta, of_effect = self.gradient(theta, effect, by_log)
            of_theta = of_theta[:free]
            square, mixed, alone = self._curvature(curved, free)
            step = np.linalg.solve(
                square - mixed.T @ (mixed / alone[:, None]), of_theta - mixed.T @ (of_effect / alone)
            )
            effect_step = (of_effect - mixed @ step) / alone
            gain = float(of_theta @ step + of_effect @ effect_step)
            if gain <= _ENOUGH * (1.0 + abs(best)):
                break
            step, size = np.append(step, np.zeros(len(theta) - free)), 1.0
            while (
                size > 1e-6
                and self.value(theta - size * step, effect - size * effect_step) > best - 1e-4 * size * gain
            ):
                size /= 2
            theta, effect = theta - size * step, effect - size * effect_step
        return theta, effect

    def covariance(self, theta: Floats, effect: Floats) -> Floats:
        """(p, p) covariance of θ: the inverse observed information."""
        square, mixed, alone = self._curvature(self.slopes(theta, effect)[1], len(theta))
        return np.asarray(np.linalg.inv(square - mixed.T @ (mixed / alone[:, None])), np.float64)
