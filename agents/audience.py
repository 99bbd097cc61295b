"""Plans for a whole round at once, from the states that are known before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim.agents.positions import Positions
from rimsim.agents.prices import cost_of_missing, states_in_order
from rimsim.agents.promised_prices import counted, terms_of
from rimsim.arrays import Floats, Ints
from rimsim.errors import AgentError
from rimsim.market import Slates
from rimsim.market.scores import most_states
from rimsim.matching import ordered_by, solve_dual

if TYPE_CHECKING:
    from rimsim.agents.prices import States
    from rimsim.market import Arrivals, RoundView


def audience_of(view: RoundView, agent: str) -> States:
    """The N states of a round as they are at its beginning, in clock order.

    Args:
        view: The round.
        agent: Who asks, for the error.

    Raises:
        AgentError: If the market does not know them beforehand, or they are too many to be held at once.
    """
    if view.audience is None:
        raise AgentError(
            f"{agent}: who arrives is not known before the round; allowed: arrivals.kind 'broadcast'"
        )
    n, m = len(view.audience), len(view.required)
    if n > most_states(m):
        raise AgentError(
            f"{agent}: found {n:,} states × {m:,} items, whose scores are held at once ({5 * n * m / 2**30:,.1f} GB); "
            f"allowed over so many items: at most {most_states(m):,} arrivals a round (arrivals.per_round)"
        )
    return states_in_order(list(view.audience), view.k)


@dataclass(frozen=True, eq=False)
class Plan:
    """Slates for a whole round, with the prices that prove them."""

    slates: Ints
    """(N, k) in clock order, each in descending order of λ − v, or of λ where the unit is the shown exposure; −1 for an
    empty position."""
    price: Floats
    """(M,) item prices v."""

    def answer(self, arrivals: Arrivals) -> Ints:
        """(n, k) the planned slates of some arrivals."""
        return self.slates[arrivals.index]

    def priced(self, items: Ints) -> Slates:
        """Slates (n, k) with the price v of each item that they show."""
        return Slates(items, price=np.where(items >= 0, self.price[items], np.nan).astype(np.float32))


def planned(view: RoundView, agent: str, tol: float) -> Plan:
    """The optimum of the penalised problem of a round: floors and capacities of all its states at once.

    Args:
        view: The round.
        agent: Who asks, for the error.
        tol: Relative gap at which the solver stops.

    Raises:
        AgentError: If the market does not know who arrives.
    """
    audience = audience_of(view, agent)
    cost, weights = cost_of_missing(view, audience), view.position_weights
    if len(view.promises):
        return _planned_with_promises(view, audience, cost, tol)
    alike = bool(weights[0] == weights[-1])
    solution = solve_dual(
        audience.scores,
        audience.capacity,
        np.rint(view.required).astype(np.int64) if alike else view.required,
        admissible=audience.admissible,
        cost=cost,
        position_weights=None if alike else weights,
        tol=tol,
        tie_seed=view.key,
    )
    price = np.clip(solution.item_price, -cost, 0.0)
    rows = np.arange(len(solution.slates))[:, None]
    score = np.where(solution.slates >= 0, audience.scores[rows, solution.slates], -np.inf)
    worth = score if Positions.of(view).by_intensity else score - price[solution.slates]
    order = np.argsort(-worth, axis=1, kind="stable")
    return Plan(_wide(np.take_along_axis(solution.slates, order, 1), view.k), price)


def _planned_with_promises(view: RoundView, audience: States, cost: float, tol: float) -> Plan:
    """:func:`planned` where groups, campaigns and caps are asked for beside floors of items."""
    chunks = list(view.audience or ())
    active = counted(view, chunks)[np.argsort(np.concatenate([chunk.index for chunk in chunks]))]
    terms = terms_of(view.required, view.promises, active, cost)
    solution = solve_dual(
        audience.scores,
        audience.capacity,
        terms.least,
        terms.most,
        admissible=audience.admissible,
        cost=cost,
        position_weights=view.position_weights,
        rows=terms.rows,
        tol=tol,
        tie_seed=view.key,
    )
    slates = solution.slates
    if Positions.of(view).by_intensity:
        slates = ordered_by(slates, audience.scores)
    return Plan(_wide(slates, view.k), np.clip(solution.item_price, -cost, None))


def _wide(slates: Ints, k: int) -> Ints:
    """Slates (n, j) with empty positions behind, up to k of them."""
    wide = np.full((len(slates), k), -1, np.int64)
    wide[:, : slates.shape[1]] = slates
    return wide
