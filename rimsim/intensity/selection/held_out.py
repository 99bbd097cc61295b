"""Held-out later sessions: states before them, and items taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.data.log import EventLog, later_sessions
from rimsim.errors import DataError
from rimsim.intensity.states import UserStates

_FEWEST = 20
"""Fewest held-out users for a choice. With fewer, chance would decide the three weights and the ridge, so defaults are
used."""
_CELLS = 4_000_000
"""Largest number of scores, states times items, that weights are fitted to."""


@dataclass(frozen=True, eq=False)
class Worth:
    """Worth of predicted logits at n held-out states."""

    hits: Floats
    """(n,) share of each user's ten best unconsumed items that the user took."""
    by_user: Floats
    """(n,) sum of the log-likelihoods of the items that each user took, in nats."""
    taken: Floats
    """(n,) number of items that each user took."""

    @property
    def precision(self) -> float:
        """Mean precision over users."""
        return float(self.hits.mean())

    @property
    def nats(self) -> float:
        """Mean log-likelihood of a taken item."""
        return float(self.by_user.sum() / self.taken.sum())

    def behind(self, best: Worth) -> tuple[float, float]:
        """Log-likelihood per taken item, ``best`` minus this; its standard error."""
        gap = best.by_user - self.by_user
        number = self.taken.sum()
        mean = gap.sum() / number
        return float(mean), float(np.sqrt(np.square(gap - mean * self.taken).sum()) / number)


def best_of(candidates: Sequence[Worth]) -> int:
    """Index of the likeliest candidate with nearly the best precision.

    The likelihood depends on many rare items, but slates show only a few items. A candidate is not chosen if its
    precision is more than two standard errors below the best, even if its likelihood is higher.
    """
    hits = [candidate.hits for candidate in candidates]
    first = hits[int(np.argmax([candidate.mean() for candidate in hits]))]
    gaps = [first - candidate for candidate in hits]
    close = [gap.mean() <= 2.0 * gap.std() / np.sqrt(len(gap)) for gap in gaps]
    return int(np.argmax(np.where(close, [candidate.nats for candidate in candidates], -np.inf)))


@dataclass(frozen=True, eq=False)
class HeldOut:
    """States of n users before later sessions, and items taken."""

    log: EventLog
    """The log that was cut."""
    past: EventLog
    """The log before the cuts."""
    user: Ints
    """(n,) held-out users."""
    states: UserStates
    """State of each held-out user at the cut."""
    consumed: Bools
    """(n, M) True for items consumed before the cut, which are not admissible."""
    taken: Float32s
    """(n, M) 1 for target items that the user took after the cut, else 0."""

    def __len__(self) -> int:
        return len(self.states)

    def best(self, logits: NDArray[np.floating], k: int = 10) -> Bools:
        """(n, M) booleans: the k best unconsumed items, ties included."""
        masked, last, _ = self._last(logits, k)
        return np.asarray((masked >= last) & ~self.consumed, np.bool_)

    def precision(self, logits: NDArray[np.floating], k: int = 10) -> Floats:
        """(n,) share of the k best unconsumed items that were taken.

        If several items tie for the last positions, they share these positions.
        """
        masked, last, k = self._last(logits, k)
        above = masked > last
        tied = masked == last
        hits, of_tied = ((self.taken * mask).sum(1, dtype=np.float64) for mask in (above, tied))
        return np.asarray((hits + (k - above.sum(1)) * of_tied / tied.sum(1)) / k, np.float64)

    def _last(
        self, logits: NDArray[np.floating], k: int
    ) -> tuple[NDArray[np.floating], NDArray[np.floating], int]:
        """(n, M) logits (−∞ where consumed), k-th largest logits, and k."""
        masked = np.where(self.consumed, -np.inf, logits)
        k = min(k, masked.shape[1])
        return masked, np.partition(masked, -k, axis=1)[:, -k, None], k

    def log_likelihood(self, logits: NDArray[np.floating]) -> Floats:
        """(n,) log-likelihood of each user's taken items among unconsumed ones, nats."""
        masked = np.where(self.consumed, -np.inf, logits).astype(np.float64)
        masked -= masked.max(1, keepdims=True)
        normaliser = np.log(np.exp(masked).sum(1))
        taken = self.taken > 0
        return np.asarray(np.where(taken, masked, 0.0).sum(1) - taken.sum(1) * normaliser, np.float64)

    def nats(self, by_user: Floats) -> float:
        """Mean log-likelihood of a taken item, from log-likelihoods of users."""
        return float(by_user.sum() / self.taken.sum(dtype=np.float64))

    def worth(self, logits: NDArray[np.floating]) -> Worth:
        """Worth of logits, per state or over all states."""
        by_user = self.log_likelihood(logits)
        return Worth(self.precision(logits), by_user, self.taken.sum(1, dtype=np.float64))

    @classmethod
    def of(cls, log: EventLog, gap: str, seed: int, *, most_cells: int | None = _CELLS) -> HeldOut | None:
        """Held-out states of a log, or None below 20 users.

        The log of every user is cut. If users × items exceeds ``most_cells``, only a part of the users is scored.
        """
        try:
            cut = later_sessions(log, gap=gap, seed=seed)
        except DataError:
            return None
        goal = cut.future.rows(cut.future.targets)
        row = np.full(log.n_users, -1)
        row[cut.user] = np.arange(len(cut))
        states = UserStates.of(cut.past, cut.user, cut.time)
        had = states.owner * log.n_items + states.items
        took = row[goal.user] * log.n_items + goal.item
        took = took[~pd.Index(took).isin(had)]
        scored_rows = np.flatnonzero(np.bincount(took // log.n_items))
        if most_cells is not None:
            step = -(-len(scored_rows) * log.n_items // most_cells)
            scored_rows = scored_rows[:: max(step, 1)]
        if len(scored_rows) < _FEWEST or not cut.past.targets.any():
            return None
        # Only held-out users get rows over all items, because rows of all users would not fit into memory.
        place = np.full(len(cut), -1)
        place[scored_rows] = np.arange(len(scored_rows))
        consumed, taken = (_cells(pairs, place, len(scored_rows), log.n_items) for pairs in (had, took))
        return cls(
            log, cut.past, cut.user[scored_rows], states.take(scored_rows), consumed, taken.astype(np.float32)
        )


def _cells(pairs: Ints, place: Ints, n_users: int, n_items: int) -> Bools:
    """(kept, M) booleans: true at user-item pairs of scored users."""
    row, item = np.divmod(pairs, n_items)
    among = place[row] >= 0
    mask = np.zeros((n_users, n_items), bool)
    mask[place[row[among]], item[among]] = True
    return mask
