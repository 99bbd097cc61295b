"""Two agents on one market: each answers its own arrivals, or both are merged into one slate."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rimsim.agents import Capabilities, LearningAgent, PacingAgent
from rimsim.arrays import Bools, Floats, Ints
from rimsim.errors import ConfigError
from rimsim.market import Slates
from rimsim.market.records import as_slates, count_items, within_capacity

if TYPE_CHECKING:
    from rimsim.agents import Agent
    from rimsim.market import Arrivals, Feedback, RoundView
    from rimsim.scenarios.experimenting.designs import Assignment


class Split:
    """Answers arrivals of arm A by one agent and of arm B by another; items may have arms too.

    With ``shared`` prices both pace the whole floor, and each is told at once what the other delivers. Otherwise each
    keeps half of every floor, and hears nothing of the other.

    Args:
        agents: Of arm A and of arm B.
        assignment: Who is in which arm.
        shared: Whether floors are one budget.
        n_items: Size of the catalogue.

    Raises:
        ConfigError: If an agent that paces its delivery cannot be told of another's.
    """

    def __init__(
        self, agents: Sequence[Agent], assignment: Assignment, *, shared: bool, n_items: int
    ) -> None:
        self._agents = tuple(agents)
        self._assignment = assignment
        self._shared = shared
        self._treated_item = assignment.items(n_items)
        self.name = "|".join(agent.name for agent in agents)
        pacing = [agent for agent in agents if not agent.order_free]
        tells = shared or assignment.by_item
        for agent in pacing:
            if tells and Capabilities.of(agent).moves_prices and not isinstance(agent, PacingAgent):
                raise ConfigError(
                    f"experiment: {agent.name!r} paces its delivery and cannot be told of another's; allowed: --prices "
                    "split where arrivals have arms, or an agent with note_delivery (rim-feedback, entropic-dual)"
                )
        self.order_free = not pacing
        self._one_by_one = bool(pacing) and tells
        every = {agent.barrier_every for agent in agents} - {None}
        self.barrier_every = min(every) if every else None  # type: ignore[type-var]  # no None is left

    def begin(self, views: Sequence[RoundView]) -> None:
        """Begin a round; each agent has the view of the market whose model serves it."""
        self._round, self._weights = (
            views[0].round,
            np.ascontiguousarray(views[0].position_weights, np.float64),
        )
        for agent, view in zip(self._agents, views, strict=True):
            if not self._shared and self._assignment.by_arrival:
                view = dataclasses.replace(  # noqa: PLW2901  # half a world
                    view, required=view.required / 2, arrivals=max(1, round(view.arrivals / 2))
                )
            agent.begin_round(view)

    def treated(self, arrivals: Arrivals) -> Bools:
        """(n,) arrivals of arm B."""
        return self._assignment.arrivals(arrivals.user, arrivals.time, self._round)

    def answer(self, arrivals: Sequence[Arrivals]) -> Slates:
        """Slates of n arrivals, as each arm's model sees them."""
        n = len(arrivals[0])
        if not self._one_by_one:
            return self._batch(arrivals)
        rows = [self._batch([one.rows(slice(row, row + 1)) for one in arrivals]) for row in range(n)]
        price = [one.price for one in rows if one.price is not None]
        return Slates(
            np.concatenate([one.items for one in rows]), np.concatenate(price) if len(price) == n else None
        )

    def _batch(self, arrivals: Sequence[Arrivals]) -> Slates:
        treated = self.treated(arrivals[0])
        items = np.full((len(treated), len(self._weights)), -1)
        price = np.full(items.shape, np.nan, np.float32)
        alone = [~treated, treated]
        if self._assignment.by_item:  # control visitors of a two-sided design see A alone
            alone = (
                [~treated, np.zeros_like(treated)]
                if self._assignment.by_arrival
                else [np.zeros_like(treated)] * 2
            )
        for arm, rows in enumerate(alone):
            if rows.any():
                some = arrivals[arm].rows(np.flatnonzero(rows))
                answer = as_slates(self._agents[arm].act(some))
                items[rows] = answer.items
                price[rows] = np.nan if answer.price is None else answer.price
                self._tell(1 - arm, answer.items, some)
        both = ~(alone[0] | alone[1])
        if both.any():
            each = [one.rows(np.flatnonzero(both)) for one in arrivals]
            ranked = [as_slates(agent.act(one)).items for agent, one in zip(self._agents, each, strict=True)]
            joined = merged(ranked[0], ranked[1], self._treated_item)
            items[both] = within_capacity(joined, each[0].capacity)
            for arm, own in enumerate(ranked):
                self._correct(arm, own, items[both])
        return Slates(items, price)

    def _tell(self, arm: int, items: Ints, arrivals: Arrivals) -> None:
        """Tell an arm's agent what the other has delivered, and that time has passed."""
        agent = self._agents[arm]
        if self._one_by_one and isinstance(agent, PacingAgent):
            agent.note_delivery(self._counted(items), arrivals)

    def _correct(self, arm: int, own: Ints, shown: Ints) -> None:
        """Let an agent count what was shown in place of what it would have shown."""
        agent = self._agents[arm]
        if isinstance(agent, PacingAgent):
            agent.note_delivery(self._counted(shown) - self._counted(own), None)

    def _counted(self, items: Ints) -> Floats:
        exposure = np.zeros(len(self._treated_item))
        count_items(items, self._weights, exposure)
        return exposure

    def learn(self, feedback: Feedback) -> None:
        """Let the agent of each arrival's arm learn, or both where slates are of both."""
        treated = self.treated(feedback.arrivals)
        for arm, agent in enumerate(self._agents):
            rows = np.flatnonzero((treated == bool(arm)) | (not self._assignment.by_arrival))
            if isinstance(agent, LearningAgent) and len(rows):
                for row in rows:
                    one = slice(int(row), int(row) + 1)
                    agent.learn(
                        type(feedback)(
                            feedback.arrivals.rows(one), feedback.slates[one], feedback.consumed[one]
                        )
                    )


def merged(control: Ints, treatment: Ints, treated_item: Bools) -> Ints:
    """Slates in which each item stands as near as can be where the agent of its own arm put it.

    Items of arm A keep the rank that A gave them, items of arm B that of B; ties go to A and B in turn, by row. Where
    both left a position empty so, the rest of A's slate, then of B's, fills up.

    Args:
        control: (n, k) A's slates, −1 for an empty position.
        treatment: (n, k) B's.
        treated_item: (M,) items of arm B.
    """
    n, k = control.shape
    slates = np.full((n, k), -1)
    for row in range(n):
        ranked = [
            (place, arm != row % 2, int(item))
            for arm, slate in enumerate((control[row], treatment[row]))
            for place, item in enumerate(slate)
            if item >= 0 and treated_item[item] == bool(arm)
        ]
        chosen = [item for _, _, item in sorted(ranked)]
        spare = [int(item) for item in (*control[row], *treatment[row]) if item >= 0]
        chosen = list(dict.fromkeys([*chosen, *spare]))[:k]
        slates[row, : len(chosen)] = chosen
    return slates
