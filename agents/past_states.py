"""Scored states of the last round, for the price solver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.arrays import Float32s, Floats, Ints

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView
    from rimsim.market.records import ScoredStates


class States(NamedTuple):
    """Scored states in the form that the solver needs."""

    scores: Float32s
    """(n, M) λ(x,y); −inf for inadmissible items."""
    capacity: Ints
    """(n,) number of positions that each state may fill."""

    def rows(self, rows: Ints | slice) -> States:
        """States at given indices."""
        return States(self.scores[rows], self.capacity[rows])

    @classmethod
    def stacked(cls, parts: Sequence[States]) -> States:
        """States of one or more parts, concatenated."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def joined_states(chunks: Sequence[Arrivals] | ScoredStates, slate: int) -> States:
    """States of all chunks, concatenated, for slates of k positions.

    Chunks that are scored during iteration are not in memory at the same time.
    """
    n = sum(map(len, chunks)) if isinstance(chunks, Sequence) else len(chunks)
    scores = np.empty((0, 0), np.float32)
    capacity = np.empty(n, np.int64)
    filled = 0
    for chunk in chunks:
        if filled == 0:
            scores = np.empty((n, chunk.relevance.shape[1]), np.float32)
        block = slice(filled, filled + len(chunk))  # rows of this chunk
        chunk.write_scores(scores[block])
        capacity[block] = capacities([chunk], slate)
        filled += len(chunk)
    return States(scores, capacity)


def states_in_order(chunks: Sequence[Arrivals], slate: int) -> States:
    """States of all chunks, in clock order."""
    return joined_states(chunks, slate).rows(np.argsort(np.concatenate([chunk.row for chunk in chunks])))


def capacities(chunks: Sequence[Arrivals], slate: int) -> Ints:
    """Number of positions that each state may fill."""
    parts = [np.full(len(chunk), slate) if chunk.capacity is None else chunk.capacity for chunk in chunks]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def admissible_shares(view: RoundView) -> Floats:
    """Share of past states for which each item is admissible.

    The share is 1 for an item that was admissible in no state, because this item was probably not released and nobody
    has consumed it. If items end, the states admit the items on offer at the same share of the round, and the share is
    that among the states in which the item is on offer.
    """
    total = np.zeros(len(view.required))
    n = 0
    for chunk in view.past:
        total += chunk.admissible.cpu().numpy().sum(0)
        n += len(chunk)
    if view.windows is not None:
        on_offer = (view.windows.end - view.windows.begin) / max(view.arrivals, 1) * n
        total = np.minimum(total / np.maximum(on_offer, 1.0), 1.0) * n
    return np.where(total > 0, total / max(n, 1), 1.0)
