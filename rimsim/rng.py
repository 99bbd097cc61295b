"""Counter-based randomness.

A random number depends only on its key. So agents share random numbers, and results do not depend on batches
or workers. A resumed run needs no generator state. The generator is the finaliser of SplitMix64 (Steele, Lea
and Flood, OOPSLA 2014), once per word of the key. It passes usual statistical tests.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rimsim.arrays import Floats

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Purpose(IntEnum):
    """Purpose of a random number; each has its own stream."""

    ARRIVALS = 1
    CHOICE = 2
    MODEL = 3
    AGENT = 4
    FLOORS = 5
    MEASURE = 6
    TIES = 8
    SPLIT = 9
    LATER_SESSIONS = 10
    CONTROL = 11
    PROVIDERS = 12
    EXPERIMENT = 19
    LEARNING = 20
    OWN_CHOICE = 21
    PROCESSES = 22
    FALLBACK = 23


def _mixed(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finaliser of SplitMix64, which spreads each bit over the word."""
    word = (word ^ (word >> np.uint64(30))) * _MIX_1
    word = (word ^ (word >> np.uint64(27))) * _MIX_2
    return word ^ (word >> np.uint64(31))


def bits(seed: int, purpose: Purpose, *key: ArrayLike) -> NDArray[np.uint64]:
    """64 random bits for every element of the broadcast key.

    Args:
        seed: Seed of the stream, any Python integer.
        purpose: Purpose of the random numbers.
        *key: Integers or integer arrays that broadcast together, such as arrival ids (n, 1) and items (k,).
    """
    with np.errstate(over="ignore"):
        state = _mixed(np.asarray(seed & 0xFFFFFFFFFFFFFFFF, np.uint64) + _GOLDEN)
        state = _mixed((state ^ np.uint64(int(purpose))) + _GOLDEN)
        for word in key:
            unsigned = np.asarray(word, np.int64).astype(np.uint64)
            state = _mixed((state ^ _mixed(unsigned + _GOLDEN)) + _GOLDEN)
    return np.asarray(state, np.uint64)


def uniform(seed: int, purpose: Purpose, *key: ArrayLike) -> Floats:
    """Uniform random numbers in [0, 1) with 53 bits; see :func:`bits`."""
    return (bits(seed, purpose, *key) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def exponential(seed: int, purpose: Purpose, *key: ArrayLike) -> Floats:
    """Standard exponential random numbers; see :func:`bits`."""
    return np.asarray(-np.log1p(-uniform(seed, purpose, *key)), np.float64)


def derived_seed(seed: int, purpose: Purpose, *key: int) -> int:
    """Seed below 2**63, for a library such as torch."""
    return int(bits(seed, purpose, *key) >> np.uint64(1))


def generator(seed: int, purpose: Purpose, *key: int) -> np.random.Generator:
    """NumPy generator for random numbers in a fixed order."""
    return np.random.default_rng(derived_seed(seed, purpose, *key))
