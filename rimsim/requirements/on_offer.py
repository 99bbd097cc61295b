"""Times at which items are on offer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from rimsim.arrays import NEVER, Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class TimesOnOffer:
    """Time from the release to the end of each item.

    An item is on offer at tick t if release ≤ t < end.
    """

    release: Ints
    """(M,) tick of each item's release; ALWAYS for items that are released from the start."""
    end: Ints
    """(M,) tick of each item's end; NEVER for items that do not end."""

    @classmethod
    def endless(cls, release: Ints) -> TimesOnOffer:
        """Times of items that do not end."""
        return cls(release, np.full(len(release), NEVER))

    def __len__(self) -> int:
        return len(self.release)

    @cached_property
    def has_ends(self) -> bool:
        """True if an item ends."""
        return bool((self.end < NEVER).any())

    @cached_property
    def _last_release(self) -> int:
        return int(self.release.max(initial=0))

    @cached_property
    def _first_end(self) -> int:
        return int(self.end.min(initial=NEVER))

    def all_at(self, ticks: Ints) -> bool:
        """True if all items are on offer at all ticks."""
        if not len(ticks):
            return True
        return self._last_release <= int(ticks.min()) and int(ticks.max()) < self._first_end

    def at(self, ticks: Ints) -> Bools:
        """(n, M) mask of the items on offer at each tick."""
        is_released = self.release[None, :] <= ticks[:, None]
        if not self.has_ends:
            return np.asarray(is_released, np.bool_)
        return np.asarray(is_released & (ticks[:, None] < self.end[None, :]), np.bool_)

    def of_providers(self, is_present: Bools) -> TimesOnOffer:
        """Times on offer, none for items of absent providers."""
        return TimesOnOffer(np.where(is_present, self.release, NEVER), self.end)

    def is_over(self, tick: int) -> Bools:
        """(M,) mask of items without time on offer after a tick."""
        return np.asarray((self.release >= NEVER) | (self.end <= tick), np.bool_)


class OfferWindows(NamedTuple):
    """Parts of a round in which items are on offer.

    The unit is the round's progress in expected arrivals: 0 when the round opens, and N when it closes.
    """

    begin: Floats
    """(M,) progress at which each item's time on offer begins."""
    end: Floats
    """(M,) progress at which each item's time on offer ends; at least ``begin``."""
