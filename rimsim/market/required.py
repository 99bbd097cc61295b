"""Required exposures of a round, items that come on the way included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim import rng
from rimsim.matching import required_exposure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.market.schedule import Schedule

__all__ = ["required_by_release"]


def required_by_release(
    beta: float, schedule: Schedule, slate: int, release: NDArray[np.int64], seed: int, number: int
) -> NDArray[np.int64]:
    """b_y in whole exposures; an item released within the round counts for what is left of the round after it.

    Σ b = β·N·k, shared out in proportion to the share of the round's arrivals that an item is there for, by largest
    remainder with seeded ties: b_y = β·N·k/M where all items are there. No item is promised more exposures than
    arrivals come after its release.

    Args:
        beta: β.
        schedule: The round's arrivals, N of them.
        slate: k.
        release: (M,) release ticks.
        seed: Seed of ties.
        number: The round, so that ties fall on other items in another round.

    Returns:
        (M,) required exposures.
    """
    ties = rng.derived_seed(seed, rng.Purpose.FLOORS, number)
    n = len(schedule)
    there = release <= schedule.start
    coming = ~there & (release < schedule.stop)
    if not coming.any():
        return required_exposure(beta, n, slate, there, ties)
    left = np.where(there, n, 0)
    left[coming] = n - np.searchsorted(schedule.tick, release[coming], "left")
    exact = beta * n * slate * left / left.sum()
    required = np.floor(exact).astype(np.int64)
    rest = round(beta * n * slate) - int(required.sum())
    order = np.lexsort((rng.bits(ties, rng.Purpose.FLOORS, np.arange(len(left))), -(exact - required)))
    required[order[:rest]] += 1
    return np.asarray(np.minimum(required, left), np.int64)
