"""Factors of impressions by policy, position or user.

A log of several policies mixes places of a site where visitors answer differently. The layer over λ(x,y) has no term
for that, so each group of impressions has a factor of the intensity. The factor of a group has a gamma prior with
mean 1, whose shape has the largest marginal likelihood. Layer and factors are fitted by turns (Gauss-Seidel); a factor
is the posterior mean, given events that are expected where an item was taken (as in the EM algorithm).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import gammaln

from rimsim.arrays import Floats, Ints
from rimsim.intensity.impressions import ESTIMATED_SD, Impressions, LayerFit, PriorSettings

_TURNS: Final = 8
"""Largest number of fits of the layer."""
_SWEEPS: Final = 5
"""Number of times that all factors are updated after each fit of the layer."""
_SETTLED: Final = 0.01
"""Largest change of a log factor after which the turns end."""
_LOG_SHAPES: Final = (-2.0, 6.0)
"""Bounds of the logarithm of a prior's shape."""
_LOG_SHAPE_SD: Final = 2.0
"""Standard deviation of the normal prior, around 0, of the logarithm of the shape."""


@dataclass(frozen=True, eq=False)
class Grouping:
    """Groups of m impressions that share a factor."""

    group: Ints
    """(m,) group of each impression, from 0; −1 where unknown, with the factor 1."""
    n_groups: int
    """Number of groups."""
    is_centred: bool = False
    """True if the mean factor over impressions is 1, so that the layer has their mean level."""


@dataclass(frozen=True, eq=False)
class GroupFactors:
    """Gamma posteriors of the factors of groups."""

    shape: float
    """Shape of the gamma prior, whose mean is 1."""
    count: Floats
    """(groups,) realised events of each group."""
    expected: Floats
    """(groups,) expected events of each group at factor 1."""
    scale: float = 1.0
    """Number by which all factors are multiplied, so that centred factors have the mean 1."""

    @classmethod
    def nothing(cls, n_groups: int) -> GroupFactors:
        """Factors of 1, without evidence."""
        return cls(1.0, np.zeros(n_groups), np.zeros(n_groups))

    @property
    def mean(self) -> Floats:
        """(groups,) posterior mean of each factor."""
        return np.asarray(self.scale * (self.shape + self.count) / (self.shape + self.expected), np.float64)

    def at(self, group: Ints) -> Floats:
        """(m,) factors of impressions; 1 where the group is unknown."""
        return np.append(self.mean, 1.0)[group]

    def shape_at(self, group: Ints) -> Floats:
        """(m,) shapes of the posteriors; that of the prior where unknown."""
        return self.shape + np.append(self.count, 0.0)[group]

    @classmethod
    def fitted(cls, grouping: Grouping, events: Floats, rate: Floats) -> GroupFactors:
        """Posteriors, given events and rates at factor 1."""
        is_known = grouping.group >= 0
        group = grouping.group[is_known]
        count = np.asarray(np.bincount(group, events[is_known], grouping.n_groups), np.float64)
        expected = np.asarray(np.bincount(group, rate[is_known], grouping.n_groups), np.float64)
        factors = cls(_best_shape(count, expected), count, expected)
        if not grouping.is_centred:
            return factors
        mean_factor = (expected @ factors.mean) / expected.sum() if expected.sum() > 0 else 1.0
        return dataclasses.replace(factors, scale=1.0 / mean_factor)


@dataclass(frozen=True, eq=False)
class FactorFit:
    """Layer fit, with factors of groups of impressions."""

    layer_fit: LayerFit
    """Layer that was fitted last."""
    factors: Mapping[str, GroupFactors]
    """Name of a grouping → factors of its groups."""

    def rate(self, shown: Impressions, groups: Mapping[str, Ints]) -> Floats:
        """(m,) intensities of impressions with factors.

        Args:
            shown: The impressions.
            groups: Name of a grouping → (m,) group of each impression.
        """
        rate = self.layer_fit.rate(shown)
        for name, group in groups.items():
            rate = rate * self.factors[name].at(group)
        return rate


def fit_by_turns(
    start: LayerFit,
    shown: Impressions,
    groupings: Mapping[str, Grouping],
    settings: PriorSettings = ESTIMATED_SD,
) -> FactorFit:
    """Fit the layer and the factors of groups by turns.

    Without groupings, the layer is that of a single fit.
    """
    factors = {name: GroupFactors.nothing(grouping.n_groups) for name, grouping in groupings.items()}
    for _ in range(_TURNS):
        product = np.ones(len(shown))
        for name, grouping in groupings.items():
            product *= factors[name].at(grouping.group)
        examination = shown.examination * product if groupings else shown.examination
        layer_fit = start.after(dataclasses.replace(shown, examination=examination), settings)
        previous_factors = factors
        factors = _swept(layer_fit.rate(shown), shown, groupings, factors)
        changes = [
            np.abs(np.log(factors[name].mean) - np.log(previous_factors[name].mean)).max(initial=0.0)
            for name in factors
        ]
        if max(changes, default=0.0) < _SETTLED:
            break
    return FactorFit(layer_fit, factors)


def _swept(
    rate: Floats, shown: Impressions, groupings: Mapping[str, Grouping], factors: Mapping[str, GroupFactors]
) -> dict[str, GroupFactors]:
    """Factors after several updates, given the rates of the layer."""
    updated_factors = dict(factors)
    for _ in range(_SWEEPS):
        for name, grouping in groupings.items():
            rate_without = rate.copy()
            for other, other_grouping in groupings.items():
                if other != name:
                    rate_without *= updated_factors[other].at(other_grouping.group)
            rate_with = rate_without * updated_factors[name].at(grouping.group)
            # Expected events given at least one: an item may be wanted more than once.
            events = np.where(shown.taken, -rate_with / np.expm1(-rate_with), 0.0)
            updated_factors[name] = GroupFactors.fitted(grouping, events, rate_without)
    return updated_factors


def _best_shape(count: Floats, expected: Floats) -> float:
    """Shape of largest marginal likelihood of the counts."""
    rows = expected > 0
    events = count[rows]
    exposure = expected[rows]

    def loss(log_shape: float) -> float:
        """Negative log likelihood, negative binomial, with the prior."""
        shape = np.exp(log_shape)
        total = gammaln(shape + events) - gammaln(shape) + shape * np.log(shape)
        total -= (shape + events) * np.log(shape + exposure)
        return float(-total.sum() + 0.5 * (log_shape / _LOG_SHAPE_SD) ** 2)

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_SHAPES, method="bounded").x))
