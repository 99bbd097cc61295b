"""Scores of arrivals whose states no slate can move: states are encoded many at once, and no row is ever stale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Ints
from rimsim.market.score_cache import side_by_side
from rimsim.market.scoring import BLOCK

if TYPE_CHECKING:
    from rimsim.intensity.contract import Hidden
    from rimsim.market.arrivals.schedule import Schedule
    from rimsim.market.histories import Histories
    from rimsim.market.scoring import Scorer, ScoreRows


_MOST_BYTES = 1 << 26
"""Hidden states that are kept at once, bytes."""


class ScoreForetold:
    """Score rows of a round's arrivals where all that is consumed in the round is known as it opens.

    The state of each arrival is then known too, so arrivals are scored in clock order, block after block, whoever comes
    next. Their hidden states are encoded beforehand for as many blocks as 64 MiB hold. It takes the place of
    :class:`~rimsim.market.score_cache.ScoreAhead` and gives the same rows, to the bit.

    Args:
        scorer: Scores states.
        histories: All that visitors consume in the round, with the ticks from which on it is visible.
        schedule: The arrivals.
    """

    def __init__(self, scorer: Scorer, histories: Histories, schedule: Schedule) -> None:
        self._scorer = scorer
        self._schedule = schedule
        n = len(schedule)
        self._counts = histories.visible_at(schedule.slot, schedule.tick)
        """(n,) how many events of the round are in the state of each arrival."""
        self._blocks = np.full(-(-n // BLOCK), None, object)
        """Scores of the arrivals, block after block; None where they are not there yet or not wanted any more."""
        self._filled = 0
        """Blocks that have been scored."""
        self._left = np.bincount(np.arange(n) // BLOCK)
        """Arrivals of each block that were not served yet."""
        at_once = _MOST_BYTES // max(scorer.hidden_bytes(), 1)
        self._window = min(max(at_once // BLOCK, 1) * BLOCK, -(-n // BLOCK) * BLOCK)
        """Arrivals whose states are encoded at once: whole blocks of them."""
        self._hidden: Hidden = ()
        """Hidden states of the window that is being scored."""

    def rows(self, arrivals: Ints) -> ScoreRows:
        """The scores of some arrivals; without a copy where they lie side by side."""
        blocks = arrivals // BLOCK
        while self._filled <= int(blocks.max()):
            self._fill()
        if len(arrivals) == 1:  # as below, without the search for what lies side by side
            alone: ScoreRows = self._blocks[blocks[0]].cut(int(arrivals[0] % BLOCK), 1)
            return alone
        return side_by_side(self._blocks[blocks], arrivals % BLOCK)

    def drop(self, arrivals: Ints) -> None:
        """Forget arrivals that were served: nobody asks for them again."""
        for block in (arrivals // BLOCK).tolist():
            self._left[block] -= 1
            if not self._left[block]:
                self._blocks[block] = None

    def _fill(self) -> None:
        """Score the next block."""
        schedule, first = self._schedule, self._filled * BLOCK
        begin = first % self._window
        if begin == 0:
            coming = slice(first, first + self._window)
            self._hidden = self._scorer.hidden_at(schedule.slot[coming], self._counts[coming])
        some = slice(first, min(first + BLOCK, len(schedule)))
        size = some.stop - first
        self._blocks[self._filled] = self._scorer.score(
            schedule.id[some],
            schedule.slot[some],
            schedule.tick[some],
            self._counts[some],
            tuple(part[begin : begin + size] for part in self._hidden),
        )
        self._filled += 1
