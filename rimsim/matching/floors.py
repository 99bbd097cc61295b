"""Required exposures: a share of the uniform exposure, in whole exposures."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rimsim.arrays import Ints
from rimsim.errors import ConfigError
from rimsim.rng import Purpose, bits


def required_exposure(share: float, n: int, k: int, released: ArrayLike, seed: int) -> Ints:
    """Guarantee every released item a share β of the uniform exposure, b = β·n·k/M, in whole exposures.

    Rounded by largest remainder: the total is β·n·k rounded to the nearest whole number (half up), every item
    gets b rounded down, and the rest goes to items drawn by seed, since all remainders are equal.

    Args:
        share: β, between 0 and 1.
        n: Expected arrivals, N.
        k: Positions of a slate.
        released: (M,) true for the items that take part; M in the formula is their number.
        seed: Seed of the ties; the same seed, the same items.

    Returns:
        (M,) required exposures, 0 for items that are not released.

    Raises:
        ConfigError: If the share is outside [0, 1], or n or k is negative.
    """
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"required_exposure: share is {share!r}; allowed: a number from 0 to 1")
    if n < 0 or k < 0:
        raise ConfigError(f"required_exposure: n is {n!r} and k is {k!r}; allowed: numbers of at least 0")
    mask = np.asarray(released, bool)
    items = np.flatnonzero(mask)
    required = np.zeros(len(mask), np.int64)
    if len(items) == 0:
        return required
    total = int(np.floor(share * n * k + 0.5))
    base, rest = divmod(total, len(items))
    required[items] = base
    order = np.lexsort((items, bits(seed, Purpose.FLOORS, items)))
    required[items[order[:rest]]] += 1
    return required
