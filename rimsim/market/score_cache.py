"""Scores of coming arrivals: filled ahead in blocks, kept by state version, dropped when an event makes them stale."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Ints
from rimsim.market.scoring import BLOCK, joined

if TYPE_CHECKING:
    from rimsim.market.arrivals.schedule import Schedule
    from rimsim.market.histories import Histories
    from rimsim.market.scoring import Scorer, ScoreRows


_LOOK_AHEAD = 3 * BLOCK
"""How many coming arrivals are looked through to fill a block."""


class ScoreAhead:
    """Score rows of the coming arrivals of a round.

    When arrivals have no valid rows, a block is filled with them and with arrivals after them. A row is valid while
    its user's history shows as many events at the arrival's tick as the row was scored with.
    """

    def __init__(self, scorer: Scorer, histories: Histories, schedule: Schedule) -> None:
        self._scorer = scorer
        self._histories = histories
        self._schedule = schedule
        n = len(schedule)
        self._block = np.full(n, None, object)
        """(n,) where the scores of an arrival lie; None where there are none."""
        self._row = np.zeros(n, np.int64)
        """(n,) the row there."""
        self._counts = np.full(n, -1)
        """(n,) how many events of its user they know of; −1 where it was never scored."""
        self._next_visit = _next_of_same(schedule.slot)
        self._open = np.full(len(histories), -1)
        backwards = np.arange(n)[::-1]
        self._open[schedule.slot[backwards]] = backwards  # the last that is written is a user's first arrival

    def rows(self, arrivals: Ints) -> ScoreRows:
        """The scores of some arrivals, of different users each; without a copy where they lie side by side."""
        counts = self._histories.visible_at(self._schedule.slot[arrivals], self._schedule.tick[arrivals])
        missing = arrivals[self._counts[arrivals] != counts]
        for first in range(0, len(missing), BLOCK):
            self._fill(missing[first : first + BLOCK])
        if len(arrivals) == 1:  # as below, without the search for what lies side by side
            alone: ScoreRows = self._block[arrivals[0]].cut(int(self._row[arrivals[0]]), 1)
            return alone
        return side_by_side(self._block[arrivals], self._row[arrivals])

    def drop(self, arrivals: Ints) -> None:
        """Forget arrivals, of different users each, that were served: nobody asks for them again."""
        self._open[self._schedule.slot[arrivals]] = self._next_visit[arrivals]
        self._block[arrivals] = None

    def _fill(self, wanted: Ints) -> None:
        """Score at most ``BLOCK`` arrivals, and with them coming arrivals that have no valid row yet."""
        chosen = wanted
        if len(chosen) < BLOCK:
            chosen = np.concatenate([chosen, self._ahead(chosen)[: BLOCK - len(chosen)]])
        slots, ticks = self._schedule.slot[chosen], self._schedule.tick[chosen]
        counts = self._histories.visible_at(slots, ticks)
        block = self._scorer.score(self._schedule.id[chosen], slots, ticks, counts)
        self._block[chosen], self._row[chosen], self._counts[chosen] = block, np.arange(len(chosen)), counts

    def _ahead(self, wanted: Ints) -> Ints:
        """Arrivals after some that are worth scoring with them: first each user's next, then later visits.

        A later visit is scored as if nothing came of those before it. Often nothing does, and a block costs the same
        full or not; where something does, the row is stale and is scored again.
        """
        schedule, visible_at = self._schedule, self._histories.visible_at
        first = int(wanted[0])
        ahead = np.arange(first + 1, min(first + 1 + _LOOK_AHEAD, len(schedule)))
        slots = schedule.slot[ahead]
        following = self._open[slots]
        counts = visible_at(slots, schedule.tick[ahead])
        to_do = (following >= 0) & (ahead >= following) & (self._counts[ahead] != counts)
        to_do &= ~np.isin(ahead, wanted)
        # A hidden state that took events which are not visible at the user's next arrival could not go back.
        to_do &= counts == visible_at(slots, schedule.tick[following])
        later = ahead != following
        return np.concatenate([ahead[to_do & ~later], ahead[to_do & later]])


def side_by_side(blocks: NDArray[np.object_], rows: Ints) -> ScoreRows:
    """Rows (n,) of blocks (n,) of scores, one below the other; without a copy where they follow one another."""
    ends = ((blocks[1:] != blocks[:-1]) | (rows[1:] != rows[:-1] + 1)).nonzero()[0] + 1
    return joined(
        [
            blocks[first].cut(int(rows[first]), stop - first)
            for first, stop in itertools.pairwise([0, *ends.tolist(), len(rows)])
        ]
    )


def _next_of_same(values: Ints) -> Ints:
    """(n,) the next place at which each value occurs again; −1 where there is none."""
    order = np.argsort(values, kind="stable")
    following = np.full(len(values), -1, np.int64)
    same = values[order][1:] == values[order][:-1]
    following[order[:-1][same]] = order[1:][same]
    return following
