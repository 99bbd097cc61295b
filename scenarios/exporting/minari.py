"""The log of an arm as a Minari data set, written without fitting anything."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rimsim import __version__
from rimsim.config import to_plain
from rimsim.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from rimsim.config import ScenarioConfig
    from rimsim.scenarios.exporting.logged import LoggedArm

__all__ = ["env_spec", "write_minari"]

_ENV = "RIMMarket-v0"
_WHERE = "MINARI_DATASETS_PATH"


class _Spaces(gymnasium.Env[Any, Any]):
    """An environment's spaces and spec, without the environment: making that would fit a model."""

    def __init__(self, spec: Any, observation: spaces.Space[Any], action: spaces.Space[Any]) -> None:
        self.spec, self.observation_space, self.action_space = spec, observation, action


def env_spec(config: ScenarioConfig) -> Any:
    """The spec with which ``gymnasium.make`` makes the environment of a scenario; plain data, so that JSON holds it."""
    settings: dict[str, object] = {}

    def enter(part: object, name: str) -> None:
        if isinstance(part, dict):
            for key, value in part.items():
                enter(value, f"{name}.{key}" if name else str(key))
        else:
            settings[name] = part

    enter(to_plain(config), "")
    kwargs = {"scenario": "closed-loop", "settings": settings}
    return dataclasses.replace(gymnasium.spec(_ENV), kwargs=kwargs)


def write_minari(arm: LoggedArm, config: ScenarioConfig, folder: Path, author: str) -> str:
    """Write an arm's log below a folder, as one episode; a step is an arrival, its action the slate.

    Observations are compact: λ(x), the round, and seconds since the first arrival. The reward of a step is its number
    of consumptions. What the slates' chances were stands in the infos.

    Args:
        arm: The log.
        config: The scenario of its run.
        folder: What Minari's ``MINARI_DATASETS_PATH`` has to be, to load the data set.
        author: For its metadata.

    Returns:
        Its id.

    Raises:
        ConfigError: If Minari is not installed.
    """
    before = os.environ.get(_WHERE)
    os.environ[_WHERE] = str(folder)
    try:
        try:
            import minari  # noqa: PLC0415  # an extra
            from minari.data_collector import EpisodeBuffer  # noqa: PLC0415
        except ImportError:
            raise ConfigError("--to minari needs Minari; allowed: pip install 'rimsim[minari]'") from None
        name, scenario = (
            "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in text).strip("-")
            for text in (arm.agent, config.name)
        )
        dataset_id = f"rimsim/{scenario}/{name}-seed{arm.seed}-v0"
        n, k = arm.item.shape
        observation = spaces.Box(0.0, np.inf, (arm.context.shape[1],), np.float32)
        action = spaces.MultiDiscrete(np.full(k, arm.n_items))
        observed = np.vstack([arm.context, arm.context[-1:]]).astype(np.float32)
        chances = np.append(arm.slate, 0.0)[:, None]  # Minari 0.5.4 cannot read a one-dimensional info back
        ends = np.arange(n) == n - 1
        episode = EpisodeBuffer(
            id=0,
            seed=arm.seed,
            observations=observed,
            actions=arm.item,
            rewards=arm.reward.sum(1).tolist(),
            terminations=ends.tolist(),
            truncations=np.zeros(n, bool).tolist(),
            infos={"propensity_slate": chances},
        )
        minari.create_dataset_from_buffers(
            dataset_id,
            [episode],
            env=_Spaces(env_spec(config), observation, action),
            eval_env=_Spaces(env_spec(config), observation, action),
            algorithm_name=arm.agent,
            author=author,
            author_email=author,
            code_permalink="https://pypi.org/project/rimsim/",
            description=f"Slates of {arm.agent} in the scenario {config.name}; rewards are consumptions of a slate.",
            requirements=[f"rimsim=={__version__}"],
            data_format="arrow",
        )
    finally:
        if before is None:
            os.environ.pop(_WHERE, None)
        else:
            os.environ[_WHERE] = before
    return dataset_id
