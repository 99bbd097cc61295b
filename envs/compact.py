"""``CompactObservation``: what matters for prices in some twenty numbers, whatever the size of the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rimsim.arrays import Float32s, Floats
from rimsim.envs.market import market_env
from rimsim.envs.standing import popularity_groups
from rimsim.errors import ConfigError
from rimsim.market import build_world

if TYPE_CHECKING:
    from rimsim.envs.standing import Standing


COMPACT = (
    "gone",
    "missing",
    "lacking",
    "pace",
    "ahead",
    "mean",
    "kth",
    "top",
    "lacking_top",
    "lacking_mean",
)
"""Names of the numbers before those of the groups:

* ``gone``: share of the round's expected arrivals that is served;
* ``missing``: exposures that are missing, over those required;
* ``lacking``: share of the guaranteed items that lack some;
* ``pace``: missing exposures over those that the arrivals to come can be given, at most 1;
* ``ahead``: share of what is required that is delivered, less ``gone``;
* ``mean``, ``kth``, ``top``: mean, k-th and largest λ(x,y) of admissible items; ``lacking_top``, ``lacking_mean``: the
  largest λ(x,y) of admissible items that lack exposures, and the mean of their k largest; each as s / (s + c).
"""
_GROUPS = 5


def compact(standing: Standing, groups: Floats) -> Float32s:
    """(10 + G,) the numbers of :data:`COMPACT`, then the missing share of what each group is required.

    Args:
        standing: The arrival and its round.
        groups: (G, M) membership of items.
    """
    k, missing, required = len(standing.weights), standing.missing, float(standing.required.sum())
    total = float(missing.sum())
    gone = min(1.0, standing.served / max(1, standing.arrivals))
    room = max(standing.arrivals - standing.served, 1) * float(standing.weights.sum())
    short = total / required if required > 0 else 0.0
    guaranteed = np.count_nonzero(standing.required)
    scores = np.sort(standing.intensity[standing.admissible])[::-1]
    wanted = np.sort(standing.intensity[standing.admissible & (missing > 0)])[::-1]
    owed, lack = groups @ standing.required, groups @ missing
    numbers = (
        gone,
        short,
        np.count_nonzero(missing) / guaranteed if guaranteed else 0.0,
        min(1.0, total / room),
        1.0 - short - gone,
        *(_squashed(value, standing.cost) for value in (_mean(scores), _at(scores, k - 1), _at(scores, 0))),
        *(_squashed(value, standing.cost) for value in (_at(wanted, 0), _mean(wanted[:k]))),
        *np.divide(lack, owed, out=np.zeros(len(owed)), where=owed > 0),
    )
    return np.asarray(numbers, np.float32)


class CompactObservation(gymnasium.ObservationWrapper[Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Ten numbers of the arrival and its round, and one a popularity group, all from −1 to 1: see :data:`COMPACT`.

    Args:
        env: ``RIMMarket-v0``, wrapped or not.
        groups: Number of popularity groups whose missing share is observed, least popular first.

    Raises:
        ConfigError: If groups is not from 1 to the size of the catalogue.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], groups: int = _GROUPS) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, groups=groups)
        super().__init__(env)
        self._inner = market_env(env)
        world = build_world(self._inner.config)
        if not 1 <= groups <= world.log.n_items:
            raise ConfigError(f"CompactObservation: groups is {groups}; allowed: 1 to {world.log.n_items}")
        counts = np.bincount(world.past.item, minlength=world.log.n_items)
        self._groups = popularity_groups(counts, groups)
        self.observation_space = spaces.Box(-1.0, 1.0, (len(COMPACT) + groups,), np.float32)

    def observation(self, observation: object) -> Float32s:  # noqa: ARG002  the market knows more
        """The numbers of the arrival that waits; zeros after the last one."""
        if self._inner.market.done:
            return np.zeros(self.observation_space.shape or (), np.float32)
        return compact(self._inner.standing, self._groups)


def _squashed(value: float, cost: float) -> float:
    return value / (value + cost) if value > 0 else 0.0


def _at(descending: Floats, place: int) -> float:
    return float(descending[min(place, len(descending) - 1)]) if len(descending) else 0.0


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0
