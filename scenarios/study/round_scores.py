"""The scores of a round that do not fit into memory, computed block by block whenever they are looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Float32s, Ints

if TYPE_CHECKING:
    from rimsim.market.past_states import StateScores


class RoundScores:
    """λ(x,y) of the states of a round in clock order, −inf where an item may not be shown: scores in chunks.

    Args:
        states: Of a round that one model served.
        n_items: Size of the catalogue, M.
    """

    def __init__(self, states: StateScores, n_items: int) -> None:
        self._states = states
        self._n_items = n_items

    @property
    def shape(self) -> tuple[int, int]:
        """(n, M), states and items."""
        return len(self._states), self._n_items

    def rows(self, start: int, stop: int) -> Float32s:
        """(stop − start, M) scores of states ``start`` to ``stop`` − 1."""
        scores, filled = np.full((stop - start, self._n_items), -np.inf, np.float32), 0
        for chunk in self._states.between(start, stop):
            some = scores[filled : filled + len(chunk)]
            np.copyto(some, chunk.intensity.cpu().numpy(), where=chunk.admissible.cpu().numpy())
            filled += len(chunk)
        return scores


def round_capacity(states: StateScores, slate: int) -> Ints:
    """(n,) positions that each state of a round may fill, slates having ``slate``."""
    return np.full(len(states), slate) if states.capacity is None else states.capacity
