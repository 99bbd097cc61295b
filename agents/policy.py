"""Agents from trained policies, for ``rimsim compare``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from rimsim.arrays import Float32s, Floats, Ints
from rimsim.envs.observations import Standing, popularity_groups
from rimsim.envs.wrappers import Bonuses, compact
from rimsim.errors import AgentError
from rimsim.market.slates import count_items

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView


class PolicyAgent:
    """Agent whose policy maps compact observations to bonuses.

    rimsim does not read files of weights, so your own file makes the agent: ``rimsim compare --agents
    mine.py:learnt``. In this example, your function ``learnt`` loads a policy and returns a ``PolicyAgent``.

    Args:
        policy: Function from a compact observation (10 + ``observed`` numbers) to bonuses of ``groups`` in [−1, 1]. The
            policy must be deterministic, so that runs are reproducible.
        groups: Number of groups of items, as in ``BonusAction(by="shortfall", groups=…)``.
        observed: Number of groups in the observation, as in ``CompactObservation(groups=…)``.
        lacking: If true, only items that still lack exposures get a bonus. False for ``BonusAction(by="popularity")``.
        name: Name in tables and pictures.
    """

    order_free = False
    barrier_every: int | None = None

    def __init__(
        self,
        policy: Callable[[Float32s], Float32s],
        *,
        groups: int = 1,
        observed: int = 5,
        lacking: bool = True,
        name: str = "policy",
    ) -> None:
        self.name = name
        self._policy = policy
        self._sizes = (groups, observed)
        self._lacking = lacking
        self._bonuses: Bonuses | None = None
        self._popularity: Ints = np.zeros(0, np.int64)
        self._observed: Floats = np.zeros((0, 0))

    @property
    def state(self) -> Mapping[str, Floats]:
        """Popularity of items, from which the groups were made."""
        return {"popularity": self._popularity.astype(np.float64)}

    def load_state(self, state: Mapping[str, Floats]) -> None:
        """Take over the groups of another agent."""
        self._group(state["popularity"].astype(np.int64))

    def _group(self, popularity: Ints) -> None:
        """Make the groups of actions and of observations."""
        groups, observed = self._sizes
        self._popularity = popularity
        self._bonuses = Bonuses(popularity_groups(popularity, groups), self._lacking)
        self._observed = popularity_groups(popularity, observed)

    def begin_round(self, view: RoundView) -> None:
        """Read the requirements; keep the groups of the first round."""
        if self._bonuses is None or view.round == 0:
            self._group(view.popularity)
        self._view = view
        self._exposure = view.exposure.astype(np.float64)
        self._served = 0

    def act(self, arrivals: Arrivals) -> Ints:
        """Answer n arrivals one after the other."""
        view = self._view
        bonuses = self._bonuses
        if bonuses is None:
            raise AgentError(f"{self.name}: act was called before begin_round. Call begin_round first")
        weights = np.asarray(view.position_weights, np.float64)
        intensity = arrivals.intensity.cpu().numpy()
        admissible = arrivals.admissible.cpu().numpy()
        slates = np.full((len(arrivals), view.k), -1, np.int64)
        for row in range(len(arrivals)):
            standing = Standing(
                intensity=intensity[row].astype(np.float64),
                admissible=admissible[row],
                required=view.required,
                exposure=self._exposure,
                position_weights=weights,
                cost=view.cost,
                served=self._served,
                arrivals=view.arrivals,
            )
            action = np.asarray(self._policy(compact(standing, self._observed)), np.float32).ravel()
            if action.shape != (len(bonuses.share),):
                raise AgentError(
                    f"{self.name}: the policy returned {len(action)} numbers. Expected "
                    f"{len(bonuses.share)}, one bonus per group"
                )
            chosen = bonuses.slate(action, standing)
            chosen = np.where(admissible[row][chosen], chosen, -1)
            if arrivals.capacity is not None:
                chosen[arrivals.capacity[row] :] = -1
            slates[row] = chosen
            count_items(slates[row : row + 1], weights, self._exposure)
            self._served += 1
        return slates
