"""Prices of groups, campaigns and caps, solved beside those of items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rimsim.agents.prices import cost_of_missing, joined_states, solved_prices, within_bound
from rimsim.arrays import Bools, Floats
from rimsim.matching import Rows, solve_prices

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView
    from rimsim.requirements.rows import Requirements


class Prices(NamedTuple):
    """Prices at the optimum of some states."""

    item: Floats
    """(M,) prices v of items, at most 0."""
    row: Floats
    """(J,) prices v of the rows of the round's promises: at most 0 for what is asked for, at least 0 for caps."""
    width: float
    """Below this the solver left values s − v tied."""


class Terms(NamedTuple):
    """A round's requirements as the solver takes them, for n states."""

    least: Floats
    """(M,) exposures that each item must have."""
    most: Floats
    """(M,) exposures that each may have."""
    rows: Rows
    """Groups and campaigns."""
    which: Bools
    """(J,) which rows of the promises these are; the others are caps of items."""

    def prices(self, table: Requirements, item: Floats, row: Floats) -> Floats:
        """(J,) prices of all rows, those of caps included.

        Args:
            table: The round's promises.
            item: (M,) solved prices of items, above 0 where a cap binds.
            row: (G,) solved prices of groups and campaigns.
        """
        price = np.zeros(len(table))
        price[self.which] = row
        price[~self.which] = np.maximum(item[table.rows(~self.which).item], 0.0)
        return price


def terms_of(
    required: Floats,
    table: Requirements,
    active: Bools,
    cost: float,
    arrivals: float | None = None,
) -> Terms:
    """The requirements of a round for n states that stand for its arrivals, in the unit of the guarantee.

    Args:
        required: (M,) required exposures of items.
        table: The round's promises.
        active: (n, J) whether each state counts for each row of the promises.
        cost: Price of one missing exposure.
        arrivals: How many arrivals the states stand for, of which each row of the table expects its own; None: they are
            the round itself, and nothing is scaled.
    """
    n, which = len(active), ~table.item_caps
    others = table.rows(which)
    mine = active[:, which]
    whole, share = 1.0, np.ones(len(others))
    if arrivals is not None:
        whole = n / arrivals
        share = np.where(others.audience < 0, whole, mine.sum(0) / np.maximum(others.arrivals, 1e-9))
    most = table.most_of_items(len(required)) * whole
    rows = Rows(
        first=others.first,
        item=others.item,
        least=others.least * share,
        most=np.multiply(
            others.most, share, out=np.full(len(others), np.inf), where=np.isfinite(others.most)
        ),
        cost=np.full(len(others), cost),
        active=mine,
    )
    return Terms(np.minimum(required * whole, most), np.minimum(most, n * 1.0), rows, which)


def counted(view: RoundView, chunks: Sequence[Arrivals]) -> Bools:
    """(n, J) whether each of the states in some chunks counts for each row of a round's promises."""
    return np.concatenate([view.promises.active(chunk.audiences, len(chunk)) for chunk in chunks])


def solved_with_promises(view: RoundView, tol: float) -> Prices:
    """Prices of items, and of groups, campaigns and caps, at the optimum of last round's states.

    Last round's states count for a row as if they came after the same share of this round. Without promises, the prices
    of items are those of :func:`rimsim.agents.prices.solved_prices`.

    Args:
        view: The round.
        tol: Relative gap at which the solver stops.
    """
    table, chunks = view.promises, list(view.past)
    if not chunks or not len(table):
        item, width = solved_prices(view, tol)
        return Prices(item, np.zeros(len(table)), width)
    states = joined_states(chunks, view.k)
    cost = cost_of_missing(view, states)
    terms = terms_of(view.required, table, counted(view, chunks), cost, view.arrivals)
    solution = solve_prices(
        states.scores,
        states.capacity,
        terms.least,
        terms.most,
        admissible=states.admissible,
        cost=cost,
        position_weights=view.position_weights,
        rows=terms.rows,
        tol=tol,
        tie_seed=view.key,
    )
    row = terms.prices(table, solution.item_price, solution.row_price)
    return Prices(
        item=np.minimum(within_bound(solution.item_price, cost, view.cost), 0.0),
        row=within_bound(row, cost, view.cost),
        width=solution.resolution,
    )


def spread_prices(view: RoundView, price: Floats, arrivals: Arrivals) -> Floats:
    """(n, M) the prices of rows that each item has at each arrival.

    Args:
        view: The round.
        price: (J,) prices v of the rows of its promises.
        arrivals: n of them.
    """
    table = view.promises
    columns = 0 if arrivals.audiences is None else arrivals.audiences.shape[1]
    of_items = np.zeros((columns + 1, len(view.required)))
    sizes = np.diff(table.first)
    np.add.at(of_items, (np.repeat(table.audience, sizes), table.item), np.repeat(price, sizes))
    shared = np.tile(of_items[-1], (len(arrivals), 1))
    return shared if arrivals.audiences is None else arrivals.audiences @ of_items[:-1] + shared
