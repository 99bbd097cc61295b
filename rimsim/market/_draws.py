"""Latent draws of consumers, compiled: the same bits as :func:`rimsim.rng.uniform`, at the cost of a slate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.matching._compiled import compiled
from rimsim.matching._ties import tie_rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["uniform_draws"]

_UNIT = 2.0**-53
_DROP = np.uint64(11)


@compiled
def uniform_draws(keys: NDArray[np.uint64], items: NDArray[np.int64]) -> NDArray[np.float64]:
    """``uniform(seed, purpose, arrival, item)``, given ``bits(seed, purpose, arrival)``.

    Args:
        keys: (n,) bits of the arrivals.
        items: (n, k).

    Returns:
        (n, k) uniform in [0, 1).
    """
    n, k = items.shape
    out = np.empty((n, k), np.float64)
    for row in range(n):
        for position in range(k):
            out[row, position] = np.float64(tie_rank(keys[row], items[row, position]) >> _DROP) * _UNIT
    return out
