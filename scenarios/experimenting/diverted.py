"""Training diverted: the platform of an arm learns from what came of its own arm's slates alone."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Bools, Ints, seconds
from rimsim.market.histories import Histories
from rimsim.market.ledger import PastRound

if TYPE_CHECKING:
    from rimsim.scenarios.experimenting.designs import Assignment


class Diverted:
    """A control of the market: in place of a round, what the visits of one arm consumed in it.

    Args:
        assignment: Who is in which arm; it assigns arrivals.
        treated: Whether it is arm B.
    """

    def __init__(self, assignment: Assignment, *, treated: bool) -> None:
        self._assignment = assignment
        self._treated = treated

    def learnt(self, own: PastRound) -> PastRound:
        """The round without events and impressions of the other arm."""
        schedule = own.schedule
        slot, tick, item = own.histories.all_events()
        # An event becomes known at least one tick after its visit, within the visit's block unless it ends just then.
        kept = self._mine(schedule.user[slot], tick - 1, own.number)
        histories = Histories(schedule, own.histories.past)
        order = np.lexsort((tick[kept], slot[kept]))
        histories.append(slot[kept][order], tick[kept][order], item[kept][order])
        shown = own.shown
        if shown is not None:
            rows = self._mine(schedule.user[schedule.slot], schedule.tick, own.number)[:, None]
            shown = dataclasses.replace(
                shown, item=np.where(rows, shown.item, -1).astype(np.int32), taken=shown.taken & rows
            )
        return PastRound(own.number, schedule, histories, shown)

    def _mine(self, user: Ints, tick: Ints, number: int) -> Bools:
        return np.asarray(self._assignment.arrivals(user, seconds(tick), number) == self._treated)
