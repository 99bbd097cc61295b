"""Held-out next sessions: states before them, items taken in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rimsim.arrays import Bools, Floats, Ints
from rimsim.data.log import EventLog, LaterSessions, later_sessions
from rimsim.errors import DataError
from rimsim.intensity.states import UserStates

FEWEST = 20
"""Fewest held-out users for a fit. With fewer, chance would decide, so defaults are used."""
_CELLS = 4_000_000
"""Largest number of scores, states times items, that parameters are fitted to."""


@dataclass(frozen=True, eq=False)
class NextSessions:
    """States of users, and items of their next sessions.

    The events after the next session are not used, because preferences and rates have changed by then.
    """

    past: EventLog
    """Log in which the events of each held-out user end before its session."""
    user: Ints
    """(n,) held-out users, ascending."""
    states: UserStates
    """State of each held-out user when the session begins."""
    row: Ints
    """(t,) state of each taken item; ascending. An item that is taken twice in a session counts once."""
    item: Ints
    """(t,) taken items."""
    is_repeat: Bools
    """(t,) True if the user had consumed the item before the session."""

    def __len__(self) -> int:
        return len(self.states)

    @classmethod
    def of(
        cls, log: EventLog, gap: str | float, seed: int, *, most_cells: int | None = _CELLS
    ) -> NextSessions | None:
        """Next sessions of a log, or None below 20 users.

        Sessions are those of :func:`rimsim.data.log.later_sessions`.
        """
        try:
            later = later_sessions(log, gap=gap, seed=seed)
        except DataError:
            return None
        return cls.at(later, most_cells=most_cells)

    @classmethod
    def at(cls, later: LaterSessions, *, most_cells: int | None = _CELLS) -> NextSessions | None:
        """Given later sessions, or None below 20 users.

        If users × items exceeds ``most_cells``, only a part of the users is held out; the past is the same.
        """
        n_items = later.past.n_items
        future = later.future
        row = np.searchsorted(later.user, future.user)
        # A user's future begins with the events of the drawn session.
        order = np.argsort(row, kind="stable")
        first_event = np.searchsorted(row[order], np.arange(len(later)))
        in_session = np.empty(len(future), bool)
        in_session[order] = np.arange(len(future)) - first_event[row[order]] < later.count[row[order]]
        is_label = in_session & future.targets
        pair = np.unique(row[is_label] * n_items + future.item[is_label])
        states = UserStates.of(later.past, later.user, later.time)
        is_repeat = np.isin(pair, states.owner * n_items + states.items)
        pair_row, pair_item = np.divmod(pair, max(n_items, 1))
        scored = np.unique(pair_row)
        if most_cells is not None:
            scored = scored[:: max(-(-len(scored) * n_items // most_cells), 1)]
        if len(scored) < FEWEST or not later.past.targets.any():
            return None
        new_row = np.full(len(later), -1)
        new_row[scored] = np.arange(len(scored))
        is_scored = new_row[pair_row] >= 0
        return cls(
            past=later.past,
            user=later.user[scored],
            states=states.take(scored),
            row=new_row[pair_row[is_scored]],
            item=pair_item[is_scored],
            is_repeat=is_repeat[is_scored],
        )

    def consumed(self) -> Bools:
        """(n, M) True for items that the user had consumed."""
        mask = np.zeros((len(self), self.past.n_items), bool)
        mask[self.states.owner, self.states.items] = True
        return mask


@dataclass(frozen=True)
class Gain:
    """Gain of log-likelihood per taken item, with its standard error."""

    nats: float
    """Mean gain, in nats per taken item."""
    error: float
    """Standard error of the mean gain, from the differences between users."""
    users: int
    """Number of users with a taken item."""

    @property
    def significant(self) -> bool:
        """True if the gain exceeds its standard error."""
        return self.nats > self.error

    @classmethod
    def of(cls, row: Ints, gain: Floats) -> Gain:
        """Mean of gains at taken items of given states."""
        if not len(row):
            return cls(nats=0.0, error=0.0, users=0)
        n_items = np.bincount(row).astype(np.float64)
        gain_of_user = np.bincount(row, gain)
        mean = float(gain.mean())
        # The mean is a ratio of two sums over users: gains, and items. Its standard error comes from linearisation.
        residual = gain_of_user - mean * n_items
        error = float(np.sqrt(np.square(residual).sum()) / len(row))
        return cls(nats=mean, error=error, users=int((n_items > 0).sum()))
