"""``hindsight``: the optimum of the whole round, a bound and no contestant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.agents.audience import planned
from rimsim.agents.contract import OPTIONS
from rimsim.agents.positions import Positions
from rimsim.arrays import Bools, Floats, Ints
from rimsim.market.records import at_items
from rimsim.measures import weighted_exposure

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView, Slates


@dataclass(config=OPTIONS, eq=False)
class Hindsight:
    """Knows who will arrive, and serves the optimum of the round's transportation problem.

    The states are those at the round's beginning; in a replay, what the log says by each arrival. So the agent is exact
    in a replay or broadcast. A clone that consumes on an earlier visit changes a later state: what was planned for that
    visit and has been consumed is owed to its item, if that has a guarantee that binds, and paid back in the next
    position that comes free in this way; no bound then, but near one. The (N, M) scores of the round are held at once.

    Args:
        tol: Relative gap at which the solver stops.
    """

    name = "hindsight"
    order_free = False
    barrier_every = None
    needs_future = True
    keeps_promises = True

    tol: float = Field(default=1e-4, gt=0)

    def begin_round(self, view: RoundView) -> None:
        """Solve the round."""
        self._plan = planned(view, self.name, self.tol)
        self.item_price = self._plan.price
        self._dear = max(view.cost, -float(self.item_price.min(initial=0.0)))
        self._positions = Positions.of(view)
        self._owed = np.zeros(len(self.item_price))
        self._stay = len(view.promises) > 0
        """Whether what is kept of a slate stays in its place, so that nothing moves up beyond a cap."""
        planned_at = weighted_exposure(self._plan.slates, view.position_weights, len(self.item_price))
        self._room = view.promises.most_of_items(len(self.item_price)) - planned_at

    def act(self, arrivals: Arrivals) -> Slates:
        """The planned slates of these arrivals, mended where an item may no longer be shown."""
        items = self._plan.answer(arrivals)
        gone = (items >= 0) & ~at_items(arrivals.admissible, items)
        for row in np.flatnonzero(gone.any(1)).tolist():
            score = (
                (arrivals.relevance[row] * arrivals.ground_intensity[row]).cpu().numpy().astype(np.float64)
            )
            admissible = arrivals.admissible[row].cpu().numpy()
            items[row] = self._mended(items[row], gone[row], score, admissible)
        return self._plan.priced(items)

    def _mended(
        self,
        slate: Ints,
        gone: Bools,
        score: Floats,
        admissible: Bools,
    ) -> Ints:
        """A planned slate (k,) with what is ``gone`` (k,) of it replaced: by what is owed first, then by λ − v."""
        lost, weight = slate[gone], self._positions.weight
        binds = self.item_price[lost] < 0.0
        self._owed[lost[binds]] += weight[gone][binds]
        kept = slate[~gone & (slate >= 0)]
        worth = score - self.item_price
        rank = np.where(admissible, np.where(self._owed > 0, score + self._dear, worth), -np.inf)
        rank[kept] = -np.inf
        rank[self._room < weight[0]] = -np.inf
        best = np.argsort(-rank, kind="stable")[: len(lost)]
        new = best[rank[best] > -np.inf]
        mended = np.full_like(slate, -1)
        if self._stay:
            mended[~gone] = slate[~gone]
            mended[np.flatnonzero(gone)[: len(new)]] = new
        else:
            filled = np.concatenate([kept, new])
            order = np.argsort(-(score if self._positions.by_intensity else worth)[filled], kind="stable")
            mended[: len(filled)] = filled[order]
        paid = (mended >= 0) & np.isin(mended, new)
        self._owed[mended[paid]] -= weight[paid]
        self._owed = np.maximum(self._owed, 0.0)
        self._room[new] -= weight[0]
        return mended
