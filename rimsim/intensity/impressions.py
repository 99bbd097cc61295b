"""What was shown and not taken: a layer over λ(x,y) that is fitted to impressions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from rimsim.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

__all__ = ["FLOOR", "ImpressionLayer", "Impressions", "fit_layer", "likelihood"]

FLOOR = 1e-9
"""An intensity below it is taken for it, so that its logarithm exists."""
LEAST_SLOPE = 0.05
"""β's bound: the layer keeps the order of an item's intensities."""
_LEVEL_SD, _SLOPE_SD, _ITEM_SD = 3.0, 0.5, 0.1
"""Standard deviations of the normal priors of α around 0, β around 1 and δ around 0.

An item's own deviation is shrunk most: .3 predicts the coming round's impressions a little better, but with ``bag`` it
cost 7 % of the slates' worth by round 7, as it forgets whom an item is for; .1 cost none with ``bag``, ``ease`` and
``factors``.
"""
_STEPS, _ENOUGH = 60, 1e-10
_LARGEST = 30.0
"""Bound of |log μ|, beyond which nothing can be told from certainty."""


@dataclass(frozen=True, eq=False)
class Impressions:
    """m items that were shown, and what came of them."""

    item: NDArray[np.int64]
    """(m,) the items."""
    score: NDArray[np.float64]
    """(m,) λ(x,y) in the state in which the item was shown, of a model without a layer."""
    examination: NDArray[np.float64]
    """(m,) by how much the position multiplied the intensity."""
    taken: NDArray[np.bool_]
    """(m,) whether it was consumed."""
    round: NDArray[np.int64]
    """(m,) its round; each has a level of its own."""

    def __len__(self) -> int:
        return len(self.item)


@dataclass(frozen=True, eq=False)
class ImpressionLayer:
    """λ'(x,y) = exp(α + β·log λ(x,y) + δ_y)."""

    level: float
    """α."""
    slope: float
    """β, positive."""
    item: NDArray[np.float64]
    """(M,) δ."""

    @classmethod
    def identity(cls, n_items: int) -> ImpressionLayer:
        """The layer that changes nothing: α = 0, β = 1, δ = 0."""
        return cls(0.0, 1.0, np.zeros(n_items))

    def apply_(self, intensity: torch.Tensor) -> torch.Tensor:
        """λ' (n, M) in place of λ, in the tensor given; an entry depends on itself alone."""
        offset = torch.from_numpy((self.level + self.item).astype(np.float32)).to(intensity.device)
        return intensity.clamp_min_(FLOOR).log_().mul_(self.slope).add_(offset).exp_()


def fit_layer(shown: Impressions, n_items: int) -> ImpressionLayer:
    """The layer under which what was taken, and what was not, is most likely.

    P(taken) = 1 − exp(−λ'·e) with e the examination of the position: a binary regression with complementary log-log
    link, whose negative log-likelihood is convex in (α, β, δ). α differs by round, since the level of a model that is
    retrained drifts; the last round's is what counts. With normal priors there is one minimum, found by Newton's
    method: the Hessian of δ is diagonal, so a step costs one pass over the impressions and a system of as many
    unknowns as there are rounds.

    The scores should be those of a model that was not trained on what came of these impressions: one that was tells
    them from memory, which the coming round does not bear out.

    Args:
        shown: The impressions; without any, the layer is the identity.
        n_items: Size of the catalogue, M.

    Raises:
        ModelError: If a score is negative or no number, or an examination is not positive.
    """
    if not len(shown):
        return ImpressionLayer.identity(n_items)
    if (
        not (shown.score >= 0).all()
        or not np.isfinite(shown.score).all()
        or not (shown.examination > 0).all()
    ):
        raise ModelError(
            "impressions: found a score that is negative or no number, or an examination that is not positive; "
            "allowed: finite scores of at least 0, examinations above 0"
        )
    problem = _Problem(shown, n_items)
    common = problem.minimised(np.append(np.zeros(problem.rounds), 1.0), free=problem.rounds + 1)
    if common[0][-1] < LEAST_SLOPE:  # convex: the best point within the bound lies on it
        common = problem.minimised(np.append(common[0][:-1], LEAST_SLOPE), free=problem.rounds)
    theta, item = common
    return ImpressionLayer(float(theta[-2]), float(theta[-1]), item)


def likelihood(theta: Floats, item: Floats, shown: Impressions) -> tuple[float, Floats, Floats]:
    """The negative log-likelihood of impressions with the priors, and its gradient.

    Args:
        theta: (R + 1,) α of each round, then β.
        item: (M,) δ.
        shown: Impressions of R rounds.

    Returns:
        The value, its gradient by theta (R + 1,), and its gradient by δ (M,).
    """
    problem = _Problem(shown, len(item))
    by_log, _ = problem.slopes(theta, item)
    return problem.value(theta, item), *problem.gradient(theta, item, by_log)


class _Problem:
    """Minimise Σ −log P(outcome) + ½ Σ ((parameter − mean) / sd)²."""

    def __init__(self, shown: Impressions, n_items: int) -> None:
        _, of = np.unique(shown.round, return_inverse=True)
        self.rounds = int(of.max()) + 1
        self._item, self._taken, self._m = shown.item, shown.taken, n_items
        self._columns = np.zeros((len(shown), self.rounds + 1))
        self._columns[np.arange(len(shown)), of] = 1.0
        self._columns[:, -1] = np.log(np.maximum(shown.score, FLOOR))
        self._offset = np.log(shown.examination)
        self._mean = np.append(np.zeros(self.rounds), 1.0)
        self._weight = np.append(np.full(self.rounds, _LEVEL_SD**-2), _SLOPE_SD**-2)

    def _log_rate(self, theta: Floats, item: Floats) -> Floats:
        found = self._columns @ theta + item[self._item] + self._offset
        return np.asarray(np.clip(found, -_LARGEST, _LARGEST), np.float64)

    def value(self, theta: Floats, item: Floats) -> float:
        """The function."""
        rate = np.exp(self._log_rate(theta, item))
        loss = np.where(self._taken, -np.log(-np.expm1(-rate)), rate).sum()
        prior = (self._weight * (theta - self._mean) ** 2).sum() + (item**2).sum() / _ITEM_SD**2
        return float(loss + 0.5 * prior)

    def slopes(self, theta: Floats, item: Floats) -> tuple[Floats, Floats]:
        """(m,) first and second derivatives of the loss of each impression by its log rate."""
        rate = np.exp(self._log_rate(theta, item))
        with np.errstate(over="ignore"):
            odds = rate / np.expm1(rate)
        return np.where(self._taken, -odds, rate), np.where(self._taken, odds * (rate + odds - 1.0), rate)

    def gradient(self, theta: Floats, item: Floats, by_log: Floats) -> tuple[Floats, Floats]:
        """Its gradient by theta (R + 1,) and by δ (M,)."""
        of_theta = self._columns.T @ by_log + self._weight * (theta - self._mean)
        return of_theta, np.bincount(self._item, by_log, self._m) + item / _ITEM_SD**2

    def minimised(self, theta: Floats, *, free: int) -> tuple[Floats, Floats]:
        """The minimum over δ and the first ``free`` entries of theta, the others as given."""
        item, best = np.zeros(self._m), np.inf
        for _ in range(_STEPS):
            best = self.value(theta, item)
            by_log, curved = self.slopes(theta, item)
            of_theta, of_item = self.gradient(theta, item, by_log)
            columns, of_theta = self._columns[:, :free], of_theta[:free]
            weighted = columns * curved[:, None]
            square = columns.T @ weighted + np.diag(self._weight[:free])
            mixed = np.stack([np.bincount(self._item, weighted[:, j], self._m) for j in range(free)], 1)
            alone = np.bincount(self._item, curved, self._m) + _ITEM_SD**-2
            step = np.linalg.solve(
                square - mixed.T @ (mixed / alone[:, None]), of_theta - mixed.T @ (of_item / alone)
            )
            item_step = (of_item - mixed @ step) / alone
            gain = float(of_theta @ step + of_item @ item_step)
            if gain <= _ENOUGH * (1.0 + abs(best)):
                break
            step, size = np.append(step, np.zeros(len(theta) - free)), 1.0
            while (
                size > 1e-6
                and self.value(theta - size * step, item - size * item_step) > best - 1e-4 * size * gain
            ):
                size /= 2
            theta, item = theta - size * step, item - size * item_step
        return theta, item
