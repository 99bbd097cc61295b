"""``MeasuredEpisode``: rimsim's measures of an episode, where learners look for the figures of an episode."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium
import numpy as np

from rimsim import measures
from rimsim.arrays import Ints
from rimsim.envs.market import market_env


class MeasuredEpisode(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Puts ``info["measures"]`` into the step that ends an episode: means over its rounds.

    The measures are ``return`` (rewards of a round), ``consumed`` (items a slate), ``undelivered`` (share of what is
    guaranteed, in its unit), ``coverage``, ``perplexity`` and ``effective_items``, as in :mod:`rimsim.measures`.

    Args:
        env: ``RIMMarket-v0``, wrapped or not.
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
        """Open the market anew."""
        told = self.env.reset(seed=seed, options=options)
        self._clear()
        self._rounds = []
        return told

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Act; the last step of an episode tells its measures."""
        number, owing = self._inner.market.round, self._inner.market.open
        observation, reward, terminated, truncated, info = self.env.step(action)
        market = info["market"]
        items, taken = np.array(market["items"]), np.array(market["taken"])
        self._slates += 1
        self._reward += float(reward)
        np.add.at(self._shown, items[items >= 0], 1)
        np.add.at(self._taken, items[taken], 1)
        if self._inner.market.round != number or terminated:
            self._rounds.append(self._figures(measures.shortfall(owing.exposure, owing.required)))
            self._clear()
        if terminated or truncated:
            info["measures"] = {
                name: float(np.mean([figures[name] for figures in self._rounds])) for name in self._rounds[0]
            }
        return observation, reward, terminated, truncated, info

    def _clear(self) -> None:
        """Begin to count a round."""
        self._shown: Ints = np.zeros(self._inner.n_items, np.int64)
        self._taken: Ints = np.zeros(self._inner.n_items, np.int64)
        self._slates, self._reward = 0, 0.0

    def _figures(self, undelivered: float) -> dict[str, float]:
        return {
            "return": self._reward,
            "consumed": float(self._taken.sum()) / self._slates,
            "undelivered": undelivered,
            "coverage": measures.coverage(self._shown),
            "perplexity": measures.perplexity(self._shown),
            "effective_items": measures.effective_items(self._taken),
        }
