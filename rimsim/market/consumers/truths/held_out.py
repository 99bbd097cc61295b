"""What truths are judged on: what users consumed from a later session on, among what they had not consumed before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.data.later import later_sessions
from rimsim.errors import DataError
from rimsim.intensity.states import UserStates

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from rimsim.data.later import LaterSessions
    from rimsim.data.log import EventLog
    from rimsim.market.consumers.truths.contract import Candidate

    Scores = Callable[[NDArray[np.int64], UserStates], NDArray[np.float64]]

__all__ = ["HeldOut", "climb"]

_MOST_USERS = 4_000
"""Users whose later sessions are judged."""
_ROWS = 256
"""Users who are judged at once."""
_BEST = 10


class HeldOut:
    """Later sessions of a log's users, each cut where one of them begins.

    Args:
        later: The cut log; some user of it consumed something new from its cut on.
    """

    def __init__(self, later: LaterSessions) -> None:
        self.later = later
        n_items, n_users = later.past.n_items, later.past.n_users
        chosen = np.arange(len(later))
        if len(chosen) > _MOST_USERS:
            chosen = np.linspace(0, len(chosen) - 1, _MOST_USERS).round().astype(np.int64)
        row = np.full(n_users, -1)
        row[later.user[chosen]] = np.arange(len(chosen))
        known = np.unique(row[later.past.user] * n_items + later.past.item)
        new = np.unique(row[later.future.user] * n_items + later.future.item)
        self._known = np.divmod(known[known >= 0], n_items)
        self._new = np.divmod(np.setdiff1d(new[new >= 0], known, assume_unique=True), n_items)
        self.user = later.user[chosen]
        self.states = UserStates.of(later.past, self.user, later.time[chosen])

    @classmethod
    def of(cls, log: EventLog, gap: str | float, seed: int) -> HeldOut | None:
        """The later sessions of a log; None where no user came back for something new."""
        try:
            held_out = cls(later_sessions(log, gap=gap, seed=seed))
        except DataError:
            return None
        return held_out if len(held_out._new[0]) else None

    def judge(self, scores: Scores) -> tuple[float, float]:
        """How well log p(y|x) foretells what is new: mean log-likelihood, and mean precision of the ten best items.

        Args:
            scores: Gives (n, M) log p(y|x) of users (n,) of the log in their states at the cut, up to a constant a row.
        """
        users = len(self.user)
        likelihood, hits = np.zeros(users), np.zeros(users)
        number = np.bincount(self._new[0], minlength=users)
        for first in range(0, users, _ROWS):
            rows = np.arange(first, min(first + _ROWS, users))
            logit = scores(self.user[rows], self.states.take(rows))
            logit[self._of(self._known, rows)] = -np.inf
            top = logit.max(1, keepdims=True)
            logit -= top + np.log(np.exp(logit - top).sum(1, keepdims=True))
            new = self._of(self._new, rows)
            likelihood[rows] = np.bincount(new[0], weights=logit[new], minlength=len(rows))
            hit = np.zeros(logit.shape, bool)
            hit[new] = True
            best = np.argsort(-logit, axis=1, kind="stable")[:, :_BEST]
            hits[rows] = np.take_along_axis(hit, best, 1).mean(1)
        return float(likelihood.sum() / number.sum()), float(hits.mean())

    @staticmethod
    def _of(
        pairs: tuple[NDArray[np.int64], NDArray[np.int64]], rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        begin, end = np.searchsorted(pairs[0], [rows[0], rows[-1] + 1])
        return pairs[0][begin:end] - rows[0], pairs[1][begin:end]


def climb(
    judged: Callable[[float], list[Candidate]], ridges: tuple[float, ...], start: int
) -> tuple[list[Candidate], bool]:
    """Judge candidates along a grid of ridges, from a place of it on as long as it goes uphill.

    Args:
        judged: The candidates of a ridge.
        ridges: The whole grid, ascending.
        start: The place to begin at; it and its neighbours are judged first.

    Returns:
        All that were judged, best first, and whether the best lies at an end of the whole grid.
    """
    found: dict[int, list[Candidate]] = {}

    def best_at(place: int) -> float:
        if place not in found:
            found[place] = judged(ridges[place])
        return max(one.log_likelihood for one in found[place])

    low, high = max(start - 1, 0), min(start + 1, len(ridges) - 1)
    while True:
        best = max(range(low, high + 1), key=best_at)
        if best == low and low > 0:
            low -= 1
        elif best == high and high < len(ridges) - 1:
            high += 1
        else:
            break
    everyone = [one for ridge in found.values() for one in ridge]
    return sorted(everyone, key=lambda one: -one.log_likelihood), best in {0, len(ridges) - 1}
