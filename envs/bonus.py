"""``BonusAction``: act by prices instead of slates, so that reinforcement learning has a small action to learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces

from rimsim.arrays import Float32s, Floats, Ints
from rimsim.envs.market import MarketEnv, market_env
from rimsim.envs.standing import popularity_groups
from rimsim.errors import ConfigError
from rimsim.market import build_world
from rimsim.measures import genre_weights

if TYPE_CHECKING:
    from rimsim.envs.standing import Standing


By: TypeAlias = Literal["item", "genre", "popularity", "shortfall"]
_GROUPS = {"popularity": 10, "shortfall": 1}
"""How many popularity groups there are if nothing is said."""


@dataclass(frozen=True, eq=False)
class Bonuses:
    """What an action of bonuses makes of an arrival."""

    share: Floats
    """(G, M) share of each group's bonus that an item gets."""
    lacking: bool
    """Whether only items that still lack exposures get it."""

    def slate(self, action: Float32s, standing: Standing) -> Ints:
        """(k,) the admissible items of largest λ(x,y) + bonus; items that may not be shown come last.

        Args:
            action: (G,) from −1, no bonus, to 1, a bonus of c.
            standing: The arrival and its round.
        """
        scale = standing.cost * (np.clip(np.asarray(action, np.float64), -1.0, 1.0) + 1.0) / 2.0
        bonus = scale @ self.share
        if self.lacking:
            bonus = np.where(standing.exposure < standing.required, bonus, 0.0)
        score = np.where(standing.admissible, standing.intensity + bonus, -np.inf)
        return np.argsort(-score, kind="stable")[: len(standing.weights)]


class BonusAction(gymnasium.ActionWrapper[Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Turns a bonus per item, genre or popularity group into the slate of the top k of λ(x,y) + bonus.

    The action is a Box in [−1, 1]: −1 is no bonus, 1 is a bonus of c, the shortfall cost of one exposure, above which
    a price is never worth its while. An item of several genres gets the mean of their bonuses.

    Args:
        env: ``RIMMarket-v0``, wrapped or not.
        by: Who shares a bonus: every ``item`` has its own, all items of a ``genre``, of a ``popularity`` group, or of a
            popularity group as long as they still lack exposures (``shortfall``).
        groups: Number of popularity groups, of equal size, least popular first; None: 10, or with ``shortfall`` one.
        lacking: Whether only items that still lack exposures get a bonus; ``shortfall`` implies it.

    Raises:
        ConfigError: If the arguments do not fit.
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
            raise ConfigError(f"BonusAction: groups is {groups}; allowed: none where by is {by!r}")
        number = _GROUPS.get(by, 1) if groups is None else groups
        self._bonuses = Bonuses(_membership(self._inner, by, number), lacking or by == "shortfall")
        self.action_space = spaces.Box(-1.0, 1.0, (len(self.share),), np.float32)

    @property
    def share(self) -> Floats:
        """(G, M) share of each group's bonus that an item gets; columns sum to 1."""
        return self._bonuses.share

    def action(self, action: Float32s) -> Ints:
        """The slate that a bonus (G,) in [−1, 1] ranks first."""
        return self._bonuses.slate(action, self._inner.standing)


def _membership(inner: MarketEnv, by: str, groups: int) -> Floats:
    world = build_world(inner.config)
    m = world.log.n_items
    if by == "item":
        return np.eye(m, dtype=np.float64)
    if by in _GROUPS:
        if not 1 <= groups <= m:
            raise ConfigError(
                f"BonusAction: groups is {groups}; allowed: 1 to {m}, the size of the catalogue"
            )
        return popularity_groups(np.bincount(world.past.item, minlength=m), groups)
    if by == "genre":
        return np.ascontiguousarray(genre_weights([str(text) for text in world.log.items["genres"]])[0].T)
    raise ConfigError(f"BonusAction: by is {by!r}; allowed: 'item', 'genre', 'popularity', 'shortfall'")
