"""Stable-Baselines3 (extra ``rl``): batched markets, and a callback for measures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import VecEnv

from rimsim.arrays import Array, Bools, Floats
from rimsim.errors import ConfigError, has_type


class MeasuresCallback(BaseCallback):
    """Logs measures of episodes as ``rimsim/<measure>``.

    The measures are those of :class:`rimsim.envs.MeasuredEpisode`, averaged since the learner last logged.
    ``rimsim/return`` is the reward of a round, and Stable-Baselines3's ``ep_rew_mean`` is the reward of an episode,
    which has several rounds.
    """

    def _on_step(self) -> bool:
        """Log the measures of ended episodes; let training continue."""
        infos: list[dict[str, Any]] = self.locals.get("infos", [])
        for info in infos:
            for name, value in info.get("measures", {}).items():
                self.logger.record_mean(f"rimsim/{name}", value)
        return True


class SB3VecEnv(VecEnv):
    """Markets of ``gymnasium.make_vec`` as a vector environment of Stable-Baselines3.

    An episode that ends begins again in the same step, and ``infos[i]["terminal_observation"]`` has its last
    observation, as Stable-Baselines3 expects.

    Args:
        envs: Environments of ``gymnasium.make_vec("RIMMarket-v0", …)``, with ``autoreset_mode`` ``SAME_STEP``. With
            ``vectorization_mode="sync"`` the single environments may have wrappers.

    Raises:
        ConfigError: If the environments cannot be used.
    """

    def __init__(self, envs: SyncVectorEnv) -> None:
        if not has_type(envs, SyncVectorEnv):
            raise ConfigError(
                f"SB3VecEnv: envs is a {type(envs).__name__}. Expected the result of gymnasium.make_vec"
            )
        if envs.autoreset_mode is not AutoresetMode.SAME_STEP:
            raise ConfigError(
                f"SB3VecEnv: autoreset_mode is {envs.autoreset_mode.value}. Stable-Baselines3 needs episodes that "
                "begin again in the same step. Call make_vec with autoreset_mode=AutoresetMode.SAME_STEP"
            )
        self.envs = envs
        self._actions: Array = np.zeros(0, np.int64)
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> Any:
        """Reset all markets, with the given seeds and options."""
        options = self._options[0]
        if any(other_options != options for other_options in self._options):
            raise ConfigError(
                "SB3VecEnv: the markets have different options. Set the same options for all markets"
            )
        observations, infos = self.envs.reset(seed=list(self._seeds), options=options or None)
        self.reset_infos = [_info_of(infos, number) for number in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: Array) -> None:
        """Store one action per market for the next step."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, Floats, Bools, list[dict[str, Any]]]:
        """Take a step in each market."""
        observations, rewards, terminations, truncations, infos = self.envs.step(self._actions)
        ended = terminations | truncations
        step_infos = []
        for number in range(self.num_envs):
            info = _info_of(infos, number)
            if ended[number]:
                last_observation = info["final_obs"]
                info = info["final_info"]  # the outer info belongs to the reset, and not to the last step
                info["terminal_observation"] = last_observation
            info["TimeLimit.truncated"] = bool(truncations[number] and not terminations[number])
            step_infos.append(info)
        return observations, rewards.astype(np.float32), ended, step_infos

    def close(self) -> None:
        """Close all markets."""
        self.envs.close()

    def get_attr(self, attr_name: str, indices: int | Iterable[int] | None = None) -> list[Any]:
        """Attribute of chosen markets, or of their wrappers."""
        return [self.envs.envs[number].get_wrapper_attr(attr_name) for number in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: int | Iterable[int] | None = None) -> None:
        """Set an attribute of chosen markets, or of their wrappers."""
        for number in self._get_indices(indices):
            self.envs.envs[number].set_wrapper_attr(attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: int | Iterable[int] | None = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Results of a method of chosen markets or wrappers."""
        methods = self.get_attr(method_name, indices)
        return [method(*method_args, **method_kwargs) for method in methods]

    def env_is_wrapped(
        self, wrapper_class: type[Any], indices: int | Iterable[int] | None = None
    ) -> list[bool]:
        """True for each chosen market that has the wrapper."""
        return [is_wrapped(self.envs.envs[number], wrapper_class) for number in self._get_indices(indices)]

    def get_images(self) -> Sequence[Any]:
        """Picture of each market."""
        return list(self.envs.render() or ())


def _info_of(infos: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Info of one environment, from Gymnasium's arrays of all."""
    info: dict[str, Any] = {}
    for key, values in infos.items():
        is_present = infos.get(f"_{key}")  # Gymnasium's mask of the environments that have the key
        if key.startswith("_") or (is_present is not None and not is_present[number]):
            continue
        info[key] = _info_of(values, number) if isinstance(values, dict) else values[number]
    return info
