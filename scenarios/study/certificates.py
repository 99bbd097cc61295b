"""Certificates of rounds, with prices in hindsight."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from rimsim.agents.prices import SAMPLED_TOL, constraints_of, joined_states, too_few_to_round
from rimsim.arrays import Floats
from rimsim.market import Round
from rimsim.market.scores import most_states
from rimsim.matching import Certificate, DualPrices, certificate, solve_prices
from rimsim.scenarios.runs.store import read_arrays, write_arrays

_BOUND_TOL = 1e-3
"""Relative tolerance of the bound on the value of a round."""


@dataclass(eq=False)
class HindsightPrices:
    """Prices of an arm's rounds in hindsight.

    The prices depend on the rounds alone, not on the arm's own prices. So arms with the same rounds share one solution,
    as in a replay, where states do not depend on slates.
    """

    folder: Path | None = None
    """Folder of solutions that other arms use until the run is over; None: no folder."""
    last: Floats | None = None
    """(M,) prices of the last solved round; None: no round is solved."""

    def of(self, solve: partial[DualPrices]) -> DualPrices:
        """Prices of a round.

        Args:
            solve: :func:`~rimsim.matching.solve_prices` with its arguments, but without start prices.
        """
        whole = partial(solve, prices=self.last)
        found = whole() if self.folder is None else cached_prices(self.folder, whole)
        self.last = found.item_price
        return found


def cached_prices(folder: Path, solve: partial[DualPrices]) -> DualPrices:
    """Solution of a price problem, cached by its arguments."""
    place = folder / f"{_digest(solve)}.npz"
    arrays = read_arrays(place)
    if arrays is None:
        found = solve()
        write_arrays(place, {name: np.asarray(value) for name, value in found._asdict().items()})
        return found
    return DualPrices(
        arrays["item_price"], arrays["row_price"], float(arrays["dual"]), float(arrays["resolution"])
    )


def _digest(call: partial[DualPrices]) -> str:
    digest = hashlib.sha256()  # half the time of BLAKE2 where the processor knows it
    waiting: list[object] = [*call.args, *sorted(call.keywords.items())]
    while waiting:
        value = waiting.pop()
        if isinstance(value, tuple):
            waiting.extend(value)
        elif dataclasses.is_dataclass(value):
            waiting.extend((entry.name, getattr(value, entry.name)) for entry in dataclasses.fields(value))
        elif isinstance(value, np.ndarray):
            digest.update(repr((value.dtype.str, value.shape)).encode())
            digest.update(np.ascontiguousarray(value).data)
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()


def certified(closed: Round, hindsight: HindsightPrices) -> Certificate:
    """Certificate of a round's slates: value V, bound D(w), gap.

    Scores are from the model that served the round, in the states of the arrivals. Any prices give a valid bound, but a
    loose bound would look like a loss of the agent. So prices are solved in hindsight. If there are too many states,
    prices are solved on evenly spaced states, but V and D(w) use all states, block by block. In the bound, a missing
    exposure of a group or campaign costs c, and slates keep all caps.
    """
    # One model served the round, so its states are in clock order, as the ledger is.
    slates = closed.ledger.item.astype(np.int64)
    table, states, (n, m) = closed.promises, closed.states, (len(slates), len(closed.required))
    some = states.sampled(most_states(m))
    known, whole, promised = joined_states(some, slates.shape[1]), len(some) == n, len(table) > 0
    active = table.active(states.audiences, n)
    constraints = constraints_of(closed.required, table, active, closed.cost)
    known_constraints = constraints
    if not whole:
        counting = dataclasses.replace(table, arrivals=active.sum(0).astype(np.float64))
        among = table.active(some.audiences, len(some))
        known_constraints = constraints_of(closed.required, counting, among, closed.cost, n)
    alike = bool(closed.position_weights[0] == closed.position_weights[-1])
    best = hindsight.of(
        partial(
            solve_prices,
            known.scores,
            known.capacity,
            _sampled_floors(known_constraints.least)
            if alike and not whole and not promised
            else known_constraints.least,
            known_constraints.most if promised else None,
            admissible=known.admissible,
            cost=closed.cost,
            tol=_BOUND_TOL if whole else SAMPLED_TOL,
            for_bound=True,
            position_weights=closed.position_weights,
            rows=known_constraints.rows if promised else None,
        )
    )
    return certificate(
        known.scores if whole else states,
        slates,
        known.capacity if whole else states.positions(slates.shape[1]),
        constraints.least,
        best.item_price,
        closed.cost,
        max_exposure=constraints.most if promised else None,
        admissible=known.admissible if whole else None,
        position_weights=closed.position_weights,
        rows=constraints.rows if promised else None,
        row_price=best.row_price if promised else 0.0,
    )


def _sampled_floors(least: Floats) -> Floats:
    """(M,) floors of a sample of states, rounded where possible."""
    if too_few_to_round(least):
        return least
    # The auction, which takes whole floors, is the faster; rounding the running sum keeps their total.
    return np.diff(np.floor(np.cumsum(least) + 0.5), prepend=0.0)
