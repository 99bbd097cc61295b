"""``fair-rec``: a published baseline that distributes guaranteed copies greedily."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rimsim.agents.arrival_arrays import ExposureUnit
from rimsim.agents.clock import EARLY, RoundClock
from rimsim.agents.past_states import capacities
from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.compiled import compiled, compiled_part
from rimsim.market import Slates
from rimsim.matching import best_items, tie_base, tie_rank

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView

_NOTHING = 1e-9  # amounts of exposure below this number are rounding errors


class FairRec:
    """Distributes guaranteed copies of items, then fills slates by relevance.

    FairRec (Patro et al., WWW 2020) guarantees each item ℓ = α·N·k/M exposures. FairRec makes ℓ copies of each item.
    Users take turns, and each takes the most relevant item that has copies left. Then FairRec fills the lists by
    relevance. In rimsim, α is the guaranteed share β, and ℓ is the required exposure b. In the original, all users are
    present at every turn. In rimsim, an arrival takes all its turns at once. The remaining copies at arrival t of N,
    Σ(b − E)₊, are spread evenly over the remaining arrivals. Each arrival first gets its ⌈Σ(b − E)₊ / (N − t)⌉ most
    relevant items with copies left, and then its most relevant other items. So every arrival gets about the same number
    of guaranteed items, for any λ(x). Unlike in the original, users may envy the slates of others. The guarantee is
    kept if the items with copies left are admissible for the last arrivals. An item that is shown for its relevance
    also uses up a copy. Slates are ordered by relevance.

    If positions have different weights, items with copies get the last positions of a slate: as many as deliver Σ(b −
    E)₊ / (N − t) exposures. Copies of hard guarantees are spread over all but the last few arrivals.
    """

    name = "fair-rec"
    order_free = False
    barrier_every = None

    def begin_round(self, view: RoundView) -> None:
        """Make the copies of items for the round."""
        self._slate = view.k
        self._ties = tie_base(view.key)
        self._clock = RoundClock(view)
        self._unit = ExposureUnit.of(view)
        self._early = EARLY * view.arrivals if view.hard else 0.0
        self._copies = np.maximum(view.required - view.exposure, 0.0)

    def act(self, arrivals: Arrivals) -> Slates:
        """Serve arrivals in order; every slate uses up copies."""
        items = np.empty((len(arrivals), self._slate), np.int64)
        _hand_out(
            arrivals.relevance.cpu().numpy(),
            arrivals.admissible.cpu().numpy(),
            arrivals.id,
            self._ties,
            np.maximum(self._clock.remaining(arrivals)[:, -1] - self._early, 1.0),
            tuple(self._unit),
            self._copies,
            capacities([arrivals], self._slate),
            items,
        )
        self._clock.advance(arrivals)
        return Slates(items)


@compiled
def _chosen(value: Floats, copies: Floats, turns: int, bits: np.uint64, items: Ints) -> int:
    """Fill a slate; items that have copies go first.

    The first ``turns`` choices go to items that have copies. The result is the number of filled positions.
    """
    k = len(items)
    best = np.empty(k)
    candidate_value = np.where(copies > 0, value, -np.inf)
    n_guaranteed = best_items(candidate_value, bits, items[:turns], best[:turns], 0.0) if turns > 0 else 0
    candidate_value[:] = value
    candidate_value[items[:n_guaranteed]] = -np.inf
    size = n_guaranteed
    if n_guaranteed < k:
        size += best_items(candidate_value, bits, items[n_guaranteed:], best[n_guaranteed:], 0.0)
    # Sort the chosen items by value.
    candidate_value[:] = -np.inf
    candidate_value[items[:size]] = value[items[:size]]
    return best_items(candidate_value, bits, items[:size], best[:size], 0.0) if size > 0 else 0


@compiled_part
def _turns(due: float, capacity: int, position_weights: Floats) -> int:
    """Number of last positions that together deliver ``due`` exposures."""
    turns = 0
    delivered = 0.0
    while turns < capacity and delivered < due - _NOTHING:
        turns += 1
        delivered += position_weights[capacity - turns]
    return turns


@compiled
def _hand_out(
    relevance: Float32s,
    admissible: Bools,
    ids: Ints,
    ties: np.uint64,
    spread_over: Floats,
    unit_: tuple[Any, ...],
    copies: Floats,
    capacity: Ints,
    slates: Ints,
) -> None:
    """Serve arrivals in order; use up ``copies`` and fill ``slates``.

    For each arrival, ``spread_over`` is the number of arrivals over which the remaining copies are spread.
    """
    unit = ExposureUnit(*unit_)
    n, k = slates.shape
    for arrival in range(n):
        n_positions = min(capacity[arrival], k)
        turns = _turns(copies.sum() / spread_over[arrival], n_positions, unit.position_weights)
        value = np.where(admissible[arrival], relevance[arrival].astype(np.float64), -np.inf)
        size = 0
        if n_positions > 0:
            bits = tie_rank(ties, ids[arrival])
            size = _chosen(value, copies, turns, bits, slates[arrival, :n_positions])
        slates[arrival, size:] = -1
        for position in range(size):
            item = slates[arrival, position]
            copies[item] = max(copies[item] - unit.position_weights[position], 0.0)
