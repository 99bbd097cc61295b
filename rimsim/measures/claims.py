"""What can be claimed from several comparisons, or from one that shows no difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rimsim.arrays import Floats
from rimsim.errors import DataError
from rimsim.measures.statistics import paired_difference

LEVEL = 0.05
"""Rate of false claims that a table, or a claim of no difference, may have."""


@dataclass(frozen=True)
class Equivalence:
    """Whether two agents differ by less than a margin (two one-sided tests; Schuirmann 1987)."""

    mean: float | None
    """Mean of a − b; None if there is no pair."""
    low: float | None
    """Lower end of the interval that has to lie within the margin, at confidence 1 − 2·level; None with one pair."""
    high: float | None
    """Upper end."""
    margin: float
    """What counts as no difference: less than so much either way."""

    @property
    def holds(self) -> bool:
        """Whether the interval lies within the margin; false with fewer than two pairs."""
        if self.low is None or self.high is None:
            return False
        return -self.margin < self.low and self.high < self.margin


def equivalence(a: ArrayLike, b: ArrayLike, margin: float, level: float = LEVEL) -> Equivalence:
    """Whether a and b are the same but for less than a margin: two one-sided paired t tests.

    An interval that holds 0 shows no difference only where it is short. The tests reject at ``level`` exactly where the
    paired interval of confidence 1 − 2·level lies within the margin (Schuirmann, J. Pharmacokinet. Biopharm. 1987).

    Args:
        a: (n,) one value a seed.
        b: (n,) values of the other agent at the same seeds.
        margin: Above 0, in the unit of the values; chosen before one looks.
        level: Rate of false claims.

    Raises:
        DataError: If the margin is not above 0, or lengths differ.
    """
    if not margin > 0:
        raise DataError(f"margin: {margin}; allowed: above 0, the largest difference that does not matter")
    found = paired_difference(a, b, 1 - 2 * level)
    return Equivalence(found.mean, found.low, found.high, margin)


def holm(p: ArrayLike) -> Floats:
    """Adjust p values for claims made from one table, so that any false one is as rare as in a single comparison.

    The i-th smallest of m is multiplied by m − i + 1, and none is below a smaller one's (Holm, Scand. J. Stat. 1979).

    Args:
        p: Any shape; NaN = no comparison, which stays and does not count.

    Returns:
        Adjusted p values of the same shape; to be held against the level of one comparison.

    Raises:
        DataError: If one is not between 0 and 1.
    """
    given = np.asarray(p, np.float64)
    there = ~np.isnan(given)
    values = given[there]
    if ((values < 0) | (values > 1)).any():
        raise DataError(f"p: {values[(values < 0) | (values > 1)][0]}; allowed: between 0 and 1")
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = given.copy()
    of_values = np.empty(len(values))
    of_values[order] = np.minimum(stepped, 1.0)
    adjusted[there] = of_values
    return adjusted
