"""``BonusAction``: act by prices instead of slates, so that reinforcement learning has a small action to learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from rimsim.envs.market import MarketEnv, market_env
from rimsim.errors import ConfigError
from rimsim.market import build_world

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BonusAction"]


class BonusAction(gymnasium.ActionWrapper[Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Turns a bonus per item, genre or popularity group into the slate of the top k of λ(x,y) + bonus.

    The action is a Box in [−1, 1]: −1 is no bonus, 1 is a bonus of c, the shortfall cost of one exposure, above which
    a price is never worth its while. An item of several genres gets the mean of their bonuses.

    Args:
        env: ``RIMMarket-v0``, wrapped or not.
        by: Who shares a bonus: every ``item`` has its own, all items of a ``genre``, or of a ``popularity`` group.
        groups: Number of popularity groups, of equal size, least popular first.

    Raises:
        ConfigError: If the arguments do not fit.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        by: Literal["item", "genre", "popularity"] = "item",
        groups: int = 10,
    ) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, by=by, groups=groups)
        super().__init__(env)
        self._inner = market_env(env)
        self.share = _membership(self._inner, by, groups)
        """(G, M) share of each group's bonus that an item gets; columns sum to 1."""
        size = len(self.share)
        self.action_space = spaces.Box(-1.0, 1.0, (size,), np.float32)

    def action(self, action: NDArray[np.float32]) -> NDArray[np.int64]:
        """The slate that a bonus (G,) in [−1, 1] ranks first."""
        arrivals, cost = self._inner.arrivals, self._inner.market.cost
        bonus = cost * (np.clip(np.asarray(action, np.float64), -1.0, 1.0) + 1.0) / 2.0
        score = arrivals.intensity[0].cpu().numpy() + bonus @ self.share
        score = np.where(arrivals.admissible[0].cpu().numpy(), score, -np.inf)
        return np.argsort(-score, kind="stable")[: self._inner.config.slate]


def _membership(inner: MarketEnv, by: str, groups: int) -> NDArray[np.float64]:
    world = build_world(inner.config)
    m = world.log.n_items
    if by == "item":
        return np.eye(m, dtype=np.float64)
    if by == "popularity":
        if not 1 <= groups <= m:
            raise ConfigError(
                f"BonusAction: groups is {groups}; allowed: 1 to {m}, the size of the catalogue"
            )
        counts = np.bincount(world.past.item, minlength=m)
        group = np.empty(m, np.int64)
        group[np.argsort(counts, kind="stable")] = np.arange(m) * groups // m
        return np.asarray(np.arange(groups)[:, None] == group, np.float64)
    if by == "genre":
        names = [str(text).split("|") if str(text) else ["(none)"] for text in world.log.items["genres"]]
        known = sorted({name for item in names for name in item})
        share = np.zeros((len(known), m))
        for item, genres in enumerate(names):
            for genre in genres:
                share[known.index(genre), item] = 1.0 / len(genres)
        return share
    raise ConfigError(f"BonusAction: by is {by!r}; allowed: 'item', 'genre', 'popularity'")
