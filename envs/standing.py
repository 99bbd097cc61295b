"""Where a round stands when one arrival waits: all that prices and small observations are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Standing", "popularity_groups"]


@dataclass(frozen=True, eq=False)
class Standing:
    """One arrival and the open round, as an agent may know them."""

    intensity: NDArray[np.float64]
    """(M,) λ(x,y) by the platform's model."""
    admissible: NDArray[np.bool_]
    """(M,) what may be shown."""
    required: NDArray[np.float64]
    """(M,) required exposures of the round, in the unit of the guarantee."""
    exposure: NDArray[np.float64]
    """(M,) exposures of the round so far, in that unit."""
    weights: NDArray[np.float64]
    """(k,) what an exposure counts by position, in that unit."""
    cost: float
    """c, of a missing exposure, in units of λ(x,y)."""
    served: int
    """Arrivals of the round that have been served."""
    arrivals: int
    """Expected arrivals of the round, N."""

    @property
    def missing(self) -> NDArray[np.float64]:
        """(M,) exposures that an item still lacks."""
        return np.maximum(self.required - self.exposure, 0.0)


def popularity_groups(counts: NDArray[np.int64], groups: int) -> NDArray[np.float64]:
    """(G, M) membership of items in groups of equal size by popularity, least popular first; columns sum to 1.

    Args:
        counts: (M,) events of each item; ties go by item.
        groups: How many, at most M.
    """
    m = len(counts)
    group = np.empty(m, np.int64)
    group[np.argsort(counts, kind="stable")] = np.arange(m) * groups // m
    return np.asarray(np.arange(groups)[:, None] == group, np.float64)
