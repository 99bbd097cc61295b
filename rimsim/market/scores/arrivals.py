"""Scores of a round's arrivals, computed ahead in blocks."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rimsim.arrays import Ints
from rimsim.compiled import CompiledRecord, compiled
from rimsim.intensity.contract import BLOCK, STEP, Hidden
from rimsim.market.histories import Histories
from rimsim.market.records import Schedule
from rimsim.market.scores.block import NO_SCORES, ScoreArrays, ScoreRows, joined, repeated
from rimsim.market.scores.scorer import Scorer
from rimsim.requirements.on_offer import TimesOnOffer

_AHEAD = 4
"""Largest number of blocks that are scored together in advance."""
_AHEAD_CELLS = 1 << 21
"""Largest number of scores, states times items, in several blocks that are scored together."""
_MOST_BYTES = 1 << 26
"""Largest number of bytes of hidden states that are precomputed at once."""
KEPT_CELLS = 1 << 24
"""Largest number of scores, arrivals times items, that a round caches for the next market: 84 MB with their masks."""


@dataclass(frozen=True, eq=False)
class ScoreColumns(CompiledRecord):
    """Scores of a round's arrivals, for compiled code."""

    block: list[ScoreArrays]
    """(n,) block with the scores of each arrival."""
    place: Ints
    """(n,) place of each arrival in its block."""
    n_events: Ints
    """(n,) number of the visitor's events that the scores take into account; −1 before an arrival is scored."""


@compiled
def _refer(block: list[ScoreArrays], rows: Ints, scores: ScoreArrays) -> None:
    """Let chosen arrivals refer to a block."""
    for row in rows:
        block[row] = scores


class ArrivalScores:
    """Scores of a round's arrivals, computed ahead in blocks.

    Methods take arrivals as rows of the schedule. A block has the arrivals that need scores now, and some
    later arrivals. An arrival's scores are valid until another event enters its state.
    """

    # Largest number of users whose hidden states may be updated before they return.
    _most_returning = 8 * STEP

    def __init__(self, scorer: Scorer, histories: Histories, schedule: Schedule) -> None:
        self._scorer = scorer
        self._histories = histories
        self._schedule = schedule
        n = len(schedule)
        self._block = np.full(n, None, object)
        """(n,) block with the scores of each arrival, or None."""
        self._place = np.zeros(n, np.int64)
        """(n,) place of each arrival in its block."""
        self._n_events = np.full(n, -1)
        """(n,) number of the visitor's events that the scores take into account; −1 before an arrival is scored."""
        self._columns: ScoreColumns | None = None
        """Record of blocks, places and numbers of events for compiled code; None until compiled code asks for it."""
        self._most = BLOCK * min(max(_AHEAD_CELLS // (BLOCK * scorer.n_items), 1), _AHEAD)
        """Most arrivals that are scored together, unless more are asked for at once."""
        self._next_visit = schedule.next_visit
        """(n,) next arrival of the same user; −1 without one."""
        self._next_row = np.full(len(histories), -1)
        """(slots,) first arrival of each user that has not been served; −1 without one."""
        self._returning: deque[int] = deque(maxlen=self._most_returning)
        """Slots of the users who were served last and will return."""
        # The reversed order writes a user's first arrival last.
        backwards = np.arange(n)[::-1]
        self._next_row[schedule.slot[backwards]] = backwards

    def rows(self, rows: Ints) -> ScoreRows:
        """Scores of arrivals of different users."""
        if len(rows) == 1:
            block, first = self.place(int(rows[0]))
            return block.cut(first, 1)
        self._require(rows)
        blocks = self._block[rows]
        places = self._place[rows]
        # Arrivals at adjacent places of a block are cut out together, without a copy.
        is_cut = (blocks[1:] != blocks[:-1]) | (places[1:] != places[:-1] + 1)
        cuts = is_cut.nonzero()[0] + 1
        spans = itertools.pairwise([0, *cuts.tolist(), len(places)])
        parts: list[ScoreRows] = [
            blocks[first].cut(int(places[first]), stop - first) for first, stop in spans
        ]
        return parts[0] if len(parts) == 1 else joined(parts)

    def place(self, row: int) -> tuple[ScoreRows, int]:
        """Block with an arrival's scores, and the arrival's index."""
        if self._n_events[row] != self._events_of(row):
            self._require(np.array([row]))
        return self.known_place(row)

    def known_place(self, row: int) -> tuple[ScoreRows, int]:
        """The same of an arrival that has been scored."""
        return self._block[row], int(self._place[row])

    @property
    def columns(self) -> ScoreColumns:
        """Scores of all arrivals, kept up for compiled code."""
        if self._columns is None:
            references = repeated(NO_SCORES, len(self._schedule))
            for block in set(self._block.tolist()) - {None}:
                _refer(references, np.flatnonzero(self._block == block), block.compiled)
            # This comes last, so that an interrupt cannot leave a scored row without a block.
            self._columns = ScoreColumns(references, self._place, self._n_events)
        return self._columns

    def _enter(self, rows: Ints, block: ScoreRows | None) -> None:
        """Enter the block of chosen arrivals, also for compiled code."""
        self._block[rows] = block
        if self._columns is not None:
            _refer(self._columns.block, rows, NO_SCORES if block is None else block.compiled)

    def offer(self, times: TimesOnOffer, served: int) -> None:
        """Score arrivals with other times on offer from now on.

        ``served`` is the number of served arrivals, which are the first.
        """
        self._scorer.offer(times)
        self.forget(served)

    def replace_scorer(self, scorer: Scorer, served: int) -> None:
        """Score arrivals by another model from now on."""
        self._scorer = scorer
        self.forget(served)

    def forget(self, served: int) -> None:  # noqa: ARG002  # a subclass needs it
        """Forget all scores, so that they are computed again."""
        # Hidden states stay, because they depend on a visitor's events alone.
        self._n_events[:] = -1
        self._enter(np.flatnonzero(self._block != None), None)  # noqa: E711  # an array of objects is compared

    def drop(self, rows: Ints) -> None:
        """Drop the scores of arrivals, served in this order."""
        next_row = self._next_row[self._schedule.slot[rows]]
        # Scores of the other rows were dropped before.
        rows = rows[(next_row >= 0) & (next_row <= rows)]
        slots = self._schedule.slot[rows]
        following = self._next_visit[rows]
        # This comes first, so that an interrupt cannot leave a row that counts as scored but has no block.
        self._n_events[rows] = -1
        self._next_row[slots] = following
        self._enter(rows, None)
        self._returning.extend(slots[following >= 0].tolist())

    def _require(self, rows: Ints) -> None:
        """Score the arrivals that have no valid scores."""
        counts = self._events(rows)
        chosen = rows[self._n_events[rows] != counts]
        if not len(chosen):
            return
        # A block takes the same time for one arrival as for ``BLOCK`` arrivals. So it is filled up with later arrivals:
        # first the next visits of users, then further visits, of which one block at most is scored.
        if len(chosen) < BLOCK:
            next_visits, further_visits = self._ahead(chosen)
            rows_with_next = np.concatenate([chosen, next_visits])
            n_in_blocks = min(len(rows_with_next) // BLOCK * BLOCK, self._most)
            one_block = np.concatenate([rows_with_next, further_visits])[:BLOCK]
            chosen = rows_with_next[:n_in_blocks] if n_in_blocks else one_block
        self._fill(chosen, self._events(chosen))

    def _events(self, rows: Ints) -> Ints:
        """Number of the round's events in each arrival's state."""
        return self._histories.visible_at(self._schedule.slot[rows], self._schedule.tick[rows])

    def _events_of(self, row: int) -> int:
        """Number of the round's events in an arrival's state."""
        slot = self._schedule.slot[row]
        events = self._histories.events
        if events.newest[slot] <= self._schedule.tick[row]:
            return int(events.counts[slot])
        return int(self._events(np.array([row]))[0])

    def _fill(self, chosen: Ints, counts: Ints, hidden: Hidden | None = None) -> None:
        """Score arrivals, in blocks."""
        schedule = self._schedule
        if hidden is None:
            self._catch_up(schedule.slot[chosen], counts)
        for first in range(0, len(chosen), BLOCK):
            span = slice(first, first + BLOCK)
            rows = chosen[span]
            n_events = counts[span]
            hidden_rows = None if hidden is None else tuple(part[span] for part in hidden)
            block = self._scorer.score(
                schedule.id[rows], schedule.slot[rows], schedule.tick[rows], n_events, hidden_rows
            )
            self._enter(rows, block)
            self._place[rows] = np.arange(len(rows))
            # This comes last, so that an interrupt cannot leave a row that counts as scored but has no scores.
            self._n_events[rows] = n_events

    def _catch_up(self, slots: Ints, counts: Ints) -> None:
        """Update hidden states, also of some users who will return."""
        # A block of STEP hidden states takes the same time for one user as for STEP users. So the block is filled up
        # with users who will return.
        late_slots = self._scorer.late(slots, counts)
        if not len(late_slots):
            return
        slots = slots[late_slots]
        counts = counts[late_slots]
        if self._returning:
            returning = np.array(self._returning)
            returning = returning[self._next_row[returning] >= 0]
            n_visible = self._events(self._next_row[returning])
            late_returning = self._scorer.late(returning, n_visible)
            room = -len(late_slots) % STEP  # free places of the last block
            self._returning = deque(returning[late_returning[room:]].tolist(), self._returning.maxlen)
            slots = np.concatenate([slots, returning[late_returning[:room]]])
            counts = np.concatenate([counts, n_visible[late_returning[:room]]])
        distinct, first = np.unique(slots, return_index=True)
        self._scorer.catch_up(distinct, counts[first])

    def _ahead(self, wanted: Ints) -> tuple[Ints, Ints]:
        """Later arrivals to score ahead: next visits, further visits."""
        # A later visit is scored as if no visit before it had an effect. If one does have an effect, the later visit is
        # scored again.
        first = int(wanted[0])
        ahead = np.arange(first + 1, min(first + 1 + self._most + 2 * BLOCK, len(self._schedule)))
        next_row = self._next_row[self._schedule.slot[ahead]]  # next visit of the user of each arrival
        counts = self._events(ahead)
        is_chosen = (next_row >= 0) & (ahead >= next_row) & (self._n_events[ahead] != counts)
        # The wanted arrivals are scored anyway.
        wanted_ahead = wanted[(wanted > first) & (wanted <= first + len(ahead))]
        is_chosen[wanted_ahead - first - 1] = False
        # A hidden state cannot forget events. So it must not take events that are not yet visible at the user's next
        # arrival.
        is_chosen &= counts == self._events(next_row)
        is_next = ahead == next_row
        return ahead[is_chosen & is_next], ahead[is_chosen & ~is_next]


class PrecomputedScores(ArrivalScores):
    """Scores of arrivals whose states do not depend on slates.

    Arrivals are scored in clock order, block after block. About 64 MiB of hidden states are in memory at
    once. All scores equal those of :class:`ArrivalScores` to the bit.

    Args:
        shared: First arrival of a call → the blocks that the call scored, if markets with equal arrivals share them.
    """

    def __init__(
        self,
        scorer: Scorer,
        histories: Histories,
        schedule: Schedule,
        shared: dict[int, NDArray[np.object_]] | None = None,
    ) -> None:
        super().__init__(scorer, histories, schedule)
        self._shared = shared
        self._states = histories.visible_at(schedule.slot, schedule.tick)
        """Number of the round's events in each arrival's state."""
        self._filled = 0
        """Number of arrivals that have been scored, from the first on: full blocks, or all arrivals."""
        self._window = _window_of(scorer)
        """Number of arrivals whose states are encoded at once: a multiple of ``BLOCK``."""
        self._hidden: Hidden = ()
        """Hidden states of the window that was encoded last."""
        self._encoded = -1
        """First arrival of that window."""

    def _events(self, rows: Ints) -> Ints:
        return self._states[rows]

    def _events_of(self, row: int) -> int:
        return int(self._states[row])

    def _require(self, rows: Ints) -> None:
        """Score all arrivals up to the last of these rows."""
        while self._filled <= int(rows.max()):
            first = self._filled
            window_end = first - first % self._window + self._window
            stop = min(first + self._most, window_end, len(self._schedule))
            chosen = np.arange(first, stop)
            blocks = None if self._shared is None else self._shared.get(first)
            if blocks is None:
                self._fill(chosen, self._states[chosen], self._hidden_of(chosen))
            else:
                self._enter_shared(chosen, blocks)
            if self._shared is not None:
                self._shared[first] = self._block[chosen]
            self._filled = stop

    def replace_scorer(self, scorer: Scorer, served: int) -> None:
        """Score arrivals by another model, which encodes its own states."""
        super().replace_scorer(scorer, served)
        self._window = _window_of(scorer)
        self._hidden = ()
        self._encoded = -1

    def forget(self, served: int) -> None:
        """Forget all scores, and share none from now on."""
        super().forget(served)
        self._shared = None
        self._filled = min(self._filled, served)

    def _enter_shared(self, rows: Ints, blocks: NDArray[np.object_]) -> None:
        """Enter blocks that another market scored."""
        for begin in range(0, len(rows), BLOCK):
            self._enter(rows[begin : begin + BLOCK], blocks[begin])
        self._place[rows] = (rows - rows[0]) % BLOCK
        self._n_events[rows] = self._states[rows]

    def drop(self, rows: Ints) -> None:
        """Drop the scores of served arrivals."""
        self._n_events[rows] = -1
        self._enter(rows, None)

    def _hidden_of(self, rows: Ints) -> Hidden:
        """Hidden states of adjacent arrivals of one window."""
        first = int(rows[0]) % self._window  # place of the first arrival in its window
        window_start = int(rows[0]) - first
        if self._encoded != window_start:
            window = slice(window_start, window_start + self._window)
            self._hidden = self._scorer.hidden_at(self._schedule.slot[window], self._states[window])
            self._encoded = window_start
        return tuple(part[first : first + len(rows)] for part in self._hidden)


def _window_of(scorer: Scorer) -> int:
    """Number of states encoded at once, in whole blocks."""
    return max(_MOST_BYTES // max(scorer.hidden_bytes(), 1) // BLOCK, 1) * BLOCK
