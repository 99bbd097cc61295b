"""Answers that a log says nothing of, and the states in which their users gave them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rimsim.arrays import Bools, Ints
from rimsim.errors import DataError
from rimsim.intensity import UserStates

if TYPE_CHECKING:
    from rimsim.data import EventLog, ObservedTable


@dataclass(frozen=True, eq=False)
class HeldAnswers:
    """n answers to items that their users do not meet in a log, sorted by user, then item."""

    row: Ints
    """(n,) position in ``users``, ascending."""
    item: Ints
    """(n,) the log's items."""
    taken: Bools
    """(n,) whether the value reaches the threshold."""
    users: Ints
    """(u,) users of the log with an answer, ascending."""
    states: UserStates
    """What each of them had consumed before the first of the answers whose time is known, or in the whole log."""
    left_out: int
    """Answers to items that their users meet in the log; models and truths may have been fitted to them."""
    shown_at_random: bool
    """Whether who was shown what did not depend on what they like."""
    source: str
    """The table."""

    def __len__(self) -> int:
        return len(self.row)

    def facts(self) -> dict[str, Any]:
        """For ``config.yaml``: what is judged on."""
        return {
            "source": self.source,
            "answers": len(self),
            "users": len(self.users),
            "taken": int(self.taken.sum()),
            "left_out": self.left_out,
            "shown_at_random": self.shown_at_random,
        }


def held_answers(table: ObservedTable, log: EventLog, *, taken_at: float) -> HeldAnswers:
    """The answers of a table that a log says nothing of, with the states of their users.

    Args:
        table: The answers.
        log: What truths and models are fitted to.
        taken_at: Values from here on are yes.

    Raises:
        DataError: If no answer is left, all are the same, or all are of one user.
    """
    known = table.matched(log)
    met = np.unique(log.user * log.n_items + log.item)
    kept = np.flatnonzero(~np.isin(known.user * log.n_items + known.item, met))
    taken = known.value[kept] >= taken_at
    if not len(kept) or taken.all() or not taken.any():
        raise DataError(
            f"{table.source}: found {len(kept):,} answers to items that users do not meet in the log, "
            f"{taken.sum():,} of them with a value of at least {taken_at:g}; allowed: some with and some without"
        )
    users, row = np.unique(known.user[kept], return_inverse=True)
    if len(users) < 2:
        raise DataError(
            f"{table.source}: found answers of 1 user to items that it does not meet in the log; allowed: of at least "
            "two, since answers of each are foretold from those of others"
        )
    end = float(np.nextafter(log.time.max(), np.inf))
    now = np.full(len(users), np.inf)
    if known.time is not None:
        np.fmin.at(now, row, known.time[kept])
    return HeldAnswers(
        row=row.astype(np.int64),
        item=known.item[kept],
        taken=taken,
        users=users,
        states=UserStates.of(log, users, np.where(np.isinf(now), end, now)),
        left_out=len(known) - len(kept),
        shown_at_random=known.shown_at_random,
        source=table.source,
    )
