"""A draw of later sessions as what models and truths are asked: states, what may be shown, what was really taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rimsim.arrays import Bools, Floats, Ints
from rimsim.data import later_sessions
from rimsim.errors import DataError
from rimsim.intensity import UserStates

if TYPE_CHECKING:
    from rimsim.data import EventLog, LaterSessions


@dataclass(frozen=True, eq=False)
class Cut:
    """n users, each looked at where one of its later sessions begins."""

    draw: int
    """Seed of the draw."""
    later: LaterSessions
    """Past and future of the log."""
    states: UserStates
    """What is known of each user at its cut."""
    known: Bools
    """(M,) items that occur in the past: no model can know of others."""
    release: Floats
    """(M,) seconds at which each item is released; 0 = always there."""
    taken_row: Ints
    """(t,) user's row of each item that a user took from its cut on for the first time, ascending."""
    taken_item: Ints
    """(t,) the items, ascending within a row."""
    first_session: Bools
    """(t,) whether the item was taken within the drawn session."""

    def __len__(self) -> int:
        return len(self.states)

    @property
    def taken(self) -> Ints:
        """(n,) how many items each user took from its cut on."""
        return np.bincount(self.taken_row, minlength=len(self))

    def admissible(self, start: int, stop: int) -> Bools:
        """(stop − start, M) items of some rows that are known, released, and not yet consumed by the user."""
        shown = self.known[None, :] & (self.release[None, :] <= self.states.now[start:stop, None])
        shown[self.states.rows_of(start, stop)] = False
        return shown


def make_cut(
    log: EventLog, draw: int, *, gap: str | float, after: float, most_cells: int | None = None
) -> Cut:
    """Cut a log by :func:`rimsim.data.later_sessions`.

    What a user took is what it consumed from the cut on, had not consumed before, and could have been shown.

    Args:
        log: The log.
        draw: Seed of the draw.
        gap: A silence longer than this ends a session.
        after: Share of a user's events that come before the sessions that can be drawn.
        most_cells: Most users times items; of further users some are looked at, the same ones whatever is drawn, though
            the future of all stays cut off. None: all of them.

    Raises:
        DataError: If fewer than two users came back: one says nothing of how users differ.
    """
    later = later_sessions(log, gap=gap, seed=draw, after=after)
    if len(later) < 2:
        raise DataError(
            f"later sessions: found 1 user with a session after {after:.0%} of its events; allowed: a log in which at "
            "least two users came back"
        )
    if most_cells is not None:
        later = later.every(max(-(-len(later) * log.n_items // most_cells), 1))
    past, future, m = later.past, later.future, log.n_items
    states = UserStates.of(past, later.user, later.time)
    known = np.bincount(past.item, minlength=m) > 0
    release = log.items["release"].to_numpy(np.float64, na_value=0.0)
    row = np.searchsorted(later.user, future.user)
    # The events of the drawn session are the first of the user's future.
    order = np.lexsort((np.arange(len(future)), row))
    begin = np.searchsorted(row[order], np.arange(len(later)))
    in_session = np.empty(len(future), bool)
    in_session[order] = np.arange(len(future)) - begin[row[order]] < later.count[row[order]]
    key, first = np.unique(row * m + future.item, return_index=True)
    may_be = (
        ~pd.Index(key).isin(states.owner * m + states.items)
        & known[key % m]
        & (release[key % m] <= later.time[key // m])
    )
    key, first = key[may_be], first[may_be]
    return Cut(draw, later, states, known, release, key // m, key % m, in_session[first])
