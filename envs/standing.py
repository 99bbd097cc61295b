"""Where a round stands when one arrival waits: all that prices and small observations are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rimsim.arrays import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class Standing:
    """One arrival and the open round, as an agent may know them."""

    intensity: Floats
    """(M,) λ(x,y) by the platform's model."""
    admissible: Bools
    """(M,) what may be shown."""
    required: Floats
    """(M,) required exposures of the round, in the unit of the guarantee."""
    exposure: Floats
    """(M,) exposures of the round so far, in that unit."""
    weights: Floats
    """(k,) what an exposure counts by position, in that unit."""
    cost: float
    """c, of a missing exposure, in units of λ(x,y)."""
    served: int
    """Arrivals of the round that have been served."""
    arrivals: int
    """Expected arrivals of the round, N."""

    @property
    def missing(self) -> Floats:
        """(M,) exposures that an item still lacks."""
        return np.maximum(self.required - self.exposure, 0.0)


def popularity_groups(counts: Ints, groups: int) -> Floats:
    """(G, M) membership of items in groups of equal size by popularity, least popular first; columns sum to 1.

    Args:
        counts: (M,) events of each item; ties go by item.
        groups: How many, at most M.
    """
    m = len(counts)
    group = np.empty(m, np.int64)
    group[np.argsort(counts, kind="stable")] = np.arange(m) * groups // m
    return np.asarray(np.arange(groups)[:, None] == group, np.float64)
