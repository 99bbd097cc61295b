"""Means over seeds with intervals, and differences between agents on common random numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rimsim.arrays import Floats
from rimsim.errors import DataError

FEW_SEEDS = 4
"""Below so many seeds an interval says less than the seeds themselves, which charts show in place of it."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its two-sided confidence interval."""

    mean: float | None
    """None if there is no value."""
    low: float | None
    """None with fewer than two values: one seed says nothing about the spread."""
    high: float | None
    """None with fewer than two values."""
    n: int
    """Values that went in."""


@dataclass(frozen=True)
class PairedDifference:
    """The mean of a − b over seeds, its interval and its size in standard deviations."""

    mean: float | None
    """None if there is no pair."""
    low: float | None
    """None with fewer than two pairs."""
    high: float | None
    """None with fewer than two pairs."""
    dz: float | None
    """Effect size: mean over standard deviation of the differences (Cohen 1988, d_z). None with fewer than
    two pairs or when every difference is the same and not 0; 0 when all are 0."""
    n: int
    """Pairs that went in."""
    p: float | None = None
    """p value of the paired t test against no difference; None with fewer than two pairs."""

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0; false with fewer than two pairs."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def mean_interval(values: ArrayLike, level: float = 0.95, overlap: float = 0.0) -> Interval:
    """Mean and Student-t interval: x̄ ± t_{n−1, (1+level)/2}·s/√n (Student, Biometrika 1908).

    Splits of one log share what they learn from, so that their values say less than as many independent ones would.
    With an overlap, s·√(1/n + overlap) takes the place of s/√n (Nadeau and Bengio, Machine Learning 2003).

    Args:
        values: (n,) one value a seed. NaN = the measure does not exist in that seed; it is left out and
            ``n`` says how many remain.
        level: Confidence level in (0, 1).
        overlap: Values are of random splits of one log, whose tested part is so many times the part that is learnt
            from; 0: they are independent.

    Returns:
        The interval; without bounds for one value, without mean for none. Never NaN.
    """
    _check_level(level)
    kept = _present(np.asarray(values, np.float64).ravel())
    n = len(kept)
    if n == 0:
        return Interval(None, None, None, 0)
    mean = float(kept.mean())
    if n == 1:
        return Interval(mean, None, None, 1)
    half = _t_quantile(n - 1, (1 + level) / 2) * float(kept.std(ddof=1)) * (1 / n + overlap) ** 0.5
    return Interval(mean, mean - half, mean + half, n)


def paired_difference(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> PairedDifference:
    """Mean of a − b over seeds with the paired Student-t interval and d_z.

    Agents see the same arrivals and the same random numbers at a seed, so that pairing takes most of the noise out.

    Args:
        a: (n,) one value a seed.
        b: (n,) values of the other agent at the same seeds, in the same order. A pair with a NaN is left out.
        level: Confidence level in (0, 1).

    Raises:
        DataError: If the two have different lengths.
    """
    first, second = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    if len(first) != len(second):
        raise DataError(f"paired_difference: {len(first)} and {len(second)} values; allowed: the same seeds")
    difference = first - second
    interval = mean_interval(difference, level)
    dz = p = None
    if interval.mean is not None and interval.n > 1:
        spread = float(_present(difference).std(ddof=1))
        dz = interval.mean / spread if spread > 0 else (0.0 if interval.mean == 0 else None)
        p = 0.0 if dz is None else _two_sided(interval.n - 1, dz * interval.n**0.5)
    return PairedDifference(interval.mean, interval.low, interval.high, dz, interval.n, p)


def _present(values: Floats) -> Floats:
    if np.isinf(values).any():
        raise DataError("statistics: an infinite value; allowed: finite numbers, or NaN for a missing one")
    return np.asarray(values[~np.isnan(values)], np.float64)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise DataError(f"level: {level}; allowed: between 0 and 1, such as 0.95")


def _two_sided(degrees: int, t: float) -> float:
    from scipy.special import stdtr  # noqa: PLC0415 - keeps the measures at NumPy's import time

    return 2 * float(stdtr(degrees, -abs(t)))


def _t_quantile(degrees: int, probability: float) -> float:
    from scipy.special import stdtrit  # noqa: PLC0415 - keeps the measures at NumPy's import time

    return float(stdtrit(degrees, probability))
