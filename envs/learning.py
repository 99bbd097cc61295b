"""Callback of Stable-Baselines3 (extra ``rl``) for measures of episodes."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback


class MeasuresCallback(BaseCallback):
    """Logs measures of episodes as ``rimsim/<measure>``.

    The measures are those of :class:`rimsim.envs.MeasuredEpisode`, averaged since the learner last logged.
    """

    def _on_step(self) -> bool:
        infos: list[dict[str, Any]] = self.locals.get("infos", [])
        for info in infos:
            for name, value in info.get("measures", {}).items():
                self.logger.record_mean(f"rimsim/{name}", value)
        return True
