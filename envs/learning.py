"""For Stable-Baselines3 (extra ``rl``): rimsim's measures in its log, beside its own."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback


class MeasuresCallback(BaseCallback):
    """Logs what :class:`rimsim.envs.MeasuredEpisode` tells at the end of each episode, as ``rimsim/<measure>``.

    Means since the last time that the learner wrote its log, in TensorBoard, CSV or wherever it goes.
    """

    def _on_step(self) -> bool:
        infos: list[dict[str, Any]] = self.locals.get("infos", [])
        for info in infos:
            for name, value in info.get("measures", {}).items():
                self.logger.record_mean(f"rimsim/{name}", value)
        return True
