"""``fair-rec``: guaranteed copies, greedily handed out, a baseline from the field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.agents.prices import capacities
from rimsim.compiled import compiled
from rimsim.market import Slates
from rimsim.matching import best_items, tie_base, tie_rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rimsim.market import Arrivals, RoundView

__all__ = ["FairRec"]


class FairRec:
    """Hands out a guaranteed number of copies of each item, then fills slates by relevance (FairRec-style).

    FairRec (Patro et al., WWW 2020) guarantees each item ℓ = α·N·k/M exposures: with ℓ copies of each, users take
    turns in choosing, round-robin, the copy they like best, until the copies are gone, and then fill their lists by
    relevance. α is β here, and ℓ the required exposure b. It is offline: everyone is there for every turn.

    Adapted to arrivals, each user has all its turns at once. The copies left at arrival t of N, Σ(b − E)₊, are
    shared out evenly over the arrivals left: the arrival first takes its ⌈Σ(b − E)₊ / (N − t)⌉ most relevant items
    of which copies are left, and then its most relevant others. So every arrival carries about the same part of the
    guarantee, whatever its λ(x), and nobody can wait for a better match: the envy-freeness of the original is lost,
    the guarantee is kept as long as the last arrivals may be shown what is left. An item that relevance shows by
    itself uses up its copies too. Slates are ordered by relevance.
    """

    name = "fair-rec"
    order_free = False
    barrier_every = None

    def begin_round(self, view: RoundView) -> None:
        """Lay out the copies."""
        self._slate, self._ties, self._arrivals = view.k, tie_base(view.key), view.arrivals
        self._copies = np.maximum(view.required - view.exposure, 0)
        self._time = 0

    def act(self, arrivals: Arrivals) -> Slates:
        """Serve the rows in order, taking copies away after each."""
        items = np.empty((len(arrivals), self._slate), np.int64)
        _hand_out(
            arrivals.relevance.cpu().numpy(),
            arrivals.admissible.cpu().numpy(),
            arrivals.id,
            self._ties,
            self._time,
            self._arrivals,
            self._copies,
            capacities([arrivals], self._slate),
            items,
        )
        self._time += len(items)
        return Slates(items)


@compiled
def _chosen(
    value: NDArray[np.float64],
    copies: NDArray[np.int64],
    turns: int,
    row: np.uint64,
    items: NDArray[np.int64],
) -> int:
    """The best items of which copies are left, ``turns`` of them, then the best others, all in order of value."""
    k = len(items)
    best = np.empty(k)
    pool = np.where(copies > 0, value, -np.inf)
    taken = best_items(pool, row, items[:turns], best[:turns]) if turns > 0 else 0
    pool[:] = value
    pool[items[:taken]] = -np.inf
    size = taken
    if taken < k:
        size += best_items(pool, row, items[taken:], best[taken:])
    pool[:] = -np.inf
    pool[items[:size]] = value[items[:size]]
    return best_items(pool, row, items[:size], best[:size]) if size > 0 else 0


@compiled
def _hand_out(
    relevance: NDArray[np.float32],
    admissible: NDArray[np.bool_],
    ids: NDArray[np.int64],
    ties: np.uint64,
    first: int,
    arrivals: int,
    copies: NDArray[np.int64],
    capacity: NDArray[np.int64],
    slates: NDArray[np.int64],
) -> None:
    """The rows in order; ``copies`` are taken away in place and ``slates`` filled."""
    n, k = slates.shape
    left = copies.sum()
    for row in range(n):
        coming = max(arrivals - first - row, 1)
        most = min(capacity[row], k)
        turns = min((left + coming - 1) // coming, most)
        value = np.where(admissible[row], relevance[row].astype(np.float64), -np.inf)
        size = _chosen(value, copies, turns, tie_rank(ties, ids[row]), slates[row, :most]) if most > 0 else 0
        slates[row, size:] = -1
        for item in slates[row, :size]:
            if copies[item] > 0:
                copies[item] -= 1
                left -= 1
