"""Seeded order among ties, inside compiled code: the same bits as :func:`rimsim.rng.bits`."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from rimsim.compiled import compiled
from rimsim.rng import Purpose, bits

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["row_states", "tie_rank", "uniform"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_UNIT = 2.0**-53
_30, _27, _31, _11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


def row_states(seed: int, keys: ArrayLike) -> NDArray[np.uint64]:
    """(n,) the random bits of every row: one word of the key is left for the item."""
    return _tie_ranks(_seed_state(seed), np.ascontiguousarray(keys, np.int64))


@lru_cache(maxsize=64)
def _seed_state(seed: int) -> np.uint64:
    """``bits(seed, TIES)``."""
    return np.uint64(bits(seed, Purpose.TIES))


@compiled
def tie_rank(row: np.uint64, item: int) -> np.uint64:
    """``bits(seed, TIES, key, item)``, given ``bits(seed, TIES, key)``; the larger wins a tie."""
    word = np.uint64(item) + _GOLDEN
    word = (word ^ (word >> _30)) * _MIX_1
    word = (word ^ (word >> _27)) * _MIX_2
    word = word ^ (word >> _31)
    state = (row ^ word) + _GOLDEN
    state = (state ^ (state >> _30)) * _MIX_1
    state = (state ^ (state >> _27)) * _MIX_2
    return np.uint64(state ^ (state >> _31))


@compiled
def uniform(bits: np.uint64) -> float:
    """A number in [0, 1) of random bits, as :func:`rimsim.rng.uniform` makes it."""
    return float(np.float64(bits >> _11) * _UNIT)


@compiled
def _tie_ranks(state: np.uint64, words: NDArray[np.int64]) -> NDArray[np.uint64]:
    """(n,) one more word of the key for each: what :func:`rimsim.rng.bits` does with it, at a fraction of the calls."""
    ranks = np.empty(len(words), np.uint64)
    for n in range(len(words)):
        ranks[n] = tie_rank(state, words[n])
    return ranks
