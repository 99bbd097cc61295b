"""Wrappers: bonuses as actions, compact observations, measures of episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, SupportsFloat, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces

from rimsim import measures
from rimsim.arrays import Float32s, Floats, Ints
from rimsim.envs.market import MarketEnv, market_env
from rimsim.envs.observations import Standing, popularity_groups
from rimsim.errors import ConfigError
from rimsim.market import build_world
from rimsim.measures import genre_weights

By: TypeAlias = Literal["item", "genre", "popularity", "shortfall"]
_GROUPS = {"popularity": 10, "shortfall": 1}
"""Division of items into groups → default number of groups."""


@dataclass(frozen=True, eq=False)
class Bonuses:
    """Bonuses of items by group, and slates ranked with them."""

    share: Floats
    """(G, M) share of each group's bonus that an item gets."""
    lacking: bool
    """True if only items with a deficit get the bonus."""

    def slate(self, action: Float32s, standing: Standing) -> Ints:
        """Items of largest λ(x,y) + bonus; inadmissible items last.

        In ``action``, −1 gives a group of items no bonus, and 1 gives it a bonus of c.
        """
        group_bonus = standing.cost * (np.clip(np.asarray(action, np.float64), -1.0, 1.0) + 1.0) / 2.0
        bonus = group_bonus @ self.share
        if self.lacking:
            bonus = np.where(standing.exposure < standing.required, bonus, 0.0)
        score = np.where(standing.admissible, standing.intensity + bonus, -np.inf)
        return np.argsort(-score, kind="stable")[: len(standing.position_weights)]


class BonusAction(gymnasium.ActionWrapper[Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Ranks by λ(x,y) + a bonus per item, genre or group.

    The action is a Box in [−1, 1]: −1 is no bonus, and 1 is a bonus of c, the cost of a missing exposure. A bonus
    larger than c would never raise the return. An item of several genres gets the mean of the bonuses of these genres.

    Args:
        env: ``RIMMarket-v0``, wrapped or not.
        by: Items that share a bonus: each ``item`` alone, all items of a ``genre`` or of a ``popularity`` group, or
            the items of a popularity group that still lack exposure (``shortfall``).
        groups: Number of popularity groups of equal size, least popular first; None: 10, or 1 with ``shortfall``.
        lacking: If true, only items that still lack exposures get a bonus; always so with ``shortfall``.

    Raises:
        ConfigError: If the arguments do not fit each other or the catalogue.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        by: By = "item",
        groups: int | None = None,
        *,
        lacking: bool = False,
    ) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, by=by, groups=groups, lacking=lacking)
        super().__init__(env)
        self._inner = market_env(env)
        if groups is not None and by in {"item", "genre"}:
            raise ConfigError(
                f"BonusAction: groups is {groups}, but by={by!r} sets the number of groups. Leave groups out"
            )
        number = _GROUPS.get(by, 1) if groups is None else groups
        self._bonuses = Bonuses(_membership(self._inner, by, number), lacking or by == "shortfall")
        self.action_space = spaces.Box(-1.0, 1.0, (len(self.share),), np.float32)

    @property
    def share(self) -> Floats:
        """Share of each group's bonus that each item gets."""
        return self._bonuses.share

    def action(self, action: Float32s) -> Ints:
        """Slate of the items that the groups' bonuses rank first."""
        return self._bonuses.slate(action, self._inner.standing)


def _membership(inner: MarketEnv, by: str, groups: int) -> Floats:
    """(G, M) share of each group's bonus that items get."""
    world = build_world(inner.config)
    m = world.log.n_items
    if by == "item":
        return np.eye(m, dtype=np.float64)
    if by in _GROUPS:
        if not 1 <= groups <= m:
            raise ConfigError(f"BonusAction: groups is {groups}. Expected 1 to {m}, the number of items")
        return popularity_groups(np.bincount(world.past.item, minlength=m), groups)
    if by == "genre":
        return np.ascontiguousarray(genre_weights([str(text) for text in world.log.items["genres"]])[0].T)
    raise ConfigError(f"BonusAction: by is {by!r}. Expected 'item', 'genre', 'popularity' or 'shortfall'")


COMPACT = ("gone", "missing", "lacking", "pace", "ahead", "mean", "kth", "top", "lacking_top", "lacking_mean")
"""Names of the first numbers of the observation; numbers of the groups follow:

* ``gone``: share of the round's expected arrivals that have been served;
* ``missing``: missing exposures, as a share of the required exposures;
* ``lacking``: share of the guaranteed items that have a deficit;
* ``pace``: missing exposures, as a share of the exposure that the arrivals to come can give, at most 1;
* ``ahead``: share of the required exposures that has been delivered, minus ``gone``;
* ``mean``, ``kth``, ``top``: mean, k-th and largest λ(x,y) of admissible items, each s as s / (s + c);
* ``lacking_top``, ``lacking_mean``: largest λ(x,y) of admissible items with a deficit, and mean of their k largest,
  each s as s / (s + c).
"""
_OBSERVED_GROUPS = 5


def compact(standing: Standing, groups: Floats) -> Float32s:
    """Numbers of :data:`COMPACT`, then the missing share of each group."""
    k = len(standing.position_weights)
    missing = standing.missing
    required = float(standing.required.sum())
    total = float(missing.sum())
    share_served = min(1.0, standing.served / max(1, standing.arrivals))
    capacity = max(standing.arrivals - standing.served, 1) * float(standing.position_weights.sum())
    missing_share = total / required if required > 0 else 0.0
    guaranteed = np.count_nonzero(standing.required)
    scores = np.sort(standing.intensity[standing.admissible])[::-1]
    scores_in_deficit = np.sort(standing.intensity[standing.admissible & (missing > 0)])[::-1]
    required_of_groups = groups @ standing.required
    missing_of_groups = groups @ missing
    missing_shares = np.divide(
        missing_of_groups,
        required_of_groups,
        out=np.zeros(len(required_of_groups)),
        where=required_of_groups > 0,
    )
    numbers = (
        share_served,
        missing_share,
        np.count_nonzero(missing) / guaranteed if guaranteed else 0.0,
        min(1.0, total / capacity),
        1.0 - missing_share - share_served,
        _squashed(_mean(scores), standing.cost),
        _squashed(_at(scores, k - 1), standing.cost),
        _squashed(_at(scores, 0), standing.cost),
        _squashed(_at(scores_in_deficit, 0), standing.cost),
        _squashed(_mean(scores_in_deficit[:k]), standing.cost),
        *missing_shares.tolist(),
    )
    return np.asarray(numbers, np.float32)


class CompactObservation(gymnasium.ObservationWrapper[Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Observes :data:`COMPACT`, and the missing share of each popularity group.

    All numbers lie in [−1, 1].

    Args:
        env: ``RIMMarket-v0``, wrapped or not.
        groups: Number of popularity groups, least popular first.

    Raises:
        ConfigError: If ``groups`` is not between 1 and the number of items.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], groups: int = _OBSERVED_GROUPS) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, groups=groups)
        super().__init__(env)
        self._inner = market_env(env)
        world = build_world(self._inner.config)
        if not 1 <= groups <= world.log.n_items:
            raise ConfigError(
                f"CompactObservation: groups is {groups}. Expected 1 to {world.log.n_items}, the number "
                "of items"
            )
        counts = np.bincount(world.past.item, minlength=world.log.n_items)
        self._groups = popularity_groups(counts, groups)
        self.observation_space = spaces.Box(-1.0, 1.0, (len(COMPACT) + groups,), np.float32)

    def observation(self, observation: object) -> Float32s:  # noqa: ARG002  the market knows more
        """Compact observation of the waiting arrival; zeros if none waits."""
        if self._inner.market.done:
            return np.zeros(self.observation_space.shape or (), np.float32)
        return compact(self._inner.standing, self._groups)


def _squashed(value: float, cost: float) -> float:
    """Intensity s as s / (s + c), which is in [0, 1)."""
    return value / (value + cost) if value > 0 else 0.0


def _at(descending: Floats, index: int) -> float:
    """Value at an index, else the last value, else 0."""
    return float(descending[min(index, len(descending) - 1)]) if len(descending) else 0.0


def _mean(values: Floats) -> float:
    """Mean of values; 0 without values."""
    return float(values.mean()) if len(values) else 0.0


class MeasuredEpisode(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Adds ``info["measures"]`` to the last step of an episode.

    The measures are means over the rounds of the episode: ``return`` (rewards of a round), ``consumed`` (items per
    slate), ``undelivered`` (share of the guaranteed exposure, in its unit), ``coverage``, ``perplexity`` and
    ``effective_items``, as in :mod:`rimsim.measures`.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self._inner = market_env(env)
        self._clear()
        self._rounds: list[dict[str, float]] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the market."""
        result = self.env.reset(seed=seed, options=options)
        self._clear()
        self._rounds = []
        return result

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Act in the environment; an episode's last step adds measures."""
        number = self._inner.market.round
        opened = self._inner.market.open
        observation, reward, terminated, truncated, info = self.env.step(action)
        market = info["market"]
        items = np.array(market["items"])
        taken = np.array(market["taken"])
        self._slates += 1
        self._reward += float(reward)
        np.add.at(self._shown, items[items >= 0], 1)
        np.add.at(self._taken, items[taken], 1)
        if self._inner.market.round != number or terminated:
            self._rounds.append(self._figures(measures.shortfall(opened.exposure, opened.required)))
            self._clear()
        if terminated or truncated:
            info["measures"] = {
                name: float(np.mean([figures[name] for figures in self._rounds])) for name in self._rounds[0]
            }
        return observation, reward, terminated, truncated, info

    def _clear(self) -> None:
        """Set the counts of a round to 0."""
        self._shown: Ints = np.zeros(self._inner.n_items, np.int64)
        self._taken: Ints = np.zeros(self._inner.n_items, np.int64)
        self._slates = 0
        self._reward = 0.0

    def _figures(self, undelivered: float) -> dict[str, float]:
        """Measures of the round that the counts are from."""
        return {
            "return": self._reward,
            "consumed": float(self._taken.sum()) / self._slates,
            "undelivered": undelivered,
            "coverage": measures.coverage(self._shown),
            "perplexity": measures.perplexity(self._shown),
            "effective_items": measures.effective_items(self._taken),
        }
