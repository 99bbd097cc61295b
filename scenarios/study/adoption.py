"""When released items were adopted: consumptions of an arm counted over all its rounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim import measures
from rimsim.arrays import Ints

if TYPE_CHECKING:
    from rimsim.market import ClosedRound
    from rimsim.measures import AdoptionTimes


@dataclass
class AdoptionCount:
    """Collects, round by round, when items that came onto the market were first consumed."""

    release: Ints
    """(M,) release ticks; items that were there when the first arrival came are not counted."""
    ticks: list[Ints] = field(default_factory=list)
    items: list[Ints] = field(default_factory=list)
    arrivals: list[Ints] = field(default_factory=list)

    def enter(self, closed: ClosedRound) -> None:
        """Count a round."""
        before = sum(len(part) for part in self.ticks)
        row, position = np.nonzero(closed.ledger.consumed)
        self.items.append(closed.ledger.item[row, position].astype(np.int64))
        self.arrivals.append(row + before)
        self.ticks.append(closed.ledger.schedule.tick)

    def released(self) -> Ints:
        """(J,) items that have come onto the market."""
        ticks = np.concatenate(self.ticks)
        return np.flatnonzero((self.release > ticks[0]) & (self.release <= ticks[-1]))

    def sold(self) -> Ints:
        """(M,) how often each item was consumed in all rounds so far."""
        return np.bincount(np.concatenate(self.items), minlength=len(self.release))

    def times(self) -> AdoptionTimes | None:
        """Times of the released items to their first consumption; None where none has been released."""
        late = self.released()
        if not len(late):
            return None
        ticks = np.concatenate(self.ticks)
        place = np.full(len(self.release), -1)
        place[late] = np.arange(len(late))
        items, arrivals = place[np.concatenate(self.items)], np.concatenate(self.arrivals)
        start = np.searchsorted(ticks, self.release[late], "left")
        return measures.adoption_times(start, items[items >= 0], arrivals[items >= 0], len(ticks))

    def table(self, agent: str, seed: int) -> pd.DataFrame | None:
        """Columns agent, seed, item, duration, observed; None where no item has been released."""
        times = self.times()
        if times is None:
            return None
        return pd.DataFrame(
            {
                "agent": agent,
                "seed": np.int64(seed),
                "item": self.released(),
                "duration": times.duration,
                "observed": times.observed,
            }
        )
