"""Optimal prices for the states of the last round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rimsim.agents.past_states import States, joined_states
from rimsim.agents.row_table import Constraints, RowTable, constraints_of, counted
from rimsim.arrays import Floats
from rimsim.matching import DualPrices, solve_prices
from rimsim.requirements.rows import NO_REQUIREMENTS

if TYPE_CHECKING:
    from rimsim.market import RoundView

# Cost of a missing exposure of a hard requirement in the solver, as a multiple of the largest intensity.
_DEAR = 4.0
SAMPLED_TOL = 5e-3
"""Relative gap at which prices solved on a sample of states need no refinement. The prices of all states differ from
those of the sample by about as much."""
# Mean floor of a sample, in exposures. Above it, rounding the floors changes the bound of the certificate less than the
# choice of the sample does.
_ROUNDED_FROM = 1.5


def solved_prices(view: RoundView, tol: float, start_price: Floats | None = None) -> tuple[Floats, float]:
    """Item prices, optimal for floors in the last round's states.

    Prices are at most 0. The second value is the tie width: the least difference of two values λ − v that the solver
    can tell apart. The solver stops at the relative gap ``tol``, and starts from ``start_price``.
    """
    return solved_rows(view, RowTable.of(view, NO_REQUIREMENTS), tol, start_price)


def solved_rows(
    view: RoundView, table: RowTable, tol: float, start_price: Floats | None = None
) -> tuple[Floats, float]:
    """Requirement prices for the last round's states, and tie width.

    Floors are scaled to the number of states. If all positions count the same and all requirements are floors, floors
    are rounded at random. The sum of the floors stays about the same. The key of the round seeds this rounding. With
    pacing by time, the solver expects as many arrivals as in the last round. If requirements are hard, prices may be
    below −c. An item that could not be shown in the states of the last round, such as a newly released item, starts at
    the price −c. If not all states fit into memory and the sample is too small to round floors
    (:func:`too_few_to_round`), floors stay real numbers.
    """
    n_rows = len(table.rows)
    if not len(view.past) or not (table.required.any() or n_rows):
        return np.zeros(len(table.required) + n_rows), 0.0
    chunks = list(view.past) if n_rows else view.past
    states = joined_states(chunks, view.k)
    # Number of states of the last round. If not all fit into memory, ``states`` are a sample.
    n_past = len(states.scores) if view.n_past_arrivals is None else view.n_past_arrivals
    expected = n_past if view.pace == "clock" else view.arrivals
    if n_rows:
        cost = cost_of_missing(view, states)
        active = counted(table.rows, list(chunks))
        constraints = constraints_of(table.required, table.rows, active, cost, expected)
        solution = _solve(view, states, constraints, draw=None, tol=tol, start_price=None)
        row_price = constraints.prices(table.rows, solution.item_price, solution.row_price)
        item_price = np.minimum(within_bound(solution.item_price, cost, view.cost), 0.0)
        return np.concatenate([item_price, within_bound(row_price, cost, view.cost)]), solution.resolution
    required = table.required * (len(states.scores) / expected)
    is_sample = len(states.scores) < n_past
    if is_sample and too_few_to_round(required):
        return priced(view, states, required, None, max(tol, SAMPLED_TOL), start_price)
    draw = np.random.default_rng(view.key).random(len(required))
    return priced(view, states, required, draw, tol, start_price)


def too_few_to_round(required: Floats) -> bool:
    """True if samples have too few positions to round floors.

    For such samples, prices solved with rounded floors can give a certificate whose bound is a third above the least
    bound, because a floor below one position becomes none or one. With unrounded floors, the bound is only some
    thousandths above it.
    """
    is_required = required > 0
    return bool(is_required.any() and required[is_required].mean() < _ROUNDED_FROM)


def priced(
    view: RoundView,
    states: States,
    required: Floats,
    draw: Floats | None,
    tol: float,
    start_price: Floats | None,
) -> tuple[Floats, float]:
    """Item prices v, optimal for given states, and tie width.

    If all positions count the same, the random numbers ``draw`` decide how floors are rounded to whole exposures.
    Without ``draw``, floors stay real numbers, and the search ends when the dual D is within the relative gap ``tol``
    of its minimum. An item that cannot be delivered at any cost has the price −c. The search starts from
    ``start_price``, or else from 0.
    """
    solution = _solve(view, states, required, draw, tol, start_price)
    cost = cost_of_missing(view, states)
    return np.minimum(within_bound(solution.item_price, cost, view.cost), 0.0), solution.resolution


def _solve(
    view: RoundView,
    states: States,
    required: Floats | Constraints,
    draw: Floats | None,
    tol: float,
    start_price: Floats | None,
) -> DualPrices:
    """Solution for floors, which ``draw`` rounds, or for any constraints."""
    position_weights: Floats | None = view.position_weights
    min_exposure, max_exposure, rows, _ = (
        required if isinstance(required, Constraints) else (required, None, None, None)
    )
    if rows is None and draw is not None and view.position_weights[0] == view.position_weights[-1]:
        # Randomised rounding: a floor is rounded up with the probability of its fraction, so its mean stays the same.
        rounded_down = np.floor(min_exposure)
        rounded = rounded_down + (draw < min_exposure - rounded_down)
        position_weights = None
        min_exposure = np.minimum(rounded, len(states.scores)).astype(np.int64)
    return solve_prices(
        states.scores,
        states.capacity,
        min_exposure,
        max_exposure,
        cost=cost_of_missing(view, states),
        prices=start_price,
        position_weights=position_weights,
        rows=rows,
        tol=tol,
        tie_seed=view.key,
        for_bound=rows is None and draw is None,
    )


def within_bound(price: Floats, bound: float, cost: float) -> Floats:
    """Prices v, with −c instead of prices at ``bound``.

    The solver gives this price to an item that could not be shown in the past states.
    """
    return np.where(price > -bound, price, -cost)


def cost_of_missing(view: RoundView, states: States) -> float:
    """Cost of a missing exposure when prices are solved.

    For soft requirements the cost is c. For hard requirements the cost exceeds the worth of any exposure, so that all
    feasible exposures are delivered.
    """
    if not view.hard:
        return view.cost
    return max(view.cost, _DEAR * float(states.scores.max(initial=0.0)))
