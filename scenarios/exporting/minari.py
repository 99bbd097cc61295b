"""The log of an arm as a Minari data set, written without fitting anything."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import WrapperSpec

from rimsim import __version__
from rimsim.config import to_plain
from rimsim.config.reading import flat
from rimsim.envs import GROUND_BOUND
from rimsim.errors import ConfigError, RunFolderError
from rimsim.system import draft_folder

if TYPE_CHECKING:
    from rimsim.config import ScenarioConfig
    from rimsim.scenarios.exporting.logged import LoggedArm


_ENV = "RIMMarket-v0"
_WHERE = "MINARI_DATASETS_PATH"
_SEEN = (
    WrapperSpec(
        "FilterObservation",
        "gymnasium.wrappers:FilterObservation",
        {"filter_keys": ["clock", "ground_intensity"]},
    ),
    WrapperSpec("FlattenObservation", "gymnasium.wrappers:FlattenObservation", {}),
)
"""What makes the environment's observations those of the data set, one vector, which d3rlpy asks for."""

_NO_LIMIT = 1 << 24
"""An episode ends with its rounds, long before so many steps; d3rlpy asks for a number."""


class _Spaces(gymnasium.Env[Any, Any]):
    """An environment's spaces and spec, without the environment: making that would read the log."""

    def __init__(self, spec: Any, observation: spaces.Space[Any], action: spaces.Space[Any]) -> None:
        self.spec, self.observation_space, self.action_space = spec, observation, action


def env_spec(config: ScenarioConfig, seed: int) -> Any:
    """The spec with which ``gymnasium.make`` makes the market of an arm; plain data, so that JSON holds it.

    Its observations are the context of :class:`~rimsim.scenarios.exporting.logged.LoggedArm`. After ``reset(seed=…)``
    with the arm's seed, the arm's slates have the consumptions that the log has of them.

    Args:
        config: The scenario.
        seed: That of the arm.
    """
    kwargs = {"scenario": "closed-loop", "settings": flat(to_plain(config)), "model_seed": seed}
    return dataclasses.replace(
        gymnasium.spec(_ENV), kwargs=kwargs, additional_wrappers=_SEEN, max_episode_steps=_NO_LIMIT
    )


def write_minari(arm: LoggedArm, config: ScenarioConfig, folder: Path, author: str) -> str:
    """Write an arm's log below a folder, as one episode; a step is an arrival, its action the slate.

    Observations are the context of an arrival. The reward of a step is its number of consumptions. What the slates'
    chances were stands in the infos.

    Args:
        arm: The log.
        config: The scenario of its run.
        folder: What Minari's ``MINARI_DATASETS_PATH`` has to be, to load the data set.
        author: For its metadata.

    Returns:
        Its id.

    Raises:
        ConfigError: If Minari is not installed.
        RunFolderError: If the data set is there already.
    """
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
    place = folder / dataset_id
    if place.exists():
        raise RunFolderError(f"{place}: is there already; allowed: another --out")
    n, k = arm.item.shape
    high = np.array([1.0, 1.0, GROUND_BOUND], np.float32)
    market = _Spaces(
        env_spec(config, arm.seed), spaces.Box(0 * high, high), spaces.MultiDiscrete(np.full(k, arm.n_items))
    )
    last = np.array([[1.0, 1.0, 0.0]])  # as the environment has it, when nobody waits
    observed = np.vstack([arm.context, last]).astype(np.float32)
    chances = np.append(arm.slate, 0.0)[:, None]  # Minari 0.5.4 cannot read a one-dimensional info back
    ends = np.arange(n) == n - 1
    episode = EpisodeBuffer(
        id=0,
        seed=arm.seed,
        observations=np.minimum(observed, high),
        actions=arm.item,
        rewards=arm.reward.sum(1).tolist(),
        terminations=ends.tolist(),
        truncations=np.zeros(n, bool).tolist(),
        infos={"propensity_slate": chances},
    )
    with draft_folder(place, existing="refuse") as draft, _datasets_at(draft):
        minari.create_dataset_from_buffers(
            dataset_id,
            [episode],
            env=market,
            eval_env=market,
            algorithm_name=arm.agent,
            author=author,
            author_email=author,
            code_permalink="https://pypi.org/project/rimsim/",
            description=f"Slates of {arm.agent} in the scenario {config.name}; rewards are consumptions of a slate.",
            requirements=[f"rimsim=={__version__}"],
            data_format="arrow",
        )
        _take_out(draft, dataset_id, folder)
    return dataset_id


@contextmanager
def _datasets_at(folder: Path) -> Iterator[None]:
    """Let Minari read and write its data sets in a folder."""
    before = os.environ.get(_WHERE)
    os.environ[_WHERE] = str(folder.absolute())  # below a relative one, Minari would look for it once more
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_WHERE, None)
        else:
            os.environ[_WHERE] = before


def _take_out(draft: Path, dataset_id: str, folder: Path) -> None:
    """Move a data set's own files up into the draft, and what Minari notes of its name spaces into the folder."""
    (draft / dataset_id / "data").rename(draft / "data")
    for note in draft.rglob("namespace_metadata.json"):
        place = folder / note.relative_to(draft)
        if not place.exists():
            note.replace(place)
    shutil.rmtree(draft / dataset_id.partition("/")[0])
