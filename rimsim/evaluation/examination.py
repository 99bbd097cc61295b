"""Estimates of γ, the decay of examination by position.

An item of intensity λ is taken at position r with probability 1 − exp(−λ·γ^(r−1)). Click-through rates by position do
not identify γ, because good items are at the top. Two estimates avoid this bias:

* from **random slates**, whose items do not depend on the position: :func:`decay_of_counts`;
* from **harvested interventions** (Agarwal, Zaitsev, Wang, Li, Najork and Joachims, "Estimating Position Bias without
  Intrusive Interventions", WSDM 2019): an item was at different positions, because prices changed, the model was
  retrained, or visitors had consumed other items: :func:`decay_of_slates`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rimsim.arrays import Bools, Floats, Ints
from rimsim.errors import DataError, refuse
from rimsim.regression import HazardRegression

LEAST_DECAY = 0.2  # smallest γ that is used, because the tenth position must still count
NORMAL_95 = 1.959963984540054  # normal quantile of a 95% interval
_FLOOR = 1e-9  # smallest score, because scores get a logarithm
_WIDE = 10.0
"""Standard deviation of weak priors: a solution then exists even where the data leave a parameter open."""
_ITEM_SD = 1.0
"""Standard deviation, in log intensity, of an item's effect beyond its scores; results barely depend on it."""


@dataclass(frozen=True)
class DecayEstimate:
    """log γ and its standard error."""

    log_decay: float
    """Maximum-likelihood estimate of log γ; above 0 if later positions were taken more often."""
    error: float
    """Standard error of log γ."""

    @property
    def decay(self) -> float:
        """γ, clipped to [0.2, 1], because examination does not grow."""
        return min(1.0, max(LEAST_DECAY, math.exp(self.log_decay)))

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the 95% interval of γ, not clipped."""
        half = NORMAL_95 * self.error
        return math.exp(self.log_decay - half), math.exp(min(self.log_decay + half, 700.0))

    @classmethod
    def pooled(cls, estimates: Sequence[DecayEstimate]) -> DecayEstimate | None:
        """Precision-weighted mean of independent estimates; None without estimates."""
        if not estimates:
            return None
        precision = np.array([estimate.error**-2 for estimate in estimates])
        mean = float(precision @ np.array([estimate.log_decay for estimate in estimates]) / precision.sum())
        return cls(mean, float(precision.sum() ** -0.5))


def taken_by_position(item: ArrayLike, taken: ArrayLike) -> Ints:
    """Numbers of items shown and taken at each position."""
    shown, consumed = _slates(item, taken)
    filled = shown >= 0
    return np.stack([filled.sum(0), (consumed & filled).sum(0)]).astype(np.int64)


def decay_of_counts(counts: ArrayLike) -> DecayEstimate | None:
    """γ from random slates; None if nothing was consumed.

    The estimate is by maximum likelihood of P(taken at r) = 1 − exp(−λ·γ^(r−1)), with the same λ for all exposures. If
    intensities differ, with mean m and variance s², the estimate of (k − 1)·log γ is too high by less than s²/2m, for
    small chances of consumption. The counts come from :func:`taken_by_position`, for slates whose items do not depend
    on the position; counts of several rounds may be added.
    """
    table = np.asarray(counts)
    if table.ndim != 2 or len(table) != 2 or (table[1] < 0).any() or (table[1] > table[0]).any():
        refuse(DataError, "counts", f"found an array of shape {table.shape}", "(2, k), 0 ≤ taken ≤ shown")
    if not table[1].any():
        return None
    n_taken = table[1]
    n_missed = table[0] - n_taken
    # The regression has a row per exposure: first the exposures that were taken, then all others.
    position = np.tile(np.arange(table.shape[1], dtype=np.float64), 2)
    position = np.repeat(position, np.concatenate([n_taken, n_missed]))
    taken = np.arange(len(position)) < n_taken.sum()
    columns = np.stack([np.ones(len(position)), position], 1)
    # All exposures have the same λ. So they form one group, whose effect is held at 0 by a tiny standard deviation.
    group = np.zeros(len(position), np.int64)
    return _slope_of_last(columns, taken, group, n_groups=1, group_sd=1e-3)


def decay_of_slates(item: ArrayLike, taken: ArrayLike, score: ArrayLike) -> DecayEstimate | None:
    """γ from a policy's slates; None if nothing was consumed.

    log λ = α + β·(s − s̄) + β̄·s̄ + δ_y, where s is the log score of the item, s̄ is the mean of s over the slate, and
    δ_y is the effect of item y. Because of the effect δ_y, the estimate compares an item with itself at other
    positions. The score s corrects this comparison for differences between the visitors who saw the item. The slopes β
    within slates and β̄ between slates are separate (Mundlak 1978), because a score that is the largest of many says
    less about the intensity. γ, α, β, β̄ and δ are fitted together by maximum likelihood. The standard error covers
    sampling only. With prices, exploration or retrained models, the same item is at different positions, which
    identifies γ. If a policy orders items by the scores s alone, the estimate depends on the form of the model for λ.
    Each row of the arrays is a slate, of one or several rounds, with −1 for an empty position. Scores λ(x,y) must be
    from the time of the decision, by a model that was not trained on the outcome.
    """
    shown, consumed = _slates(item, taken)
    scores = np.asarray(score, np.float64)
    filled = shown >= 0
    if scores.shape != shown.shape or not (np.isfinite(scores[filled]) & (scores[filled] >= 0)).all():
        problem = f"found shape {scores.shape}, or a score of a shown item that is negative or not a number"
        refuse(DataError, "score", problem, f"{shown.shape} finite scores of at least 0")
    if not consumed[filled].any():
        return None
    log_score = np.log(np.maximum(np.where(filled, scores, 1.0), _FLOOR))
    # An empty position has the score log 1 = 0, so it adds nothing.
    mean = log_score.sum(1) / np.maximum(filled.sum(1), 1)
    slate, position = np.nonzero(filled)
    deviation = log_score[filled] - mean[slate]
    columns = np.stack([np.ones(len(slate)), deviation, mean[slate], position.astype(np.float64)], 1)
    _, group = np.unique(shown[filled], return_inverse=True)
    return _slope_of_last(columns, consumed[filled], group, n_groups=int(group.max()) + 1, group_sd=_ITEM_SD)


def _slates(item: ArrayLike, taken: ArrayLike) -> tuple[Ints, Bools]:
    """Shown items and consumptions, checked to have one shape."""
    shown = np.asarray(item, np.int64)
    consumed = np.asarray(taken, bool)
    if shown.ndim != 2 or consumed.shape != shown.shape:
        refuse(DataError, "item and taken", f"shapes {shown.shape} and {consumed.shape}", "(n, k) for both")
    return shown, consumed


def _slope_of_last(
    columns: Floats, taken: Bools, group: Ints, *, n_groups: int, group_sd: float
) -> DecayEstimate:
    """Coefficient of the last column, fitted with wide priors.

    The factor exp(δ) of a group has a gamma prior with mean 1 and standard deviation ``group_sd``.
    """
    width = columns.shape[1]
    problem = HazardRegression(
        columns,
        offset=np.zeros(len(columns)),
        taken=taken,
        group=group,
        count=np.full(n_groups, group_sd**-2),
        exposure=np.full(n_groups, group_sd**-2),
        mean=np.zeros(width),
        precision=np.eye(width) * _WIDE**-2,
    )
    start = np.append(-1.0, np.zeros(width - 1))
    theta, effect = problem.minimised(start)
    return DecayEstimate(float(theta[-1]), float(math.sqrt(problem.covariance(theta, effect)[-1, -1])))
