"""``random``: uniform exploration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim import rng
from rimsim.agents.prices import capacities
from rimsim.arrays import Bools, Ints
from rimsim.evaluation.off_policy import Chances
from rimsim.market import Slates

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView


_TRIES = 4
"""Candidates drawn for each position before a row falls back on sorting all items."""


def uniform_slates(admissible: Bools, k: int, key: int, arrival: Ints) -> Ints:
    """Slates drawn uniformly without replacement from the admissible items.

    The first k distinct admissible items of a random sequence of items are such a draw. A sequence of a few times k
    nearly always holds them, so no random number is spent on the other items of the catalogue.

    Args:
        admissible: (n, M).
        k: Positions.
        key: Seed.
        arrival: (n,) arrival ids, which make a row's draw independent of the batch.

    Returns:
        (n, k) items; −1 where a row has fewer admissible items.
    """
    n, m = admissible.shape
    width = _TRIES * k
    draw = rng.uniform(key, rng.Purpose.AGENT, arrival[:, None], np.arange(width))
    candidate = (draw * m).astype(np.int64)
    rows = np.arange(n)[:, None]
    # A stable sort puts equal items side by side with the first drawn in front: later ones are repeats.
    order = np.argsort(candidate, axis=1, kind="stable")
    by_item = np.take_along_axis(candidate, order, 1)
    repeat = np.zeros((n, width), bool)
    np.put_along_axis(repeat, order[:, 1:], by_item[:, 1:] == by_item[:, :-1], 1)
    good = admissible[rows, candidate] & ~repeat
    first = np.argsort(~good, axis=1, kind="stable")[:, :k]
    slates = np.take_along_axis(candidate, first, 1)
    for row in np.flatnonzero(good.sum(1) < k).tolist():
        items = np.flatnonzero(admissible[row])
        rank = np.argsort(rng.bits(key, rng.Purpose.AGENT, arrival[row], width + items), kind="stable")
        slates[row] = -1
        slates[row, : min(k, len(items))] = items[rank[:k]]
    return slates


def uniform_chances(slates: Ints, arrivals: Arrivals) -> Chances:
    """Chances of slates (n, k) where any so many admissible items, in any order, are alike."""
    k = slates.shape[1]
    admissible = arrivals.admissible.cpu().numpy()
    m = admissible.sum(1)[:, None]
    size = np.minimum(capacities([arrivals], k)[:, None], m)
    allowed = (slates >= 0) & np.take_along_axis(admissible, np.maximum(slates, 0), 1)
    inclusion = np.where(allowed, size / np.maximum(m, 1), 0.0)
    standing = allowed & (np.arange(k) < size)
    position = np.where(standing, 1.0 / np.maximum(m, 1), 0.0)
    prefix = np.cumprod(np.where(standing, 1.0 / np.maximum(m - np.arange(k), 1), 0.0), axis=1)
    filled = (slates >= 0).sum(1)
    ends = np.take_along_axis(prefix, np.maximum(size - 1, 0), 1)[:, 0]
    whole = np.where(filled == 0, 1.0, ends) * (filled == size[:, 0])
    return Chances(inclusion, position, prefix.astype(np.float64), whole)


class Random:
    """Shows a uniform draw of admissible items, with its exact propensities."""

    name = "random"
    order_free = True
    barrier_every = None

    def begin_round(self, view: RoundView) -> None:
        """Take the slate's length and the round's key."""
        self._slate, self._key = view.k, view.key

    def act(self, arrivals: Arrivals) -> Slates:
        """A uniform slate for each row; every admissible item is in it with probability k / admissible."""
        admissible = arrivals.admissible.cpu().numpy()
        items = uniform_slates(admissible, self._slate, self._key, arrivals.id)
        # The market keeps the first positions of a row that may fill fewer, which are a uniform draw of fewer items.
        positions = capacities([arrivals], self._slate)
        chance = np.minimum(1.0, positions / np.maximum(admissible.sum(1), 1))
        propensity = np.broadcast_to(chance[:, None], items.shape).astype(np.float32)
        cut = np.where(np.arange(self._slate) < positions[:, None], items, -1)
        chances = uniform_chances(cut, arrivals)
        return Slates(items, propensity=propensity, uniform=np.ones(len(items), bool), chances=chances)

    def chance_of(self, slates: Ints, arrivals: Arrivals) -> Chances:
        """Chances that a uniform draw comes to given slates (n, k)."""
        return uniform_chances(slates, arrivals)
