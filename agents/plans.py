"""Agents that know all states and plan a round.

``offline-match``, ``user-rec`` and the bound ``hindsight`` keep all (N, M) scores of the round in memory.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim.agents.arrival_arrays import ExposureUnit
from rimsim.agents.contract import OPTIONS
from rimsim.agents.past_states import States, states_in_order
from rimsim.agents.prices import cost_of_missing
from rimsim.agents.row_table import constraints_of, counted
from rimsim.arrays import Bools, Floats, Ints
from rimsim.errors import AgentError
from rimsim.market import Slates
from rimsim.market.scores.past import most_states
from rimsim.market.slates import at_items
from rimsim.matching import ordered_by, solve_dual, top_k, user_rec
from rimsim.measures import mean_weight, weighted_exposure

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView


@dataclass(config=OPTIONS, eq=False)
class OfflineMatch:
    """Shows the best slates for a round of known visitors.

    This is offline matching of Ma, Liu and Deoras (ICLR 2022). The feasible slates form a transportation polytope, so
    optimal exposures are whole numbers. The agent needs a broadcast. Its solver stops at the relative gap ``tol``.
    """

    name = "offline-match"
    order_free = True
    barrier_every = None
    needs_audience = True
    keeps_promises = True

    tol: float = Field(default=1e-4, gt=0)

    def begin_round(self, view: RoundView) -> None:
        """Solve the slates of the broadcast."""
        self._plan = planned(view, self.name, self.tol)
        self.item_price = self._plan.price

    def act(self, arrivals: Arrivals) -> Slates:
        """Planned slates of the arrivals."""
        return self._plan.priced(self._plan.slates[arrivals.row])


class UserRec:
    """Shows guaranteed items to the b users of largest λ(x,y).

    User recommendation of Ma, Liu and Deoras (ICLR 2022), for broadcasts. Each item chooses its users without regard to
    other items. If more items choose a user than there are positions, the items with the largest λ are shown, and the
    others miss an exposure. ``offline-match`` avoids this. If positions have different weights, b is the required
    exposure divided by the mean weight of a position. Free positions show the items that the user is most likely to
    take.
    """

    name = "user-rec"
    order_free = True
    barrier_every = None
    needs_audience = True

    def begin_round(self, view: RoundView) -> None:
        """Find the users of each guaranteed item."""
        audience = audience_of(view, self.name)
        self._slate = view.k
        required = np.rint(view.required / mean_weight(view.position_weights)).astype(np.int64)
        items = np.flatnonzero(required)
        chosen: Bools = np.zeros(audience.scores.shape, bool)
        if len(items):
            largest_requirement = int(required.max())
            # Row i has the users of item ``items[i]``, best first; only its first ``required`` users get the item.
            users = user_rec(
                audience.scores[:, items], largest_requirement, tie_seed=view.key, row_keys=items
            )
            is_chosen = (users >= 0) & (np.arange(largest_requirement) < required[items][:, None])
            item_index, rank = np.nonzero(is_chosen)
            chosen[users[item_index, rank], items[item_index]] = True
        self._chosen = chosen

    def act(self, arrivals: Arrivals) -> Ints:
        """Slates of chosen items, then other items, each by λ(x,y)."""
        chosen = torch.from_numpy(self._chosen[arrivals.row]).to(arrivals.intensity.device)
        scores = arrivals.intensity.double()
        # More than any difference of scores, so chosen items come first.
        lift = scores.amax(1, keepdim=True) + 1.0
        return top_k(scores + chosen * lift, arrivals.admissible, self._slate)


@dataclass(config=OPTIONS, eq=False)
class Hindsight:
    """Shows the best slates for a round as a whole.

    The agent plans on the states at the beginning of the round. In a replay, it plans on the log's state at each
    arrival. So its slates are optimal in a replay or broadcast, up to the solver's relative gap ``tol``. If a clone
    consumes a planned item on an earlier visit, the item cannot be shown again. If the item's guarantee binds, the
    exposure moves to a later position that another consumed item leaves free. So with clones the agent is not an upper
    bound, but close to one.
    """

    name = "hindsight"
    order_free = False
    barrier_every = None
    needs_future = True
    keeps_promises = True

    tol: float = Field(default=1e-4, gt=0)

    def begin_round(self, view: RoundView) -> None:
        """Solve the slates of the whole round."""
        self._plan = planned(view, self.name, self.tol)
        self.item_price = self._plan.price
        self._largest_bonus = max(view.cost, -float(self.item_price.min(initial=0.0)))
        self._unit = ExposureUnit.of(view)
        # (M,) exposures planned for a bonus that were not possible, and have not been made up for.
        self._postponed = np.zeros(len(self.item_price))
        # If planned items are replaced, the other items stay at their positions. At a better position, an item could
        # exceed its cap.
        self._keep_positions = len(view.promises) > 0
        planned_at = weighted_exposure(self._plan.slates, view.position_weights, len(self.item_price))
        self._room = view.promises.max_exposure_of_items(len(self.item_price)) - planned_at
        is_capped_group = np.isfinite(view.promises.max_exposure) & ~view.promises.item_caps
        # Replacements could exceed the cap of a group.
        self._room[view.promises.rows(is_capped_group).item] = 0.0

    def act(self, arrivals: Arrivals) -> Slates:
        """Planned slates, with inadmissible items replaced."""
        items = self._plan.slates[arrivals.row]
        is_lost = (items >= 0) & ~at_items(arrivals.admissible, items)
        for row in np.flatnonzero(is_lost.any(1)).tolist():
            score = (
                (arrivals.relevance[row] * arrivals.ground_intensity[row]).cpu().numpy().astype(np.float64)
            )
            admissible = arrivals.admissible[row].cpu().numpy()
            items[row] = self._mended(items[row], is_lost[row], score, admissible)
        return self._plan.priced(items)

    def _mended(self, slate: Ints, is_gap: Bools, score: Floats, admissible: Bools) -> Ints:
        """Slate with positions ``is_gap`` refilled, preferably by postponed items.

        A postponed item has a bonus, but could not be shown at an arrival for which it was planned.
        """
        lost_items = slate[is_gap]
        weight = self._unit.position_weights
        binds = self.item_price[lost_items] < 0.0
        self._postponed[lost_items[binds]] += weight[is_gap][binds]
        kept_items = slate[~is_gap & (slate >= 0)]
        worth = score - self.item_price
        # A postponed item has the largest bonus of all items, or c, so that it is shown soon.
        priority = np.where(self._postponed > 0, score + self._largest_bonus, worth)
        replacement_value = np.where(admissible, priority, -np.inf)
        replacement_value[kept_items] = -np.inf
        replacement_value[self._room < weight[0]] = -np.inf  # a first position could exceed the cap
        best_items = np.argsort(-replacement_value, kind="stable")[: len(lost_items)]
        new_items = best_items[replacement_value[best_items] > -np.inf]
        new_slate = np.full_like(slate, -1)
        if self._keep_positions:
            new_slate[~is_gap] = slate[~is_gap]
            new_slate[np.flatnonzero(is_gap)[: len(new_items)]] = new_items
        else:
            shown_items = np.concatenate([kept_items, new_items])
            order = np.argsort(-(score if self._unit.by_intensity else worth)[shown_items], kind="stable")
            new_slate[: len(shown_items)] = shown_items[order]
        is_new = (new_slate >= 0) & np.isin(new_slate, new_items)
        self._postponed[new_slate[is_new]] -= weight[is_new]
        self._postponed = np.maximum(self._postponed, 0.0)
        self._room[new_items] -= weight[0]
        return new_slate


@plain_dataclass(frozen=True, eq=False)
class RoundPlan:
    """Slates for a whole round, and prices that give them."""

    slates: Ints
    """(N, k) slates in clock order, each sorted by λ − v, or by λ if the unit is the shown exposure; −1 for an empty
    position."""
    price: Floats
    """(M,) item prices v of the plan."""

    def priced(self, items: Ints) -> Slates:
        """Slates with the prices v of their items."""
        return Slates(items, price=np.where(items >= 0, self.price[items], np.nan).astype(np.float32))


def planned(view: RoundView, agent: str, tol: float) -> RoundPlan:
    """Best slates for all states of a round."""
    audience = audience_of(view, agent)
    cost = cost_of_missing(view, audience)
    has_promises = len(view.promises) > 0
    position_weights: Floats | None = view.position_weights
    min_exposure: Floats | Ints = view.required
    max_exposure = None
    rows = None
    if has_promises:
        chunks = list(view.audience or ())
        active = counted(view.promises, chunks)[np.argsort(np.concatenate([chunk.row for chunk in chunks]))]
        min_exposure, max_exposure, rows, _ = constraints_of(view.required, view.promises, active, cost)
    elif view.position_weights[0] == view.position_weights[-1]:
        position_weights = None
        min_exposure = np.rint(view.required).astype(np.int64)
    solution = solve_dual(
        audience.scores,
        audience.capacity,
        min_exposure,
        max_exposure,
        cost=cost,
        position_weights=position_weights,
        rows=rows,
        tol=tol,
        tie_seed=view.key,
    )
    price = np.clip(solution.item_price, -cost, None if has_promises else 0.0)
    slates = solution.slates
    by_intensity = ExposureUnit.of(view).by_intensity
    if not has_promises:
        users = np.arange(len(slates))[:, None]
        score = np.where(slates >= 0, audience.scores[users, slates], -np.inf)
        order_value = score if by_intensity else score - price[slates]
        slates = np.take_along_axis(slates, np.argsort(-order_value, axis=1, kind="stable"), 1)
    elif by_intensity:
        slates = ordered_by(slates, audience.scores)
    # The solver's slates can be shorter than k positions.
    padded = np.full((len(slates), view.k), -1, np.int64)
    padded[:, : slates.shape[1]] = slates
    return RoundPlan(padded, price)


def audience_of(view: RoundView, agent: str) -> States:
    """States of N arrivals at a round's beginning, in order.

    Raises:
        AgentError: If the market does not know the states beforehand, or if their scores need too much memory.
    """
    if view.audience is None:
        raise AgentError(
            f"{agent}: this agent must know the arrivals before the round. Set arrivals.kind to 'broadcast'"
        )
    n = len(view.audience)
    m = len(view.required)
    if n > most_states(m):
        raise AgentError(
            f"{agent}: the scores of {n:,} states × {m:,} items need {5 * n * m / 2**30:,.1f} GB of "
            f"memory. Expected at most {most_states(m):,} arrivals per round with this number of items. Lower "
            "arrivals.per_round"
        )
    return states_in_order(list(view.audience), view.k)
