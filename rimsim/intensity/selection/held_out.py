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
"""Fewest held-out users for a choice. With fewer, chance would decide the regularisation and the weights of the
personal score and of popularity, so defaults are used."""
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
        difference = best.by_user - self.by_user
        n_taken = self.taken.sum()
        mean = difference.sum() / n_taken
        # Standard error of a ratio of sums over users (linearisation).
        residual = difference - mean * self.taken
        return float(mean), float(np.sqrt(np.square(residual).sum()) / n_taken)


def best_of(candidates: Sequence[Worth]) -> int:
    """Index of the likeliest candidate with nearly the best precision.

    The likelihood depends on many rare items, but slates show only a few items. A candidate is not chosen if its
    precision is more than two standard errors below the best, even if its likelihood is higher.
    """
    hits = [candidate.hits for candidate in candidates]
    best_hits = hits[int(np.argmax([candidate.mean() for candidate in hits]))]
    gaps = [best_hits - candidate for candidate in hits]
    is_close = [gap.mean() <= 2.0 * gap.std() / np.sqrt(len(gap)) for gap in gaps]
    return int(np.argmax(np.where(is_close, [candidate.nats for candidate in candidates], -np.inf)))


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
        is_above = masked > last
        is_tied = masked == last
        hits_above = (self.taken * is_above).sum(1, dtype=np.float64)
        hits_tied = (self.taken * is_tied).sum(1, dtype=np.float64)
        n_positions = k - is_above.sum(1)  # positions that the tied items share
        return np.asarray((hits_above + n_positions * hits_tied / is_tied.sum(1)) / k, np.float64)

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
        masked -= masked.max(1, keepdims=True)  # so that no exponential overflows
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
        future_targets = cut.future.rows(cut.future.targets)
        # Index of each user among the users whose events were cut.
        cut_index = np.full(log.n_users, -1)
        cut_index[cut.user] = np.arange(len(cut))
        states = UserStates.of(cut.past, cut.user, cut.time)
        consumed_pairs = states.owner * log.n_items + states.items
        taken_pairs = cut_index[future_targets.user] * log.n_items + future_targets.item
        taken_pairs = taken_pairs[~pd.Index(taken_pairs).isin(consumed_pairs)]
        scored_users = np.flatnonzero(np.bincount(taken_pairs // log.n_items))
        if most_cells is not None:
            step = -(-len(scored_users) * log.n_items // most_cells)
            scored_users = scored_users[:: max(step, 1)]
        if len(scored_users) < _FEWEST or not cut.past.targets.any():
            return None
        # Only held-out users get rows over all items, because rows of all users would not fit into memory.
        row_of_user = np.full(len(cut), -1)
        row_of_user[scored_users] = np.arange(len(scored_users))
        consumed, taken = (
            _cells(pairs, row_of_user, len(scored_users), log.n_items)
            for pairs in (consumed_pairs, taken_pairs)
        )
        return cls(
            log=log,
            past=cut.past,
            user=cut.user[scored_users],
            states=states.take(scored_users),
            consumed=consumed,
            taken=taken.astype(np.float32),
        )


def _cells(pairs: Ints, row_of_user: Ints, n_users: int, n_items: int) -> Bools:
    """(n_users, M) booleans: true at user-item pairs of scored users.

    ``row_of_user`` is each user's row in the result, or −1 for a user who is not scored.
    """
    user, item = np.divmod(pairs, n_items)
    is_scored = row_of_user[user] >= 0
    mask = np.zeros((n_users, n_items), bool)
    mask[row_of_user[user[is_scored]], item[is_scored]] = True
    return mask
