"""Required exposures of a round, items that come on the way included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim import rng
from rimsim.arrays import Bools, Floats, Ints
from rimsim.matching import required_exposure
from rimsim.measures import position_weights

if TYPE_CHECKING:
    from rimsim.config import ExposureConfig, ScenarioConfig
    from rimsim.market.arrivals.schedule import Schedule
    from rimsim.market.consumers import Consumer


def expected(count: int, forecast: float) -> int:
    """Arrivals, or positions, that are expected where so many come: ``forecast`` times as many."""
    return count if forecast == 1.0 else round(forecast * count)


def weights_of(config: ScenarioConfig, consumer: Consumer, decay: float) -> Floats:
    """(k,) what an exposure at each position counts, in the unit of the guarantee.

    Args:
        config: The scenario.
        consumer: Who consumes; where consumption is a hit in what visitors do anyway, positions make no difference.
        decay: γ, as the platform takes it.
    """
    if config.exposure.unit == "shown" or getattr(consumer, "hits_only", False):
        return np.ones(config.slate)
    return position_weights(decay, config.slate)


def required_by_release(
    exposure: ExposureConfig,
    schedule: Schedule,
    positions: int,
    release: Ints,
    seed: int,
    number: int,
) -> Ints:
    """b_y in whole exposures; an item released within the round counts for what is left of the round after it.

    Σ b = β·P for the P positions of the round (N·k without a cap on users), shared out in proportion to the share of
    the round's arrivals that an item is there for, by largest remainder with seeded ties: b_y = β·N·k/M where all items
    are there. With ``exposure.items``, only so many items drawn by seed have theirs; with ``exposure.each``, that is
    what an item has, pro-rated likewise. No item is promised more exposures than arrivals come after its release.

    Args:
        exposure: What is guaranteed.
        schedule: The round's arrivals, N of them.
        positions: Positions that are expected to be filled, P.
        release: (M,) release ticks.
        seed: Seed of ties and of the items that are drawn.
        number: The round, so that draws fall on other items in another round.

    Returns:
        (M,) required exposures.
    """
    ties = rng.derived_seed(seed, rng.Purpose.FLOORS, number)
    coming = (release > schedule.start) & (release < schedule.stop)
    if exposure.items is None and exposure.each is None and not coming.any():
        return required_exposure(exposure.beta, positions, 1, release <= schedule.start, ties)
    left = _arrivals_left(schedule, release)
    share = left / len(schedule) if exposure.each is not None else positions * left / left.sum()
    exact = (exposure.beta if exposure.each is None else exposure.each) * share
    if exposure.items is not None:
        exact = np.where(_drawn(left > 0, exposure.items, ties), exact, 0.0)
    required = np.floor(exact).astype(np.int64)
    rest = round(float(exact.sum())) - int(required.sum())
    order = np.lexsort((rng.bits(ties, rng.Purpose.FLOORS, np.arange(len(left))), -(exact - required)))
    required[order[:rest]] += 1
    return np.asarray(np.minimum(required, left), np.int64)


def uniform_share(schedule: Schedule, positions: int, release: Ints) -> Floats:
    """(M,) the uniform exposure: a round's positions, shared out by how many arrivals each item is there for.

    Args:
        schedule: The round's arrivals.
        positions: Positions that are expected to be filled.
        release: (M,) release ticks.
    """
    left = _arrivals_left(schedule, release)
    return np.asarray(positions * left / max(int(left.sum()), 1), np.float64)


def _arrivals_left(schedule: Schedule, release: Ints) -> Ints:
    """(M,) arrivals of a round that come when each item is there."""
    n = len(schedule)
    coming = (release > schedule.start) & (release < schedule.stop)
    left = np.where(release <= schedule.start, n, 0)
    left[coming] = n - np.searchsorted(schedule.tick, release[coming], "left")
    return left


def _drawn(there: Bools, count: int, seed: int) -> Bools:
    """(M,) a seeded draw of so many items among those that are there, or all of them."""
    order = np.lexsort((rng.bits(seed, rng.Purpose.FLOORS, 1, np.arange(len(there))), ~there))
    chosen = np.zeros(len(there), bool)
    chosen[order[:count]] = True
    return chosen & there
