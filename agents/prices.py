"""Dual prices of a round, solved on last round's states (T′) for the coming one (T)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.matching import solve_dual

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from rimsim.market import Arrivals, RoundView

__all__ = ["capacities", "joined_states", "solved_prices"]


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
    chunks = list(view.calibration)
    if not chunks or not view.required.any():
        return np.zeros(len(view.required)), 0.0
    scores, admissible, capacity = joined_states(chunks, view.slate)
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


def joined_states(
    chunks: Sequence[Arrivals], slate: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]:
    """The states in some chunks one below the other, as the solver takes them.

    Args:
        chunks: At least one.
        slate: k.

    Returns:
        (n, M) λ(x,y), (n, M) what is admissible, and (n,) positions.
    """
    scores = np.concatenate([chunk.intensity.cpu().numpy() for chunk in chunks])
    admissible = np.concatenate([chunk.admissible.cpu().numpy() for chunk in chunks])
    return scores, admissible, capacities(chunks, slate)


def capacities(chunks: Sequence[Arrivals], slate: int) -> NDArray[np.int64]:
    """(n,) positions that each of the states in some chunks may fill."""
    parts = [np.full(len(chunk), slate) if chunk.capacity is None else chunk.capacity for chunk in chunks]
    return np.concatenate(parts)
