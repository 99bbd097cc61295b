"""Designs of experiments: assignment to arms, and estimates.

Let y be the outcome of an exposure, N the number of arrivals, A the control and B the treatment. An estimate is the
difference per arrival that an analyst of the test would report. Its interval treats the assigned units as independent.
Designs on items use the normal distribution, all other designs Student's t with the degrees of freedom of Welch and
Satterthwaite. There are five designs:

    user         assigns visitors; the estimate is the mean outcome of B's arrivals minus that of A's
    switchback   assigns intervals of the clock; the estimate is as for user, but the units are intervals
    budget-split assigns visitors, and halves every floor between the arms; as for user (Liu, Mao and Kang, 2012.08724)
    item         assigns items, and merges both agents' slates (Ha-Thuc et al., SIGIR 2020); the estimate is the mean
                 outcome of an item of B minus that of A, times the number of items, over the number of arrivals
    two-sided    assigns visitors and items; B's visitors see items of B where possible; visitor-item pairs (B, B)
                 are compared with all others (TSRN of Johari, Li, Liskovich and Weintraub, Management Science 2022)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from rimsim import rng
from rimsim.arrays import Bools, Floats, Ints
from rimsim.evaluation.off_policy import clustered_variance

DESIGNS = ("user", "item", "two-sided", "switchback", "budget-split")
"""Names of the designs."""


_USERS, _ITEMS, _BLOCKS = range(3)  # streams of draws, one each for users, items and blocks


@dataclass(frozen=True)
class Assignment:
    """Assignment of each unit to an arm, by a hash."""

    design: str  # one of ``DESIGNS``
    seed: int  # salt of the hash
    interval: float  # length of a block of a switchback, seconds

    @property
    def by_item(self) -> bool:
        """True if items are assigned to arms."""
        return self.design in {"item", "two-sided"}

    @property
    def by_arrival(self) -> bool:
        """True if arrivals are assigned to arms."""
        return self.design != "item"

    def block(self, time: Floats) -> Ints:
        """Number of the interval in which each instant lies."""
        return np.floor(np.asarray(time) / self.interval).astype(np.int64)

    def arrivals(self, user: Ints, time: Floats, number: int) -> Bools:
        """Mask of the arrivals of a round in arm B."""
        if self.design == "switchback":
            draw = rng.uniform(self.seed, rng.Purpose.EXPERIMENT, _BLOCKS, self.block(time))
        elif self.by_arrival:
            draw = rng.uniform(self.seed, rng.Purpose.EXPERIMENT, _USERS, number, user)
        else:
            draw = np.ones(len(user))  # a design that assigns items alone has no arrival in arm B
        return np.asarray(draw < 0.5)

    def items(self, n_items: int) -> Bools:
        """Mask of the items in arm B."""
        if not self.by_item:
            return np.zeros(n_items, bool)
        return np.asarray(rng.uniform(self.seed, rng.Purpose.EXPERIMENT, _ITEMS, np.arange(n_items)) < 0.5)


@dataclass(frozen=True, eq=False)
class Outcome:
    """Outcomes of n slates of k positions, for one metric."""

    value: Floats  # (n, k) value of the metric at each position
    item: Ints  # (n, k) items of the slates; −1 for an empty position
    unit: Ints  # (n,) number of the visitor or block of a switchback that is assigned to an arm
    treated: Bools  # (n,) True for arrivals of arm B
    treated_item: Bools  # (M,) True for items of arm B


class NaiveEstimate(NamedTuple):
    """Estimated effect per arrival; NaN if units are too few."""

    naive: float
    low: float
    high: float


def contrast(design: str, outcome: Outcome) -> NaiveEstimate:
    """Estimate that an analyst of the test would report."""
    degrees_of_freedom = np.inf
    if design == "item":
        value, error = _of_items(outcome)
    elif design == "two-sided":
        value, error = _of_cells(outcome)
    else:
        value, error, degrees_of_freedom = _of_arrivals(outcome)
    half_width = float(stats.t.ppf(0.975, degrees_of_freedom)) * error
    return NaiveEstimate(value, value - half_width, value + half_width)


def _of_arrivals(outcome: Outcome) -> tuple[float, float, float]:
    """Difference of means over arrivals, standard error, degrees of freedom."""
    value_of_arrival = outcome.value.sum(1)
    means = []
    variances = []  # of the means
    unit_counts = []
    for arm in (True, False):
        in_arm = outcome.treated == arm
        n = int(in_arm.sum())
        mean = float(value_of_arrival[in_arm].mean()) if n else float("nan")
        variance_of_sum, n_units = clustered_variance(value_of_arrival[in_arm] - mean, outcome.unit[in_arm])
        variances.append(variance_of_sum / n**2 if n_units > 1 else float("nan"))
        unit_counts.append(n_units)
        means.append(mean)
    variance = sum(variances)
    degrees_of_freedom = np.inf
    if variance > 0:
        # Formula of Welch and Satterthwaite.
        parts = (
            arm_variance**2 / (n_units - 1)
            for arm_variance, n_units in zip(variances, unit_counts, strict=True)
        )
        degrees_of_freedom = variance**2 / sum(parts)
    return means[0] - means[1], float(np.sqrt(variance)), degrees_of_freedom


def _of_items(outcome: Outcome) -> tuple[float, float]:
    """Difference of means over items, as an effect per arrival."""
    m = len(outcome.treated_item)
    filled = outcome.item >= 0
    value_of_item = np.bincount(outcome.item[filled], outcome.value[filled], m)
    # A mean over items, times m and over the number of arrivals, is an effect per arrival.
    per_arrival = value_of_item.astype(np.float64) * (m / len(outcome.value))
    treated, control = (per_arrival[outcome.treated_item == arm] for arm in (True, False))
    variance = sum(float(values.var(ddof=1)) / len(values) for values in (treated, control))
    return float(treated.mean() - control.mean()), float(np.sqrt(variance))


def _of_cells(outcome: Outcome) -> tuple[float, float]:
    """Rate of user-item pairs (B, B) minus that of other pairs."""
    n = len(outcome.value)
    m = len(outcome.treated_item)
    filled = outcome.item >= 0
    item = np.where(filled, outcome.item, 0)
    is_treated = outcome.treated[:, None] & outcome.treated_item[item]
    treated_share = float(outcome.treated.mean() * outcome.treated_item.mean())
    if not 0 < treated_share < 1:
        return float("nan"), float("nan")
    # Inverse-probability weights: pairs (B, B) are the treated share of all pairs of visitors and items.
    weight = np.where(is_treated, 1.0 / treated_share, -1.0 / (1.0 - treated_share))
    weighted = np.where(filled, outcome.value * weight, 0.0)
    by_arrival = weighted.sum(1)
    for arm in (True, False):  # The arms are fixed, so only deviations from the mean of an arm are random.
        in_arm = outcome.treated == arm
        by_arrival[in_arm] -= by_arrival[in_arm].mean()
    by_item = np.bincount(item[filled], weighted[filled], m)
    for arm in (True, False):
        by_item[outcome.treated_item == arm] -= by_item[outcome.treated_item == arm].mean()
    _, unit = np.unique(outcome.unit, return_inverse=True)
    spread = float((np.bincount(unit, by_arrival) ** 2).sum() + (by_item**2).sum())
    # The sum over visitors and the sum over items both count each pair of visitor and item. So these pairs are
    # subtracted once.
    spread -= float(((weighted[filled] - weighted[filled].mean()) ** 2).sum())
    return float(weighted.sum()) / n, float(np.sqrt(max(spread, 0.0))) / n
