"""Times at which items are on offer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from rimsim.arrays import NEVER, Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class TimesOnOffer:
    """Time from the release to the end of each item.

    An item is on offer at tick t if release ≤ t < end, except in its absences.
    """

    release: Ints
    """(M,) tick of each item's release; ALWAYS for items that are released from the start."""
    end: Ints
    """(M,) tick of each item's end; NEVER for items that do not end."""
    absences: Ints = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    """(n, 3) item, first tick and end of each time without offer between the item's release and its end."""

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
        if len(self._absences_within(ticks)):
            return False
        return self._last_release <= int(ticks.min()) and int(ticks.max()) < self._first_end

    def _absences_within(self, ticks: Ints) -> Ints:
        """Absences between the first and the last of some ticks."""
        if not len(ticks) or not len(self.absences):
            return self.absences[:0]
        is_within = (self.absences[:, 1] <= int(ticks.max())) & (int(ticks.min()) < self.absences[:, 2])
        return np.asarray(self.absences[is_within], np.int64)

    def at(self, ticks: Ints) -> Bools:
        """(n, M) mask of the items on offer at each tick."""
        is_offered = self.release[None, :] <= ticks[:, None]
        if self.has_ends:
            is_offered &= ticks[:, None] < self.end[None, :]
        for item, begin, end in self._absences_within(ticks):
            is_offered[(begin <= ticks) & (ticks < end), item] = False
        return np.asarray(is_offered, np.bool_)

    def any_at(self, ticks: Ints, items: Ints) -> Bools:
        """(n,) mask of ticks with one of some ascending items."""
        absences = self.absences[np.isin(self.absences[:, 0], items)].copy()
        absences[:, 0] = np.searchsorted(items, absences[:, 0])
        chosen = TimesOnOffer(self.release[items], self.end[items], absences)
        return np.asarray(chosen.at(ticks).any(1), np.bool_)

    def since(self, tick: int) -> TimesOnOffer:
        """Times without absences that were over at a tick."""
        return replace(self, absences=self.absences[self.absences[:, 2] > tick])

    def ended(self, items: Ints, tick: int) -> TimesOnOffer:
        """Times in which some items end at a tick."""
        end = self.end.copy()
        end[items] = np.minimum(end[items], tick)
        return replace(self, end=end)

    def released(self, items: Ints, tick: int, ends: Ints) -> TimesOnOffer:
        """Times in which some items are released at a tick.

        An item that was on offer before is absent from its end to the tick. ``ends`` (M,) are the ends of all items; an
        item whose end is over does not end again.
        """
        release = self.release.copy()
        end = self.end.copy()
        was_offered = release[items] < np.minimum(end[items], tick)
        again = items[was_offered]
        begins = np.column_stack([again, end[again], np.full(len(again), tick)]).astype(np.int64)
        release[items[~was_offered]] = tick
        end[items] = np.where(ends[items] > tick, ends[items], NEVER)
        return TimesOnOffer(release, end, np.concatenate([self.absences, begins]))

    def of_providers(self, is_present: Bools) -> TimesOnOffer:
        """Times on offer, none for items of absent providers."""
        return replace(self, release=np.where(is_present, self.release, NEVER))

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
