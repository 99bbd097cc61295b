"""The matrix of users and items that models over sets of consumed items are fitted to, and sums over such sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy

from rimsim.arrays import Float32s, Ints, numbered
from rimsim.compiled import compiled
from rimsim.intensity.states import UserStates

if TYPE_CHECKING:
    from rimsim.data.log import EventLog


@dataclass(frozen=True, eq=False)
class Cells:
    """Who has consumed what in a log: c pairs of a user and an item, each once, sorted by user.

    The n users that have an event are numbered anew, in ascending order.
    """

    offsets: Ints
    """(n + 1,) where each user's pairs begin."""
    item: Ints
    """(c,) the items, ascending within a user."""
    label: Float32s
    """(c,) weight of the pair's target events; 0 for a pair that is only history."""
    n_items: int
    """Size of the catalogue, M."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, log: EventLog) -> Cells:
        """The pairs of a log; a pair that occurs more than once has the weight of its last target event."""
        key, first = np.unique(log.user * log.n_items + log.item, return_inverse=True)
        label = np.zeros(len(key), np.float32)
        goal = log.targets
        label[first[goal]] = log.weights[goal]
        user, item = np.divmod(key, max(log.n_items, 1))
        begin = np.unique(user, return_index=True)[1]
        return cls(np.append(begin, len(key)).astype(np.int64), item, label, log.n_items)

    @property
    def user(self) -> Ints:
        """(c,) the new number of each pair's user."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def pairs_of(self, users: Ints) -> tuple[Ints, Ints]:
        """(p,) the place among some users of each of their pairs' user, by user, and (p,) the place of the pair."""
        row, number = numbered(np.diff(self.offsets)[users])
        return row, self.offsets[users][row] + number

    def matrix(self, values: Float32s | None = None) -> scipy.sparse.csr_matrix:
        """(n, M) one value a pair, or 1 for each, as a sparse matrix."""
        data = np.ones(len(self.item), np.float32) if values is None else values
        return scipy.sparse.csr_matrix((data, self.item, self.offsets), shape=(len(self), self.n_items))


def distinct(states: UserStates) -> UserStates:
    """The states with the first event of each item alone; the very states where no item occurs twice."""
    first = np.empty(len(states.items), np.int64)
    offsets = np.zeros(len(states) + 1, np.int64)
    seen = np.zeros(int(states.items.max(initial=-1)) + 1, np.int64)
    _first_of_each(states.offsets, states.items, seen, first, offsets)
    if offsets[-1] == len(first):
        return states
    kept = first[: offsets[-1]]
    return UserStates(offsets, states.items[kept], states.times[kept], states.now)


@compiled
def _first_of_each(
    begin: Ints,
    items: Ints,
    seen: Ints,
    first: Ints,
    offsets: Ints,
) -> None:
    """Fill in the places of the first event of each item of each state, and where each state's begin among them.

    Args:
        begin: (n+1,) where each state's events begin.
        items: (E,) their items.
        seen: Zeros, one an item.
        first: (E,) room for the places.
        offsets: (n+1,) zeros.
    """
    found = 0
    for state in range(len(begin) - 1):
        for event in range(begin[state], begin[state + 1]):
            if seen[items[event]] <= state:
                seen[items[event]] = state + 1
                first[found] = event
                found += 1
        offsets[state + 1] = found


def sums(states: UserStates, table: Float32s) -> Float32s:
    """(n, W) the sum of the rows of a table (M, W) over the items of each state.

    A row is added up event by event, so its bits depend on its own state alone.
    """
    ones = np.ones(len(states.items), np.float32)
    shape = (len(states), len(table))
    return np.asarray(
        scipy.sparse.csr_matrix((ones, states.items, states.offsets), shape=shape) @ table, np.float32
    )
