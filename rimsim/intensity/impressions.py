"""What was shown and not taken: a layer over λ(x,y) that is fitted to impressions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from rimsim.arrays import Bools, Floats, Ints
from rimsim.errors import ModelError
from rimsim.intensity.hazard import HazardRegression

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


@dataclass(frozen=True, eq=False)
class Impressions:
    """m items that were shown, and what came of them."""

    item: Ints
    """(m,) the items."""
    score: Floats
    """(m,) λ(x,y) in the state in which the item was shown, of a model without a layer."""
    examination: Floats
    """(m,) by how much the position multiplied the intensity."""
    taken: Bools
    """(m,) whether it was consumed."""
    round: Ints
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
    item: Floats
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

    P(taken) = 1 − exp(−λ'·e) with e the examination of the position: a :class:`HazardRegression` on (α, β, δ), which
    has one minimum. α differs by round, since the level of a model that is retrained drifts; the last round's is what
    counts.

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
    problem = _regression(shown, n_items)
    rounds = problem.columns.shape[1] - 1
    common = problem.minimised(np.append(np.zeros(rounds), 1.0))
    if common[0][-1] < LEAST_SLOPE:  # convex: the best point within the bound lies on it
        common = problem.minimised(np.append(common[0][:-1], LEAST_SLOPE), free=rounds)
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
    problem = _regression(shown, len(item))
    by_log, _ = problem.slopes(theta, item)
    return problem.value(theta, item), *problem.gradient(theta, item, by_log)


def _regression(shown: Impressions, n_items: int) -> HazardRegression:
    """The regression of what was taken on levels of the rounds, the log score and the item."""
    _, of = np.unique(shown.round, return_inverse=True)
    rounds = int(of.max()) + 1
    columns = np.zeros((len(shown), rounds + 1))
    columns[np.arange(len(shown)), of] = 1.0
    columns[:, -1] = np.log(np.maximum(shown.score, FLOOR))
    return HazardRegression(
        columns,
        offset=np.log(shown.examination),
        taken=shown.taken,
        group=shown.item,
        n_groups=n_items,
        mean=np.append(np.zeros(rounds), 1.0),
        weight=np.append(np.full(rounds, _LEVEL_SD**-2), _SLOPE_SD**-2),
        group_sd=_ITEM_SD,
    )
