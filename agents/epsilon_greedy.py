"""``epsilon-greedy``: relevance, but for a share of arrivals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim import rng
from rimsim.agents.contract import OPTIONS
from rimsim.agents.prices import capacities
from rimsim.agents.random import uniform_chances, uniform_slates
from rimsim.arrays import Ints
from rimsim.evaluation.off_policy import Chances
from rimsim.market import Slates
from rimsim.matching import top_k

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView


_COIN = -1
"""Key of the coin, apart from the keys of the uniform slates."""


@dataclass(config=OPTIONS, eq=False)
class EpsilonGreedy:
    """Shows the most relevant items with probability 1 − ε, and a uniform slate with probability ε.

    Args:
        epsilon: ε, the share of arrivals that get a uniform slate.
    """

    name = "epsilon-greedy"
    order_free = True
    barrier_every = None

    epsilon: float = Field(default=0.1, ge=0, le=1)

    def begin_round(self, view: RoundView) -> None:
        """Take the slate's length and the round's key."""
        self._slate, self._key = view.k, view.key

    def act(self, arrivals: Arrivals) -> Slates:
        """Slates with their marginal inclusion probabilities ε·k/admissible + (1 − ε)·[among the k most relevant]."""
        greedy = top_k(arrivals.relevance, arrivals.admissible, self._slate)
        admissible = arrivals.admissible.cpu().numpy()
        uniform = uniform_slates(admissible, self._slate, self._key, arrivals.id)
        explores = rng.uniform(self._key, rng.Purpose.AGENT, arrivals.id, _COIN) < self.epsilon
        items = np.where(explores[:, None], uniform, greedy)
        # A row that may fill fewer positions is cut to its first ones by the market.
        positions = capacities([arrivals], self._slate)[:, None]
        chance = np.minimum(1.0, positions / np.maximum(admissible.sum(1), 1)[:, None])
        kept = np.where(np.arange(self._slate) < positions, greedy, -1)
        among = (items[:, :, None] == kept[:, None, :]).any(2)
        propensity = self.epsilon * chance + (1.0 - self.epsilon) * among
        shown = np.where(np.arange(self._slate) < positions, items, -1)
        chances = self._mixed(kept, shown, arrivals)
        return Slates(items, propensity=propensity.astype(np.float32), uniform=explores, chances=chances)

    def chance_of(self, slates: Ints, arrivals: Arrivals) -> Chances:
        """Chances that this policy shows given slates (n, k)."""
        greedy = top_k(arrivals.relevance, arrivals.admissible, self._slate)
        positions = capacities([arrivals], self._slate)[:, None]
        return self._mixed(np.where(np.arange(self._slate) < positions, greedy, -1), slates, arrivals)

    def _mixed(self, greedy: Ints, slates: Ints, arrivals: Arrivals) -> Chances:
        """Chances of slates where a share ε of arrivals gets a uniform slate and the rest the greedy ones."""
        return Chances.mixed(self.epsilon, uniform_chances(slates, arrivals), Chances.certain(greedy, slates))
