"""Agents with uniform slates: ``random`` and ``epsilon-greedy``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from rimsim import rng
from rimsim.agents.contract import OPTIONS
from rimsim.agents.past_states import capacities
from rimsim.arrays import Bools, Ints
from rimsim.compiled import compiled
from rimsim.evaluation.off_policy import Chances
from rimsim.market import Slates
from rimsim.matching import tie_rank, top_k, uniform_of

if TYPE_CHECKING:
    from rimsim.market import Arrivals, RoundView

# Number of candidates sampled per position; all items are sorted if the candidates do not fill a slate.
_TRIES = 4
_COIN = -1  # key of the draw that decides whether to explore; positions of a uniform slate have other keys


class Random:
    """Shows random admissible items, with exact propensities."""

    name = "random"
    order_free = True
    barrier_every = None

    def begin_round(self, view: RoundView) -> None:
        """Read the length of slates and the round's seed."""
        self._slate = view.k
        self._key = view.key

    def act(self, arrivals: Arrivals) -> Slates:
        """Random slates; all admissible items have the same propensity."""
        admissible = arrivals.admissible.cpu().numpy()
        items = uniform_slates(admissible, self._slate, self._key, arrivals.id)
        # If an arrival may fill fewer positions, the market shows only the first ones. These are a uniform sample, too.
        positions = capacities([arrivals], self._slate)
        chance = np.minimum(1.0, positions / np.maximum(admissible.sum(1), 1))
        propensity = np.broadcast_to(chance[:, None], items.shape).astype(np.float32)
        shown = np.where(np.arange(self._slate) < positions[:, None], items, -1)
        chances = uniform_chances(shown, arrivals)
        return Slates(items, propensity=propensity, uniform=np.ones(len(items), bool), chances=chances)

    def chance_of(self, slates: Ints, arrivals: Arrivals) -> Chances:
        """Probabilities of given slates under uniform sampling."""
        return uniform_chances(slates, arrivals)


@dataclass(config=OPTIONS, eq=False)
class EpsilonGreedy:
    """Shows random slates with probability ε, else most relevant items."""

    name = "epsilon-greedy"
    order_free = True
    barrier_every = None

    epsilon: float = Field(default=0.1, ge=0, le=1)

    def begin_round(self, view: RoundView) -> None:
        """Read the length of slates and the round's seed."""
        self._slate = view.k
        self._key = view.key

    def act(self, arrivals: Arrivals) -> Slates:
        """Slates, uniform with probability ε, with the propensities of items."""
        greedy = top_k(arrivals.relevance, arrivals.admissible, self._slate)
        admissible = arrivals.admissible.cpu().numpy()
        uniform = uniform_slates(admissible, self._slate, self._key, arrivals.id)
        explores = rng.uniform(self._key, rng.Purpose.AGENT, arrivals.id, _COIN) < self.epsilon
        items = np.where(explores[:, None], uniform, greedy)
        # If an arrival may fill fewer positions, the market shows only the first positions of its slate.
        positions = capacities([arrivals], self._slate)[:, None]
        chance = np.minimum(1.0, positions / np.maximum(admissible.sum(1), 1)[:, None])
        may_fill = np.arange(self._slate) < positions
        greedy_shown = np.where(may_fill, greedy, -1)
        is_greedy = (items[:, :, None] == greedy_shown[:, None, :]).any(2)
        propensity = self.epsilon * chance + (1.0 - self.epsilon) * is_greedy
        chances = self._mixed(greedy_shown, np.where(may_fill, items, -1), arrivals)
        return Slates(items, propensity=propensity.astype(np.float32), uniform=explores, chances=chances)

    def chance_of(self, slates: Ints, arrivals: Arrivals) -> Chances:
        """Probabilities of given slates under this policy."""
        greedy = top_k(arrivals.relevance, arrivals.admissible, self._slate)
        positions = capacities([arrivals], self._slate)[:, None]
        greedy_shown = np.where(np.arange(self._slate) < positions, greedy, -1)
        return self._mixed(greedy_shown, slates, arrivals)

    def _mixed(self, greedy: Ints, slates: Ints, arrivals: Arrivals) -> Chances:
        """Probabilities: weight ε for uniform slates, 1 − ε for greedy."""
        return Chances.mixed(self.epsilon, uniform_chances(slates, arrivals), Chances.certain(greedy, slates))


def uniform_slates(admissible: Bools, k: int, key: int, arrival: Ints) -> Ints:
    """Slates of admissible items, sampled uniformly without replacement.

    The first k distinct admissible items in a random sequence of items are a uniform sample. A sequence of a few times
    k items nearly always has k distinct admissible items, so most items of the catalogue need no random number. The
    sample depends on the id ``arrival``, not on the batch. With fewer admissible items, the last positions are −1.
    """
    width = _TRIES * k
    slates = np.full((len(arrival), k), -1)
    _fill_first(rng.bits(key, rng.Purpose.AGENT, arrival), admissible, width, slates)
    for row in np.flatnonzero(slates[:, -1] < 0).tolist():
        items = np.flatnonzero(admissible[row])
        # Keys below ``width`` belong to the random sequence above.
        random_bits = rng.bits(key, rng.Purpose.AGENT, arrival[row], width + items)
        order = np.argsort(random_bits, kind="stable")
        slates[row] = -1
        slates[row, : min(k, len(items))] = items[order[:k]]
    return slates


@compiled
def _fill_first(keys: NDArray[np.uint64], admissible: Bools, width: int, slates: Ints) -> None:
    """Fill slates with the first admissible of ``width`` random items."""
    for row in range(len(slates)):
        n_filled = 0
        for draw in range(width):
            item = int(uniform_of(tie_rank(keys[row], draw)) * admissible.shape[1])
            is_new = admissible[row, item]
            for position in range(n_filled):
                is_new &= slates[row, position] != item
            if is_new:
                slates[row, n_filled] = item
                n_filled += 1
                if n_filled == slates.shape[1]:
                    break


def uniform_chances(slates: Ints, arrivals: Arrivals) -> Chances:
    """Probabilities of slates under uniform sampling."""
    k = slates.shape[1]
    admissible = arrivals.admissible.cpu().numpy()
    n_admissible = admissible.sum(1)[:, None]
    size = np.minimum(capacities([arrivals], k)[:, None], n_admissible)
    allowed = (slates >= 0) & np.take_along_axis(admissible, np.maximum(slates, 0), 1)
    inclusion = np.where(allowed, size / np.maximum(n_admissible, 1), 0.0)
    # Each admissible item is equally likely at each position that uniform sampling fills.
    is_reachable = allowed & (np.arange(k) < size)
    at_position = np.where(is_reachable, 1.0 / np.maximum(n_admissible, 1), 0.0)
    # After r items, each of the other A − r admissible items is next with probability 1/(A − r).
    prefix = np.cumprod(np.where(is_reachable, 1.0 / np.maximum(n_admissible - np.arange(k), 1), 0.0), axis=1)
    n_filled = (slates >= 0).sum(1)
    whole_prefix = np.take_along_axis(prefix, np.maximum(size - 1, 0), 1)[:, 0]
    slate_probability = np.where(n_filled == 0, 1.0, whole_prefix) * (n_filled == size[:, 0])
    return Chances(
        inclusion=inclusion,
        position=at_position,
        prefix=prefix.astype(np.float64),
        slate=slate_probability,
    )
