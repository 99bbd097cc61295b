"""Fallbacks: slates without the platform's model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rimsim import rng
from rimsim.arrays import Bools, Ints
from rimsim.market.ledger import Ledger


@dataclass(frozen=True, eq=False)
class UnscoredVisits:
    """Visits that are answered without the platform's model."""

    rows: Ints
    """(n,) row of each visit in the schedule."""
    admissible: Bools
    """(n, M) True for items that may be shown."""
    popularity: Ints
    """(M,) events of each item in the platform's log, as of the last barrier."""
    ledger: Ledger
    """Slates of the round so far."""
    seed: int
    """Seed of random slates."""


def popular(visits: UnscoredVisits) -> Ints:
    """Most popular items first; items of equal popularity by index."""
    order = np.argsort(-visits.popularity, kind="stable")
    return np.broadcast_to(order, visits.admissible.shape)


def random(visits: UnscoredVisits) -> Ints:
    """Items in random order."""
    ids = visits.ledger.schedule.id[visits.rows]
    items = np.arange(visits.admissible.shape[1])
    return np.argsort(rng.bits(visits.seed, rng.Purpose.FALLBACK, ids[:, None], items), axis=1, kind="stable")


def last(visits: UnscoredVisits) -> Ints:
    """Visitor's last slate of the round first, then popular items."""
    earlier_rows = visits.ledger.schedule.earlier_visit
    order = popular(visits).copy()
    for visit, row in enumerate(visits.rows.tolist()):
        earlier = earlier_rows[row]
        if earlier >= 0:
            slate = visits.ledger.item[earlier]
            slate = slate[slate >= 0]
            rest = order[visit][~np.isin(order[visit], slate)]
            order[visit] = np.concatenate([slate, rest])
    return order


FALLBACKS: Mapping[str, Callable[[UnscoredVisits], Ints]] = {
    "popularity": popular,
    "random": random,
    "last": last,
}
"""Name of a fallback → function that returns all items of each visit (n, M), best first."""


def fallback_slates(name: str, visits: UnscoredVisits, k: int) -> Ints:
    """Slates (n, k) of the first admissible items of a fallback."""
    order = FALLBACKS[name](visits)
    is_admissible = np.take_along_axis(visits.admissible, order, axis=1)
    first = np.argsort(~is_admissible, axis=1, kind="stable")[:, :k]
    items = np.take_along_axis(order, first, axis=1)
    slates = np.full((len(order), k), -1)
    slates[:, : items.shape[1]] = np.where(np.take_along_axis(is_admissible, first, axis=1), items, -1)
    return slates
