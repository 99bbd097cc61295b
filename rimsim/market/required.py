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
    """b_y = β·N·k/M in whole exposures; an item released within the round gets its share of what is left of it.

    Items released by the round's start share out β·N·k by largest remainder. A later item gets the floor that such an
    item has on average, times the share of the round's arrivals that come after its release, rounded down.

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
    there = release <= schedule.start
    ties = rng.derived_seed(seed, rng.Purpose.FLOORS, number)
    required = required_exposure(beta, len(schedule), slate, there, ties)
    coming = np.flatnonzero(~there & (release < schedule.stop))
    if len(coming) and there.any():
        left = len(schedule) - np.searchsorted(schedule.tick, release[coming], "left")
        each = beta * len(schedule) * slate / there.sum()
        required[coming] = np.floor(each * left / len(schedule)).astype(np.int64)
    return required
