"""Dual prices of a round, solved on last round's states (T′) for the coming one (T)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.arrays import Bools, Float32s, Floats, Ints
from rimsim.matching import solve_prices

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView


_DEAR = 4.0
"""Where requirements are hard, a missing exposure costs so many times the largest intensity there is."""
SAMPLED_TOL = 5e-3
"""Relative gap at which prices of a sample need not be refined: those of all states are about as far away."""
_ROUNDED_FROM = 1.5
"""Mean floor of the items of a sample, exposures, from which rounding floors costs less than sampling does."""


def solved_prices(view: RoundView, tol: float, warm: Floats | None = None) -> tuple[Floats, float]:
    """Item prices v that the penalised problem of last round's states has at its optimum.

    Floors are scaled to the number of states there are, and, where all positions count alike, rounded at random by the
    round's key, so that their sum keeps its size. Where the clock sets the pace, as many arrivals are expected as came
    last round, whatever was promised for. Where requirements are hard, prices may lie beyond −c; an item that
    could not be delivered to last round's states, such as one that is released only now, starts at −c.

    Where last round's states are too many to be held at once and those of the sample too few to round floors
    (:func:`too_few_to_round`), floors stay real numbers.

    Args:
        view: The round.
        tol: Relative gap at which the solver stops.
        warm: (M,) prices to start from, such as those of the last round.

    Returns:
        (M,) prices, at most 0, and the width below which the solver left values s − v tied.
    """
    if not len(view.past) or not view.required.any():
        return np.zeros(len(view.required)), 0.0
    states = joined_states(view.past, view.k)
    came = len(states.scores) if view.came is None else view.came
    expected = came if view.pace == "clock" else view.arrivals
    share = view.required * (len(states.scores) / expected)
    sampled = len(states.scores) < came
    draw = None if sampled and too_few_to_round(share) else np.random.default_rng(view.key).random(len(share))
    return priced(view, states, share, draw, max(tol, SAMPLED_TOL) if draw is None else tol, warm)


def too_few_to_round(floor: Floats) -> bool:
    """Whether a sample of states has so few positions for an item that floors of none or one would stand for all.

    Prices of such floors can be a third above the least bound, those of floors left as they are some thousandths.

    Args:
        floor: (M,) floors of the sample, exposures.
    """
    asked = floor > 0
    return bool(asked.any() and floor[asked].mean() < _ROUNDED_FROM)


def priced(
    view: RoundView,
    states: States,
    required: Floats,
    draw: Floats | None,
    tol: float,
    warm: Floats | None,
) -> tuple[Floats, float]:
    """Item prices v at the optimum of some states.

    Where all positions count alike, floors are whole exposures, rounded at random. Where they do not, floors are real
    numbers in the unit of the guarantee.

    Args:
        view: The round.
        states: n states.
        required: (M,) what is required of them, in the unit of the guarantee.
        draw: (M,) uniform numbers by which floors are rounded; None: they stay real numbers, and the search ends
            as soon as D is within ``tol``.
        tol: Relative gap at which the solver stops.
        warm: (M,) prices to start from; None: 0.

    Returns:
        (M,) prices, at most 0, and the width below which the solver left values s − v tied. An item that could not be
        delivered whatever it cost has −c.
    """
    weights, cost, n = view.position_weights, cost_of_missing(view, states), len(states.scores)
    whole = draw if weights[0] == weights[-1] else None
    below = np.floor(required)
    solution = solve_prices(
        states.scores,
        states.capacity,
        required if whole is None else np.minimum(below + (whole < required - below), n).astype(np.int64),
        admissible=states.admissible,
        cost=cost,
        prices=warm,
        position_weights=weights if whole is None else None,
        tol=tol,
        tie_seed=view.key,
        for_bound=draw is None,
    )
    return np.minimum(within_bound(solution.item_price, cost, view.cost), 0.0), solution.resolution


def within_bound(price: Floats, bound: float, cost: float) -> Floats:
    """Prices v, −c in place of those at the bound: what could not be delivered to last round's states starts there."""
    return np.where(price > -bound, price, -cost)


def cost_of_missing(view: RoundView, states: States) -> float:
    """What a missing exposure costs in a problem of some states.

    It is c where requirements may be left undelivered. Where they are hard, it is above what any exposure is worth, so
    that all is delivered that can be.
    """
    if not view.hard:
        return view.cost
    return max(view.cost, _DEAR * float(states.scores.max(initial=0.0)))


def chances(view: RoundView) -> Floats:
    """(M,) share of last round's states to whom each item may be shown; 1 where that is none.

    An item that none of them may be shown is most likely not released yet, and then nobody has consumed it.
    """
    total, n = np.zeros(len(view.required)), 0
    for chunk in view.past:
        total += chunk.admissible.cpu().numpy().sum(0)
        n += len(chunk)
    return np.where(total > 0, total / max(n, 1), 1.0)


class States(NamedTuple):
    """Scored states as the solver takes them."""

    scores: Float32s
    """(n, M) λ(x,y)."""
    admissible: Bools
    """(n, M) pairs that may be shown."""
    capacity: Ints
    """(n,) positions that each may fill."""

    def rows(self, which: Ints | slice) -> States:
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


def joined_states(chunks: Iterable[Arrivals], slate: int) -> States:
    """The states in some chunks one below the other; no chunk is kept while they are put together.

    Args:
        chunks: At least one.
        slate: k.
    """
    parts = [
        States(chunk.intensity.cpu().numpy(), chunk.admissible.cpu().numpy(), capacities([chunk], slate))
        for chunk in chunks
    ]
    return States.stacked(parts)


def states_in_order(chunks: Sequence[Arrivals], slate: int) -> States:
    """As :func:`joined_states`, in the order of the chunks' ``index``, which is that of the clock."""
    return joined_states(chunks, slate).rows(np.argsort(np.concatenate([chunk.index for chunk in chunks])))


def capacities(chunks: Sequence[Arrivals], slate: int) -> Ints:
    """(n,) positions that each of the states in some chunks may fill."""
    parts = [np.full(len(chunk), slate) if chunk.capacity is None else chunk.capacity for chunk in chunks]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
