"""Dual prices of a round, solved on last round's states (T′) for the coming one (T)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.matching import solve_dual

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from rimsim.market import Arrivals, RoundView

__all__ = ["States", "capacities", "joined_states", "solved_prices", "states_in_order"]


def solved_prices(
    view: RoundView, tol: float, warm: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], float]:
    """Item prices v that the penalised problem of last round's states has at its optimum.

    Floors are scaled to the number of states there are and rounded at random by the round's key, so that their sum
    keeps its size.

    Args:
        view: The round.
        tol: Relative gap at which the solver stops.
        warm: (M,) prices to start from, such as those of the last round.

    Returns:
        (M,) prices, between −c and 0, and the width below which the solver left values s − v tied.
    """
    chunks = list(view.past)
    if not chunks or not view.required.any():
        return np.zeros(len(view.required)), 0.0
    scores, admissible, capacity = joined_states(chunks, view.k)
    share = view.required * (len(scores) / view.arrivals)
    below = np.floor(share)
    floors = below + (np.random.default_rng(view.key).random(len(share)) < share - below)
    solution = solve_dual(
        scores,
        capacity,
        floors.astype(np.int64),
        admissible=admissible,
        cost=view.cost,
        prices=warm,
        tol=tol,
        tie_seed=view.key,
    )
    return np.clip(solution.item_price, -view.cost, 0.0), solution.resolution


class States(NamedTuple):
    """Scored states as the solver takes them."""

    scores: NDArray[np.float32]
    """(n, M) λ(x,y)."""
    admissible: NDArray[np.bool_]
    """(n, M) pairs that may be shown."""
    capacity: NDArray[np.int64]
    """(n,) positions that each may fill."""

    def rows(self, which: NDArray[np.int64] | slice) -> States:
        """The states of some rows."""
        return States(self.scores[which], self.admissible[which], self.capacity[which])

    @classmethod
    def stacked(cls, parts: Sequence[States]) -> States:
        """The states of at least one part, one below the other."""
        return (
            parts[0]
            if len(parts) == 1
            else cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
        )


def joined_states(chunks: Sequence[Arrivals], slate: int) -> States:
    """The states in some chunks one below the other.

    Args:
        chunks: At least one.
        slate: k.
    """
    scores = np.concatenate([chunk.intensity.cpu().numpy() for chunk in chunks])
    admissible = np.concatenate([chunk.admissible.cpu().numpy() for chunk in chunks])
    return States(scores, admissible, capacities(chunks, slate))


def states_in_order(chunks: Sequence[Arrivals], slate: int) -> States:
    """As :func:`joined_states`, in the order of the chunks' ``index``, which is that of the clock."""
    return joined_states(chunks, slate).rows(np.argsort(np.concatenate([chunk.index for chunk in chunks])))


def capacities(chunks: Sequence[Arrivals], slate: int) -> NDArray[np.int64]:
    """(n,) positions that each of the states in some chunks may fill."""
    parts = [np.full(len(chunk), slate) if chunk.capacity is None else chunk.capacity for chunk in chunks]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
