"""Certificates of rounds, with prices in hindsight."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from rimsim.agents.past_states import States, joined_states
from rimsim.agents.prices import SAMPLED_TOL, too_few_to_round
from rimsim.agents.row_table import constraints_of
from rimsim.arrays import Float32s, Floats
from rimsim.market import ClosedRound, Market
from rimsim.market.consumers.contract import ConsumerCapabilities
from rimsim.market.scores.past import StateScores, most_states
from rimsim.matching import Certificate, DualPrices, certificate, solve_prices
from rimsim.requirements.rows import RoundRequirements
from rimsim.scenarios.runs.files import read_arrays, write_arrays

_BOUND_TOL = 1e-3
"""Relative tolerance of the bound on the value of a round."""


@dataclass(eq=False)
class HindsightPrices:
    """Prices of an arm's rounds in hindsight.

    The prices depend on the rounds alone, not on the arm's own prices. So arms with the same rounds share one solution,
    as in a replay, where states do not depend on slates.
    """

    folder: Path | None = None
    """Folder of solutions that other arms reuse while the run lasts; None: there is no folder."""
    last: Floats | None = None
    """(M,) prices of the last solved round; None: no round has been solved."""

    def of(self, solve: partial[DualPrices]) -> DualPrices:
        """Prices of a round.

        Args:
            solve: :func:`~rimsim.matching.solve_prices` with its arguments, but without start prices.
        """
        solve_from_last = partial(solve, prices=self.last)
        prices = solve_from_last() if self.folder is None else cached_prices(self.folder, solve_from_last)
        self.last = prices.item_price
        return prices


def cached_prices(folder: Path, solve: partial[DualPrices]) -> DualPrices:
    """Solution of a price problem, cached by its arguments."""
    file = folder / f"{_digest(solve)}.npz"
    arrays = read_arrays(file)
    if arrays is None:
        prices = solve()
        write_arrays(file, {name: np.asarray(value) for name, value in prices._asdict().items()})
        return prices
    return DualPrices(
        item_price=arrays["item_price"],
        row_price=arrays["row_price"],
        dual=float(arrays["dual"]),
        resolution=float(arrays["resolution"]),
    )


def _digest(call: partial[DualPrices]) -> str:
    """Digest of the arguments of a call.

    Tuples and records are replaced by their entries, until only arrays and plain values are left.
    """
    # SHA-256 takes half the time of BLAKE2 on processors with instructions for it.
    digest = hashlib.sha256()
    remaining_parts: list[object] = [*call.args, *sorted(call.keywords.items())]
    while remaining_parts:
        value = remaining_parts.pop()
        if isinstance(value, tuple):
            remaining_parts.extend(value)
        elif dataclasses.is_dataclass(value):
            remaining_parts.extend(
                (entry.name, getattr(value, entry.name)) for entry in dataclasses.fields(value)
            )
        elif isinstance(value, np.ndarray):
            digest.update(repr((value.dtype.str, value.shape)).encode())
            digest.update(np.ascontiguousarray(value).data)
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()


def certified(closed: ClosedRound, hindsight: HindsightPrices) -> Certificate:
    """Certificate of a round's slates: value V, bound D(w), gap.

    Scores are from the model that served the round, in the states of the arrivals. Any prices give a valid bound, but a
    loose bound would look like a loss of the agent. So prices are solved in hindsight. If there are too many states,
    prices are solved on evenly spaced states, but V and D(w) use all states, block by block. In the bound, a missing
    exposure of a group or campaign costs c, and slates keep all caps.
    """
    # One model served the round. So its states are in clock order, like the ledger.
    slates = closed.ledger.item.astype(np.int64)
    states = closed.states
    has_rows = len(closed.promises) > 0
    is_active = closed.promises.active(states.audiences, len(slates))
    constraints = constraints_of(closed.required, closed.promises, is_active, closed.cost)
    scores: Float32s | StateScores = states
    capacity = states.positions(slates.shape[1])
    served_values = None
    if closed.best is None:
        prices, solver_states = _bound_prices(
            closed.requirements, slates.shape[1], states, closed.cost, hindsight
        )
        item_price = prices.item_price
        row_price = prices.row_price
        if len(solver_states.scores) == len(slates):  # no state was left out, so no state is scored again
            scores, capacity = solver_states
    else:
        # Prices were solved before the round, and the round noted its values at these prices.
        item_price = closed.best.price
        row_price = np.zeros(0)
        served_values = closed.best.value, closed.ledger.intensity
    return certificate(
        scores,
        slates,
        capacity,
        constraints.min_exposure,
        item_price,
        closed.cost,
        max_exposure=constraints.max_exposure if has_rows else None,
        position_weights=closed.position_weights,
        rows=constraints.rows if has_rows else None,
        row_price=row_price if has_rows else 0.0,
        noted=served_values,
    )


def prepare_certificate(market: Market, hindsight: HindsightPrices) -> None:
    """Note values for the certificate as the round is served.

    If slates do not change states, states need not be scored again for D(w), because its prices can be solved first.
    """
    opened = market.open
    if ConsumerCapabilities.of(market.consumer).exogenous and not len(opened.requirements.table):
        slate = market.config.slate
        prices, _ = _bound_prices(
            opened.requirements, slate, market.foreseen_states(), market.cost, hindsight
        )
        # Without rows, the best prices lie between −c and 0.
        opened.note_best(np.clip(prices.item_price, -market.cost, 0.0))


def _bound_prices(
    requirements: RoundRequirements,
    slate: int,
    states: StateScores,
    cost: float,
    hindsight: HindsightPrices,
) -> tuple[DualPrices, States]:
    """Prices of a round's bound, and the solver's states."""
    table = requirements.table
    n, m = states.shape
    sampled_states = states.sampled(most_states(m))
    solver_states = joined_states(sampled_states, slate)
    is_complete = len(sampled_states) == n
    has_rows = len(table) > 0
    is_active_in_sample = table.active(sampled_states.audiences, len(sampled_states))
    if not is_complete:
        # In hindsight, the number of arrivals that count for a requirement is known, and not only expected.
        is_active = table.active(states.audiences, n)
        table = dataclasses.replace(table, arrivals=is_active.sum(0).astype(np.float64))
    constraints = constraints_of(
        requirements.required, table, is_active_in_sample, cost, None if is_complete else n
    )
    is_uniform = bool(requirements.position_weights[0] == requirements.position_weights[-1])
    min_exposure = constraints.min_exposure
    if is_uniform and not is_complete and not has_rows:
        min_exposure = _sampled_floors(min_exposure)
    prices = hindsight.of(
        partial(
            solve_prices,
            solver_states.scores,
            solver_states.capacity,
            min_exposure,
            constraints.max_exposure if has_rows else None,
            cost=cost,
            tol=_BOUND_TOL if is_complete else SAMPLED_TOL,
            for_bound=True,
            position_weights=requirements.position_weights,
            rows=constraints.rows if has_rows else None,
        )
    )
    return prices, solver_states


def _sampled_floors(floors: Floats) -> Floats:
    """(M,) floors of a sample of states, rounded where possible."""
    if too_few_to_round(floors):
        return floors
    # Whole floors allow the auction, which is faster. The running sum is rounded, so that the total of the floors
    # stays.
    return np.diff(np.floor(np.cumsum(floors) + 0.5), prepend=0.0)
